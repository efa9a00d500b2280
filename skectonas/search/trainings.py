"""The trainings of a search: with which trainer, until when, and how they are accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from skectonas.candidate import Candidate
from skectonas.search.clock import Clock, affordable_steps
from skectonas.search.final import AllRows, scored_as_before
from skectonas.search.ledger import Entry
from skectonas.search.settings import Settings
from skectonas.search.state import SearchState
from skectonas.search.tournament import Verdict
from skectonas.training import Recipe, Trainer

# What random draws are for. Their places are a part of the keys, so that a new one comes last.
PURPOSES = (
    "warm-up", "recovery", "phase 1", "phase 2", "final",
    "initial weights", "mutation", "brackets", "control", "trial",
)  # fmt: skip

Judge: TypeAlias = Callable[[list[Candidate]], list[Verdict]]


@dataclass(frozen=True, eq=False)
class Trainings:
    """Trains candidates for the steps of a search; the fields are those of `Search`."""

    trainer: Trainer
    final: AllRows | None
    seed: int
    settings: Settings
    clock: Clock

    def train(
        self,
        state: SearchState,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        judge: Judge | None = None,
    ) -> tuple[SearchState, list[Candidate], list[Verdict]]:
        """Train, judge and charge the ledger together, so that they cannot disagree."""
        began = time.perf_counter()
        trained = self._trained(state, candidates, n_steps)
        seconds = time.perf_counter() - began
        verdicts = judge(trained) if judge else [Verdict()] * len(trained)
        share = seconds / sum(n_steps)
        scored, is_final = trained, state.step == "final"
        if is_final and self.final is not None:
            scored = [scored_as_before(*pair) for pair in zip(trained, candidates, strict=True)]
        ledger = state.ledger.charge(
            _entry(candidate, steps, state, verdict, share * steps)
            for candidate, steps, verdict in zip(scored, n_steps, verdicts, strict=True)
        )
        known = state.known
        if not is_final:  # descendants come from the candidate as it was before
            keeps_all = self.settings.keep == "all"
            own = {c.id: c if keeps_all else replace(c, weights={}) for c in trained}
            known = {**known, **own}
        return replace(state, ledger=ledger, known=known), trained, verdicts

    def in_time(
        self, state: SearchState, candidates: Sequence[Candidate], most: int, share: float
    ) -> tuple[SearchState, int]:
        """Return for how many batches candidates can be trained in a share of what is left.

        The state says whether these are fewer than `most`.
        """
        final = self.final if state.step == "final" else None
        per_epoch = final.steps_per_epoch if final else state.ledger.steps_per_epoch
        n_steps = affordable_steps(
            lambda n_steps: self._trained(state, candidates, [n_steps] * len(candidates)),
            per_epoch,
            most,
            lambda: share * self.clock.left(),
            evaluates_epochs=final is None,
        )
        return replace(state, cut_short=state.cut_short or n_steps < most), n_steps

    def seconds_left(self, state: SearchState) -> float:
        """Return the seconds until the next step has to end."""
        return self.clock.left(self._share_of_time(state))

    def _trained(
        self, state: SearchState, candidates: Sequence[Candidate], n_steps: Sequence[int]
    ) -> list[Candidate]:
        """Return candidates as they are after a training that belongs to the next step."""
        key = (self.seed, state.generation, PURPOSES.index(state.step), state.round)
        is_final = state.step == "final"
        anneals = is_final and self.settings.final_fraction > 0
        trainer = self.final.trainer if is_final and self.final else self.trainer
        recipe = Recipe(
            annealing_steps=max(n_steps) if anneals else 0,
            augmentation=self.settings.augmentation,
            # With all rows in training, no score says anything.
            evaluates_epochs=not (is_final and self.final),
        )
        deadline = self.clock.deadline(self._share_of_time(state))
        return trainer.train(candidates, n_steps, key, recipe, deadline)

    def _share_of_time(self, state: SearchState) -> float:
        """Return when the next step has to end, as a share of the time.

        The warm-up may take that of the final training, because without it there is nothing,
        and the control half of it.
        """
        match state.step:
            case "warm-up" | "final":
                return 1.0
            case "control":
                return 1 - self.settings.final_fraction / 2
        return 1 - self.settings.final_fraction


def _entry(
    candidate: Candidate, n_steps: int, state: SearchState, verdict: Verdict, seconds: float
) -> Entry:
    last = candidate.evaluations[-1]
    return Entry(
        generation=candidate.generation,
        phase=state.step,
        round=state.round,
        bracket=verdict.bracket,
        candidate=candidate.id,
        parent=None if candidate.parent is None else candidate.parent.id,
        morphism=candidate.morphism,
        topology=str(candidate.topology),
        n_parameters=candidate.n_parameters,
        n_steps=n_steps,
        n_steps_total=candidate.n_steps,
        train_loss=last.train_loss,
        validation_loss=last.validation_loss,
        validation_score=last.validation_score,
        mean_loss=candidate.loss,
        mean_score=candidate.score,
        fitness=verdict.fitness,
        won=verdict.won,
        seconds=seconds,
    )

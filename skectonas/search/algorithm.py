"""The evolutionary search: the paper's Algorithm 1."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from skectonas.callers import level_of_user
from skectonas.candidate import Ancestor, Candidate
from skectonas.morphisms import Activations, Context, Morphism
from skectonas.network import initial_weights
from skectonas.search.final import (
    AllRows,
    is_better_trained,
    is_proven,
    is_trained,
    scored_as_before,
)
from skectonas.search.fitness import Fitness, Greedy, rank
from skectonas.search.front import unbeaten
from skectonas.search.ledger import Entry, Ledger
from skectonas.search.settings import Settings
from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import Observer, OpenTasks, Task
from skectonas.search.tournament import Draw, Verdict, draw_round
from skectonas.topology import Topology
from skectonas.training import Recipe, Trainer

# What random draws are for. Their places are a part of the keys, so that a new one comes last.
PURPOSES = (
    "warm-up", "recovery", "phase 1", "phase 2", "final",
    "initial weights", "mutation", "brackets", "control",
)  # fmt: skip

SMALLEST_WARM_UP = 0.1
"""The share of the budget that the warm-up may take, whatever is reserved for the end."""

DIVERGED = 10
"""The largest training loss after the warm-up, in multiples of the loss of equal probabilities.
A start that is barely trained, or trained on random labels, has about one."""


@dataclass(frozen=True, eq=False)
class Search:
    """The steps of ECToNAS, each from one state to the next.

    Parameters
    ----------
    trainer : Trainer
        Trains the competitors.
    fitness : Fitness
        The fitness in phase 2 and in the final selection; phase 1 is always greedy.
    images : Tensor of shape (n, height, width, channels)
        Training images as a network sees them, for the morphisms that look at data.
    seed : int
        Seed of all random draws.
    settings : Settings
        Hyperparameters.
    final : AllRows or None, default=None
        What trains the best candidate at the end, also on the rows that were held out. With
        None, `trainer` does.
    """

    trainer: Trainer
    fitness: Fitness
    images: Tensor
    seed: int
    settings: Settings
    final: AllRows | None = None

    def initial_state(
        self,
        start: Candidate | Topology | Sequence[Topology],
        ledger: Ledger,
        incumbent: Candidate | None = None,
        reference: Ancestor | None = None,
    ) -> SearchState:
        """Return the state before the warm-up.

        Parameters
        ----------
        start : Candidate, Topology or sequence of Topology
            What the warm-up trains. A candidate keeps its weights, and the search counts on
            from its id and generation. Of several topologies, the best become parents.
        ledger : Ledger
            The budget.
        incumbent : Candidate or None, default=None
            An evaluated candidate that the winner has to beat: in the search, or, if the final
            training is on all rows, at its end.
        reference : Ancestor or None, default=None
            What the final selection compares with; None is the best start after the warm-up.

        Returns
        -------
        SearchState
            The state to begin with.
        """
        if isinstance(start, Candidate):
            starts = [start]
        else:
            topologies = [start] if isinstance(start, Topology) else start
            starts = [self._start(i, topology) for i, topology in enumerate(topologies)]
        best = starts[0]
        if incumbent is not None and self.final is None:
            # One that was trained on all rows cannot be beaten on those that are held out.
            best, incumbent = incumbent, None
        return SearchState(
            ledger,
            best,
            reference or starts[0].as_ancestor(),
            untrained=tuple(starts),
            generation=starts[0].generation,
            next_id=starts[-1].id + 1,
            incumbent=incumbent,
        )

    def _start(self, number: int, topology: Topology) -> Candidate:
        weights = initial_weights(topology, self._rng(0, "initial weights", number))
        return Candidate(number, topology, weights, score_window=self.settings.score_window)

    def run(self, state: SearchState, observers: Sequence[Observer] = ()) -> Outcome:
        """Search from a state to the end.

        Parameters
        ----------
        state : SearchState
            The initial state, or any later one.
        observers : sequence of Observer, default=()
            Told of each task; any of them can stop the search.

        Returns
        -------
        Outcome
            The outcome of the last state.

        Raises
        ------
        ValueError
            If the training of the start diverges.

        Warns
        -----
        UserWarning
            If the start is far worse than guessing after its warm-up.
        """
        tasks = OpenTasks(self, observers)
        interrupted = False
        try:
            while tasks.switch(state, self._tasks(state)) and state.step != "done":
                state = self.advance(state)
        except KeyboardInterrupt:
            if not state.survivors:
                raise
            interrupted = True
        return self.outcome(state, interrupted)

    def advance(self, state: SearchState) -> SearchState:
        """Return the state after the next step; the given state is not changed.

        Parameters
        ----------
        state : SearchState
            A state whose step is not "done".

        Returns
        -------
        SearchState
            The state after the warm-up, a mutation, a recovery, a round of a phase or the final
            training.

        Raises
        ------
        ValueError
            If the search is done.
        """
        match state.step:
            case "warm-up":
                return self._warm_up(state)
            case "mutation":
                return self._mutate(state)
            case "recovery":
                return self._recover(state)
            case "phase 1" | "phase 2":
                return self._play_round(state)
            case "control":
                return self._train_control(state)
            case "final":
                return self._train_best(state)
            case "done":
                raise ValueError("The search is done.")

    def outcome(self, state: SearchState, interrupted: bool = False) -> Outcome:
        """Return what was found up to a state.

        Parameters
        ----------
        state : SearchState
            Any state after the warm-up.
        interrupted : bool, default=False
            Whether the search was stopped by Ctrl-C.

        Returns
        -------
        Outcome
            What was found.

        Raises
        ------
        ValueError
            If nothing has been trained yet.
        """
        if not state.survivors:
            raise ValueError("Nothing has been trained yet.")
        winner = self._select(state)
        if state.finalist is None and state.incumbent is not None:
            winner = self._best_of((state.incumbent, winner), state)
        # The final training has made another network of the winner.
        pool = [c for c in (*state.front, *state.survivors) if c.id != winner.id]
        if winner is not state.incumbent:  # that has no score on rows it was not trained on
            pool.append(winner)
        front = tuple(map(state.lineage_of, self._unbeaten(pool)))
        lineage = state.lineage_of(winner)
        kept = (*front, lineage) if self.settings.keep else ()
        if self.settings.keep == "all":
            kept = (*map(state.lineage_of, state.known.values()), *kept)
        return Outcome(state, winner, lineage, front, kept, interrupted)

    def _tasks(self, state: SearchState) -> tuple[Task, ...]:
        """Return the tasks that the next step belongs to, the outermost first."""
        generation = Task("generation", 3, state.generation)
        match state.step:
            case "warm-up" | "control" | "final":
                return (Task(state.step),)
            case "recovery":
                return generation, Task("recovery")
            case "phase 1" | "phase 2":
                phase = Task(state.step, self.settings.n_rounds)
                if self._round_steps(state):
                    return generation, phase, Task("round", 0, state.round)
                return generation, phase
            case _:
                return ()

    def _warm_up(self, state: SearchState) -> SearchState:
        """Train the starts; the best are the first parents."""
        starts = state.untrained[: state.ledger.left]  # a batch for each of them
        # Even if all is reserved, the starts are trained enough to choose one.
        shared = max(self._left(state), int(SMALLEST_WARM_UP * state.ledger.total))
        most = max(1, shared // len(starts))
        n_steps = min(state.ledger.steps(self.settings.warmup_epochs), most)
        state, trained, _ = self._train(state, starts, [n_steps] * len(starts))
        trained.sort(key=lambda c: rank(c, self._greedy(c)), reverse=True)
        _check_start(trained[0])
        parents, others = trained[: self.settings.n_parents], trained[self.settings.n_parents :]
        ids = {start.id for start in starts}
        state = replace(
            state,
            start=trained[0],
            untrained=(),
            survivors=tuple(c for c in parents if is_trained(c)),
            front=self._unbeaten(filter(is_trained, others)),
            best=trained[0] if state.best.id in ids else state.best,
            reference=(
                trained[0].as_ancestor() if state.reference.id in ids else state.reference
            ),
        )
        return self._end_generation(state)

    def _mutate(self, state: SearchState) -> SearchState:
        """Begin a generation with the children of all parents, if the budget allows it."""
        state = replace(state, generation=state.generation + 1)
        rng, ids = self._rng(state.generation, "mutation"), itertools.count(state.next_id)
        children: list[Candidate] = []
        for parent in state.survivors:
            blank = replace(
                parent, generation=state.generation, parent=parent.as_ancestor(), evaluations=()
            )
            children += self._children(blank, ids, rng)
        # Recovery alone decides nothing: the first round has to be affordable, too.
        cost = sum(self._recovery_steps(state, children))
        cost += len(children) * self._shortest_round(state)
        if not children or self._left(state) < cost:
            return self._next_generation(replace(state, finished=True))
        return replace(state, untrained=tuple(children), next_id=next(ids), step="recovery")

    def _children(
        self, blank: Candidate, ids: Iterator[int], rng: np.random.Generator
    ) -> Iterator[Candidate]:
        """Yield the children of a parent; degenerate ones are rejected."""
        seen = Activations(blank.weights, blank.topology, self.images)
        context = Context(rng, self.images, seen)
        for morphism in self.settings.morphisms:
            for site in morphism.sites(blank.topology):
                child = self._child(blank, ids, morphism, site, context)
                if child is not None and child.is_finite:
                    yield child

    def _child(
        self,
        blank: Candidate,
        ids: Iterator[int],
        morphism: Morphism,
        site: int,
        context: Context,
    ) -> Candidate | None:
        """Return a child, or None if it is too large."""
        old = blank.topology
        new = morphism.rewrite(old, site, context.rng)
        most = (1 + self.settings.max_growth) * old.n_parameters
        if new.n_parameters > min(most, self.settings.max_parameters):
            return None
        return replace(
            blank,
            id=next(ids),
            topology=new,
            weights=morphism.carry(blank.weights, old, new, site, context),
            morphism=morphism.name,
        )

    def _recover(self, state: SearchState) -> SearchState:
        """Train each child for as long as its morphism asks for."""
        n_steps = self._recovery_steps(state, state.untrained)
        state, children, _ = self._train(state, state.untrained, n_steps)
        return replace(state, untrained=(), survivors=tuple(children), step="phase 1")

    def _play_round(self, state: SearchState) -> SearchState:
        """Play a round of a phase, or end the phase if the budget does not allow a round."""
        n_steps = self._round_steps(state)
        if not n_steps:
            return self._end_phase(replace(state, finished=True))
        fitness = self._greedy if state.step == "phase 1" else self.fitness
        draw = self._draw(state)
        each = [n_steps] * len(draw.competitors)
        finished = n_steps < state.ledger.steps(self.settings.round_epochs)
        state, trained, verdicts = self._train(
            state, draw.competitors, each, lambda trained: draw.judge(trained, fitness)
        )
        results = list(zip(trained, verdicts, strict=True))
        state = replace(
            state,
            survivors=tuple(c for c, verdict in results if verdict.won),
            front=self._unbeaten(
                (*state.front, *(c for c, verdict in results if not verdict.won))
            ),
            round=state.round + 1,
            finished=finished,
        )
        return state if state.round < self.settings.n_rounds else self._end_phase(state)

    def _draw(self, state: SearchState) -> Draw:
        """Draw the brackets of a round: in phase 1 within each morphism, then among all."""
        pools: dict[str, list[Candidate]] = {}
        for candidate in state.survivors:
            pool = candidate.morphism if state.step == "phase 1" else ""
            pools.setdefault(pool, []).append(candidate)
        n_winners = self.settings.n_parents
        if state.step == "phase 1" and len(pools) >= n_winners:
            n_winners = 1  # the pools have enough winners together
        phase = PURPOSES.index(state.step)
        rng = self._rng(state.generation, "brackets", phase, state.round)
        rounds_left = self.settings.n_rounds - state.round
        return draw_round(list(pools.values()), n_winners, rounds_left, rng)

    def _end_phase(self, state: SearchState) -> SearchState:
        """Continue with phase 2, or end the generation if the survivors are few enough."""
        state = replace(state, round=0)
        if state.step == "phase 1" and len(state.survivors) > self.settings.n_parents:
            return replace(state, step="phase 2")
        return self._end_generation(state)

    def _end_generation(self, state: SearchState) -> SearchState:
        """Make the survivors the next parents, and continue with the next generation."""
        front = self._unbeaten((*state.front, *state.survivors))
        return self._next_generation(replace(state, front=front, best=self._select(state)))

    def _next_generation(self, state: SearchState) -> SearchState:
        """Continue with a generation, or with the final training if there can be none."""
        if self._left(state) > 0 and not state.finished:
            return replace(state, step="mutation")
        if state.ledger.left < state.ledger.steps_per_epoch:
            return replace(state, step="done")
        return replace(state, step="control" if self._control_steps(state) else "final")

    def _control_steps(self, state: SearchState) -> int:
        """Return the batches for the start to catch up, or 0 if there is no need for a control.

        A smaller network needs no proof. Users whose fitness is not the loss want something
        else than a low loss.
        """
        best, start = state.best, state.start
        if self.final is None or start is None or self.fitness != Greedy("loss"):
            return 0
        n_steps = best.n_steps - start.n_steps
        affordable = state.ledger.left - n_steps >= self._final_epoch(state.ledger)
        return n_steps if affordable and best.n_parameters > start.n_parameters else 0

    def _train_control(self, state: SearchState) -> SearchState:
        """Train the start as long as the best candidate, which has to be better beyond doubt.

        The best of many candidates is better than the start on the validation rows, be it by
        chance. If it does not prove to be more, the start gets the final training.
        """
        assert state.start is not None
        assert self.final is not None
        control = replace(
            state.start,
            id=state.next_id,
            generation=state.generation,
            morphism="identity",
            parent=state.start.as_ancestor(),
            evaluations=(),
        )
        n_steps = self._control_steps(state)
        state = replace(state, next_id=state.next_id + 1)
        state, [control], _ = self._train(state, [control], [n_steps])
        losses = [self.final.losses(c) for c in (state.best, control)]
        best = state.best if is_proven(*losses) or not is_trained(control) else control
        front = self._unbeaten((*state.front, *filter(is_trained, [control])))
        return replace(state, best=best, survivors=(best,), front=front, step="final")

    def _train_best(self, state: SearchState) -> SearchState:
        """Train the best candidate for the rest of the budget, if possible in whole epochs.

        It counts unless that raised the training loss. The validation rows cannot tell: they
        have chosen the best of many candidates, whose score on them is therefore too good by
        chance.
        """
        left = state.ledger.left
        n_steps = left - left % self._final_epoch(state.ledger) or left
        state, [trained], _ = self._train(state, [state.best], [n_steps])
        finalist = trained if is_better_trained(trained, state.best) else None
        if finalist is not None and self.final is not None:
            if state.incumbent is not None:
                # Both have been trained on all rows. This is the only fair comparison.
                finalist = self._best_of((state.incumbent, finalist), state)
            if finalist is trained:
                finalist = scored_as_before(trained, state.best)
        return replace(state, finalist=finalist, step="done")

    def _unbeaten(self, candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
        """Return the front of some candidates that are trained no further.

        Other candidates do not count yet. They can still get worse, and the front would have
        lost those that they have beaten.
        """
        if self.settings.keep is None:
            candidates = (replace(candidate, weights={}) for candidate in candidates)
        pool = sorted(candidates, key=lambda c: (c.id, c.n_steps))
        sizes, scores = [c.n_parameters for c in pool], [c.score for c in pool]
        return tuple(pool[i] for i in unbeaten(sizes, scores, [c.loss for c in pool]))

    def _select(self, state: SearchState) -> Candidate:
        """Return the best of all finished generations, of the survivors and of the final."""
        if state.finalist is not None:
            return state.finalist
        return self._best_of((state.best, *state.survivors), state)

    def _best_of(self, candidates: Iterable[Candidate], state: SearchState) -> Candidate:
        return max(candidates, key=lambda c: rank(c, self.fitness.final(c, state.reference)))

    @property
    def _greedy(self) -> Greedy:
        return Greedy(self.settings.measure)

    def _train(
        self,
        state: SearchState,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        judge: Callable[[list[Candidate]], list[Verdict]] | None = None,
    ) -> tuple[SearchState, list[Candidate], list[Verdict]]:
        """Train, judge and charge the ledger together, so that they cannot disagree."""
        key = (self.seed, state.generation, PURPOSES.index(state.step), state.round)
        is_final = state.step == "final"
        anneals = is_final and self.settings.final_fraction > 0
        trainer = self.final.trainer if is_final and self.final else self.trainer
        recipe = Recipe(
            annealing_steps=max(n_steps) if anneals else 0,
            augmentation=self.settings.augmentation,
        )
        began = time.perf_counter()
        trained = trainer.train(candidates, n_steps, key, recipe)
        seconds = time.perf_counter() - began
        verdicts = judge(trained) if judge else [Verdict()] * len(trained)
        share = seconds / sum(n_steps)
        scored = trained
        if trainer is not self.trainer:
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

    def _left(self, state: SearchState) -> int:
        """Return the batches that are left, without those reserved for the final training."""
        ledger, per_epoch = state.ledger, self._final_epoch(state.ledger)
        n_reserved = int(self.settings.final_fraction * ledger.total / per_epoch)
        return ledger.left - n_reserved * per_epoch

    def _final_epoch(self, ledger: Ledger) -> int:
        """Return the batches of an epoch of the final training."""
        return self.final.steps_per_epoch if self.final else ledger.steps_per_epoch

    def _recovery_steps(self, state: SearchState, children: Iterable[Candidate]) -> list[int]:
        epochs = {m.name: m.recovery_epochs for m in self.settings.morphisms}
        return [state.ledger.steps(epochs[child.morphism]) for child in children]

    def _shortest_round(self, state: SearchState) -> int:
        """Return the batches of the shortest round that is played: those of an epoch."""
        wanted = state.ledger.steps(self.settings.round_epochs)
        return min(wanted, state.ledger.steps_per_epoch)

    def _round_steps(self, state: SearchState) -> int:
        """Return the batches of the next round for each survivor, or 0 if there is no round."""
        most = self._left(state) // len(state.survivors)
        if state.finished or most < self._shortest_round(state):
            return 0
        return min(state.ledger.steps(self.settings.round_epochs), most)

    def _rng(self, generation: int, purpose: str, *numbers: int) -> np.random.Generator:
        key = [self.seed, generation, PURPOSES.index(purpose), *numbers]
        return np.random.default_rng(key)


def _check_start(start: Candidate) -> None:
    """Raise if the training of the start diverged, and warn if it ended worse than guessing."""
    if not is_trained(start):
        raise ValueError(
            "The training of the start diverged: its weights or outputs are not "
            "finite. Lower learning_rate, or scale the data."
        )
    loss, guessing = start.evaluations[-1].train_loss, math.log(start.topology.n_classes)
    if loss > DIVERGED * guessing:
        warnings.warn(
            "The warm-up made the start far worse than guessing, to a training loss of "
            f"{loss:.3g} instead of {guessing:.3g}. Lower learning_rate, or scale the data.",
            stacklevel=level_of_user(),
        )


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

"""The evolutionary search: the paper's Algorithm 1."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from skectonas.candidate import Ancestor, Candidate
from skectonas.morphisms import Activations, Context, Morphism
from skectonas.network import initial_weights
from skectonas.search.fitness import Fitness, Greedy
from skectonas.search.front import unbeaten
from skectonas.search.ledger import PHASES, Entry, Ledger
from skectonas.search.settings import Settings
from skectonas.search.tournament import draw_brackets
from skectonas.topology import Topology
from skectonas.training import Trainer

# Apart from the phases of training: random draws of their own.
INITIAL_WEIGHTS, MUTATION, BRACKETS = range(len(PHASES), len(PHASES) + 3)

DIVERGED = 10
"""How many times the loss of equal probabilities is too much after a warm-up. What is hardly
trained, or trained on labels without sense, comes to about once."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search has found.

    Parameters
    ----------
    winner : Candidate
        The best, trained.
    lineage : tuple of Candidate
        From the start to the winner, ancestors as they were when they had their last child;
        only the winner still has its weights.
    front : tuple of tuple of Candidate
        For each candidate that no other beats, the smallest first, its lineage; it has its
        weights if that was asked for.
    interrupted : bool
        Whether the search was stopped by Ctrl-C.
    """

    winner: Candidate
    lineage: tuple[Candidate, ...]
    front: tuple[tuple[Candidate, ...], ...]
    interrupted: bool


class Observer(Protocol):
    """What is told of the tasks of a search while it runs.

    A search consists of "warm-up", "generation" after "generation", and "final", as far as the
    budget goes; a generation of "recovery", "phase 1" and "phase 2", each at most once; and
    these two phases of tasks named "round". They follow each other, none overlap.
    """

    def begin(self, search: Search, task: str, n_subtasks: int) -> None:
        """Take note that a task begins, which has at most so many of the next level."""

    def end(self, search: Search, task: str) -> bool | None:
        """Take note that the innermost open task has ended, or was cut short by a stop in it.

        Returns
        -------
        bool or None
            True stops the search here, with the best so far: `Search.outcome`.
        """


class Search:
    """One run of ECToNAS.

    Parameters
    ----------
    trainer : Trainer
        Trains the competitors.
    ledger : Ledger
        The budget; it is charged here and nowhere else.
    fitness : Fitness
        Decides phase 2 and the final selection; phase 1 is always greedy.
    images : Tensor of shape (n, height, width, channels)
        Training images as a network sees them, for the morphisms that look at data.
    seed : int
        What every random draw depends on.
    settings : Settings
        Hyperparameters.

    Attributes
    ----------
    generation : int
        Current generation; 0 is the warm-up.
    parents : list of Candidate
        The winners of the generation before.
    survivors : list of Candidate
        Those still in competition, as they were last trained.
    best : Candidate
        The best of all finished generations.
    """

    def __init__(
        self,
        trainer: Trainer,
        ledger: Ledger,
        fitness: Fitness,
        images: Tensor,
        seed: int,
        settings: Settings,
    ) -> None:
        self.trainer = trainer
        self.ledger = ledger
        self.fitness = fitness
        self.images = images
        self.seed = seed
        self.settings = settings
        self.observers: Sequence[Observer] = ()
        self.generation = 0
        self.parents: list[Candidate] = []
        self.survivors: list[Candidate] = []
        self.best: Candidate
        self._start: Candidate
        self._origin: Ancestor | None = None
        self._ids: Iterator[int]
        self._known: dict[int, Candidate] = {}
        self._front: list[Candidate] = []  # of those that are trained no further
        self._finished = False  # no further round can be paid or played

    def run(
        self,
        start: Topology | Candidate,
        observers: Sequence[Observer] = (),
        at_hand: Candidate | None = None,
        origin: Ancestor | None = None,
    ) -> Outcome:
        """Search, beginning with a topology, or with a candidate that is trained already.

        Parameters
        ----------
        start : Topology or Candidate
            With a candidate the search goes on from its weights, and counts on from its number
            and its generation.
        observers : sequence of Observer, default=()
            Told of each task; any of them can stop the search.
        at_hand : Candidate or None, default=None
            An evaluated candidate that the best has to beat.
        origin : Ancestor or None, default=None
            What the final selection compares with; None is the start after its warm-up.

        Returns
        -------
        Outcome
            What was found.

        Raises
        ------
        ValueError
            If the training of the start diverges.

        Warns
        -----
        UserWarning
            If it ends far worse than guessing.
        """
        self.observers = observers
        self._origin = origin
        interrupted = False
        try:
            self._warm_up(start, at_hand)
            while self.ledger.left and not self._finished:
                self.generation += 1
                self._advance(self._mutate())
            self._train_the_best_on()
        except _Stop:
            pass
        except KeyboardInterrupt:
            if not self.survivors:
                raise
            interrupted = True
        return self.outcome(interrupted)

    def outcome(self, interrupted: bool = False) -> Outcome:
        """Return what was found so far; there is nothing before the end of the warm-up."""
        winner = self._select([self.best, *self.survivors])
        front = tuple(self._lineage(c) for c in self._front_with(self.survivors))
        return Outcome(winner, self._lineage(winner), front, interrupted)

    @contextmanager
    def _task(self, task: str, n_subtasks: int = 0) -> Iterator[None]:
        """Tell the observers of a task, and stop if one of them wants that."""
        for observer in self.observers:
            observer.begin(self, task, n_subtasks)
        try:
            yield
        except _Stop:
            self._end(task)
            raise
        if self._end(task):
            raise _Stop

    def _end(self, task: str) -> bool:
        wishes = [observer.end(self, task) for observer in self.observers]  # all are told
        return any(wishes)

    def _warm_up(self, start: Topology | Candidate, at_hand: Candidate | None) -> None:
        if isinstance(start, Topology):
            weights = initial_weights(start, self._rng(INITIAL_WEIGHTS))
            start = Candidate(0, start, weights, score_window=self.settings.score_window)
        self.generation = start.generation
        self._ids = itertools.count(start.id + 1)
        n_steps = min(self._steps(self.settings.warmup_epochs), self.ledger.left)
        with self._task("warm-up"):
            [start], _ = self._train([start], [n_steps], "warm-up", 0)
            if not (start.is_finite and np.isfinite(start.loss)):
                raise ValueError(
                    "The training of the start diverged: its weights or outputs are not "
                    "finite. Lower learning_rate, or scale the data."
                )
            guessing = math.log(start.topology.n_classes)
            if start.evaluations[-1].train_loss > DIVERGED * guessing:
                warnings.warn(
                    "The warm-up made the start far worse than guessing, to a training loss of "
                    f"{start.evaluations[-1].train_loss:.3g} instead of {guessing:.3g}. Lower "
                    "learning_rate, or scale the data.",
                    stacklevel=6,
                )
            self._start = start
            self.best = at_hand or start
            self._evolve([start])

    def _mutate(self) -> list[Candidate]:
        """Return the children of all parents, degenerates rejected."""
        rng = self._rng(MUTATION)
        children = []
        for parent in self.parents:
            seen = Activations(parent.weights, parent.topology, self.images)
            context = Context(rng, self.images, seen)
            children += [
                self._child(parent, morphism, site, context)
                for morphism in self.settings.morphisms
                for site in morphism.sites(parent.topology)
            ]
        return [child for child in children if child is not None]

    def _child(
        self, parent: Candidate, morphism: Morphism, site: int, context: Context
    ) -> Candidate | None:
        old = parent.topology
        new = morphism.rewrite(old, site, context.rng)
        most = (1 + self.settings.max_growth) * old.n_parameters
        if new.n_parameters > min(most, self.settings.max_parameters):
            return None
        child = replace(
            parent,
            id=next(self._ids),
            topology=new,
            weights=morphism.carry(parent.weights, old, new, site, context),
            generation=self.generation,
            morphism=morphism.name,
            parent=parent.as_ancestor(),
            evaluations=(),
        )
        return child if child.is_finite else None

    def _advance(self, children: list[Candidate]) -> None:
        """Play a generation, if the budget pays for it."""
        recovery = {m.name: m.recovery_epochs for m in self.settings.morphisms}
        steps = [self._steps(recovery[child.morphism]) for child in children]
        # Not without a first round: recovery alone decides nothing.
        round_ = len(children) * self._shortest_round
        if not children or self.ledger.left < sum(steps) + round_:
            self._finished = True
            return
        with self._task("generation", 3):
            self._evolve(self._phase_2(self._phase_1(self._recover(children, steps))))

    def _recover(self, children: list[Candidate], steps: list[int]) -> list[Candidate]:
        """Train each child for as long as its morphism asks for."""
        with self._task("recovery"):
            self.survivors, _ = self._train(children, steps, "recovery", 0)
        return self.survivors

    def _phase_1(self, children: list[Candidate]) -> list[Candidate]:
        """Let the children of each morphism compete among themselves, by score alone."""
        pools: dict[str, list[Candidate]] = {}
        for child in children:
            pools.setdefault(child.morphism, []).append(child)
        # Fewer morphisms than parents are wanted: each has to give more winners.
        n_winners = 1 if len(pools) >= self.settings.n_parents else self.settings.n_parents
        return self._compete("phase 1", list(pools.values()), n_winners, Greedy())

    def _phase_2(self, children: list[Candidate]) -> list[Candidate]:
        """Let all that are left compete for the places of parents, by fitness."""
        n_parents = self.settings.n_parents
        if len(children) <= n_parents:
            return children
        return self._compete("phase 2", [children], n_parents, self.fitness)

    def _compete(
        self, phase: str, pools: list[list[Candidate]], n_winners: int, fitness: Fitness
    ) -> list[Candidate]:
        """Play the rounds of a phase, in all pools at once; return who is left."""
        with self._task(phase, self.settings.n_rounds):
            for round_ in range(self.settings.n_rounds):
                n_steps = self._affordable(sum(map(len, pools)))
                if not n_steps:
                    break
                rng = self._rng(BRACKETS, PHASES.index(phase), round_)
                rounds_left = self.settings.n_rounds - round_
                drawn = [
                    draw_brackets(len(pool), n_winners, rounds_left, rng) for pool in pools
                ]
                brackets = [
                    [pool[i] for i in bracket]
                    for pool, brackets in zip(pools, drawn, strict=True)
                    for bracket in brackets
                ]
                with self._task("round"):
                    self.survivors = self._play(brackets, n_steps, phase, round_, fitness)
                winners = iter(self.survivors)  # one of each bracket
                pools = [list(islice(winners, len(brackets))) for brackets in drawn]
        return [candidate for pool in pools for candidate in pool]

    def _play(
        self,
        brackets: list[list[Candidate]],
        n_steps: int,
        phase: str,
        round_: int,
        fitness: Fitness,
    ) -> list[Candidate]:
        """Train all competitors of a round; return the winner of each bracket."""
        competitors = [candidate for bracket in brackets for candidate in bracket]
        sizes = [len(bracket) for bracket in brackets]
        trained, verdicts = self._train(
            competitors,
            [n_steps] * len(competitors),
            phase,
            round_,
            lambda trained: _judge(trained, sizes, fitness),
        )
        self._retire(c for c, verdict in zip(trained, verdicts, strict=True) if not verdict.won)
        return [c for c, verdict in zip(trained, verdicts, strict=True) if verdict.won]

    def _retire(self, candidates: Iterable[Candidate]) -> None:
        """Update the front by candidates that are trained no further.

        Not before: a candidate may still get worse, and whom it beat would be forgotten.
        """
        self._front = self._front_with(candidates)

    def _front_with(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        if not self.settings.keep_front:
            candidates = (replace(candidate, weights={}) for candidate in candidates)
        pool = sorted([*self._front, *candidates], key=lambda c: (c.id, c.n_steps))
        sizes, scores = [c.n_parameters for c in pool], [c.score for c in pool]
        return [pool[i] for i in unbeaten(sizes, scores, [c.loss for c in pool])]

    def _evolve(self, winners: list[Candidate]) -> None:
        """Make the winners the next parents."""
        self.parents = self.survivors = winners
        self._retire(winners)
        self.best = self._select([self.best, *winners])

    def _train_the_best_on(self) -> None:
        """Spend what no round can be paid with on the best, in whole epochs."""
        n_steps = self.ledger.left - self.ledger.left % self.ledger.steps_per_epoch
        if n_steps:
            best = self._select([self.best, *self.survivors])
            with self._task("final"):
                trained, _ = self._train([best], [n_steps], "final", 0)
                self.survivors = [*self.survivors, *trained]

    def _select(self, candidates: Iterable[Candidate]) -> Candidate:
        origin = self._origin or self._start.as_ancestor()
        return max(candidates, key=lambda c: _rank(c, self.fitness.final(c, origin)))

    def _train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        phase: str,
        round_: int,
        judge: Callable[[list[Candidate]], list[Verdict]] | None = None,
    ) -> tuple[list[Candidate], list[Verdict]]:
        """Train, judge and charge the ledger: one helper, so that the three cannot disagree."""
        key = (self.seed, self.generation, PHASES.index(phase), round_)
        began = time.perf_counter()
        trained = self.trainer.train(candidates, n_steps, key)
        seconds = time.perf_counter() - began
        verdicts = judge(trained) if judge else [Verdict()] * len(trained)
        share = seconds / sum(n_steps)
        self.ledger.charge(
            _entry(candidate, steps, phase, round_, verdict, share * steps)
            for candidate, steps, verdict in zip(trained, n_steps, verdicts, strict=True)
        )
        if phase != "final":  # descendants come from what it was before that
            self._known |= {c.id: replace(c, weights={}) for c in trained}
        return trained, verdicts

    def _steps(self, epochs: float) -> int:
        return max(1, round(epochs * self.ledger.steps_per_epoch))

    @property
    def _shortest_round(self) -> int:
        """Batches below which a round is not worth its budget: those of an epoch."""
        return min(self._steps(self.settings.round_epochs), self.ledger.steps_per_epoch)

    def _affordable(self, n_competitors: int) -> int:
        """Return the batches of a round for each competitor; fewer than wanted end the run."""
        if self._finished:
            return 0
        wanted = self._steps(self.settings.round_epochs)
        most = self.ledger.left // n_competitors
        self._finished = most < wanted
        return min(wanted, most) if most >= self._shortest_round else 0

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.generation, *purpose])

    def _lineage(self, winner: Candidate) -> tuple[Candidate, ...]:
        line = [winner]
        while line[-1].id != self._start.id and (parent := line[-1].parent) is not None:
            line.append(self._known[parent.id])
        return tuple(reversed(line))


class _Stop(Exception):
    """An observer wants no more."""


class Verdict(NamedTuple):
    """How a candidate came out of its bracket; empty where there was none."""

    bracket: int | None = None
    fitness: float | None = None
    won: bool | None = None


def _judge(trained: list[Candidate], sizes: list[int], fitness: Fitness) -> list[Verdict]:
    verdicts = []
    rest = iter(trained)
    for number, size in enumerate(sizes):
        members = list(islice(rest, size))
        values = [fitness(candidate) for candidate in members]
        ranks = [_rank(c, value) for c, value in zip(members, values, strict=True)]
        best = ranks.index(max(ranks))
        verdicts += [Verdict(number, value, i == best) for i, value in enumerate(values)]
    return verdicts


def _rank(candidate: Candidate, fitness: float) -> tuple[float, float, int, int]:
    """Return a key, higher is better; on small data many candidates have the same score."""
    return fitness, -candidate.loss, -candidate.n_parameters, -candidate.id


def _entry(
    candidate: Candidate,
    n_steps: int,
    phase: str,
    round_: int,
    verdict: Verdict,
    seconds: float,
) -> Entry:
    last = candidate.evaluations[-1]
    return Entry(
        generation=candidate.generation,
        phase=phase,
        round=round_,
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

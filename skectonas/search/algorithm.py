"""The evolutionary search: the paper's Algorithm 1."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skectonas.candidate import Ancestor, Candidate
from skectonas.network import initial_weights
from skectonas.search.checks import check_memory, check_start, is_better_trained, is_trained
from skectonas.search.children import children_of
from skectonas.search.clock import Clock
from skectonas.search.costs import Costs
from skectonas.search.final import BEYOND_DOUBT, AllRows, is_ahead, scored_as_before
from skectonas.search.fitness import Fitness, Greedy, Random, rank
from skectonas.search.front import unbeaten
from skectonas.search.ledger import Ledger
from skectonas.search.settings import Settings
from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import Observer, OpenTasks, Task
from skectonas.search.tournament import Draw, draw_round
from skectonas.search.trainings import PURPOSES, Trainings
from skectonas.topology import Topology
from skectonas.training import OutOfTime, Recipe, Trainer

SMALLEST_WARM_UP = 0.1
"""The share of the budget that the warm-up may take, whatever is reserved for the end."""

WARM_UP_SHARE, FINAL_SHARE = 0.5, 0.7
"""Shares of the remaining time that the warm-up and the final training are planned for. The
machine may become slower meanwhile, and a training that is cut off is lost."""

LEAD_OVER_LINEAR = 1
"""How many standard errors are enough for a start to be preferred to one without hidden layers,
which is smaller. That learns faster than the others, so a short training flatters it."""


@dataclass(frozen=True, eq=False)
class Search:
    """The steps of ECToNAS, each from one state to the next.

    Parameters
    ----------
    trainer : Trainer
        Trains the competitors.
    fitness : Fitness
        The fitness in phase 2 and in the final selection; phase 1 is greedy, unless chance
        decides.
    images : Tensor of shape (n, height, width, channels)
        Training images as a network sees them, for the morphisms that look at data.
    seed : int
        Seed of all random draws.
    settings : Settings
        Hyperparameters.
    clock : Clock, default=Clock()
        The time for all of it.
    final : AllRows or None, default=None
        What trains the best candidate at the end, also on the rows that were held out. With
        None, `trainer` does.
    losses : callable or None, default=None
        Takes a candidate and returns its loss on each of the rows that are held out. With
        None, a larger network needs no proof.
    """

    trainer: Trainer
    fitness: Fitness
    images: Tensor
    seed: int
    settings: Settings
    clock: Clock = field(default_factory=Clock)
    final: AllRows | None = None
    losses: Callable[[Candidate], NDArray[np.float64]] | None = None

    def initial_state(
        self,
        start: Candidate | Sequence[Topology],
        ledger: Ledger,
        incumbent: Candidate | None = None,
        reference: Ancestor | None = None,
    ) -> SearchState:
        """Return the state before the warm-up.

        Parameters
        ----------
        start : Candidate or sequence of Topology
            What the warm-up trains. A candidate keeps its weights, and the search counts on
            from its id and generation. Of several topologies, the best become parents.
        ledger : Ledger
            The budget.
        incumbent : Candidate or None, default=None
            An evaluated candidate that the winner has to beat: in the search, or, if the final
            training is on all rows, at its end.
        reference : Ancestor or None, default=None
            What the final selection compares with; None is the first start after the warm-up.

        Returns
        -------
        SearchState
            The state to begin with.
        """
        if isinstance(start, Candidate):
            starts = [start]
        else:
            starts = [self._start(i, topology) for i, topology in enumerate(start)]
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

    def trial(self, start: Topology, n_steps: int, share_of_time: float) -> Candidate:
        """Return a start after a training that belongs to no state.

        Parameters
        ----------
        start : Topology
            The start.
        n_steps : int
            Batches of the training, in which the learning rate falls to zero.
        share_of_time : float
            The share of the time at which the training has to end.

        Returns
        -------
        Candidate
            The trained start.

        Raises
        ------
        OutOfTime
            If time runs out.
        """
        key = (self.seed, 0, PURPOSES.index("trial"), 0)
        recipe = Recipe(annealing_steps=n_steps, augmentation=self.settings.augmentation)
        deadline = self.clock.deadline(share_of_time)
        candidates = [self._start(0, start)]
        [trained] = self.trainer.train(candidates, [n_steps], key, recipe, deadline)
        return trained

    def run(
        self,
        state: SearchState,
        observers: Sequence[Observer] = (),
        keep: Callable[[SearchState], None] | None = None,
    ) -> Outcome:
        """Search from a state to the end.

        Once something is trained, neither Ctrl-C nor an error loses it: the search ends, and
        the outcome says why.

        Parameters
        ----------
        state : SearchState
            The initial state, or any later one.
        observers : sequence of Observer, default=()
            Told of each task; any of them can stop the search.
        keep : callable or None, default=None
            Is given every state from which the search can be continued later. If time runs
            out, these are the states up to then.

        Returns
        -------
        Outcome
            The outcome of the last state.

        Raises
        ------
        ValueError
            If the training of the start diverges, or there is no time for a single batch.
        MemoryError
            If the start does not fit in the memory.

        Warns
        -----
        UserWarning
            If the start is far worse than guessing after its warm-up.
        """
        tasks = OpenTasks(self, observers)
        error: BaseException | None = None
        try:
            while tasks.switch(state, self._tasks(state)) and state.step != "done":
                try:
                    self._check_time(state)
                    state = self.advance(state)
                except OutOfTime:
                    state = self._without_time(state)
                if keep is not None and not state.cut_short:
                    keep(state)
        except (Exception, KeyboardInterrupt) as raised:
            if not state.survivors:
                raise
            error = raised
        try:
            outcome = self.outcome(state)
        except (Exception, KeyboardInterrupt) as raised:  # of a fitness of the user's own
            error = error if isinstance(raised, Exception) and error else raised
            chosen = state.finalist or state.incumbent or state.best  # nothing to compare
            outcome = replace(self.outcome(replace(state, finalist=chosen)), state=state)
        if isinstance(error, Exception):
            return replace(outcome, error=error)
        return replace(outcome, interrupted=error is not None)

    def advance(self, state: SearchState) -> SearchState:
        """Return the state after the next step; the given state is not changed.

        Parameters
        ----------
        state : SearchState
            A state whose step is not "done".

        Returns
        -------
        SearchState
            The state after the warm-up, a mutation, a recovery, a round of a phase, the control
            or the final training.

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

    def outcome(self, state: SearchState) -> Outcome:
        """Return what was found up to a state.

        Parameters
        ----------
        state : SearchState
            Any state after the warm-up.

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
        others = (*state.front, *state.survivors, *filter(is_trained, [state.best]))
        pool = [c for c in others if c.id != winner.id]
        if winner is not state.incumbent:  # that has no score on rows it was not trained on
            pool.append(winner)
        front = tuple(map(state.lineage_of, self._unbeaten(pool)))
        lineage = state.lineage_of(winner)
        kept = (*front, lineage) if self.settings.keep else ()
        if self.settings.keep == "all":
            trained = filter(is_trained, state.known.values())
            kept = (*map(state.lineage_of, trained), *kept)
        return Outcome(state, winner, lineage, front, kept)

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
                if self._costs.of_round(state):
                    return generation, phase, Task("round", 0, state.round)
                return generation, phase
            case _:
                return ()

    def _warm_up(self, state: SearchState) -> SearchState:
        """Train the starts; the best are the first parents."""
        wanted = state.ledger.steps(self.settings.warmup_epochs)
        # Even if all is reserved, there is something to train starts with.
        shared = max(self._costs.left(state.ledger), int(SMALLEST_WARM_UP * state.ledger.total))
        # Starts that are trained for less than an epoch cannot be told apart.
        n_starts = max(1, shared // min(wanted, state.ledger.steps_per_epoch))
        starts = state.untrained[:n_starts]
        n_steps = min(wanted, max(1, shared // len(starts)))
        state, n_steps = self._trainings.in_time(state, starts, n_steps, WARM_UP_SHARE)
        state, trained, _ = self._trainings.train(state, starts, [n_steps] * len(starts))
        check_memory(starts, trained)
        ids = {start.id for start in starts}
        # All are compared with the first.
        reference = trained[0].as_ancestor() if state.reference.id in ids else state.reference
        is_random = isinstance(self.fitness, Random)
        fitness: Fitness = self._greedy if is_random else self.fitness
        trained.sort(key=lambda c: rank(c, fitness.final(c, reference)), reverse=True)
        check_start(trained[0])
        trained = self._smallest_first(trained)
        is_first = state.best.id in ids
        best = trained[0] if is_first else self._best_of((state.best, trained[0]), state)
        parents, others = trained[: self.settings.n_parents], trained[self.settings.n_parents :]
        state = replace(
            state,
            start=trained[0],
            untrained=(),
            survivors=tuple(c for c in parents if is_trained(c)),
            front=self._unbeaten(filter(is_trained, others)),
            best=best,
            reference=reference,
        )
        return self._end_generation(state)

    def _smallest_first(self, starts: list[Candidate]) -> list[Candidate]:
        """Put the smallest start first that the best, which is first, is not ahead of.

        As in the control, a larger network has to be better beyond doubt. A smaller lead is
        enough over a network without hidden layers.
        """
        best, *others = starts
        if not others or not self._asks_for_proof:
            return starts
        assert self.losses is not None
        losses = self.losses(best)
        as_good = []
        for start in filter(is_trained, others):
            lead = LEAD_OVER_LINEAR if start.topology.is_linear else BEYOND_DOUBT
            if not is_ahead(losses, self.losses(start), lead):
                as_good.append(start)
        smallest = min((best, *as_good), key=lambda start: start.n_parameters)
        return [smallest, *(start for start in starts if start is not smallest)]

    def _mutate(self, state: SearchState) -> SearchState:
        """Begin a generation with the children of all parents, if the budget allows it."""
        state = replace(state, generation=state.generation + 1)
        rng, ids = self._rng(state.generation, "mutation"), itertools.count(state.next_id)
        children: list[Candidate] = []
        for parent in state.survivors:
            blank = replace(
                parent, generation=state.generation, parent=parent.as_ancestor(), evaluations=()
            )
            check = partial(self._check_time, state)
            children += children_of(blank, self.settings, self.images, ids, rng, check)
        # Recovery alone decides nothing: the first round has to be affordable, too.
        cost = sum(self._costs.of_recovery(state.ledger, children))
        cost += len(children) * self._costs.of_shortest_round(state.ledger)
        if not children or self._costs.left(state.ledger) < cost:
            return self._next_generation(replace(state, finished=True))
        return replace(state, untrained=tuple(children), next_id=next(ids), step="recovery")

    def _recover(self, state: SearchState) -> SearchState:
        """Train each child for as long as its morphism asks for."""
        n_steps = self._costs.of_recovery(state.ledger, state.untrained)
        state, children, _ = self._trainings.train(state, state.untrained, n_steps)
        return replace(state, untrained=(), survivors=tuple(children), step="phase 1")

    def _play_round(self, state: SearchState) -> SearchState:
        """Play a round of a phase, or end the phase if the budget does not allow a round."""
        n_steps = self._costs.of_round(state)
        if not n_steps:
            return self._end_phase(replace(state, finished=True))
        is_greedy = state.step == "phase 1" and not isinstance(self.fitness, Random)
        fitness = self._greedy if is_greedy else self.fitness
        draw = self._draw(state)
        each = [n_steps] * len(draw.competitors)
        finished = n_steps < state.ledger.steps(self.settings.round_epochs)
        state, trained, verdicts = self._trainings.train(
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
        new = state.survivors if state.step in ("phase 1", "phase 2") else ()
        best = self._best_of((state.best, *new), state)
        front = self._front(state, state.survivors, best)
        is_improved = best is not state.best and not self._is_perfect(state.best)
        is_improved = is_improved or state.step == "warm-up"
        # What time has cut off might still have improved.
        n_unimproved = 0 if is_improved else state.n_unimproved + (not state.cut_short)
        state = replace(state, front=front, best=best, n_unimproved=n_unimproved)
        if not all(map(is_trained, state.survivors)):  # their children would be no better
            parents = tuple(filter(is_trained, state.survivors)) or (best,)
            state = replace(state, survivors=parents)
        return self._next_generation(state)

    def _next_generation(self, state: SearchState) -> SearchState:
        """Continue with a generation, or with the final training if there can be none."""
        is_over = state.finished or self._is_stuck(state) or self.settings.final_fraction == 1
        if self._costs.left(state.ledger) > 0 and not is_over:
            return replace(state, step="mutation")
        if state.ledger.left < state.ledger.steps_per_epoch:
            return replace(state, step="done")
        return replace(state, step="control" if self._control_steps(state) else "final")

    def _control_steps(self, state: SearchState) -> int:
        """Return the batches for the start to catch up, or 0 if there is no need for a control.

        A smaller network needs no proof.
        """
        best, start = state.best, state.start
        if self.final is None or start is None or not self._asks_for_proof:
            return 0
        n_steps = best.n_steps - start.n_steps
        affordable = state.ledger.left - n_steps >= self._costs.final_epoch(state.ledger)
        return n_steps if affordable and best.n_parameters > start.n_parameters else 0

    def _train_control(self, state: SearchState) -> SearchState:
        """Train the start as long as the best candidate, which has to be better beyond doubt.

        The best of many candidates is better than the start on the validation rows, if only by
        chance. If it does not prove to be more, the start gets the final training.
        """
        assert state.start is not None
        assert self.losses is not None
        control = replace(
            state.start,
            id=state.next_id,
            generation=self._last_played(state),
            morphism="identity",
            parent=state.start.as_ancestor(),
            evaluations=(),
        )
        n_steps = self._control_steps(state)
        state = replace(state, next_id=state.next_id + 1)
        state, [control], _ = self._trainings.train(state, [control], [n_steps])
        best_losses, losses = map(self.losses, (state.best, control))
        is_proven = is_ahead(best_losses, losses)
        best = state.best if is_proven or not is_trained(control) else control
        front = self._front(state, filter(is_trained, [control]), best)
        return replace(state, best=best, survivors=(best,), front=front, step="final")

    def _last_played(self, state: SearchState) -> int:
        """Return the last generation of which there was a round, or that of the warm-up."""
        entries = reversed(state.ledger.entries)
        return next(entry.generation for entry in entries if entry.phase != "recovery")

    def _is_stuck(self, state: SearchState) -> bool:
        """Return whether the search ends because nothing has improved for long."""
        most = self.settings.n_iter_no_change
        return most is not None and state.n_unimproved >= most

    def _is_perfect(self, best: Candidate) -> bool:
        """Return whether no score is better, and nothing but the score or the loss counts."""
        return isinstance(self.fitness, Greedy) and best.score >= self.settings.perfect_score

    def _train_best(self, state: SearchState) -> SearchState:
        """Train the best candidate for the rest of the budget, in whole epochs if possible.

        If the search has ended because nothing improved, it is for what was reserved. The
        training counts unless it raised the training loss, or at least, on all rows, the loss
        on those that were held out. If they still are, they cannot tell: they have chosen the
        best of many candidates, whose score on them is therefore too good by chance.
        """
        n_steps = state.ledger.left
        if self._is_stuck(state):
            n_steps = min(n_steps, self._costs.of_early_end(state.ledger))
        if not n_steps:
            return replace(state, step="done")
        n_steps = n_steps - n_steps % self._costs.final_epoch(state.ledger) or n_steps
        state, n_steps = self._trainings.in_time(state, [state.best], n_steps, FINAL_SHARE)
        state, [trained], _ = self._trainings.train(state, [state.best], [n_steps])
        has_seen_all = self.final is not None
        is_better = is_better_trained(trained, state.best, has_seen_all)
        finalist = trained if is_better else None
        if finalist is not None and self.final is not None:
            finalist = scored_as_before(trained, state.best)
            if state.incumbent is not None:
                # Both have been trained on all rows, and evaluated once since then. This is the
                # only fair comparison.
                latest = replace(trained, evaluations=trained.evaluations[-1:])
                if self._best_of((state.incumbent, latest), state) is state.incumbent:
                    finalist = state.incumbent
        return replace(state, finalist=finalist, step="done")

    def _front(
        self, state: SearchState, more: Iterable[Candidate], best: Candidate
    ) -> tuple[Candidate, ...]:
        """Return the front with more candidates, but without the best.

        The best is trained further at the end, and that can make its score lower.
        """
        candidates = (*state.front, *filter(is_trained, [state.best]), *more)
        return self._unbeaten(c for c in candidates if c.id != best.id)

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
        return self._best_of((state.best, *self._contenders(state)), state)

    def _contenders(self, state: SearchState) -> tuple[Candidate, ...]:
        """Return the survivors that the best was not chosen from yet, if they played a round.

        Recovery alone decides nothing, and parents were compared when they became parents.
        """
        has_played = state.step == "phase 2" or (state.step == "phase 1" and state.round > 0)
        return state.survivors if has_played else ()

    def _best_of(self, candidates: Iterable[Candidate], state: SearchState) -> Candidate:
        return max(candidates, key=lambda c: rank(c, self.fitness.final(c, state.reference)))

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.settings, self.final.steps_per_epoch if self.final else None)

    @cached_property
    def _trainings(self) -> Trainings:
        return Trainings(self.trainer, self.final, self.seed, self.settings, self.clock)

    @property
    def _asks_for_proof(self) -> bool:
        """Whether a larger network has to be better beyond doubt: where only the loss counts.

        Users whose fitness is another one want something else than a low loss.
        """
        return self.losses is not None and self.fitness == Greedy("loss")

    @property
    def _greedy(self) -> Greedy:
        return Greedy(self.settings.measure)

    def _check_time(self, state: SearchState) -> None:
        """Raise `OutOfTime` if the next step cannot be expected to end in time."""
        n_steps = 0
        match state.step:
            case "recovery":
                n_steps = sum(self._costs.of_recovery(state.ledger, state.untrained))
            case "phase 1" | "phase 2":
                n_steps = len(state.survivors) * self._costs.of_round(state)
            case "control":
                n_steps = self._control_steps(state)
        left = self._trainings.seconds_left(state)
        if left < state.ledger.expected_seconds(n_steps):
            raise OutOfTime

    def _without_time(self, state: SearchState) -> SearchState:
        """Continue with the final training, or end the search if that is what was cut off."""
        if not state.survivors:
            raise ValueError(
                f"time_limit={self.clock.limit:g} seconds are over, and the start has not been "
                "trained for a single batch. Allow more time."
            )
        if not self._contenders(state):
            front = self._front(state, state.survivors, state.best)
            state = replace(state, front=front, survivors=(state.best,))
        state = replace(state, untrained=(), round=0, finished=True, cut_short=True)
        match state.step:
            case "final":
                return replace(state, step="done")
            case "control":
                return replace(state, step="final")
        return self._end_generation(state)

    def _rng(self, generation: int, purpose: str, *numbers: int) -> np.random.Generator:
        key = [self.seed, generation, PURPOSES.index(purpose), *numbers]
        return np.random.default_rng(key)

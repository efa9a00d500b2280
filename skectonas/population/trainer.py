"""The fused trainer, which trains all competitors of a round at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from joblib import cpu_count, delayed

from skectonas.callers import level_of_user
from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.population.groups.group_training import (
    GroupTask,
    GroupTraining,
    TrainingSetup,
    segments,
)
from skectonas.population.groups.grouping import (
    Group,
    bundles_of,
    group_candidates,
    groups_by_dtype,
)
from skectonas.population.groups.ways import Planned, Way
from skectonas.population.kernels.compiled import can_compile
from skectonas.population.kernels.launches import KernelComputation, split_for_kernels
from skectonas.population.memory.free import free_bytes, give_back, is_lack
from skectonas.population.memory.needs import Need, Needs, bytes_of
from skectonas.population.memory.parts import Part, parts_that_fit, smaller_parts
from skectonas.population.native.library import choose_engine, named_engine
from skectonas.population.native.rules import rule_of
from skectonas.population.native.session import STORE
from skectonas.population.native.training import train_natively
from skectonas.population.run.batches import Loader, batches_at_once
from skectonas.population.run.computation import Computation, StackComputation
from skectonas.population.run.optimizer import is_stackable
from skectonas.population.workers.redoing import done_again
from skectonas.population.workers.running import (
    chosen_backend,
    count_workers,
    run,
    shares_memory,
)
from skectonas.population.workers.sharing import Shared, has_children, value_of
from skectonas.population.workers.stopping import Workers
from skectonas.surroundings import undisturbed
from skectonas.training import (
    PLAIN_RECIPE,
    Key,
    OptimizerSpec,
    PlainTrainer,
    Recipe,
    Scorer,
    TrainingData,
)

Train: TypeAlias = Callable[..., list[list[Candidate]]]
"""A function that trains groups, such as `_train_alone`."""

FEWEST_THREADS = 16
"""Up to this many threads are started on request, even on fewer processors."""


class FusedTrainer:
    """Trains all competitors of a round in lock step.

    On a CPU, the native library trains them, if there is one: see `engine_in_use`. On newer
    CUDA devices, a kernel does. Otherwise, candidates with the same skeleton (number and
    poolings of the cells, number of dense layers) and similar widths form a group. They are
    padded with zeros to common widths and trained as one network in torch. The results are
    those of `PlainTrainer`, up to rounding.

    Parameters
    ----------
    data : TrainingData
        The rows, on the device that is to compute.
    optimizer : OptimizerSpec
        Its state starts anew in every training. The candidates are trained one by one if the
        optimiser does not update each weight independently of the others.
    scorer : callable
        Maps the probabilities of the validation rows to a score.
    averaging : int, default=1
        Maximum number of snapshots of the weights during the last epoch. Their mean is
        evaluated and returned, see `skectonas.training.snapshot_steps`.
    n_jobs : int or None, default=None
        Number of workers that train in parallel, as in scikit-learn. Each computes in one
        thread. The results are bitwise the same for every number of workers.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skectonas import Dense, Topology
    >>> from skectonas.candidate import Candidate
    >>> from skectonas.training.data import Rows, TrainingData
    >>> from skectonas.network import initial_weights
    >>> from skectonas.population import FusedTrainer
    >>> from skectonas.training.plain import resolve_optimizer
    >>> rows = Rows(torch.zeros(8, 4, 4, 1), torch.arange(8) % 2)
    >>> topology = Topology((4, 4, 1), [], [Dense(3)], 2)
    >>> start = Candidate(0, topology, initial_weights(topology, np.random.default_rng(0)))
    >>> trainer = FusedTrainer(
    ...     TrainingData(rows, rows, batch_size=4),
    ...     resolve_optimizer("sgd", 0.1),
    ...     lambda probabilities: float(probabilities[:, 0].mean()),
    ... )
    >>> trained, = trainer.train([start], [2], key=(0,))
    >>> trained.n_steps, len(trained.evaluations)
    (2, 1)
    """

    def __init__(
        self,
        data: TrainingData,
        optimizer: OptimizerSpec,
        scorer: Scorer,
        averaging: int = 1,
        n_jobs: int | None = None,
    ) -> None:
        self.data = data
        self.optimizer = optimizer
        self.scorer = scorer
        self.averaging = averaging
        self.n_jobs = n_jobs
        self._engine = choose_engine()
        self._setup = Shared(TrainingSetup(data, optimizer, scorer, averaging))

    def train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe = PLAIN_RECIPE,
        deadline: float = math.inf,
    ) -> list[Candidate]:
        """Return the candidates, trained: see `Trainer.train`."""
        busy = [i for i in range(len(candidates)) if n_steps[i]]
        if not busy:
            return list(candidates)
        device = self.data.train.labels.device
        batch = self.data.batches(max(n_steps), key).shape[1]
        this = _Round(candidates, n_steps, key, recipe, deadline, batch)
        # A device has a queue of its own, and its graphs are captured one at a time.
        n_workers = count_workers(self.n_jobs) if device.type == "cpu" else 1
        if len(busy) == 1 and not shares_memory(chosen_backend(n_workers)):
            n_workers = 1  # another process would not be faster, and would need all the rows
        parts, failed = self._divide(this, self._plan(this, busy), n_workers)
        trained = dict(enumerate(candidates))
        while parts:
            part = parts.pop(0)
            results = self._train_if_it_fits(this, part)
            if results is None:
                give_back(device)
                smaller = smaller_parts(part, candidates)
                parts[:0] = smaller
                failed += [] if smaller else part.planned
            else:
                trained |= results
        if failed:
            self._warn_of(failed, this)
        trained |= {i: candidates[i].failed() for own in failed for i in own.group.members}
        return list(trained.values())

    def _plan(self, this: _Round, busy: Sequence[int]) -> list[Planned]:
        """Return the groups of the busy candidates, and how each is trained.

        This does not depend on workers and memory, so that the results do not either.
        """
        device, candidates = self.data.train.labels.device, this.candidates
        alone = [Group(candidates[i].topology, (i,)) for i in busy]
        is_native = device.type == "cpu" and self._engine.library is not None
        # An optimiser of torch is only made if there is need for it: see `OptimizerSpec`.
        has_rule = is_native and rule_of(self.optimizer).kind != STORE
        if not has_rule and not is_stackable(self.optimizer):
            return [Planned(Way.ALONE, group) for group in alone]
        if is_native:
            return [Planned(Way.NATIVE, group) for group in alone]
        groups = group_candidates(candidates, busy, this.batch)
        small: list[Group] = []
        if can_compile(device):
            small, groups = split_for_kernels(groups, this.batch)
        return [
            *(Planned(Way.KERNELS, group) for group in small),
            *(Planned(Way.STACKS, group) for group in groups),
        ]

    def _divide(
        self, this: _Round, planned: list[Planned], n_workers: int
    ) -> tuple[list[Part], list[Planned]]:
        """Return the parts of a round that fit in the memory, and what fits in none."""
        backend, device = chosen_backend(n_workers), self.data.train.labels.device
        whole: tuple[list[Part], list[Planned]] = ([Part(planned, n_workers)], [])
        if not shares_memory(backend) and not has_children(backend):
            return whole  # the memory of other machines is not known
        for _ in range(2):
            free = free_bytes(device)
            if free is None:
                return whole
            need_of = self._need_of(this, n_workers)
            divided = parts_that_fit(planned, this.candidates, need_of, n_workers, free)
            if divided == whole:
                break
            give_back(device)  # and ask again
        return divided

    def _need_of(self, this: _Round, n_workers: int) -> Callable[[Planned], Need]:
        """Return a function that estimates what a group needs."""
        needs = Needs(
            self._setup.value,
            this.batch,
            self._engine,
            _threads_of(n_workers),
            in_processes=not shares_memory(chosen_backend(n_workers)),
        )
        return partial(needs.of, candidates=this.candidates)

    def _train_if_it_fits(self, this: _Round, part: Part) -> dict[int, Candidate] | None:
        """Return the trained candidates of a part, None if there is not enough memory."""
        attempt = partial(self._train_part, this, part.planned)
        try:
            return done_again(attempt, self._setup, part.n_workers)
        except Exception as error:
            if not is_lack(error):
                raise
        return None

    def _train_part(
        self, this: _Round, planned: list[Planned], setup: Any, n_workers: int
    ) -> dict[int, Candidate]:
        """Return the trained candidates of some groups, by their indices."""
        assigned, workers = self._assign(this, planned, n_workers), Workers(this.deadline)
        calls = [
            delayed(train)(
                setup, list(map(this.task_of, groups)), this.key, this.recipe, workers
            )
            for train, groups in assigned
        ]
        # Entered here too, so that all workers start and end with one thread in any order.
        with undisturbed(self.data.train.labels.device), workers.stop_on_exception():
            results = run(calls, n_workers)
        trained: dict[int, Candidate] = {}
        for (_, groups), members_of_groups in zip(assigned, results, strict=True):
            for group, members in zip(groups, members_of_groups, strict=True):
                trained |= zip(group.members, members, strict=True)
        return trained

    def _assign(
        self, this: _Round, planned: list[Planned], n_workers: int
    ) -> list[tuple[Train, list[Group]]]:
        """Return pairs of a function and the groups that one call of it trains."""
        in_threads = shares_memory(chosen_backend(n_workers))
        assigned: list[tuple[Train, list[Group]]] = []
        for way in Way:
            own = [group for of, group in planned if of is way]
            for groups in groups_by_dtype(own, this.candidates):
                train: Train
                match way:
                    case Way.NATIVE:
                        threads = _threads_of(n_workers)
                        engine = self._engine.name
                        train = partial(_train_natively, n_threads=threads, engine=engine)
                        n_calls = 1 if in_threads else n_workers
                    case Way.KERNELS:
                        train, n_calls = partial(_train_together, by_kernels=True), 1
                    case Way.STACKS:
                        train, n_calls = partial(_train_together, by_kernels=False), n_workers
                    case Way.ALONE:
                        train, n_calls = _train_alone, len(groups)
                bundles = bundles_of(groups, this.batch, n_calls) if n_calls > 1 else [groups]
                assigned += [(train, bundle) for bundle in bundles]
        return assigned

    def _warn_of(self, failed: Sequence[Planned], this: _Round) -> None:
        need_of = self._need_of(this, n_workers=1)
        need, smallest = min(
            (bytes_of([need_of(own)], n_workers=1), own.group.topology.n_parameters)
            for own in failed
        )
        n_failed = sum(len(own.group.members) for own in failed)
        warnings.warn(
            f"There is not enough memory to train {n_failed} of {len(this.candidates)} "
            f"candidates, which lose: the smallest of them has {smallest:,} weights, and needs "
            f"about {need / 1e6:,.0f} MB.",
            stacklevel=level_of_user(),
        )


class _Round(NamedTuple):
    """What a round trains: see `Trainer.train`. The last is the number of rows of a batch."""

    candidates: Sequence[Candidate]
    n_steps: Sequence[int]
    key: Key
    recipe: Recipe
    deadline: float
    batch: int

    def task_of(self, group: Group) -> GroupTask:
        """Return what a worker is told of a group."""
        return GroupTask(
            group.topology,
            [self.candidates[i] for i in group.members],
            [self.n_steps[i] for i in group.members],
        )


def _threads_of(n_workers: int) -> int:
    """Return the number of threads of the native library in this process."""
    if not shares_memory(chosen_backend(n_workers)):
        return 1
    return min(n_workers, max(int(cpu_count()), FEWEST_THREADS))


def _train_natively(
    shared: Any,
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
    *,
    n_threads: int,
    engine: str,
) -> list[list[Candidate]]:
    """Train candidates, each a group of its own, with the native library."""
    setup: TrainingSetup = value_of(shared)
    candidates = [task.candidates[0] for task in tasks]
    n_steps = [task.n_steps[0] for task in tasks]
    with undisturbed(), workers.running():
        trained = train_natively(
            setup,
            candidates,
            n_steps,
            key,
            recipe,
            named_engine(engine),
            n_threads,
            workers.check,
        )
    return [[candidate] for candidate in trained]


def _train_together(
    shared: Any,
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
    *,
    by_kernels: bool,
) -> list[list[Candidate]]:
    """Train groups, whose weights have the same type, batch by batch."""
    setup: TrainingSetup = value_of(shared)
    n_steps = max(steps for task in tasks for steps in task.n_steps)
    data = setup.data.augmented(recipe.augmentation)
    # Each worker draws the batches for itself, epoch by epoch.
    order = data.batches(n_steps, key)
    rates = recipe.rates(float(setup.optimizer.settings["lr"]), n_steps).tolist()
    device = data.train.labels.device
    dtype = dtype_of(tasks[0].candidates[0].weights)
    with undisturbed(device), workers.running():
        groups = [
            GroupTraining(setup, task, evaluates_epochs=recipe.evaluates_epochs)
            for task in tasks
        ]
        stops = set().union(*(group.stops for group in groups))
        starts = {i: group.start for i, group in enumerate(groups)}
        loader = Loader(data, dtype)
        computation: Computation
        if by_kernels:
            computation = KernelComputation(starts, setup.optimizer, order.shape[1])
        else:
            computation = StackComputation(starts, setup.optimizer)
        shape = (order.shape[1], *tasks[0].topology.input_shape)
        for steps in segments(sorted(stops), batches_at_once(shape, device)):
            workers.check()
            part = slice(steps.start, steps.stop)
            computation.run(loader.load(order[part]), rates[part])
            kept = {}
            for i, stack in computation.stacks.items():
                if steps.stop in groups[i].stops:
                    losses = computation.losses(i)
                    remaining = groups[i].handle_stop(steps.stop, stack, losses)
                    if len(remaining) < len(stack):
                        kept[i] = remaining
            computation.keep(kept)
        return [group.trained for group in groups]


def _train_alone(
    shared: Any,
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
) -> list[list[Candidate]]:
    """Train candidates one by one."""
    setup: TrainingSetup = value_of(shared)
    trainer = PlainTrainer(setup.data, setup.optimizer, setup.scorer, setup.averaging)
    with undisturbed(setup.data.train.labels.device), workers.running():
        # It checks the deadline as well.
        return [
            trainer.train(task.candidates, task.n_steps, key, recipe, check=workers.check)
            for task in tasks
        ]

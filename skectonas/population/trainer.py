"""The fused trainer, which trains all competitors of a round at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from joblib import cpu_count, delayed

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
from skectonas.population.kernels.compiled import can_compile
from skectonas.population.kernels.launches import KernelComputation, split_for_kernels
from skectonas.population.native.library import choose_engine, named_engine
from skectonas.population.native.rules import rule_of
from skectonas.population.native.session import STORE
from skectonas.population.native.training import train_natively
from skectonas.population.run.batches import Loader, batches_at_once
from skectonas.population.run.computation import Computation, StackComputation
from skectonas.population.run.optimizer import is_stackable
from skectonas.population.workers.running import (
    chosen_backend,
    count_workers,
    run,
    shares_memory,
)
from skectonas.population.workers.sharing import Shared
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
"""So many threads are started if asked for, even if there are fewer processors."""


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
        Number of snapshots of the weights during the last epoch whose mean is evaluated and
        returned: see `skectonas.training.snapshot_steps`.
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
        batch = self.data.batches(max(n_steps), key).shape[1]
        device = self.data.train.labels.device
        # A device has a queue of its own, and its graphs are captured one at a time.
        n_workers = count_workers(self.n_jobs) if device.type == "cpu" else 1
        if len(busy) == 1 and not shares_memory(chosen_backend(n_workers)):
            n_workers = 1  # another process would not train it faster, and needs all the rows
        assignments = self._assign(candidates, busy, batch, device, n_workers)
        setup, workers = self._setup.handle_for(chosen_backend(n_workers)), Workers(deadline)
        calls = [
            delayed(train)(
                setup,
                [
                    GroupTask(
                        group.topology,
                        [candidates[i] for i in group.members],
                        [n_steps[i] for i in group.members],
                    )
                    for group in groups
                ],
                key,
                recipe,
                workers,
            )
            for train, groups in assignments
        ]
        # Entered here too, so that all workers start and end with one thread in any order.
        with undisturbed(device), workers.stop_on_exception():
            results = run(calls, n_workers)
        trained = {i: candidates[i] for i in range(len(candidates))}
        for (_, groups), members_of_groups in zip(assignments, results, strict=True):
            for group, members in zip(groups, members_of_groups, strict=True):
                trained |= zip(group.members, members, strict=True)
        return list(trained.values())

    def _assign(
        self,
        candidates: Sequence[Candidate],
        busy: Sequence[int],
        batch: int,
        device: torch.device,
        n_workers: int,
    ) -> list[tuple[Train, list[Group]]]:
        """Return pairs of a function and the groups that one call of it trains."""
        is_native = device.type == "cpu" and self._engine.library is not None
        # An optimiser of torch is only made if there is need for it: see `OptimizerSpec`.
        has_rule = is_native and rule_of(self.optimizer).kind != STORE
        if not has_rule and not is_stackable(self.optimizer):
            return [(_train_alone, [Group(candidates[i].topology, (i,))]) for i in busy]
        if is_native:
            return self._assign_natively(candidates, busy, batch, n_workers)
        groups = group_candidates(candidates, busy, batch)
        small: list[Group] = []
        if can_compile(device):
            small, groups = split_for_kernels(groups, batch)
        by_kernels = partial(_train_together, by_kernels=True)
        as_stacks = partial(_train_together, by_kernels=False)
        return [
            *((by_kernels, own) for own in groups_by_dtype(small, candidates)),
            *(
                (as_stacks, bundle)
                for own in groups_by_dtype(groups, candidates)
                for bundle in bundles_of(own, batch, n_workers)
            ),
        ]

    def _assign_natively(
        self, candidates: Sequence[Candidate], busy: Sequence[int], batch: int, n_workers: int
    ) -> list[tuple[Train, list[Group]]]:
        """Return one call for each type of weights, or more if the workers are processes."""
        in_threads = shares_memory(chosen_backend(n_workers))
        alone = [Group(candidates[i].topology, (i,)) for i in busy]
        bundles: list[list[Group]] = []
        for groups in groups_by_dtype(alone, candidates):
            if in_threads:
                bundles.append(groups)
            else:
                bundles += bundles_of(groups, batch, n_workers)
        threads = min(n_workers, max(cpu_count(), FEWEST_THREADS)) if in_threads else 1
        train = partial(_train_natively, n_threads=threads, engine=self._engine.name)
        return [(train, bundle) for bundle in bundles]


def _train_natively(
    shared: Shared[TrainingSetup],
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
    *,
    n_threads: int,
    engine: str,
) -> list[list[Candidate]]:
    """Train candidates, each a group of its own, with the native library."""
    setup = shared.value
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
    shared: Shared[TrainingSetup],
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
    *,
    by_kernels: bool,
) -> list[list[Candidate]]:
    """Train groups, whose weights have the same type, batch by batch."""
    setup = shared.value
    n_steps = max(steps for task in tasks for steps in task.n_steps)
    data = setup.data.augmented(recipe.augmentation)
    # Each worker draws the batches for itself, epoch by epoch.
    order = data.batches(n_steps, key)
    rates = recipe.rates(float(setup.optimizer.settings["lr"]), n_steps).tolist()
    device = data.train.labels.device
    dtype = dtype_of(tasks[0].candidates[0].weights)
    with undisturbed(device), workers.running():
        groups = [GroupTraining(setup, task) for task in tasks]
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
    shared: Shared[TrainingSetup],
    tasks: list[GroupTask],
    key: Key,
    recipe: Recipe,
    workers: Workers,
) -> list[list[Candidate]]:
    """Train candidates one by one."""
    setup = shared.value
    trainer = PlainTrainer(setup.data, setup.optimizer, setup.scorer, setup.averaging)
    trained = []
    with undisturbed(setup.data.train.labels.device), workers.running():
        for task in tasks:
            workers.check()
            trained.append(
                trainer.train(task.candidates, task.n_steps, key, recipe, workers.deadline)
            )
    return trained

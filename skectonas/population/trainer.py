"""The fused trainer: all competitors of a round at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from joblib import Parallel, delayed, effective_n_jobs

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.population.devices.kernels.compiled import can_compile
from skectonas.population.devices.kernels.launches import KernelComputation, for_kernels
from skectonas.population.devices.sharing import Shared
from skectonas.population.groups.grouping import Group, bundled, cut
from skectonas.population.groups.training import GroupTraining, Part, Work, segments
from skectonas.population.run.computation import ComputationFactory, StackComputation
from skectonas.population.run.feed import Feed, batches_at_once, plain
from skectonas.population.run.optimizer import is_stackable
from skectonas.population.run.stopping import Workers
from skectonas.surroundings import undisturbed
from skectonas.topology import Topology
from skectonas.training import Key, OptimizerSpec, PlainTrainer, Scorer, TrainingData

Train: TypeAlias = Callable[..., list[list[Candidate]]]
"""Trains groups: see `_train_stacked`."""


class FusedTrainer:
    """Trains all competitors of a round in lock step, as few stacked computations.

    Candidates of one skeleton (number and poolings of the cells, number of dense layers) and
    of similar widths form a group, are padded with zeros to common widths and trained as one.
    The results are those of `PlainTrainer`, up to rounding.

    Parameters
    ----------
    data : TrainingData
        The rows, on the device that is to compute.
    optimizer : OptimizerSpec
        Its state starts anew in every training. An optimiser that does not treat every weight
        by itself trains the candidates one by one.
    scorer : callable
        Probabilities of the validation rows to a score.
    averaging : int, default=1
        What is evaluated and returned is the mean of so many snapshots of the weights during
        the last epoch: see `skectonas.training.snapshot_steps`.
    n_jobs : int or None, default=None
        Workers that groups are handed to, as in scikit-learn. Each computes in one thread; the
        results are the same bits for every number of them.

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
        self._work = Shared(Work(data, optimizer, scorer, averaging))
        self._workers = Workers()

    def train(
        self, candidates: Sequence[Candidate], n_steps: Sequence[int], key: Key
    ) -> list[Candidate]:
        """Return the candidates, trained: see `Trainer.train`."""
        busy = [i for i in range(len(candidates)) if n_steps[i]]
        if not busy:
            return list(candidates)
        batch = self.data.batches(max(n_steps), key).shape[1]
        device = self.data.train.labels.device
        # A device has a queue of its own, and its graphs are captured one at a time.
        n_workers = effective_n_jobs(self.n_jobs) if device.type == "cpu" else 1
        tasks = self._tasks(candidates, busy, batch, device, n_workers)
        # Here too, so that the workers find and leave one thread, in whatever order they end.
        with undisturbed(device), self._workers.stopped_at_an_exception():
            results = Parallel(n_jobs=min(n_workers, len(tasks)), prefer="threads")(
                delayed(train)(
                    self._work,
                    [
                        Part(
                            group.topology,
                            [candidates[i] for i in group.members],
                            [n_steps[i] for i in group.members],
                        )
                        for group in bundle
                    ],
                    key,
                    self._workers,
                )
                for train, bundle in tasks
            )
        trained = {i: candidates[i] for i in range(len(candidates))}
        for (_, bundle), parts in zip(tasks, results, strict=True):
            for group, part in zip(bundle, parts, strict=True):
                trained |= zip(group.members, part, strict=True)
        return list(trained.values())

    def _tasks(
        self,
        candidates: Sequence[Candidate],
        busy: Sequence[int],
        batch: int,
        device: torch.device,
        n_workers: int,
    ) -> list[tuple[Train, list[Group]]]:
        """Return what is to be done: functions, each with the groups that it trains."""
        if not is_stackable(self.optimizer):
            return [(_train_alone, [Group(candidates[i].topology, (i,))]) for i in busy]
        groups = cut(candidates, busy, batch)
        small: list[Group] = []
        if can_compile(device):
            small, groups = for_kernels(groups, batch)
        by_dtype: dict[torch.dtype, list[Group]] = {}
        for group in small:
            dtype = dtype_of(candidates[group.members[0]].weights)
            by_dtype.setdefault(dtype, []).append(group)
        return [
            *((_train_by_kernels, bundle) for bundle in by_dtype.values()),
            *((_train_stacked, b) for b in bundled(groups, candidates, batch, n_workers)),
        ]


def _train_stacked(
    shared: Shared[Work], parts: list[Part], key: Key, workers: Workers
) -> list[list[Candidate]]:
    """Train groups of one kind of input, which share the feed."""
    topology = parts[0].topology
    return _train_together(shared, parts, key, workers, topology, StackComputation)


def _train_by_kernels(
    shared: Shared[Work], parts: list[Part], key: Key, workers: Workers
) -> list[list[Candidate]]:
    """Train groups of any kind in the same launches."""
    topology = plain(parts[0].topology)
    return _train_together(shared, parts, key, workers, topology, KernelComputation)


def _train_together(
    shared: Shared[Work],
    parts: list[Part],
    key: Key,
    workers: Workers,
    input_of: Topology,
    computation_of: ComputationFactory,
) -> list[list[Candidate]]:
    work = shared.value
    n_steps = max(steps for part in parts for steps in part.n_steps)
    # Drawn by each worker for itself, epoch by epoch.
    order = work.data.batches(n_steps, key)
    device = work.data.train.labels.device
    with undisturbed(device), workers.one_more():
        groups = [GroupTraining(work, part) for part in parts]
        stops = set().union(*(group.stops for group in groups))
        batch = order.shape[1]
        plan = list(segments(sorted(stops), batches_at_once(input_of, batch, device)))
        dtype = dtype_of(parts[0].candidates[0].weights)
        feed = Feed(input_of, work.data, max(map(len, plan)), batch, dtype)
        starts = {i: group.start for i, group in enumerate(groups)}
        computation = computation_of(starts, feed, work.optimizer)
        for steps in plan:
            workers.check()
            feed.load(order[steps.start : steps.stop])
            computation.run(len(steps))
            kept = {}
            for i, stack in computation.stacks.items():
                if steps.stop in groups[i].stops:
                    losses = computation.losses(i)
                    going_on = groups[i].stop_over(steps.stop, stack, losses)
                    if len(going_on) < len(stack):
                        kept[i] = going_on
            computation.keep(kept)
        return [group.trained for group in groups]


def _train_alone(
    shared: Shared[Work], parts: list[Part], key: Key, workers: Workers
) -> list[list[Candidate]]:
    work = shared.value
    plain = PlainTrainer(work.data, work.optimizer, work.scorer, work.averaging)
    trained = []
    with undisturbed(work.data.train.labels.device), workers.one_more():
        for part in parts:
            workers.check()
            trained.append(plain.train(part.candidates, part.n_steps, key))
    return trained

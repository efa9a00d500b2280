"""The fused trainer: all competitors of a round at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from skectonas.candidate import Candidate
from skectonas.data import TrainingData
from skectonas.population.computation import Computation, StackComputation
from skectonas.population.feed import Feed, batches_at_once, kind_of_input, plain
from skectonas.population.group_training import GroupTraining, Part, Work, segments
from skectonas.population.grouping import Group, bundled, cut
from skectonas.population.kernels.compiled import can_compile
from skectonas.population.kernels.computation import KernelComputation
from skectonas.population.optimizer import is_stackable
from skectonas.population.sharing import Shared
from skectonas.population.stack import dtype_of
from skectonas.population.stopping import Workers
from skectonas.scoring import Scorer
from skectonas.topology import Topology
from skectonas.training import Key, OptimizerSpec, PlainTrainer, one_thread


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
    >>> from skectonas.data import Rows, TrainingData
    >>> from skectonas.network import initial_weights
    >>> from skectonas.population import FusedTrainer
    >>> from skectonas.training import resolve_optimizer
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
        rows = self.data.batches(max(n_steps), key)
        device = self.data.train.images.device
        # A device has a queue of its own, and its graphs are captured one at a time.
        n_jobs = self.n_jobs if device.type == "cpu" else 1
        if is_stackable(self.optimizer):
            batch = rows.shape[1]
            groups = cut(candidates, busy, batch)
            n_workers = effective_n_jobs(n_jobs)
            bundles = bundled(groups, candidates, batch, n_workers, _kind_on(device))
            train = _train_together
        else:
            bundles = [[Group(candidates[i].topology, (i,))] for i in busy]
            train = _train_alone
        # Here too, so that the workers find and leave one thread, in whatever order they end.
        with one_thread(), self._workers.stopped_at_an_exception():
            results = Parallel(n_jobs=n_jobs, prefer="threads")(
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
                    Batches(key, rows),
                    self._workers,
                )
                for bundle in bundles
            )
        trained = {i: candidates[i] for i in range(len(candidates))}
        for bundle, parts in zip(bundles, results, strict=True):
            for group, part in zip(bundle, parts, strict=True):
                trained |= zip(group.members, part, strict=True)
        return list(trained.values())


class Batches(NamedTuple):
    """The batches of a round: what their order depends on, and their rows."""

    key: Key
    rows: NDArray[np.int64]


def _kind_on(device: torch.device) -> Callable[[Topology], Hashable]:
    """Return what groups must have in common to be trained together on a device."""
    if can_compile(device):
        return lambda topology: kind_of_input(plain(topology))
    return kind_of_input


def _train_together(
    shared: Shared[Work], parts: list[Part], batches: Batches, workers: Workers
) -> list[list[Candidate]]:
    """Train groups of one kind of input, which share the feed."""
    work = shared.value
    device = work.data.train.images.device
    # A copy, because what comes from another process may be read only.
    order = torch.tensor(batches.rows[: max(n for part in parts for n in part.n_steps)])
    order = order.to(device)
    with one_thread(), workers.one_more():
        groups = [GroupTraining(work, part) for part in parts]
        stops = set().union(*(group.stops for group in groups))
        batch, topology = order.shape[1], parts[0].topology
        if can_compile(device):
            topology = plain(topology)
        plan = list(segments(sorted(stops), batches_at_once(topology, batch, device)))
        dtype = dtype_of(parts[0].candidates[0].weights)
        feed = Feed(topology, work.data, max(map(len, plan)), batch, dtype)
        compute = KernelComputation if can_compile(device) else StackComputation
        starts = {i: group.start for i, group in enumerate(groups)}
        computation: Computation = compute(starts, feed, work.optimizer)
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
    shared: Shared[Work], parts: list[Part], batches: Batches, workers: Workers
) -> list[list[Candidate]]:
    work = shared.value
    plain = PlainTrainer(work.data, work.optimizer, work.scorer, work.averaging)
    trained = []
    with one_thread(), workers.one_more():
        for part in parts:
            workers.check()
            trained.append(plain.train(part.candidates, part.n_steps, batches.key))
    return trained

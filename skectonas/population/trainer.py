"""The fused trainer: all competitors of a round at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from joblib import Parallel, delayed, effective_n_jobs

from skectonas.candidate import Candidate
from skectonas.data import TrainingData
from skectonas.population.feed import Feed
from skectonas.population.group_training import GroupTraining, Work
from skectonas.population.grouping import Group, bundled, cut
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
        batch = self.data.batches(max(n_steps), key).shape[1]
        # A device has a queue of its own, and its graphs are captured one at a time.
        on_cpu = self.data.train.images.device.type == "cpu"
        n_jobs = self.n_jobs if on_cpu else 1
        if is_stackable(self.optimizer):
            groups = cut(candidates, busy, batch)
            bundles = bundled(groups, candidates, batch, effective_n_jobs(n_jobs))
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
                    key,
                    self._workers,
                )
                for bundle in bundles
            )
        trained = {i: candidates[i] for i in range(len(candidates))}
        for bundle, parts in zip(bundles, results, strict=True):
            for group, part in zip(bundle, parts, strict=True):
                trained |= zip(group.members, part, strict=True)
        return list(trained.values())


class Part(NamedTuple):
    """A group with its candidates, as it is handed to a worker."""

    topology: Topology
    candidates: list[Candidate]
    n_steps: list[int]


def _train_together(
    shared: Shared[Work], parts: list[Part], key: Key, workers: Workers
) -> list[list[Candidate]]:
    """Train groups of one kind of input, which share the feed, block by block."""
    work = shared.value
    n_steps = max(steps for part in parts for steps in part.n_steps)
    # Drawn by each worker for itself, epoch by epoch.
    order = work.data.batches(n_steps, key)
    with one_thread(), workers.one_more():
        first = parts[0]
        dtype = dtype_of(first.candidates[0].weights)
        feed = Feed(first.topology, work.data, order.shape[1], dtype)
        groups = [GroupTraining(work, *part, feed) for part in parts]
        for block in range(-(-n_steps // feed.n_batches)):
            workers.check()
            feed.load(order, block)
            for group in groups:
                group.advance()
        return [group.trained for group in groups]


def _train_alone(
    shared: Shared[Work], parts: list[Part], key: Key, workers: Workers
) -> list[list[Candidate]]:
    work = shared.value
    plain = PlainTrainer(work.data, work.optimizer, work.scorer, work.averaging)
    trained = []
    with one_thread(), workers.one_more():
        for part in parts:
            workers.check()
            trained.append(plain.train(part.candidates, part.n_steps, key))
    return trained

"""The training of one group from its first batch to its last, except for the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skectonas.candidate import Candidate, Evaluation
from skectonas.network import TopologyNetwork, build, weights_of
from skectonas.population.groups.stack import Stack, stacked
from skectonas.topology import Topology, ceil_div
from skectonas.training import OptimizerSpec, Scorer, TrainingData, evaluate, snapshot_steps

ROWS_AT_ONCE = 1024
"""Number of validation rows that go through a network at once."""


@dataclass(frozen=True)
class TrainingSetup:
    """Data and settings that all groups of a search share: see `FusedTrainer`."""

    data: TrainingData
    optimizer: OptimizerSpec
    scorer: Scorer
    averaging: int


class GroupTask(NamedTuple):
    """A group with its candidates, and the number of steps of each, at least one."""

    topology: Topology
    candidates: list[Candidate]
    n_steps: list[int]


def epoch_ends(n_steps: Sequence[int], per_epoch: int) -> list[int]:
    """Return the steps after which an epoch ends, or the training of a candidate.

    Examples
    --------
    >>> from skectonas.population.groups.group_training import epoch_ends
    >>> epoch_ends([25, 5], per_epoch=10)
    [5, 10, 20, 25]
    """
    return sorted({*n_steps, *range(per_epoch, max(n_steps) + 1, per_epoch)})


def segments(stops: Sequence[int], max_steps: int) -> Iterator[range]:
    """Divide the steps between stops into ranges of similar lengths, at most `max_steps`.

    Examples
    --------
    >>> from skectonas.population.groups.group_training import segments
    >>> list(segments([5, 8], max_steps=3))
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    for begin, end in pairwise([0, *sorted(stops)]):
        n_segments = ceil_div(end - begin, max_steps)
        edges = np.linspace(begin, end, n_segments + 1).astype(int).tolist()
        yield from map(range, edges, edges[1:])


class GroupTraining:
    """Snapshots and evaluations of a group, and the removal of finished candidates.

    Parameters
    ----------
    setup : TrainingSetup
        Data, optimiser and scorer.
    task : GroupTask
        The group.
    evaluates_epochs : bool
        Whether candidates are evaluated after every epoch, or else only at the end.

    Attributes
    ----------
    start : Stack
        The initial weights.
    stops : set of int
        The steps after which `handle_stop` has to be called.
    """

    def __init__(
        self, setup: TrainingSetup, task: GroupTask, *, evaluates_epochs: bool
    ) -> None:
        topology, self._candidates, self._n_steps = task
        self._setup, self._evaluates_epochs = setup, evaluates_epochs
        device = setup.data.train.labels.device
        self.start = stacked(topology, self._candidates, device)
        # Networks of single candidates, which are only evaluated.
        self._networks = [
            build(c.topology, c.weights).to(device).eval() for c in self._candidates
        ]
        self._evaluations: list[list[Evaluation]] = [[] for _ in self._candidates]
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._per_epoch = setup.data.steps_per_epoch
        self._snapshots = snapshot_steps(self._per_epoch, self._per_epoch, setup.averaging)
        self._epoch_ends = set(epoch_ends(self._n_steps, self._per_epoch))
        epochs = range(0, max(self._n_steps), self._per_epoch)
        snapshots = (begin + step for begin in epochs for step in self._snapshots)
        self.stops = self._epoch_ends | {s for s in snapshots if s < max(self._n_steps)}
        # The members of the stack are those candidates that are still trained.
        self._members = list(range(len(self._candidates)))
        self._losses = self.start.flat.new_zeros(len(self.start))
        self._means = self.start.flat.clone()

    @property
    def trained(self) -> list[Candidate]:
        """The candidates as `Trainer.train` returns them; only available at the end."""
        return [
            replace(
                candidate,
                weights=self._weights[i],
                n_steps=candidate.n_steps + self._n_steps[i],
                evaluations=(*candidate.evaluations, *self._evaluations[i]),
            )
            for i, candidate in enumerate(self._candidates)
        ]

    @torch.no_grad()
    def handle_stop(self, step: int, stack: Stack, losses: Tensor) -> list[int]:
        """Take a snapshot, evaluate the candidates that are due, and remove the finished ones.

        Parameters
        ----------
        step : int
            One of the stops.
        stack : Stack
            The weights of the candidates that are still trained.
        losses : Tensor of shape (members,)
            Sum of their losses since the last stop.

        Returns
        -------
        list of int
            Places in the stack of the candidates that need further steps.
        """
        step_of_epoch = (step - 1) % self._per_epoch + 1
        self._losses += losses
        means = self._take_snapshot(step_of_epoch, stack)
        finished = [place for place, i in enumerate(self._members) if self._n_steps[i] == step]
        if step in self._epoch_ends:
            self._end_epoch(step_of_epoch, stack, means, finished)
        return self._remove(finished, stack)

    def _take_snapshot(self, step_of_epoch: int, stack: Stack) -> Tensor:
        """Return the means of the epoch's snapshots, the present weights included.

        The present weights only count in later means if the step is one of the snapshots: a
        candidate that finishes between two snapshots takes an additional one.
        """
        n_taken = sum(snapshot < step_of_epoch for snapshot in self._snapshots)
        means = torch.lerp(self._means, stack.flat, 1 / (1 + n_taken))
        if step_of_epoch in self._snapshots:
            self._means = means
        return means

    def _end_epoch(
        self, step_of_epoch: int, stack: Stack, means: Tensor, finished: list[int]
    ) -> None:
        """Evaluate all members at the end of an epoch, or else the finished ones."""
        is_full = step_of_epoch == self._per_epoch
        due = range(len(stack)) if is_full and self._evaluates_epochs else finished
        train_losses = (self._losses / step_of_epoch).tolist()
        for place in due:
            i = self._members[place]
            weights = stack.weights_of(place, means)
            for name, parameter in self._networks[i].named_parameters():
                parameter.copy_(weights[name])
            self._evaluations[i].append(self._evaluate(self._networks[i], train_losses[place]))
            if place in finished:
                self._weights[i] = weights_of(self._networks[i])
        if is_full:
            self._losses.zero_()

    def _evaluate(self, network: TopologyNetwork, train_loss: float) -> Evaluation:
        """Set the running statistics of a network and evaluate it, as the plain loop does."""
        data, dtype = self._setup.data, network.output.weight.dtype
        network.calibrate(data.scaled(data.calibration, dtype))
        chunks = data.validation.chunks(ROWS_AT_ONCE)
        logits = torch.cat([network(data.scaled(images, dtype)) for images in chunks])
        return evaluate(logits, data.validation, self._setup.scorer, train_loss)

    def _remove(self, finished: list[int], stack: Stack) -> list[int]:
        """Remove the finished members; return the places of the others."""
        remaining = [place for place in range(len(stack)) if place not in finished]
        if finished:
            self._members = [self._members[place] for place in remaining]
            self._losses = self._losses[remaining]
            if remaining:
                self._means = stack.take(remaining, self._means).flat
        return remaining

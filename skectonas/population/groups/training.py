"""The training of one group from its first batch to its last: all but the steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skectonas.candidate import Candidate, Evaluation
from skectonas.population.groups.inference import Inference, members_at_once
from skectonas.population.groups.stack import Stack, corner, stacked
from skectonas.topology import Topology, norm_name
from skectonas.training import OptimizerSpec, Scorer, TrainingData, evaluate, snapshot_steps


@dataclass(frozen=True)
class Work:
    """What every group of a search is trained with: see `FusedTrainer`."""

    data: TrainingData
    optimizer: OptimizerSpec
    scorer: Scorer
    averaging: int


class Part(NamedTuple):
    """A group with its candidates, and the batches for each of them, at least one."""

    topology: Topology
    candidates: list[Candidate]
    n_steps: list[int]


def marks(n_steps: Sequence[int], per_epoch: int) -> list[int]:
    """Return after how many steps somebody is evaluated: full epochs and ends.

    Examples
    --------
    >>> from skectonas.population.groups.training import marks
    >>> marks([25, 5], per_epoch=10)
    [5, 10, 20, 25]
    """
    return sorted({*n_steps, *range(per_epoch, max(n_steps) + 1, per_epoch)})


def segments(stops: Sequence[int], most: int) -> Iterator[range]:
    """Return the steps between stops, in parts of about the same size and no more than `most`.

    Examples
    --------
    >>> from skectonas.population.groups.training import segments
    >>> list(segments([5, 8], most=3))
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    for begin, end in pairwise([0, *sorted(stops)]):
        edges = np.linspace(begin, end, -(-(end - begin) // most) + 1).astype(int).tolist()
        yield from map(range, edges, edges[1:])


class GroupTraining:
    """What happens to a group between the steps: snapshots, evaluations, farewells.

    Parameters
    ----------
    work : Work
        Data, optimiser and scorer.
    part : Part
        The group.

    Attributes
    ----------
    start : Stack
        The weights to begin with.
    stops : set of int
        After how many steps the group wants to be stopped at.
    """

    def __init__(self, work: Work, part: Part) -> None:
        topology, self._candidates, self._n_steps = part
        self._work = work
        self.start = stacked(topology, self._candidates, work.data.train.labels.device)
        self._records: list[list[Evaluation]] = [[] for _ in self._candidates]
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._per_epoch = work.data.steps_per_epoch
        self._snapshots = snapshot_steps(self._per_epoch, self._per_epoch, work.averaging)
        self._marks = set(marks(self._n_steps, self._per_epoch))
        epochs = range(0, max(self._n_steps), self._per_epoch)
        snapshots = (begin + step for begin in epochs for step in self._snapshots)
        self.stops = self._marks | {s for s in snapshots if s < max(self._n_steps)}
        self._members = list(range(len(self._candidates)))
        self._losses = self.start.flat.new_zeros(len(self.start))
        self._means = self.start.flat.clone()

    @property
    def trained(self) -> list[Candidate]:
        """The candidates as in `Trainer.train`, at the end."""
        return [
            replace(
                candidate,
                weights=self._weights[i],
                n_steps=candidate.n_steps + self._n_steps[i],
                evaluations=(*candidate.evaluations, *self._records[i]),
            )
            for i, candidate in enumerate(self._candidates)
        ]

    @torch.no_grad()
    def stop_over(self, step: int, stack: Stack, losses: Tensor) -> list[int]:
        """Take a snapshot, evaluate whoever is due, and let go who is done.

        Parameters
        ----------
        step : int
            One of the stops.
        stack : Stack
            The weights of those who are still trained.
        losses : Tensor of shape (members,)
            Sum of their losses since the last stop.

        Returns
        -------
        list of int
            Places in the stack of those who go on.
        """
        position = (step - 1) % self._per_epoch + 1
        taken = sum(snapshot < position for snapshot in self._snapshots)
        means = torch.lerp(self._means, stack.flat, 1 / (1 + taken))
        # Who ends between two snapshots takes a last one; the others do not.
        if position in self._snapshots:
            self._means = means
        self._losses += losses
        places = list(range(len(stack)))
        if step in self._marks:
            ending = [place for place in places if self._ends(place, step)]
            full_epoch = position == self._per_epoch
            due = places if full_epoch else ending
            train_losses = (self._losses / position).tolist()
            self._evaluate(stack.take(due, means), due, ending, train_losses)
            if full_epoch:
                self._losses.zero_()
            places = [place for place in places if place not in ending]
        if len(places) < len(stack):
            self._members = [self._members[place] for place in places]
            self._losses = self._losses[places]
            if places:
                self._means = stack.take(places, self._means).flat
        return places

    def _ends(self, place: int, step: int) -> bool:
        return self._n_steps[self._members[place]] == step

    def _evaluate(
        self, stack: Stack, due: list[int], ending: list[int], train_losses: list[float]
    ) -> None:
        """Evaluate the stack, whose members have the places `due`."""
        data, scorer = self._work.data, self._work.scorer
        size = members_at_once(stack, data)
        for begin in range(0, len(due), size):
            members = range(begin, min(begin + size, len(due)))
            part = stack.take(members)
            inference = Inference(part, data)
            # All at once: a device is waited for here.
            logits = inference.logits.cpu()
            for member, place in enumerate(due[begin : begin + size]):
                i = self._members[place]
                self._records[i].append(
                    evaluate(logits[member], data.validation, scorer, train_losses[place])
                )
                if place in ending:
                    self._weights[i] = full_weights(part, inference, member)


def full_weights(stack: Stack, inference: Inference, member: int) -> dict[str, Tensor]:
    """Return all named weights of a member, running statistics included."""
    weights = stack.weights_of(member)
    for i, cell in enumerate(stack.members[member].cells):
        for name, value in zip(
            ("running_mean", "running_var"), inference.statistics[i], strict=True
        ):
            own = value[member, :, 0][corner((cell.channels,))]
            weights[f"{norm_name(i)}.{name}"] = own.cpu().clone()
    return weights

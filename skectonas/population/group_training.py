"""The training of one group from its first batch to its last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skectonas.candidate import Candidate, Evaluation
from skectonas.data import TrainingData
from skectonas.population.feed import Feed
from skectonas.population.graph import block_of
from skectonas.population.inference import Inference, members_at_once
from skectonas.population.lockstep import Lockstep
from skectonas.population.optimizer import StackOptimizer
from skectonas.population.stack import Stack, corner, stacked
from skectonas.scoring import Scorer
from skectonas.topology import Topology
from skectonas.training import OptimizerSpec, evaluate


@dataclass(frozen=True)
class Work:
    """What every group of a search is trained with: see `FusedTrainer`."""

    data: TrainingData
    optimizer: OptimizerSpec
    scorer: Scorer
    averaging: int


def marks(n_steps: Sequence[int], per_epoch: int) -> list[int]:
    """Return after how many steps somebody is evaluated: full epochs and ends.

    Examples
    --------
    >>> from skectonas.population.group_training import marks
    >>> marks([25, 5], per_epoch=10)
    [5, 10, 20, 25]
    """
    return sorted({*n_steps, *range(per_epoch, max(n_steps) + 1, per_epoch)})


class GroupTraining:
    """The training of one group; it goes on from block to block of the batches.

    Parameters
    ----------
    work : Work
        Data, optimiser and scorer.
    topology : Topology
        The padded topology of the group.
    candidates : sequence of Candidate
        Members of the group.
    n_steps : sequence of int
        Batches for each of them, at least one.
    feed : Feed
        Where the batches come from; others may use it too.
    """

    def __init__(
        self,
        work: Work,
        topology: Topology,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        feed: Feed,
    ) -> None:
        self._work, self._feed = work, feed
        self._candidates, self._n_steps = candidates, n_steps
        self._records: list[list[Evaluation]] = [[] for _ in candidates]
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._marks = marks(n_steps, work.data.steps_per_epoch)
        self._every = -(-work.data.steps_per_epoch // work.averaging)
        self._done = self._epoch_begin = 0
        self._members = list(range(len(candidates)))
        self._begin(stacked(topology, candidates, work.data.train.images.device))

    @torch.no_grad()
    def advance(self) -> None:
        """Train on what is left of the loaded block, or up to the end."""
        n_batches = self._feed.n_batches
        block_end = (self._done // n_batches + 1) * n_batches
        while self._done < min(block_end, max(self._n_steps)):
            snapshot = self._next_snapshot()
            end = min(block_end, self._marks[0], snapshot)
            first = self._done % n_batches
            self._block.run(range(first, first + end - self._done))
            self._done = end
            if end in (self._marks[0], snapshot):
                self._stop_over()

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

    def _begin(self, stack: Stack) -> None:
        """Set up the computation of the members that are still trained."""
        self._stack = stack
        self._lockstep = Lockstep(stack, self._feed)
        self._optimizer = StackOptimizer(self._work.optimizer, stack, self._lockstep.gradient)
        self._block = block_of(
            self._lockstep, self._optimizer, self._feed.n_batches, stack.flat.device
        )
        self._losses = stack.flat.new_zeros(len(stack))
        self._means = stack.flat.clone()

    def _next_snapshot(self) -> int:
        position = (self._done - self._epoch_begin) // self._every + 1
        per_epoch = self._work.data.steps_per_epoch
        return self._epoch_begin + min(position * self._every, per_epoch)

    def _stop_over(self) -> None:
        """Take a snapshot, evaluate whoever is due, and let go who is done."""
        position = self._done - self._epoch_begin
        full_epoch = position == self._work.data.steps_per_epoch
        taken = (position - 1) // self._every
        means = torch.lerp(self._means, self._stack.flat, 1 / (1 + taken))
        # Who ends between two snapshots takes a last one; the others do not.
        if full_epoch or position % self._every == 0:
            self._means = means
        if self._done < self._marks[0]:
            return
        del self._marks[0]
        done = [i for i in self._members if self._n_steps[i] == self._done]
        self._evaluate(self._members if full_epoch else done, done, means)
        if full_epoch:
            self._epoch_begin = self._done
            self._losses.zero_()
            self._lockstep.loss.reset()
        if done and len(done) < len(self._members):
            self._go_on_without(done)

    def _evaluate(self, due: Sequence[int], done: Sequence[int], weights: Tensor) -> None:
        losses = self._losses + self._lockstep.loss.total
        train_losses = (losses / (self._done - self._epoch_begin)).tolist()
        data, scorer = self._work.data, self._work.scorer
        size = members_at_once(self._stack, data)
        for begin in range(0, len(due), size):
            part = due[begin : begin + size]
            places = [self._members.index(i) for i in part]
            stack = self._stack.take(places, weights)
            inference = Inference(stack, data)
            for member, (i, place) in enumerate(zip(part, places, strict=True)):
                logits = inference.logits[member]
                self._records[i].append(
                    evaluate(logits, data.validation, scorer, train_losses[place])
                )
                if i in done:
                    self._weights[i] = full_weights(stack, inference, member)

    def _go_on_without(self, done: Sequence[int]) -> None:
        places = [place for place, i in enumerate(self._members) if i not in done]
        losses, optimizer = self._losses + self._lockstep.loss.total, self._optimizer
        means = self._stack.take(places, self._means).flat
        self._begin(self._stack.take(places))
        self._means = means
        optimizer.carry_over(self._optimizer, places)
        self._losses = losses[places]
        self._members = [self._members[place] for place in places]


def full_weights(stack: Stack, inference: Inference, member: int) -> dict[str, Tensor]:
    """Return all named weights of a member, running statistics included."""
    weights = stack.weights_of(member)
    for i, cell in enumerate(stack.members[member].cells):
        for name, value in zip(
            ("running_mean", "running_var"), inference.statistics[i], strict=True
        ):
            own = value[member, :, 0][corner((cell.channels,))]
            weights[f"cells.{i}.norm.{name}"] = own.cpu().clone()
    return weights

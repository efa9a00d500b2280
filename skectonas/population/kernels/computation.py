"""The steps of all groups of a round on a CUDA device, in a few launches for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skectonas.population.feed import Feed
from skectonas.population.graph import steps_on
from skectonas.population.kernels.compiled import compiled
from skectonas.population.kernels.program import Program
from skectonas.population.optimizer import StackOptimizer
from skectonas.population.stack import Stack
from skectonas.training import OptimizerSpec


class KernelComputation:
    """Trains all stacks at once: see `Computation`.

    Parameters
    ----------
    stacks : dict of int to Stack
        The weights; they are moved into one tensor.
    feed : Feed
        Where the batches come from; its columns are plain pixels.
    optimizer : OptimizerSpec
        Fresh for all of them.
    """

    def __init__(
        self, stacks: Mapping[int, Stack], feed: Feed, optimizer: OptimizerSpec
    ) -> None:
        self._feed, self._spec = feed, optimizer
        self._begin(stacks)

    def _begin(self, stacks: Mapping[int, Stack]) -> None:
        self.stacks = stacks
        self._flat = torch.cat([stack.flat for stack in stacks.values()])
        for i, part in parts_of(stacks, self._flat).items():
            stacks[i].move_to(part)
        device, feed = self._flat.device, self._feed
        batch = feed.weights.shape[1]
        program = Program(list(stacks.values()), batch)
        ops = torch.from_numpy(program.ops).to(device)
        launches = [torch.from_numpy(blocks).to(device) for blocks in program.launches]
        gradient = torch.zeros_like(self._flat)
        work = self._flat.new_empty(program.n_values)
        codes = torch.empty(max(program.n_codes, 1), dtype=torch.uint8, device=device)
        losses = self._flat.new_zeros(program.n_candidates, batch)
        self._losses = dict(
            zip(stacks, losses.split([len(stack) for stack in stacks.values()]), strict=True)
        )
        buffers = [self._flat, gradient, work, codes, losses, batch]
        batches = zip(feed.columns, feed.targets, feed.weights, strict=True)
        self._launches: list[list[tuple[int, list[Any]]]] = [
            [(len(blocks), [blocks, ops, *loaded, *buffers]) for blocks in launches]
            for loaded in batches
        ]
        self._kernel = compiled(device, self._flat.dtype)
        self._optimizer = StackOptimizer(self._spec, self._flat, gradient)
        self._steps = steps_on(device, capturable=self._optimizer.is_capturable)

    def run(self, n_steps: int) -> None:
        """Train all stacks on the first so many of the loaded batches."""
        self._steps.run(self._step, n_steps)

    def _step(self, number: int) -> None:
        for n_blocks, arguments in self._launches[number]:
            self._kernel(n_blocks, arguments)
        self._optimizer.step()

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since this was last asked."""
        total: Tensor = self._losses[group].sum(1)
        self._losses[group].zero_()
        return total

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Of some groups, train on with these members only, or with none."""
        if not kept:
            return
        optimizer, stacks, losses = self._optimizer, self.stacks, self._losses
        places = {i: list(kept.get(i, range(len(stack)))) for i, stack in stacks.items()}
        left = {i: stacks[i].take(own) for i, own in places.items() if own}
        self.stacks = left
        if not left:
            return
        self._begin(left)
        for i in left:
            self._losses[i].copy_(losses[i][places[i]])

        def move(source: Tensor, target: Tensor) -> None:
            old, new = parts_of(stacks, source), parts_of(left, target)
            for i in left:
                stacks[i].take_into(left[i], old[i], new[i], places[i])

        optimizer.carry_over(self._optimizer, move)


def parts_of(stacks: Mapping[int, Stack], flat: Tensor) -> dict[int, Tensor]:
    """Return the part of each stack in a tensor in which they lie one behind the other."""
    parts = torch.split(flat, [len(stack.flat) for stack in stacks.values()])
    return dict(zip(stacks, parts, strict=True))

"""The steps of all groups of a round on a CUDA device, in one launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skectonas.population.groups.grouping import Group
from skectonas.population.groups.stack import Stack
from skectonas.population.kernels.compiled import compiled, threads_for
from skectonas.population.kernels.program import LAYOUT, build_program, fits
from skectonas.population.run.batches import Batch
from skectonas.population.run.optimizer import StackOptimizer
from skectonas.topology import multiplications
from skectonas.training import OptimizerSpec

# Measured on an H100, with an earlier form of the stacks, and with cells that pool.
LARGE = 4_000_000  # multiplications of the forward pass
MULTIPLICATIONS_PER_SECOND = 30e9
SECONDS_PER_STACK = 170e-6

RULE = ("momentum", "dampening", "weight_decay", "nesterov")
"""Settings of `torch.optim.SGD` that the kernel supports besides the learning rate, in the
order of its arguments."""


class KernelComputation:
    """Trains all stacks at once: see `Computation`.

    The kernel implements SGD, and then one launch trains on all loaded batches. With other
    optimisers a launch computes the gradients of one step.

    Parameters
    ----------
    stacks : mapping of int to Stack
        The weights; they are moved into one tensor.
    optimizer : OptimizerSpec
        The optimiser; its state is new.
    batch : int
        Number of rows of a batch.
    """

    def __init__(
        self, stacks: Mapping[int, Stack], optimizer: OptimizerSpec, batch: int
    ) -> None:
        self._spec, self._batch = optimizer, batch
        self._begin(stacks)

    def _begin(self, stacks: Mapping[int, Stack]) -> None:
        self.stacks = stacks
        flat = torch.cat([stack.flat for stack in stacks.values()])
        for i, part in parts_of(stacks, flat).items():
            stacks[i].move_to(part)
        device, batch = flat.device, self._batch
        self._built_in = is_built_in(self._spec)
        threads = threads_for(sum(map(len, stacks.values())), device, flat.dtype)
        program = build_program(list(stacks.values()), batch, threads, updates=self._built_in)
        gradient = torch.zeros_like(flat)
        self._velocity, self._fresh = torch.zeros_like(flat), True
        losses = flat.new_zeros(program.n_candidates, batch)
        members = [len(stack) for stack in stacks.values()]
        self._losses = dict(zip(stacks, losses.split(members), strict=True))
        self._tables = [torch.from_numpy(a).to(device) for a in (program.begins, program.ops)]
        self._buffers = [
            flat,
            gradient,
            self._velocity,
            flat.new_empty(program.n_values),
            torch.empty(program.n_codes, dtype=torch.uint8, device=device),
            losses,
        ]
        self._n_candidates = program.n_candidates
        self._shared_bytes = program.max_ops * LAYOUT.itemsize
        self._kernel = compiled(device, flat.dtype, threads)
        if not self._built_in:
            self._optimizer = StackOptimizer(self._spec, flat, gradient)

    def run(self, batches: Batch, rates: Sequence[float]) -> None:
        """Train all stacks on the first of some batches, one step for each learning rate."""
        topology = next(iter(self.stacks.values())).topology
        loaded = as_read(batches, topology.n_classes)
        if self._built_in:
            self._launch(loaded, rates)
            self._fresh = False
            return
        for i, rate in enumerate(rates):
            self._launch([tensor[i:] for tensor in loaded], [rate])
            self._optimizer.step(rate)

    def _launch(self, loaded: Sequence[Tensor], rates: Sequence[float]) -> None:
        images, targets, shares = loaded
        rule: list[Any] = [0.0, 0.0, 0.0, 0]
        if self._built_in:
            *numbers, nesterov = (self._spec.settings.get(name, 0) for name in RULE)
            rule = [*map(float, numbers), int(nesterov)]
        on_device = torch.tensor(rates, dtype=torch.float64, device="cpu")
        on_device = on_device.to(images.device, non_blocking=True)
        arguments = [*self._tables, *loaded, on_device, *self._buffers, len(rates)]
        arguments += [images.shape[1], targets.shape[1], shares.shape[1]]
        arguments += [*rule, int(self._fresh)]
        self._kernel(self._n_candidates, self._shared_bytes, arguments)

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since the last call."""
        total: Tensor = self._losses[group].sum(1)
        self._losses[group].zero_()
        return total

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Reduce some groups to the members at these places; drop groups without any."""
        if not kept:
            return
        stacks, losses, carry_over = self.stacks, self._losses, self._carry_over()
        places = {i: list(kept.get(i, range(len(stack)))) for i, stack in stacks.items()}
        self.stacks = remaining = {i: stacks[i].take(own) for i, own in places.items() if own}
        if not remaining:
            return
        self._begin(remaining)
        for i in remaining:
            self._losses[i].copy_(losses[i][places[i]])

        def move(source: Tensor, target: Tensor) -> None:
            old, new = parts_of(stacks, source), parts_of(remaining, target)
            for i in remaining:
                stacks[i].take_into(remaining[i], old[i], new[i], places[i])

        carry_over(move)

    def _carry_over(self) -> Callable[[Callable[[Tensor, Tensor], None]], None]:
        """Return a function that moves the present state to the next optimiser."""
        if not self._built_in:
            optimizer = self._optimizer
            return lambda move: optimizer.carry_over(self._optimizer, move)
        velocity, fresh = self._velocity, self._fresh

        def carry_over(move: Callable[[Tensor, Tensor], None]) -> None:
            move(velocity, self._velocity)
            self._fresh = fresh

        return carry_over


def as_read(batches: Batch, n_classes: int) -> list[Tensor]:
    """Return batches as the kernel reads them, with the rows last.

    These are the pixels (batches, pixels, rows) with the channel as their slowest axis; the
    targets (batches, classes, rows), which are the negative share of a row at its label and
    zero elsewhere; and the shares (batches, rows).
    """
    images, labels, shares = batches
    pixels = images.permute(0, 4, 2, 3, 1).flatten(1, 3).contiguous()
    targets = pixels.new_zeros(len(shares), n_classes, shares.shape[1])
    targets.scatter_(1, labels.unsqueeze(1), -shares.unsqueeze(1))
    return [pixels, targets, shares]


def split_for_kernels(groups: Sequence[Group], batch: int) -> tuple[list[Group], list[Group]]:
    """Return the groups that the kernel trains, and those that are trained as stacks.

    A large candidate would delay the others, and trains faster with the matrix products of a
    library. But stacks are trained one after the other, so many groups of large candidates are
    left to the kernel.
    """
    stacks = [group for group in groups if multiplications(group.topology, batch) > LARGE]
    largest = max((multiplications(group.topology, batch) for group in stacks), default=0)
    if largest / MULTIPLICATIONS_PER_SECOND < len(stacks) * SECONDS_PER_STACK:
        stacks = []
    stacks += [group for group in groups if group not in stacks and not fits(group.topology)]
    return [group for group in groups if group not in stacks], stacks


def is_built_in(spec: OptimizerSpec) -> bool:
    """Return whether the kernel implements the optimiser."""
    return spec.cls is torch.optim.SGD and set(spec.settings) <= {"lr", *RULE}


def parts_of(stacks: Mapping[int, Stack], flat: Tensor) -> dict[int, Tensor]:
    """Return the part of each stack in a tensor that holds all stacks in their order."""
    parts = torch.split(flat, [len(stack.flat) for stack in stacks.values()])
    return dict(zip(stacks, parts, strict=True))

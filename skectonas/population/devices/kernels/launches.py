"""The steps of all groups of a round on a CUDA device, in one launch for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from skectonas.population.devices.graph import steps_on
from skectonas.population.devices.kernels.compiled import compiled, threads_for
from skectonas.population.devices.kernels.program import LAYOUT, Program, fits, multiplications
from skectonas.population.groups.grouping import Group
from skectonas.population.groups.stack import Stack
from skectonas.population.run.feed import Feed
from skectonas.population.run.optimizer import StackOptimizer
from skectonas.training import OptimizerSpec

# Measured on an H100.
LARGE = 4_000_000  # multiplications forwards
MULTIPLICATIONS_PER_SECOND = 30e9
SECONDS_PER_STACK = 170e-6

RULE = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
"""Settings of `torch.optim.SGD` that the kernel knows, in the order in which it takes them."""


class KernelComputation:
    """Trains all stacks at once: see `Computation`.

    Plain SGD is a part of the kernel, and all loaded batches are trained on in one launch. With
    other optimisers a launch is a step, and a CUDA graph joins it to the optimiser's.

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
        flat = torch.cat([stack.flat for stack in stacks.values()])
        for i, part in parts_of(stacks, flat).items():
            stacks[i].move_to(part)
        device, batch = flat.device, self._feed.weights.shape[1]
        self._built_in = is_built_in(self._spec)
        threads = threads_for(sum(map(len, stacks.values())), device, flat.dtype)
        program = Program(list(stacks.values()), batch, threads, updates=self._built_in)
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
        self._shared_bytes = program.most_ops * LAYOUT.itemsize
        self._kernel = compiled(device, flat.dtype, threads)
        if not self._built_in:
            self._optimizer = StackOptimizer(self._spec, flat, gradient)
            self._steps = steps_on(device, capturable=self._optimizer.is_capturable)

    def run(self, n_steps: int) -> None:
        """Train all stacks on the first so many of the loaded batches."""
        if self._built_in:
            self._launch(0, n_steps)
            self._fresh = False
        else:
            self._steps.run(self._step, n_steps)

    def _step(self, number: int) -> None:
        self._launch(number, 1)
        self._optimizer.step()

    def _launch(self, begin: int, n_steps: int) -> None:
        feed = self._feed
        loaded = [t[begin:] for t in (feed.columns, feed.targets, feed.weights)]
        sizes = [feed.columns.shape[1], feed.targets.shape[1], feed.weights.shape[1]]
        rule: list[Any] = [0.0, 0.0, 0.0, 0.0, 0]
        if self._built_in:
            *numbers, nesterov = (self._spec.settings.get(name, 0) for name in RULE)
            rule = [*map(float, numbers), int(nesterov)]
        arguments = [*self._tables, *loaded, *self._buffers, n_steps]
        arguments += [*sizes, *rule, int(self._fresh)]
        self._kernel(self._n_candidates, self._shared_bytes, arguments)

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since this was last asked."""
        total: Tensor = self._losses[group].sum(1)
        self._losses[group].zero_()
        return total

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Of some groups, train on with these members only, or with none."""
        if not kept:
            return
        stacks, losses, carry_over = self.stacks, self._losses, self._carry_over()
        places = {i: list(kept.get(i, range(len(stack)))) for i, stack in stacks.items()}
        self.stacks = left = {i: stacks[i].take(own) for i, own in places.items() if own}
        if not left:
            return
        self._begin(left)
        for i in left:
            self._losses[i].copy_(losses[i][places[i]])

        def move(source: Tensor, target: Tensor) -> None:
            old, new = parts_of(stacks, source), parts_of(left, target)
            for i in left:
                stacks[i].take_into(left[i], old[i], new[i], places[i])

        carry_over(move)

    def _carry_over(self) -> Callable[[Callable[[Tensor, Tensor], None]], None]:
        """Return what hands the present state of the optimiser on to the next one."""
        if not self._built_in:
            optimizer = self._optimizer
            return lambda move: optimizer.carry_over(self._optimizer, move)
        velocity, fresh = self._velocity, self._fresh

        def carry_over(move: Callable[[Tensor, Tensor], None]) -> None:
            move(velocity, self._velocity)
            self._fresh = fresh

        return carry_over


def for_kernels(groups: Sequence[Group], batch: int) -> tuple[list[Group], list[Group]]:
    """Return the groups that the kernel trains, and those that are left to stacks.

    A large candidate would keep the others waiting: the products of libraries do it faster,
    unless there are many groups of such candidates, which they train one after the other.
    """
    left = [group for group in groups if multiplications(group.topology, batch) > LARGE]
    most = max((multiplications(group.topology, batch) for group in left), default=0)
    if most / MULTIPLICATIONS_PER_SECOND < len(left) * SECONDS_PER_STACK:
        left = []
    left += [group for group in groups if group not in left and not fits(group.topology)]
    return [group for group in groups if group not in left], left


def is_built_in(spec: OptimizerSpec) -> bool:
    """Return whether the kernel can update the weights by itself."""
    return spec.cls is torch.optim.SGD and set(spec.settings) <= set(RULE)


def parts_of(stacks: Mapping[int, Stack], flat: Tensor) -> dict[int, Tensor]:
    """Return the part of each stack in a tensor in which they lie one behind the other."""
    parts = torch.split(flat, [len(stack.flat) for stack in stacks.values()])
    return dict(zip(stacks, parts, strict=True))

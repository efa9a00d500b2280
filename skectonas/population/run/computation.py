"""The steps of all groups of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from skectonas.population.groups.stack import Stack
from skectonas.population.run.batches import Batch
from skectonas.population.run.graph import runner_on
from skectonas.population.run.losses import losses
from skectonas.population.run.optimizer import StackOptimizer, fused
from skectonas.training import OptimizerSpec


class Computation(Protocol):
    """Trains stacks, numbered by their groups."""

    @property
    def stacks(self) -> Mapping[int, Stack]:
        """The present weights of the groups that are still trained."""
        ...

    def run(self, batches: Batch, rates: Sequence[float]) -> None:
        """Train all stacks on the first of some batches, one step for each learning rate."""
        ...

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since the last call."""
        ...

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Reduce some groups to the members at these places; drop groups without any."""
        ...


class StackComputation:
    """Trains stacks in torch, each as one network.

    Parameters
    ----------
    stacks : mapping of int to Stack
        The weights.
    optimizer : OptimizerSpec
        The optimiser; each stack has a new one.
    """

    def __init__(self, stacks: Mapping[int, Stack], optimizer: OptimizerSpec) -> None:
        self._running = {i: _RunningStack(stack, optimizer) for i, stack in stacks.items()}

    @property
    def stacks(self) -> Mapping[int, Stack]:
        """The present weights of the groups that are still trained."""
        return {i: running.stack for i, running in self._running.items()}

    def run(self, batches: Batch, rates: Sequence[float]) -> None:
        """Train all stacks on the first of some batches, one step for each learning rate."""
        for i, rate in enumerate(rates):
            batch = batches.number(i)
            for running in self._running.values():
                running.step(batch, rate)

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since the last call."""
        running = self._running[group]
        total = running.losses.clone()
        running.losses.zero_()
        return total

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Reduce some groups to the members at these places; drop groups without any."""
        for i, places in kept.items():
            before = self._running.pop(i)
            if places:
                self._running[i] = before.take(places)


class _RunningStack:
    """A stack with its optimiser and the sum of its losses."""

    def __init__(self, stack: Stack, spec: OptimizerSpec) -> None:
        self.stack, self._spec = stack, spec
        weights = list(stack.views.values())
        self.optimizer = StackOptimizer(fused(spec, stack.flat.device), weights)
        self.losses = stack.flat.new_zeros(len(stack))
        self._run = runner_on(stack.flat.device)

    def step(self, batch: Batch, rate: float) -> None:
        """Take a step; only the optimiser, outside of any graph, knows the learning rate."""
        self._run(self._set_gradients, batch)
        self.optimizer.step(rate)

    def _set_gradients(self, batch: Batch) -> None:
        weights = dict(zip(self.stack.views, self.optimizer.parameters, strict=True))
        for parameter in weights.values():
            parameter.grad = None
        own = losses(self.stack.topology, weights, batch)
        own.sum().backward()
        self.losses += own.detach()

    def take(self, places: Sequence[int]) -> _RunningStack:
        """Return some of the members with the state of the optimiser."""
        taken = _RunningStack(self.stack.take(places), self._spec)
        rows = list(places)
        self.optimizer.carry_over(taken.optimizer, lambda old, new: new.copy_(old[rows]))
        return taken

"""The steps of all groups of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from skectonas.population.batches.feed import Feed
from skectonas.population.groups.stack import Stack
from skectonas.population.run.graph import steps_on
from skectonas.population.run.lockstep import Lockstep
from skectonas.population.run.optimizer import StackOptimizer, sgd_learning_rate
from skectonas.training import OptimizerSpec


class Computation(Protocol):
    """Trains stacks, numbered by their groups, on the loaded batches."""

    @property
    def stacks(self) -> Mapping[int, Stack]:
        """The present weights of the groups that are still trained."""
        ...

    def run(self, n_steps: int) -> None:
        """Train all stacks on the first `n_steps` of the loaded batches."""
        ...

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since the last call."""
        ...

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Reduce some groups to the members at these places; drop groups without any."""
        ...


class ComputationFactory(Protocol):
    """Makes a computation."""

    def __call__(
        self, stacks: dict[int, Stack], feed: Feed, optimizer: OptimizerSpec
    ) -> Computation: ...


class StackComputation:
    """Trains one stack after the other, each as a stacked computation in torch.

    Parameters
    ----------
    stacks : dict of int to Stack
        The weights; the first layers of their topologies are of the same kind.
    feed : Feed
        Source of the batches.
    optimizer : OptimizerSpec
        The optimiser; each stack has a new one.
    """

    def __init__(
        self, stacks: Mapping[int, Stack], feed: Feed, optimizer: OptimizerSpec
    ) -> None:
        self._feed, self._spec = feed, optimizer
        self._running = {
            i: _RunningStack(stack, feed, optimizer) for i, stack in stacks.items()
        }

    @property
    def stacks(self) -> Mapping[int, Stack]:
        """The present weights of the groups that are still trained."""
        return {i: running.stack for i, running in self._running.items()}

    def run(self, n_steps: int) -> None:
        """Train all stacks on the first `n_steps` of the loaded batches."""
        for running in self._running.values():
            running.run(n_steps)

    def losses(self, group: int) -> Tensor:
        """Return the sum of the losses of each member since the last call."""
        loss = self._running[group].lockstep.loss
        total = loss.total
        loss.reset()
        return total

    def keep(self, kept: Mapping[int, Sequence[int]]) -> None:
        """Reduce some groups to the members at these places; drop groups without any."""
        for i, places in kept.items():
            before = self._running.pop(i)
            if not places:
                continue
            after = _RunningStack(before.stack.take(places), self._feed, self._spec)
            move = partial(before.stack.take_into, after.stack, keep=places)
            before.optimizer.carry_over(after.optimizer, move)
            self._running[i] = after


class _RunningStack:
    """A stack with its buffers and its optimiser."""

    def __init__(self, stack: Stack, feed: Feed, spec: OptimizerSpec) -> None:
        self.stack = stack
        learning_rate = sgd_learning_rate(spec)
        self.lockstep = Lockstep(stack, feed, learning_rate)
        # With a learning rate, the dense layers update their matrices themselves.
        rest = slice(None if learning_rate is None else stack.n_small)
        self.optimizer = StackOptimizer(spec, stack.flat[rest], self.lockstep.gradient[rest])
        self._steps = steps_on(stack.flat.device, capturable=self.optimizer.is_capturable)

    def run(self, n_steps: int) -> None:
        self._steps.run(self._step, n_steps)

    def _step(self, number: int) -> None:
        self.lockstep.step(number)
        self.optimizer.step()

"""Blocks of steps, on a CUDA device captured once and replayed as one graph.

The capture has been written without a GPU at hand: it is not yet tested or measured on one. The
test marked ``gpu`` compares it with the CPU wherever a device is found.
"""

from __future__ import annotations

from typing import Protocol

import torch

from skectonas.population.lockstep import Lockstep
from skectonas.population.optimizer import StackOptimizer


class Block(Protocol):
    """Runs steps on the batches that are loaded at once."""

    def run(self, steps: range) -> None:
        """Train on these of the loaded batches."""
        ...


class EagerBlock:
    """Step after step, as they are called.

    Parameters
    ----------
    lockstep : Lockstep
        The networks of a group.
    optimizer : StackOptimizer
        Of its weights.
    """

    def __init__(self, lockstep: Lockstep, optimizer: StackOptimizer) -> None:
        self._lockstep, self._optimizer = lockstep, optimizer

    def run(self, steps: range) -> None:
        """Train on these of the loaded batches."""
        for step in steps:
            self._lockstep.step(step)
            self._optimizer.step()


class GraphBlock:
    """A full block as one CUDA graph: a single launch, and nothing waits for the host.

    The first block runs eagerly, for the optimiser to make its state and the libraries their
    workspaces; the next full one is captured; parts of blocks always run eagerly.

    Parameters
    ----------
    lockstep, optimizer
        As in `EagerBlock`.
    n_batches : int
        Batches of a full block.
    """

    def __init__(self, lockstep: Lockstep, optimizer: StackOptimizer, n_batches: int) -> None:
        self._eager = EagerBlock(lockstep, optimizer)
        self._full = range(n_batches)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def run(self, steps: range) -> None:
        """Train on these of the loaded batches."""
        if not self._warm or steps != self._full:
            self._eager.run(steps)
            self._warm = True
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._eager.run(steps)
        self._graph.replay()


def block_of(
    lockstep: Lockstep, optimizer: StackOptimizer, n_batches: int, device: torch.device
) -> Block:
    """Return what runs the steps of a group on a device."""
    if device.type == "cuda" and optimizer.is_capturable:
        return GraphBlock(lockstep, optimizer, n_batches)
    return EagerBlock(lockstep, optimizer)

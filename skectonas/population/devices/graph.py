"""Running steps: as they are, or on a CUDA device as graphs that are captured once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch

Step: TypeAlias = Callable[[int], None]
"""Trains on the loaded batch of this number."""


class Steps(Protocol):
    """Runs steps."""

    def run(self, step: Step, n_steps: int) -> None:
        """Train on so many of the loaded batches, from the first on."""
        ...


def steps_on(device: torch.device, *, capturable: bool) -> Steps:
    """Return what runs steps on a device.

    Parameters
    ----------
    device : torch.device
        Where they compute.
    capturable : bool
        Whether a step does the same on the device whenever it is called.
    """
    return CapturedSteps() if device.type == "cuda" and capturable else EagerSteps()


class EagerSteps:
    """Steps as they are."""

    def run(self, step: Step, n_steps: int) -> None:
        """Train on so many of the loaded batches, from the first on."""
        for number in range(n_steps):
            step(number)


class CapturedSteps:
    """Steps as CUDA graphs: a single launch, and nothing waits for the host.

    The first ones run as they are, for the optimiser to make its state and the libraries their
    workspaces. After that, every number of steps is captured when it comes first. The step is
    handed in each time, and always the same: kept here it would close a circle of references,
    and the graphs would outlive their use.
    """

    def __init__(self) -> None:
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._warm = False

    def run(self, step: Step, n_steps: int) -> None:
        """Train on so many of the loaded batches, from the first on."""
        if not self._warm:
            EagerSteps().run(step, n_steps)
            self._warm = True
            return
        if n_steps not in self._graphs:
            self._graphs[n_steps] = self._captured(step, n_steps)
        self._graphs[n_steps].replay()

    def _captured(self, step: Step, n_steps: int) -> torch.cuda.CUDAGraph:
        # Not by `torch.cuda.graph`, which waits for the device and clears its caches.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(torch.cuda.Stream()):
            # Other threads may do what they like on the device meanwhile.
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                EagerSteps().run(step, n_steps)
            finally:
                graph.capture_end()
        return graph

"""Running steps: directly, or on a CUDA device as graphs that are captured once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch

Step: TypeAlias = Callable[[int], None]
"""Trains on the loaded batch with this number."""


class Steps(Protocol):
    """Runs steps."""

    def run(self, step: Step, n_steps: int) -> None:
        """Train on the first `n_steps` of the loaded batches."""
        ...


def steps_on(device: torch.device, *, capturable: bool) -> Steps:
    """Return an object that runs steps on a device.

    Parameters
    ----------
    device : torch.device
        The device that computes.
    capturable : bool
        Whether every call of a step does the same on the device.
    """
    return CapturedSteps() if device.type == "cuda" and capturable else EagerSteps()


class EagerSteps:
    """Calls the steps directly."""

    def run(self, step: Step, n_steps: int) -> None:
        """Train on the first `n_steps` of the loaded batches."""
        for number in range(n_steps):
            step(number)


class CapturedSteps:
    """Runs the steps as one CUDA graph: a single launch, and nothing waits for the host.

    The first run calls the steps directly, so that the optimiser creates its state and the
    libraries their workspaces. Afterwards a graph is captured for every new number of steps.
    The step is an argument of each run, and has to be the same in all of them. An attribute
    would create a reference cycle, and the graphs would live longer than needed.
    """

    def __init__(self) -> None:
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._warm = False

    def run(self, step: Step, n_steps: int) -> None:
        """Train on the first `n_steps` of the loaded batches."""
        if not self._warm:
            EagerSteps().run(step, n_steps)
            self._warm = True
            return
        if n_steps not in self._graphs:
            self._graphs[n_steps] = self._captured(step, n_steps)
        self._graphs[n_steps].replay()

    def _captured(self, step: Step, n_steps: int) -> torch.cuda.CUDAGraph:
        # `torch.cuda.graph` would wait for the device and clear its caches.
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(torch.cuda.Stream()):
            # Other threads may use the device during the capture.
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                EagerSteps().run(step, n_steps)
            finally:
                graph.capture_end()
        return graph

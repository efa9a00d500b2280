"""Computing gradients: directly, or on a CUDA device as a graph that is captured once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

import torch

from skectonas.population.run.batches import Batch

Compute: TypeAlias = Callable[[Batch], None]
"""A computation on a batch whose results lie at the same place each time."""


class Runner(Protocol):
    """Runs a computation."""

    def __call__(self, compute: Compute, batch: Batch) -> None:
        """Run a computation, which has to be the same in all calls."""
        ...


def runner_on(device: torch.device) -> Runner:
    """Return what runs a computation on a device."""
    return Captured() if device.type == "cuda" else directly


def directly(compute: Compute, batch: Batch) -> None:
    """Run a computation."""
    compute(batch)


class Captured:
    """Runs a computation as a CUDA graph, so that one launch takes the place of many.

    The first call runs the computation directly, in which libraries make their workspaces, and
    the second captures it. As torch requires, both use the same stream that is not the default.
    The computation is an argument of each call, because as an attribute it would create a
    reference cycle, and the graph would live longer than needed.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None  # what the graph reads
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, compute: Compute, batch: Batch) -> None:
        """Run the computation."""
        if self._batch is None:
            self._batch = Batch(*(tensor.clone() for tensor in batch))
            run_on_side_stream(compute, self._batch)
            return
        for own, given in zip(self._batch, batch, strict=True):
            own.copy_(given)
        if self._graph is None:
            self._graph = captured(compute, self._batch)
        self._graph.replay()


class _Streams(threading.local):
    """The streams of a thread; what another one did there would become part of the graph."""

    def __init__(self) -> None:
        self.of_devices: dict[torch.device, torch.cuda.Stream] = {}


_streams = _Streams()


def side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which this thread captures graphs of a device."""
    known = _streams.of_devices
    if device not in known:
        known[device] = torch.cuda.Stream(device)
    return known[device]


def run_on_side_stream(compute: Compute, batch: Batch) -> None:
    """Run a computation on the stream that captures, between the work before and after it."""
    side = side_stream(batch.images.device)
    current = torch.cuda.current_stream(batch.images.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        compute(batch)
    current.wait_stream(side)


def captured(compute: Compute, batch: Batch) -> torch.cuda.CUDAGraph:
    """Return the graph of a computation, which is not run."""
    # `torch.cuda.graph` would wait for the device and clear its caches.
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(side_stream(batch.images.device)):
        # Other threads may use the device during the capture.
        graph.capture_begin(capture_error_mode="relaxed")
        try:
            compute(batch)
        except BaseException:
            with suppress(RuntimeError):  # which would hide the error
                graph.capture_end()
            raise
        graph.capture_end()
    return graph

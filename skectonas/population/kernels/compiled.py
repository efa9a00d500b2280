"""Compilation of the kernels, once for each process, device and precision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import torch

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.kernels.program import THREADS

Launch = Callable[[int, Sequence[Any]], None]
"""Number of blocks and arguments; on the current stream."""

_REALS = {torch.float32: "float", torch.float64: "double"}


def can_compile(device: torch.device) -> bool:
    """Return whether this build of torch can compile CUDA source for the device."""
    # AMD's warps have 64 lanes on most devices, and the kernels count on 32.
    is_nvidia = device.type == "cuda" and torch.version.cuda is not None
    return is_nvidia and hasattr(torch.cuda, "_compile_kernel")


@functools.cache
def compiled(device: torch.device, dtype: torch.dtype) -> Launch:
    """Return the kernel of a stage.

    It is compiled in memory, by the NVRTC that comes with torch: nothing is written to disk,
    and no compiler has to be installed.
    """
    head = (
        f"typedef {_REALS[dtype]} real;\nconst int THREADS = {THREADS};\n"
        f"const double EPSILON = {BATCH_NORM_EPSILON!r};\n"
    )
    source = head + files("skectonas.population.kernels").joinpath("stage.cu").read_text()
    with torch.cuda.device(device):
        kernel = torch.cuda._compile_kernel(source, "stage")

    def launch(n_blocks: int, arguments: Sequence[Any]) -> None:
        kernel((n_blocks, 1, 1), (THREADS, 1, 1), arguments)

    return launch

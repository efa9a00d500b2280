"""Compilation of the kernel, once for each process, device, precision and block size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import torch
from torch.torch_version import TorchVersion

from skectonas.callers import level_of_user
from skectonas.network import BATCH_NORM_EPSILON

Launch = Callable[[int, int, Sequence[Any]], None]
"""Takes number of candidates, bytes of shared memory and arguments; uses the current stream."""

BLOCKS = 8
"""Number of blocks of a cluster; more are not portable."""

_REALS = {torch.float32: "float", torch.float64: "double"}
_WITH_CLUSTERS = (9, 0)  # compute capability
# Before 2.10, torch passes numbers in single precision, which the kernel would read as double.
# 2.11 is the oldest release that was tested.
_OLDEST_TORCH = TorchVersion("2.11")


@functools.cache
def can_compile(device: torch.device) -> bool:
    """Return whether there is a kernel for a device, which has to support clusters.

    Warns
    -----
    RuntimeWarning
        If the device is supported, but the kernel cannot be compiled. Training continues
        without it.
    """
    if device.type != "cuda" or torch.__version__ < _OLDEST_TORCH:
        return False
    if not hasattr(torch.cuda, "_compile_kernel"):
        return False
    is_nvidia = torch.version.cuda is not None
    if not is_nvidia or torch.cuda.get_device_capability(device) < _WITH_CLUSTERS:
        return False
    try:
        compiled(device, torch.float32, 256)
    except (OSError, RuntimeError) as error:
        warnings.warn(
            "The CUDA kernel that trains all candidates at once cannot be compiled here; they "
            f"are trained in stacks, which takes longer: {error}",
            RuntimeWarning,
            stacklevel=level_of_user(),
        )
        return False
    return True


@functools.cache
def compiled(device: torch.device, dtype: torch.dtype, threads: int) -> Launch:
    """Return the kernel with `threads` threads in each block of a cluster.

    It is compiled in memory by the NVRTC of torch: nothing is written to disk, and no compiler
    has to be installed.
    """
    head = (
        f"typedef {_REALS[dtype]} real;\nconst int THREADS = {threads};\n"
        f"const int BLOCKS = {BLOCKS};\nconst double EPSILON = {BATCH_NORM_EPSILON!r};\n"
    )
    source = head + files("skectonas.population.kernels").joinpath("train.cu").read_text()
    with torch.cuda.device(device):
        kernel = torch.cuda._compile_kernel(source, "train")

    def launch(n_candidates: int, shared_bytes: int, arguments: Sequence[Any]) -> None:
        grid, block = (n_candidates * BLOCKS, 1, 1), (threads, 1, 1)
        with torch.cuda.device(device):  # its current stream is meant
            kernel(grid, block, arguments, shared_bytes)

    return launch


def threads_for(n_candidates: int, device: torch.device, dtype: torch.dtype) -> int:
    """Return the number of threads of a block, smaller if many clusters run at once."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    is_single = dtype == torch.float32
    return 512 if is_single and BLOCKS * n_candidates <= processors else 256

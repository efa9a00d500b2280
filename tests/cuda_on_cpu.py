"""The source of the CUDA kernel, compiled for the CPU."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from program_interpreter import ARGUMENTS, SOURCE

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.kernels.compiled import BLOCKS, Launch

COMPILER = shutil.which("c++")
MARGIN = 64  # values around an array, which have to stay as they are
C_TYPES = {int: ctypes.c_int, float: ctypes.c_double}
TRANSLATIONS = {
    "__shared__ __align__(16) real shared[SHARED];": (
        "static_assert(SHARED * sizeof(real) <= STATIC);"
        " real *shared = (real *)own_block().fixed;"
    ),
    "extern __shared__ long long held[];": (
        "long long *held = (long long *)own_block().dynamic;"
    ),
    'asm volatile("barrier.cluster.arrive.aligned;\\nbarrier.cluster.wait.aligned;" '
    '::: "memory");': "wait_for(CLUSTER);",
}
DYNAMIC = 64 * 1024  # as in cuda_on_cpu.h


def translated(threads: int) -> str:
    """Return the kernel in C++ with double precision, and a function that launches it."""
    source = SOURCE
    for cuda, ours in TRANSLATIONS.items():
        assert source.count(cuda) == 1, cuda
        source = source.replace(cuda, ours)
    parameters = source.partition(" void train(")[2].partition(") {")[0]
    head = (
        f"typedef double real;\nconst int THREADS = {threads}, BLOCKS = {BLOCKS};\n"
        f"const double EPSILON = {BATCH_NORM_EPSILON!r};\n"
    )
    shim = Path(__file__).with_name("cuda_on_cpu.h").read_text()
    call = f"[=] {{ train({', '.join(ARGUMENTS)}); }}"
    launch = (
        f'extern "C" bool launch(int n_candidates, unsigned seed, {parameters}) '
        f"{{ return run_grid(n_candidates, BLOCKS, seed, {call}); }}\n"
    )
    return "\n".join([head, shim, source, launch])


def compile_for_cpu(folder: Path, threads: int) -> Launch:
    """Return a function that launches the kernel on the CPU.

    It raises an AssertionError if threads wait for each other forever, or write outside of the
    arrays.
    """
    source, library = folder / "train.cpp", folder / "train.so"
    source.write_text(translated(threads))
    assert COMPILER
    options = ["-std=c++17", "-O1", "-w", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *options, source, "-o", library], check=True)
    function = ctypes.CDLL(str(library)).launch
    function.restype = ctypes.c_bool
    seeds = iter(range(10**6))

    def launch(n_candidates: int, shared_bytes: int, arguments: Sequence[Any]) -> None:
        assert shared_bytes <= DYNAMIC
        framed = [Framed(value) for value in arguments if isinstance(value, torch.Tensor)]
        pointers = (ctypes.c_void_p(array.begin) for array in framed)
        passed = [
            next(pointers) if isinstance(value, torch.Tensor) else C_TYPES[type(value)](value)
            for value in arguments
        ]
        assert function(n_candidates, next(seeds), *passed), "threads wait forever"
        for array in framed:
            array.give_back()

    return launch


class Framed:
    """A copy of a tensor with a margin on both sides."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        bits = tensor.contiguous().view(-1).view(torch.uint8)
        margin = MARGIN * tensor.element_size()
        self._bytes = torch.full((len(bits) + 2 * margin,), 255, dtype=torch.uint8)  # nan
        self._inside = slice(margin, margin + len(bits))
        self._bytes[self._inside] = bits
        self.begin = self._bytes[margin:].data_ptr()

    def give_back(self) -> None:
        inside = self._bytes[self._inside]
        self._tensor.copy_(inside.view(self._tensor.dtype).view(self._tensor.shape))
        self._bytes[self._inside] = 255
        assert (self._bytes == 255).all(), "something was written outside of an array"

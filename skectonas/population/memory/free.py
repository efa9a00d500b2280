"""How much memory is free."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path("/")

USED_SHARE = 0.9
"""Share of the free memory that a round may take: needs are estimates, and there are others."""


def free_bytes(device: torch.device, root: Path = ROOT) -> int | None:
    """Return how much memory a round may take, None if the system does not tell.

    On a CPU, Linux tells what is available, and control groups what they allow: those of
    containers and of batch systems.

    Parameters
    ----------
    device : torch.device
        The device that computes.
    root : Path, default=/
        Where the files of the system are.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for later is free for us.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(USED_SHARE * (free + kept))
    if device.type != "cpu" or sys.platform != "linux":
        return None
    known = [*_available(root), *_left_by_groups(root)]
    return int(USED_SHARE * min(known)) if known else None


def give_back(device: torch.device) -> None:
    """Give the system back what was freed, and what allocators have kept for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        # Other libraries for C do not have it.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def is_lack(error: Exception) -> bool:
    """Return whether an error says that there is too little memory."""
    # torch has no class of its own for the memory of the CPU, nor for that of libraries.
    words = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


def _available(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])


def _left_by_groups(root: Path) -> Iterator[int]:
    """Yield what the limits of control groups leave, of version 2 and of version 1."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, files = root / "sys/fs/cgroup", ("memory.max", "memory.current")
            caches = ("inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            caches = ("total_inactive_file", "total_active_file")
        else:
            continue
        # Every group above has a limit, too. In a container, only the last of them is seen.
        own = mount / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(mount):
                yield from _left_by_group(folder, files, caches)


def _left_by_group(
    folder: Path, files: tuple[str, str], caches: tuple[str, str]
) -> Iterator[int]:
    limit, usage = (_lines(folder / name) for name in files)
    if not limit or not usage or not limit[0].isdigit():  # "max" is no limit
        return
    # Pages of files count as used, and are dropped when memory is needed.
    dropped = [
        int(line.split()[1])
        for line in _lines(folder / "memory.stat")
        if line.partition(" ")[0] in caches
    ]
    yield max(int(limit[0]) - int(usage[0]) + sum(dropped), 0)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the system, none if it is not there or not readable."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []

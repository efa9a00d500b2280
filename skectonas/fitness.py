"""The old place of `skectonas.search`'s fitnesses."""

from __future__ import annotations

import warnings
from typing import Any

import skectonas.search

MOVED = ("Balanced", "Fitness", "Greedy", "Random")


def __getattr__(name: str) -> Any:
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"skectonas.fitness.{name} has moved to skectonas.search.{name}.",
        FutureWarning,
        stacklevel=2,
    )
    return getattr(skectonas.search, name)

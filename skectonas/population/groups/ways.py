"""The ways in which the groups of a round are trained."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from skectonas.population.groups.grouping import Group


class Way(Enum):
    """How a group is trained."""

    NATIVE = "by the native library"
    KERNELS = "by the CUDA kernel"
    STACKS = "as a stack in torch"
    ALONE = "by the plain loop"


class Planned(NamedTuple):
    """A group, and how it is trained."""

    way: Way
    group: Group

"""Grouping of candidates with the same skeleton and similar widths, trained as one stack."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.topology import ConvCell, Dense, Topology, multiplications

CALLS = 2_000_000
"""Multiplications that take about as long as those parts of a group's step that do not depend
on its candidates."""

MAX_VALUES = 2**21
"""Maximum number of values of a group's largest tensor. A larger group would not be faster, and
would take more memory."""

MAX_MEMBERS = 32


@dataclass(frozen=True)
class Group:
    """Candidates that are trained as one stack.

    Parameters
    ----------
    topology : Topology
        Each of its layers is as wide as the widest of the candidates.
    members : tuple of int
        Indices of the candidates.
    """

    topology: Topology
    members: tuple[int, ...]


def skeleton(topology: Topology) -> tuple[Hashable, ...]:
    """Return the properties that candidates need to share to be stacked; widths may differ."""
    poolings = tuple(cell.pooling for cell in topology.cells)
    return (topology.input_shape, poolings, len(topology.dense), topology.n_classes)


def common_topology(first: Topology, second: Topology) -> Topology:
    """Return the narrowest topology that contains both, which have the same skeleton."""
    return Topology(
        first.input_shape,
        tuple(
            ConvCell(max(a.channels, b.channels), a.pooling)
            for a, b in zip(first.cells, second.cells, strict=True)
        ),
        tuple(
            Dense(max(a.units, b.units)) for a, b in zip(first.dense, second.dense, strict=True)
        ),
        first.n_classes,
    )


def cost(group: Group, batch: int) -> int:
    """Estimate the time of a step of a group, in multiplications of a forward pass."""
    return CALLS + len(group.members) * multiplications(group.topology, batch)


def max_members(topology: Topology, batch: int) -> int:
    """Return the maximum number of candidates of a group of this topology."""
    maps = [
        channels * math.prod(sides)  # of a convolution, before any pooling
        for channels, sides in zip(topology.channels[1:], topology.map_sizes, strict=False)
    ]
    largest = max(batch * max([*maps, *topology.widths[1:]]), topology.n_parameters)
    return min(max(MAX_VALUES // largest, 1), MAX_MEMBERS)


def group_candidates(
    candidates: Sequence[Candidate], busy: Sequence[int], batch: int
) -> list[Group]:
    """Return groups of the busy candidates.

    The groups only depend on the candidates and the size of a batch. So the results are bitwise
    the same for every number of workers. The largest candidate of a skeleton begins a group.
    The next ones join it until there are too many, or the padding would cost more than another
    group.

    Parameters
    ----------
    candidates : sequence of Candidate
        Competitors.
    busy : sequence of int
        Indices of the candidates to train.
    batch : int
        Rows of a batch.
    """
    groups: dict[Hashable, list[Group]] = {}
    for i in sorted(busy, key=lambda i: -multiplications(candidates[i].topology, batch)):
        alone = Group(candidates[i].topology, (i,))
        key = skeleton(alone.topology), dtype_of(candidates[i].weights)
        own = groups.setdefault(key, [])
        if own and _is_better_merged(own[-1], alone, batch):
            own[-1] = _merge(own[-1], alone)
        else:
            own.append(alone)
    return list(itertools.chain(*groups.values()))


def _is_better_merged(group: Group, other: Group, batch: int) -> bool:
    merged = _merge(group, other)
    if len(merged.members) > max_members(merged.topology, batch):
        return False
    return cost(merged, batch) <= cost(group, batch) + cost(other, batch)


def _merge(first: Group, second: Group) -> Group:
    return Group(
        common_topology(first.topology, second.topology), (*first.members, *second.members)
    )


def groups_by_dtype(
    groups: Sequence[Group], candidates: Sequence[Candidate]
) -> list[list[Group]]:
    """Divide groups by the type of their weights."""
    by_dtype: dict[torch.dtype, list[Group]] = {}
    for group in groups:
        dtype = dtype_of(candidates[group.members[0]].weights)
        by_dtype.setdefault(dtype, []).append(group)
    return list(by_dtype.values())


def bundles_of(groups: Sequence[Group], batch: int, n_workers: int) -> list[list[Group]]:
    """Divide groups into bundles that take about the same time, one for each worker.

    The bundles depend on the number of workers. The results do not, because a group is trained
    in the same way in every bundle.
    """
    bundles: list[list[Group]] = [[] for _ in range(min(n_workers, len(groups)))]
    for group in sorted(groups, key=lambda group: -cost(group, batch)):
        cheapest = min(bundles, key=lambda bundle: sum(cost(own, batch) for own in bundle))
        cheapest.append(group)
    return bundles

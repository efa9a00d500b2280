"""Which candidates are trained as one stack: those of one skeleton and of similar widths."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.population.run.feed import kind_of_input
from skectonas.topology import ConvCell, Dense, Topology

# A rough model of a step on one core: it only has to say when the padding of wide candidates'
# narrow neighbours costs more than a group of their own.
SECONDS_PER_MULTIPLICATION = 2 / 50e9
SECONDS_PER_VALUE = 0.15e-9  # one pass over an activation
SECONDS_PER_CALL = 4e-6
CALLS = {"group": 30, "cell": 40, "dense": 8}
WINDOW_PASSES, MAP_PASSES = 6, 14

MAX_VALUES = 2**21
"""Values of a group's largest buffer: a larger group would only push itself out of the cache,
while a further group can go to another core."""

MAX_MEMBERS = 32


@dataclass(frozen=True)
class Group:
    """Candidates that are trained as one stack.

    Parameters
    ----------
    topology : Topology
        As wide as the widest of them in every place.
    members : tuple of int
        Which candidates these are.
    """

    topology: Topology
    members: tuple[int, ...]


def skeleton(topology: Topology) -> tuple[Hashable, ...]:
    """Return what candidates must have in common to be stacked, whatever their widths."""
    poolings = tuple(cell.pooling for cell in topology.cells)
    return (topology.input_shape, poolings, len(topology.dense), topology.n_classes)


def padded(first: Topology, second: Topology) -> Topology:
    """Return the narrowest topology that both fit in; their skeletons are the same."""
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


def seconds(topology: Topology, batch: int) -> float:
    """Return about how long a step takes for each candidate of a group of this topology."""
    multiplications = values = 0
    for i, cell in enumerate(topology.cells):
        before, after = topology.channels[i : i + 2]
        height, width = topology.map_sizes[i + 1]
        positions = height * width * (4 if cell.pooling == "max" else 1)
        multiplications += positions * before * after * 9 * (3 if i else 2)
        values += positions * after * MAP_PASSES
        values += positions * before * 9 * WINDOW_PASSES if i else 0
    widths = topology.widths
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        multiplications += before * after * (3 if i or topology.cells else 2)
    return batch * (multiplications * SECONDS_PER_MULTIPLICATION + values * SECONDS_PER_VALUE)


def overhead(topology: Topology) -> float:
    """Return about how long a step takes for a group, however few its members."""
    calls = CALLS["group"]
    calls += len(topology.cells) * CALLS["cell"] + len(topology.dense) * CALLS["dense"]
    return calls * SECONDS_PER_CALL


def most_members(topology: Topology, batch: int) -> int:
    """Return how many candidates a group of this topology should have at the most."""
    values = max(topology.widths[1:])
    for i, cell in enumerate(topology.cells):
        before, after = topology.channels[i : i + 2]
        height, width = topology.map_sizes[i + 1]
        # The columns of the product, which the candidates share in the first cell, or what
        # comes out of it.
        if cell.pooling == "max":
            largest = max(4 * after, 8 * before if i else 0)
        else:
            largest = max(after, 9 * before if i else 0)
        values = max(values, height * width * largest)
    values = max(values * batch, topology.n_parameters)
    return min(max(MAX_VALUES // values, 1), MAX_MEMBERS)


def cut(candidates: Sequence[Candidate], busy: Sequence[int], batch: int) -> list[Group]:
    """Return groups of the busy candidates, the most expensive group first.

    They depend on the candidates and the size of a batch and on nothing else, so that the
    results are the same bits however many workers there are.

    Parameters
    ----------
    candidates : sequence of Candidate
        Competitors.
    busy : sequence of int
        Which of them are to be in a group.
    batch : int
        Rows of a batch.
    """
    by_skeleton: dict[tuple[Hashable, ...], list[int]] = {}
    for index in busy:
        candidate = candidates[index]
        key = (skeleton(candidate.topology), dtype_of(candidate.weights))
        by_skeleton.setdefault(key, []).append(index)
    groups = [
        part
        for members in by_skeleton.values()
        for group in _of_similar_widths(candidates, members, batch)
        for part in _cut_evenly(candidates, group, batch)
    ]
    return sorted(groups, key=lambda group: -cost(group, batch))


def cost(group: Group, batch: int) -> float:
    """Return about how long a step of a group takes, in seconds."""
    return overhead(group.topology) + len(group.members) * seconds(group.topology, batch)


def bundled(
    groups: Sequence[Group],
    candidates: Sequence[Candidate],
    batch: int,
    n_workers: int,
) -> list[list[Group]]:
    """Deal the groups out to workers, those that can share a feed together.

    This may depend on the number of workers: sharing the feed changes no group's results.

    Parameters
    ----------
    groups : sequence of Group
        The most expensive first.
    candidates : sequence of Candidate
        Their members.
    batch : int
        Rows of a batch.
    n_workers : int
        Each kind of input is dealt out to so many bundles at the most.
    """
    kinds: dict[Hashable, list[list[Group]]] = {}
    for group in groups:
        dtype = dtype_of(candidates[group.members[0]].weights)
        bundles = kinds.setdefault((kind_of_input(group.topology), dtype), [])
        if len(bundles) < n_workers:
            bundles.append([group])
        else:
            min(bundles, key=lambda bundle: _total(bundle, batch)).append(group)
    every = [bundle for bundles in kinds.values() for bundle in bundles]
    return sorted(every, key=lambda bundle: -_total(bundle, batch))


def _total(bundle: Sequence[Group], batch: int) -> float:
    return sum(cost(group, batch) for group in bundle)


def _of_similar_widths(
    candidates: Sequence[Candidate], members: Sequence[int], batch: int
) -> list[Group]:
    """Put each candidate of a skeleton, widest first, where it adds the least time."""
    groups: list[Group] = []
    for member in sorted(members, key=lambda i: -seconds(candidates[i].topology, batch)):
        alone = Group(candidates[member].topology, (member,))
        best, extra = None, cost(alone, batch)
        for place, group in enumerate(groups):
            added = cost(_merged(group, alone), batch) - cost(group, batch)
            if added <= extra:
                best, extra = place, added
        if best is None:
            groups.append(alone)
        else:
            groups[best] = _merged(groups[best], alone)
    return groups


def _merged(first: Group, second: Group) -> Group:
    return Group(padded(first.topology, second.topology), (*first.members, *second.members))


def _cut_evenly(candidates: Sequence[Candidate], group: Group, batch: int) -> Iterator[Group]:
    """Cut a group that is too large into parts of about the same size, the wide ones first."""
    n_parts = -(-len(group.members) // most_members(group.topology, batch))
    for members in np.array_split(np.array(group.members), n_parts):
        singles = [Group(candidates[i].topology, (int(i),)) for i in members]
        yield reduce(_merged, singles)

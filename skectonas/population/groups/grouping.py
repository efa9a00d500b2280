"""Grouping of candidates with the same skeleton and similar widths, trained as one stack."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.population.batches.feed import kind_of_input
from skectonas.topology import ConvCell, Dense, Topology, ceil_div

# A rough model of the time of a step on one core. It only has to tell when padding a narrow
# candidate to the widths of a group costs more than a group of its own.
SECONDS_PER_MULTIPLICATION = 2 / 50e9
SECONDS_PER_VALUE = 0.15e-9  # in one pass over an activation
SECONDS_PER_CALL = 4e-6
CALLS = {"group": 30, "cell": 40, "dense": 8}
WINDOW_PASSES, MAP_PASSES = 6, 14

MAX_VALUES = 2**21
"""Maximum number of values of a group's largest buffer. The buffers of a larger group would not
fit in the cache, and two smaller groups can run on two cores."""

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


def seconds_per_member(topology: Topology, batch: int) -> float:
    """Estimate the time of a step for each candidate of a group of this topology."""
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


def seconds_of_calls(topology: Topology) -> float:
    """Estimate the time of a step that does not depend on the number of candidates."""
    calls = CALLS["group"]
    calls += len(topology.cells) * CALLS["cell"] + len(topology.dense) * CALLS["dense"]
    return calls * SECONDS_PER_CALL


def max_members(topology: Topology, batch: int) -> int:
    """Return the maximum number of candidates of a group of this topology."""
    values = max(topology.widths[1:])
    for i, cell in enumerate(topology.cells):
        before, after = topology.channels[i : i + 2]
        height, width = topology.map_sizes[i + 1]
        # Either the columns of the product are largest or its result. In the first cell the
        # columns do not count, because all candidates share them.
        if cell.pooling == "max":
            largest = max(4 * after, 8 * before if i else 0)
        else:
            largest = max(after, 9 * before if i else 0)
        values = max(values, height * width * largest)
    values = max(values * batch, topology.n_parameters)
    return min(max(MAX_VALUES // values, 1), MAX_MEMBERS)


def group_candidates(
    candidates: Sequence[Candidate], busy: Sequence[int], batch: int
) -> list[Group]:
    """Return groups of the busy candidates, the most expensive group first.

    The groups only depend on the candidates and the size of a batch. So the results are bitwise
    the same for every number of workers.

    Parameters
    ----------
    candidates : sequence of Candidate
        Competitors.
    busy : sequence of int
        Indices of the candidates to train.
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
        for group in _group_by_width(candidates, members, batch)
        for part in _split_evenly(candidates, group, batch)
    ]
    return sorted(groups, key=lambda group: -seconds_per_step(group, batch))


def seconds_per_step(group: Group, batch: int) -> float:
    """Estimate the time of a step of a group."""
    per_member = seconds_per_member(group.topology, batch)
    return seconds_of_calls(group.topology) + len(group.members) * per_member


def assign_to_workers(
    groups: Sequence[Group],
    candidates: Sequence[Candidate],
    batch: int,
    n_workers: int,
) -> list[list[Group]]:
    """Return bundles of groups, one for each worker; the groups of a bundle share a feed.

    The bundles depend on the number of workers. The results do not, because sharing a feed
    does not change the results of a group.

    Parameters
    ----------
    groups : sequence of Group
        The most expensive first.
    candidates : sequence of Candidate
        The candidates that the groups refer to.
    batch : int
        Rows of a batch.
    n_workers : int
        Maximum number of bundles for each kind of input.
    """
    kinds: dict[Hashable, list[Group]] = {}
    for group in groups:
        dtype = dtype_of(candidates[group.members[0]].weights)
        kinds.setdefault((kind_of_input(group.topology), dtype), []).append(group)
    every = [bundle for own in kinds.values() for bundle in bundles_of(own, batch, n_workers)]
    return sorted(every, key=lambda bundle: -_seconds_of_bundle(bundle, batch))


def bundles_of(groups: Sequence[Group], batch: int, n_workers: int) -> list[list[Group]]:
    """Divide groups into bundles that take about the same time, the most expensive first."""
    bundles: list[list[Group]] = []
    for group in sorted(groups, key=lambda group: -seconds_per_step(group, batch)):
        if len(bundles) < n_workers:
            bundles.append([group])
        else:
            min(bundles, key=lambda bundle: _seconds_of_bundle(bundle, batch)).append(group)
    return bundles


def _seconds_of_bundle(bundle: Sequence[Group], batch: int) -> float:
    return sum(seconds_per_step(group, batch) for group in bundle)


def _group_by_width(
    candidates: Sequence[Candidate], members: Sequence[int], batch: int
) -> list[Group]:
    """Add each candidate of a skeleton, widest first, to the group where it costs least."""
    groups: list[Group] = []
    for member in sorted(
        members, key=lambda i: -seconds_per_member(candidates[i].topology, batch)
    ):
        alone = Group(candidates[member].topology, (member,))
        best, least = None, seconds_per_step(alone, batch)
        for place, group in enumerate(groups):
            merged = seconds_per_step(_merge(group, alone), batch)
            added = merged - seconds_per_step(group, batch)
            if added <= least:
                best, least = place, added
        if best is None:
            groups.append(alone)
        else:
            groups[best] = _merge(groups[best], alone)
    return groups


def _merge(first: Group, second: Group) -> Group:
    return Group(
        common_topology(first.topology, second.topology), (*first.members, *second.members)
    )


def _split_evenly(candidates: Sequence[Candidate], group: Group, batch: int) -> Iterator[Group]:
    """Split a group that is too large into groups of similar sizes, the wide members first."""
    n_parts = ceil_div(len(group.members), max_members(group.topology, batch))
    for members in np.array_split(np.array(group.members), n_parts):
        singles = [Group(candidates[i].topology, (int(i),)) for i in members]
        yield reduce(_merge, singles)

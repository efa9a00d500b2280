"""Parts of the fused trainer: grouping, stacks, and what workers share."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population.groups.group_training import epoch_ends
from skectonas.population.groups.grouping import (
    bundles_of,
    common_topology,
    cost,
    group_candidates,
    max_members,
    multiplications,
)
from skectonas.population.groups.stack import stacked


def candidates(*topologies: Topology) -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [Candidate(i, t, initial_weights(t, rng)) for i, t in enumerate(topologies)]


def dense(*units: int) -> Topology:
    return Topology((8, 8, 1), [], [Dense(n) for n in units], 3)


def test_every_candidate_is_in_one_group_of_its_skeleton() -> None:
    members = candidates(
        *(dense(n) for n in (3, 5, 4)),
        *(dense(n, 4) for n in (2, 9)),
        *(
            Topology((8, 8, 1), [ConvCell(n, pooling)], [], 3)
            for pooling in ("average", "max", None)
            for n in (2, 3)
        ),
    )
    groups = group_candidates(members, range(len(members)), 8)
    assert sorted(i for group in groups for i in group.members) == list(range(len(members)))
    assert len(groups) == 5
    for group in groups:
        for i in group.members:
            own = members[i].topology
            assert common_topology(own, group.topology) == group.topology


def test_busy_candidates_only() -> None:
    members = candidates(dense(3), dense(4), dense(5))
    (group,) = group_candidates(members, [0, 2], 8)
    assert sorted(group.members) == [0, 2]


def test_padding_never_costs_more_than_a_group_would() -> None:
    members = candidates(dense(2000, 1500), *(dense(3, 3) for _ in range(10)))
    groups = group_candidates(members, range(len(members)), 128)
    assert [sorted(group.members) for group in groups] == [[0], list(range(1, 11))]
    together = reduce(common_topology, (member.topology for member in members))
    assert 11 * multiplications(together, 128) > 5 * sum(cost(group, 128) for group in groups)


def test_large_groups_are_cut() -> None:
    topology = Topology((32, 32, 3), [ConvCell(6, "max"), ConvCell(6, "max")], [], 10)
    most = max_members(topology, 128)
    groups = group_candidates(candidates(*[topology] * (most + 1)), range(most + 1), 128)
    assert [len(group.members) for group in groups] == [most, 1]


def test_bundles_take_about_the_same_time() -> None:
    members = candidates(*(dense(n, *[3] * i) for i, n in enumerate((500, 400, 300, 200, 100))))
    groups = group_candidates(members, range(5), 128)
    assert len(groups) == 5
    for n_workers in (1, 2, 5, 9):
        bundles = bundles_of(groups, 128, n_workers)
        assert len(bundles) == min(n_workers, 5)
        assert sorted(i for own in bundles for group in own for i in group.members) == [
            *range(5)
        ]
        times = [sum(cost(group, 128) for group in own) for own in bundles]
        assert max(times) <= sum(times) / len(times) + max(cost(group, 128) for group in groups)


def test_stack_and_back() -> None:
    wide = Topology((5, 5, 2), [ConvCell(4)], [Dense(3)], 3)
    narrow = Topology((5, 5, 2), [ConvCell(2)], [Dense(5)], 3)
    members = candidates(wide, narrow)
    stack = stacked(common_topology(wide, narrow), members, torch.device("cpu"))
    assert len(stack) == 2
    taken = stack.take([1])
    for source, place, member in ((stack, 0, 0), (stack, 1, 1), (taken, 0, 1)):
        for name, value in source.weights_of(place, source.flat).items():
            assert torch.equal(value, members[member].weights[name])


def test_epoch_ends() -> None:
    assert epoch_ends([3], per_epoch=5) == [3]
    assert epoch_ends([10, 7], per_epoch=5) == [5, 7, 10]

"""Parts of the fused trainer, each against what torch makes of it."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population.groups.group_training import evaluation_steps
from skectonas.population.groups.grouping import (
    common_topology,
    group_candidates,
    max_members,
    seconds_per_member,
)
from skectonas.population.groups.stack import stacked
from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.population.workers.sharing import Shared

SIDES = [(2, 2), (2, 3), (3, 2), (5, 4), (7, 7), (8, 6)]


def pooled_convolution(x: torch.Tensor, weight: torch.Tensor, kind: type) -> torch.Tensor:
    z = conv2d(x, weight, padding=1)
    if kind is MaxConvolution:
        return max_pool2d(z, 2, ceil_mode=True)
    return avg_pool2d(z, 2, ceil_mode=True, count_include_pad=False)


@pytest.mark.parametrize("kind", [AverageConvolution, MaxConvolution])
@pytest.mark.parametrize(("height", "width"), SIDES)
def test_convolution_with_pooling(kind: type, height: int, width: int) -> None:
    torch.manual_seed(height * 10 + width)
    n, batch, before, after = 2, 3, 2, 4
    weight = torch.randn(n, after, before, 3, 3, dtype=torch.float64)
    maps = torch.randn(n, before, height, width, batch, dtype=torch.float64)
    gradient = torch.empty_like(weight)
    layer = kind(weight, gradient, height, width, batch)
    for _ in range(2):  # buffers that were used must not show
        for where, value, _slope in layer.pieces:
            value.copy_(maps[where])
        layer.forward(0)
        found = layer.z.view(n, after, -(-height // 2), -(-width // 2), batch).clone()
        slope = torch.randn_like(found)
        layer.backward(0, slope.view(layer.z.shape).clone())
    d_maps = torch.empty_like(maps)
    for where, _value, part in layer.pieces:
        d_maps[where] = part
    for i in range(n):
        x = maps[i].permute(3, 0, 1, 2).clone().requires_grad_()
        w = weight[i].clone().requires_grad_()
        z = pooled_convolution(x, w, kind)
        z.backward(slope[i].permute(3, 0, 1, 2))
        for ours, theirs in (
            (found[i].permute(3, 0, 1, 2), z.detach()),
            (gradient[i], w.grad),
            (d_maps[i].permute(3, 0, 1, 2), x.grad),
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_of_equal_values_the_first_takes_the_gradient() -> None:
    """As in torch, on maps of small integers, which tie often."""
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.integers(0, 2, (1, 1, 7, 6, 4)).astype(float))
    weight = torch.from_numpy(rng.integers(-1, 2, (1, 2, 1, 3, 3)).astype(float))
    layer = MaxConvolution(weight, torch.empty_like(weight), 7, 6, 4)
    for where, value, _ in layer.pieces:
        value.copy_(maps[where])
    layer.forward(0)
    slope = torch.rand_like(layer.z)
    layer.backward(0, slope.clone())
    d_maps = torch.empty_like(maps)
    for where, _, part in layer.pieces:
        d_maps[where] = part
    x = maps[0].permute(3, 0, 1, 2).clone().requires_grad_()
    z = max_pool2d(conv2d(x, weight[0], padding=1), 2, ceil_mode=True)
    z.backward(slope.view(2, 4, 3, 4).permute(3, 0, 1, 2))
    torch.testing.assert_close(d_maps[0].permute(3, 0, 1, 2), x.grad, rtol=0, atol=1e-13)


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
            for pooling in ("average", "max")
            for n in (2, 3)
        ),
    )
    groups = group_candidates(members, range(len(members)), 8)
    assert sorted(i for group in groups for i in group.members) == list(range(len(members)))
    assert len(groups) == 4
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
    assert seconds_per_member(groups[0].topology, 128) > 100 * seconds_per_member(
        groups[1].topology, 128
    )


def test_large_groups_are_cut_evenly() -> None:
    topology = Topology((32, 32, 3), [ConvCell(6, "max"), ConvCell(6, "max")], [], 10)
    most = max_members(topology, 128)
    groups = group_candidates(candidates(*[topology] * (most + 1)), range(most + 1), 128)
    sizes = [len(group.members) for group in groups]
    assert len(sizes) == 2
    assert max(sizes) - min(sizes) <= 1


def test_stack_and_back() -> None:
    wide = Topology((5, 5, 2), [ConvCell(4)], [Dense(3)], 3)
    narrow = Topology((5, 5, 2), [ConvCell(2)], [Dense(5)], 3)
    members = candidates(wide, narrow)
    stack = stacked(common_topology(wide, narrow), members, torch.device("cpu"))
    assert len(stack) == 2
    taken = stack.take([1])
    for source, place, member in ((stack, 0, 0), (stack, 1, 1), (taken, 0, 1)):
        for name, value in source.weights_of(place).items():
            assert torch.equal(value, members[member].weights[name])


def test_evaluation_steps() -> None:
    assert evaluation_steps([3], per_epoch=5) == [3]
    assert evaluation_steps([10, 7], per_epoch=5) == [5, 7, 10]


def test_a_shared_value_is_written_and_read_once() -> None:
    value = {"weights": torch.ones(3), "scorer": lambda x: 2 * x}
    handle = Shared(value)
    assert handle.value is value
    first, second = (pickle.loads(pickle.dumps(handle)) for _ in range(2))
    assert first.value is second.value
    assert first.value["scorer"](2) == 4
    assert len(pickle.dumps(handle)) < 300
    path = Path(pickle.loads(pickle.dumps(handle))._path)
    assert path.exists()
    del handle
    gc.collect()
    assert not path.exists()

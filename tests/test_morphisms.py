"""The contract of every morphism, on networks that have been trained."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from skectonas import ConvCell, Dense, Topology
from skectonas.morphisms import (
    MORPHISMS,
    AddCell,
    AddChannels,
    AddDense,
    AddUnits,
    Context,
    Morphism,
    RemoveCell,
    RemoveChannels,
    RemoveDense,
    RemoveUnits,
)
from skectonas.network import Weights, build, initial_weights, weights_of
from skectonas.starts import STARTS, starting_topology

TOPOLOGIES = {name: starting_topology(name, (9, 12, 2), 4) for name in STARTS} | {
    "linear": Topology((5, 5, 1), [], [], 3),
    "mixed": Topology((13, 7, 1), [ConvCell(4, "max"), ConvCell(5)], [Dense(6)], 3),
    "no_dense": Topology((6, 6, 3), [ConvCell(4, "max")], [], 2),
    "narrow": Topology((4, 4, 1), [ConvCell(1)], [Dense(1), Dense(1)], 2),
}
SITES = [
    pytest.param(morphism, name, site, id=f"{morphism.name}-{name}-{site}")
    for morphism in MORPHISMS
    for name, topology in TOPOLOGIES.items()
    for site in morphism.sites(topology)
]


@cache
def images_for(topology: Topology) -> torch.Tensor:
    rng = np.random.default_rng(1)
    coarse = rng.random((96, 5, 5, topology.input_shape[2]))
    rows, columns = (
        np.linspace(0, 4, side).round().astype(int) for side in topology.input_shape[:2]
    )
    return torch.from_numpy(coarse[:, rows][:, :, columns])  # float64


@cache
def trained(topology: Topology) -> Weights:
    """Weights after some steps of training, running statistics those of a moving average."""
    network = build(topology, initial_weights(topology, np.random.default_rng(0))).double()
    images = images_for(topology)
    labels = (images.flatten(1).mean(1).argsort().argsort() * topology.n_classes) // len(images)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for start in range(0, 30):
        batch = slice(3 * start % 64, 3 * start % 64 + 32)
        optimizer.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    return weights_of(network)


def changed(
    morphism: Morphism, topology: Topology, weights: Weights, site: int, seed: int = 0
) -> tuple[Topology, dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    new = morphism.rewrite(topology, site, rng)
    return new, morphism.carry(weights, topology, new, site, Context(rng, images_for(topology)))


def outputs(
    topology: Topology, weights: Weights, images: torch.Tensor, train: bool
) -> torch.Tensor:
    with torch.no_grad():
        return build(topology, weights).train(train)(images)


@pytest.mark.parametrize(("morphism", "name", "site"), SITES)
def test_contract(morphism: Morphism, name: str, site: int) -> None:
    topology = TOPOLOGIES[name]
    weights = trained(topology)
    before = {key: value.clone() for key, value in weights.items()}
    new, child = changed(morphism, topology, weights, site)

    network = build(new, child)  # loads strictly
    assert sum(p.numel() for p in network.parameters()) == new.n_parameters
    assert all(value.isfinite().all() for value in child.values())
    assert all(value.dtype == torch.float64 for value in child.values())
    assert all(torch.equal(before[key], value) for key, value in weights.items())
    _, again = changed(morphism, topology, weights, site)
    assert all(torch.equal(again[key], value) for key, value in child.items())
    if morphism.name != "identity":
        assert new != topology
    if morphism.preserves_function:
        for train in (False, True):
            expected = outputs(topology, weights, images_for(topology), train)
            found = outputs(new, child, images_for(topology), train)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("morphism", "name", "site"), SITES)
def test_change_stays_near_the_function(morphism: Morphism, name: str, site: int) -> None:
    topology = TOPOLOGIES[name]
    weights = trained(topology)
    new, child = changed(morphism, topology, weights, site)
    expected = outputs(topology, weights, images_for(topology), False)
    error = (outputs(new, child, images_for(topology), False) - expected).square().mean()
    print(f"{morphism.name:16} {name:12} {site} {float(error / expected.var(0).mean()):.3f}")
    assert error < expected.var(0, correction=0).mean()

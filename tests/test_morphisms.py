"""The contract of every morphism, on networks that have been trained."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from skectonas import ConvCell, Dense, Topology
from skectonas.morphisms import (
    MORPHISMS,
    PAPER_MORPHISMS,
    Activations,
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
from skectonas.topology import STARTS, starting_topology

TOPOLOGIES = {name: starting_topology(name, (9, 12, 2), 4) for name in STARTS} | {
    "linear": Topology((5, 5, 1), [], [], 3),
    "mixed": Topology((13, 7, 1), [ConvCell(4, "max"), ConvCell(5)], [Dense(6)], 3),
    "no_dense": Topology((6, 6, 3), [ConvCell(4, "max")], [], 2),
    "narrow": Topology((4, 4, 1), [ConvCell(1)], [Dense(1), Dense(1)], 2),
    "unpooled": Topology(
        (9, 6, 1), [ConvCell(4, None), ConvCell(5, "max"), ConvCell(4, None)], [Dense(6)], 3
    ),
}
ALL = {"max", "average", None}
MANY = (*MORPHISMS, AddCell(extra=(0, 2), poolings=(None,)))
SITES = [
    pytest.param(morphism, name, site, id=f"{morphism.name}-{name}-{site}-{i}")
    for i, morphism in enumerate(MANY)
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
    """Weights after some steps of training, with running statistics from a moving average."""
    network = build(topology, initial_weights(topology, np.random.default_rng(0))).double()
    images = images_for(topology)
    labels = (images.flatten(1).mean(1).argsort().argsort() * topology.n_classes) // len(images)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for start in range(30):
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
    expected = outputs(topology, weights, images_for(topology), train=False)
    found = outputs(new, child, images_for(topology), train=False)
    if name == "narrow":  # its units died in training: it is a constant, and may come alive
        assert expected.var(0).max() < 1e-12
    else:  # better than the best constant
        assert (found - expected).square().mean() < expected.var(0, correction=0).mean()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_children_may_share_what_their_parent_sees(name: str) -> None:
    topology = TOPOLOGIES[name]
    weights = {key: value.float() for key, value in trained(topology).items()}
    seen = Activations(weights, topology, images_for(topology))
    for morphism in MORPHISMS:
        for site in morphism.sites(topology):
            new, alone = changed(morphism, topology, weights, site)
            context = Context(np.random.default_rng(0), images_for(topology), seen)
            assert morphism.rewrite(topology, site, context.rng) == new
            child = morphism.carry(weights, topology, new, site, context)
            assert child.keys() == alone.keys()
            assert all(torch.equal(child[key], value) for key, value in alone.items())


def random_network(topology: Topology, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    weights = initial_weights(topology, rng)
    noisy = {k: v.double() + torch.from_numpy(rng.random(v.shape)) for k, v in weights.items()}
    network = build(topology, noisy)
    network.calibrate(images_for(topology))
    return weights_of(network)


def assert_same_outputs(
    old: Topology, weights: Weights, new: Topology, child: Weights, atol: float
) -> None:
    for train in (False, True):
        expected = outputs(old, weights, images_for(old), train)
        found = outputs(new, child, images_for(old), train)
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("site", [0, 1])
def test_removing_a_unit_that_others_can_express_changes_nothing(site: int) -> None:
    topology = Topology((5, 5, 1), [], [Dense(4), Dense(5)], 3)
    weights = random_network(topology)
    twice = dict(weights)
    name, reader = f"dense.{site}", ("dense.1.weight", "output.weight")[site]
    for kind in ("weight", "bias"):
        twice[f"{name}.{kind}"] = torch.cat([weights[f"{name}.{kind}"]] * 2)
    generator = torch.Generator().manual_seed(site)
    factors = torch.rand(1, 2 * topology.dense[site].units, generator=generator)
    twice[reader] = torch.cat([weights[reader]] * 2, 1) * factors
    dense = list(topology.dense)
    dense[site] = Dense(2 * dense[site].units)
    doubled = replace(topology, dense=tuple(dense))
    morphism = RemoveUnits(fraction=0.5)
    new, child = changed(morphism, doubled, twice, site)
    assert new == topology
    assert_same_outputs(doubled, twice, new, child, atol=1e-4)


def test_channels_go_by_the_size_of_gamma_and_leave_their_constant() -> None:
    topology = Topology((6, 6, 1), [ConvCell(4)], [Dense(5)], 3)
    weights = random_network(topology)
    gamma = torch.tensor([-5.0, 1e-7, 2.0, 3.0], dtype=torch.float64)
    weights["cells.0.norm.weight"] = gamma
    weights["cells.0.norm.bias"] = torch.tensor([0.1, 0.7, 0.2, -0.3], dtype=torch.float64)
    new, child = changed(RemoveChannels(fraction=0.0, at_least=1), topology, weights, 0)
    assert child["cells.0.norm.weight"].tolist() == [-5.0, 2.0, 3.0]
    assert_same_outputs(topology, weights, new, child, atol=1e-4)


def test_the_constant_of_a_channel_passes_through_a_second_cell() -> None:
    topology = Topology((8, 8, 1), [ConvCell(3), ConvCell(2)], [Dense(5)], 3)
    weights = random_network(topology)
    weights["cells.0.norm.weight"][1] = 0.0
    weights["cells.0.norm.bias"][1] = 0.7
    # Zero padding would frame a constant map; with the centre of the kernel alone, nothing may
    # change.
    weights["cells.1.conv.weight"][:, 1] = 0.0
    weights["cells.1.conv.weight"][:, 1, 1, 1] = 2.0
    network = build(topology, weights)
    network.calibrate(images_for(topology))
    weights = weights_of(network)
    new, child = changed(RemoveChannels(fraction=0.0, at_least=1), topology, weights, 0)
    assert (
        child["cells.0.norm.weight"].tolist() == weights["cells.0.norm.weight"][[0, 2]].tolist()
    )
    assert_same_outputs(topology, weights, new, child, atol=1e-4)


@pytest.mark.parametrize("sides", [(4, 6), (5, 7), (3, 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_added_cell_is_transparent_on_constant_maps(sides: tuple[int, int], seed: int) -> None:
    topology = Topology((*sides, 2), [], [Dense(4)], 3)
    weights = random_network(topology)
    rng = np.random.default_rng(seed)
    flat = torch.from_numpy(rng.random((40, 1, 1, 2))).expand(40, *sides, 2)
    morphism = AddCell(extra=(2,))
    new = morphism.rewrite(topology, 0, rng)
    child = morphism.carry(weights, topology, new, 0, Context(rng, flat))
    expected = outputs(topology, weights, flat, train=False)
    torch.testing.assert_close(
        outputs(new, child, flat, train=False), expected, rtol=0, atol=1e-6
    )


def test_adding_and_removing_a_cell_changes_sizes_and_weights_back() -> None:
    topology = TOPOLOGIES["medium_cnn"]
    rng = np.random.default_rng(3)
    for site in AddCell().sites(topology):
        more = AddCell().rewrite(topology, site, rng)
        assert RemoveCell().rewrite(more, site, rng) == topology


def test_all_poolings_and_widths_are_drawn() -> None:
    rng = np.random.default_rng(0)
    for known, name, poolings in (
        (PAPER_MORPHISMS, "small_cnn", {"max", "average"}),
        (MORPHISMS, "small_ffnn", {"max", "average"}),
        (MORPHISMS, "small_cnn", ALL),
    ):
        [add_cell] = [morphism for morphism in known if isinstance(morphism, AddCell)]
        drawn = {add_cell.rewrite(TOPOLOGIES[name], 0, rng).cells[0] for _ in range(70)}
        assert {cell.pooling for cell in drawn} == poolings
        assert {cell.channels for cell in drawn} == {3, 9}


@pytest.mark.parametrize("train", [False, True])
def test_a_cell_without_pooling_after_another_changes_nothing(train: bool) -> None:
    """On the images of the morphism, whose statistics the copied channels have."""
    topology = TOPOLOGIES["mixed"]
    images = images_for(topology)
    network = build(topology, trained(topology))
    network.calibrate(images)
    weights = weights_of(network)
    morphism = AddCell(extra=(0, 3), poolings=(None,))
    expected = outputs(topology, weights, images, train)
    for site in (1, 2):
        new, child = changed(morphism, topology, weights, site)
        assert new.map_sizes[-1] == topology.map_sizes[-1]
        found = outputs(new, child, images, train)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_fresh_units_and_channels_learn() -> None:
    """A step of training must change the added weights, and differently for each unit."""
    topology = TOPOLOGIES["medium_cnn"]
    images = images_for(topology)
    labels = torch.arange(len(images)) % topology.n_classes
    for morphism, added in (
        (AddUnits(), "dense.0.weight"),
        (AddChannels(), "cells.0.conv.weight"),
    ):
        new, child = changed(morphism, topology, trained(topology), 0)
        network = build(new, child)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
        for _ in range(2):  # the first step moves the outgoing weights, the second the incoming
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
        moved = network.state_dict()[added] - child[added]
        n_old = trained(topology)[added].shape[0]
        fresh = moved[n_old:].flatten(1)
        assert (fresh.abs().amax(1) > 0).any()
        assert torch.linalg.matrix_rank(fresh) > 1


@given(st.data())
def test_chains_of_changes_stay_valid(data: st.DataObject) -> None:
    topology = data.draw(st.sampled_from(list(TOPOLOGIES.values())))
    weights = trained(topology)
    for step in range(data.draw(st.integers(1, 4))):
        possible = [(m, site) for m in MORPHISMS for site in m.sites(topology)]
        morphism, site = data.draw(st.sampled_from(possible))
        rng = np.random.default_rng(step)
        new = morphism.rewrite(topology, site, rng)
        context = Context(rng, images_for(topology))
        child = morphism.carry(weights, topology, new, site, context)
        assert build(new, child)(images_for(topology)).isfinite().all()
        topology, weights = new, child


def test_sites_that_must_not_be() -> None:
    linear, narrow = TOPOLOGIES["linear"], TOPOLOGIES["narrow"]
    assert not RemoveDense().sites(linear)
    assert not AddUnits().sites(linear)
    assert not AddChannels().sites(linear)
    assert not RemoveCell().sites(linear)
    assert not RemoveUnits().sites(narrow)
    assert not RemoveChannels().sites(narrow)
    assert not AddCell().sites(Topology((1, 9, 1), [], [Dense(3)], 2))
    assert AddDense().rewrite(linear, 0, np.random.default_rng(0)).dense == (Dense(6),)


@pytest.mark.parametrize("units", [1, 2, 3, 10, 45, 100])
def test_steps_of_dense_layers(units: int) -> None:
    topology = Topology((4, 4, 1), [], [Dense(units)], 2)
    rng = np.random.default_rng(0)
    paper = {morphism.name: morphism for morphism in PAPER_MORPHISMS}
    for add, remove, wider, narrower in (
        (AddUnits(), RemoveUnits(), max(4, round(units / 2)), max(2, round(units / 4))),
        (paper["add_units"], paper["remove_units"], *[max(2, round(units / 10))] * 2),
    ):
        assert add.rewrite(topology, 0, rng).dense[0].units == units + wider
        if units > 1:
            assert remove.rewrite(topology, 0, rng).dense[0].units == max(1, units - narrower)


@pytest.mark.parametrize("channels", [1, 2, 3, 10, 45])
def test_steps_of_cells(channels: int) -> None:
    topology = Topology((4, 4, 1), [ConvCell(channels)], [], 2)
    rng = np.random.default_rng(0)
    paper = {morphism.name: morphism for morphism in PAPER_MORPHISMS}
    ours = max(6, round(channels / 2)), max(3, round(channels / 4))
    for add, remove, (wider, narrower) in (
        (AddChannels(), RemoveChannels(), ours),
        (paper["add_channels"], paper["remove_channels"], (3, 3)),
    ):
        assert add.rewrite(topology, 0, rng).cells[0].channels == channels + wider
        if channels > 1:
            narrow = remove.rewrite(topology, 0, rng).cells[0].channels
            assert narrow == max(1, channels - narrower)


@pytest.mark.parametrize(
    ("morphism", "name", "value"),
    [
        (AddCell, "extra", ()),
        (AddCell, "extra", (-1,)),
        (AddCell, "extra", 3),
        (AddCell, "poolings", ("avg",)),
        (AddCell, "recovery_epochs", float("nan")),
        (AddUnits, "fraction", "x"),
        (AddUnits, "fraction", float("inf")),
        (RemoveUnits, "at_least", 0),
        (RemoveChannels, "at_least", 1.5),
        (RemoveDense, "recovery_epochs", -1),
    ],
)
def test_settings_are_checked_before_a_search(
    morphism: type[Morphism], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f"{name} of {morphism.__name__} must be .*, got"):
        morphism(**{name: value})


def test_a_list_of_settings_is_a_tuple() -> None:
    morphism = AddCell(extra=[3], poolings=["max"])  # type: ignore[arg-type]
    assert {morphism: 1}[AddCell(extra=(3,), poolings=("max",))] == 1

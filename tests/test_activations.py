"""The fast activations against the plain network, and the ridge regression that uses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d

from skectonas import ConvCell, Dense, Topology
from skectonas.morphisms import Activations, activations
from skectonas.morphisms.activations import fast_pool, pooled_convolution
from skectonas.morphisms.reconnect import reconnect, reconnect_first_dense, ridge_regression
from skectonas.network import TopologyNetwork, Weights, build, initial_weights, pool, weights_of
from skectonas.topology import linear_name

TOPOLOGIES = [
    Topology((5, 5, 1), [], [], 3),
    Topology((6, 4, 2), [], [Dense(7), Dense(5)], 3),
    Topology((8, 12, 2), [ConvCell(3), ConvCell(4, "max")], [Dense(6), Dense(4)], 3),
    Topology((13, 7, 1), [ConvCell(4, "max"), ConvCell(5), ConvCell(2)], [Dense(6)], 3),
    Topology((16, 16, 3), [ConvCell(20), ConvCell(4, "max"), ConvCell(5)], [], 4),
    Topology((7, 10, 1), [ConvCell(4, None), ConvCell(3), ConvCell(5, None)], [Dense(6)], 3),
]
DEEP = TOPOLOGIES[3]
EACH_TOPOLOGY = pytest.mark.parametrize("topology", TOPOLOGIES, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
N_ROWS = 40


def images_for(topology: Topology) -> Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.random((N_ROWS, *topology.input_shape)).astype(np.float32))


def calibrated(topology: Topology, seed: int = 0) -> dict[str, Tensor]:
    """Float64 weights, none zero or one, with the running statistics of the images."""
    rng = np.random.default_rng(seed)
    weights = {
        name: value + torch.from_numpy(rng.uniform(0, 0.5, value.shape))
        for name, value in initial_weights(topology, rng).items()
    }
    network = build(topology, weights)
    network.calibrate(images_for(topology).double())
    return weights_of(network)


def maps_after(network: TopologyNetwork, images: Tensor, n_cells: int) -> Tensor:
    maps = images.permute(0, 3, 1, 2)
    for cell in network.cells[:n_cells]:
        maps = cell(maps)
    return maps


def inputs_of(network: TopologyNetwork, images: Tensor, layer: int) -> Tensor:
    values = maps_after(network, images, len(network.cells)).flatten(1)
    for dense in network.dense[:layer]:
        values = torch.relu(dense(values))
    return values


def in_precision(weights: Weights, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) for name, value in weights.items()}


def changed_from(weights: Weights, topology: Topology, cell: int) -> dict[str, Tensor]:
    """Weights of another network that shares the cells before the given one."""
    other = in_precision(calibrated(topology, seed=1), weights["output.weight"].dtype)
    same = tuple(f"cells.{i}." for i in range(cell))
    return {k: weights[k] if k.startswith(same) else value for k, value in other.items()}


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype, times: float = 1) -> None:
    assert found.dtype == dtype
    scale = expected.abs().max().item() * times
    atol = scale * {torch.float64: 1e-10, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@EACH_DTYPE
@EACH_TOPOLOGY
def test_layers_see_what_those_of_the_network_see(
    topology: Topology, dtype: torch.dtype
) -> None:
    weights, images = calibrated(topology), images_for(topology)
    for name, value in weights.items():
        if ".running_" in name:
            value *= 1.5  # evaluation mode takes them as they are
    seen = Activations(in_precision(weights, dtype), topology, images)
    network, images = build(topology, weights).eval(), images.double()
    with torch.no_grad():
        for n_cells in range(len(topology.cells) + 1):
            assert_close(seen.maps_after(n_cells), maps_after(network, images, n_cells), dtype)
        for layer in reversed(range(len(topology.dense) + 1)):
            inputs = inputs_of(network, images, layer)
            outputs = network.get_submodule(linear_name(topology, layer))(inputs)
            assert_close(seen.inputs_of(layer), inputs, dtype)
            assert_close(seen.outputs_of(layer), outputs, dtype)
    for name, value in seen.running_statistics().items():
        assert torch.equal(value, weights[name].to(dtype))


@EACH_DTYPE
@pytest.mark.parametrize("cell", range(4))
def test_a_changed_network_is_calibrated(cell: int, dtype: torch.dtype) -> None:
    images = images_for(DEEP)
    weights = in_precision(calibrated(DEEP), dtype)
    child = changed_from(weights, DEEP, cell)
    seen = Activations(child, DEEP, images, Activations(weights, DEEP, images))
    network, images = build(DEEP, in_precision(child, torch.float64)).eval(), images.double()
    network.calibrate(images)
    with torch.no_grad():
        assert_close(seen.inputs_of(1), inputs_of(network, images, 1), dtype)
    statistics = seen.running_statistics()
    assert list(statistics) == [name for name in child if ".running_" in name]
    for name, value in statistics.items():
        assert_close(value, network.state_dict()[name], dtype)


@pytest.mark.parametrize("cell", range(4))
def test_only_the_very_same_cells_are_shared(cell: int) -> None:
    weights, images = calibrated(DEEP), images_for(DEEP)
    parent = Activations(weights, DEEP, images)
    seen = Activations(changed_from(weights, DEEP, cell), DEEP, images, parent)
    for n_cells in range(1, 4):
        shared = seen.maps_after(n_cells) is parent.maps_after(n_cells)
        assert shared == (n_cells <= cell)
    # The same tensors in another cell, and equal tensors that are other objects.
    cells = list(DEEP.cells)
    cells[1] = ConvCell(5, "max")
    other = replace(DEEP, cells=tuple(cells))
    copied = {name: value.clone() for name, value in weights.items()}
    for child, topology, n_shared in ((weights, other, 1), (copied, DEEP, 0)):
        seen = Activations(child, topology, images, parent)
        for n_cells in range(1, 4):
            shared = seen.maps_after(n_cells) is parent.maps_after(n_cells)
            assert shared == (n_cells <= n_shared)


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["average", "max", None]),
)
def test_pooled_convolution_is_convolution_and_pooling(
    height: int, width: int, before: int, after: int, pooling: str | None
) -> None:
    rng = np.random.default_rng([height, width, before, after])
    maps = torch.from_numpy(rng.normal(size=(5, before, height, width)))
    weight = torch.from_numpy(rng.normal(size=(after, before, 3, 3)))
    convolved = conv2d(maps, weight, padding=1)
    expected = pool(convolved, pooling)
    found = pooled_convolution(maps, weight, pooling)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(fast_pool(convolved, pooling), expected)


@pytest.mark.parametrize("values", [1, 300])
def test_chunks_change_nothing(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    maps, weight = (torch.from_numpy(rng.random(s)) for s in ((7, 2, 6, 6), (4, 2, 3, 3)))
    expected = pooled_convolution(maps, weight, "max")
    monkeypatch.setattr(activations, "CHUNK_VALUES", values)
    torch.testing.assert_close(pooled_convolution(maps, weight, "max"), expected)


def plainly_reconnected(
    weights: Weights, topology: Topology, layer: int, wanted: Tensor, images: Tensor
) -> dict[str, Tensor]:
    """Compute the result of `reconnect` with the network itself, sharing nothing."""
    network = build(topology, weights).double().eval()
    network.calibrate(images.double())
    name = linear_name(topology, layer)
    with torch.no_grad():
        inputs = inputs_of(network, images.double(), layer)
        missing = wanted - network.get_submodule(name)(inputs)
    mean, shift = inputs.mean(0), missing.mean(0)
    centred = inputs - mean
    penalty = 1e-2 * centred.square().sum() / inputs.shape[1]
    gram = centred.T @ centred + penalty * torch.eye(inputs.shape[1]).double()
    change = torch.linalg.solve(gram, centred.T @ (missing - shift))
    reconnected = weights_of(network)
    reconnected[f"{name}.weight"] += change.T
    reconnected[f"{name}.bias"] += shift - mean @ change
    return reconnected


def assert_reconnected(
    found: Weights,
    expected: Weights,
    topology: Topology,
    layer: int,
    images: Tensor,
    dtype: torch.dtype,
) -> None:
    """Compare the result of `reconnect` with that of the plain one.

    Where the images hardly vary, rounding moves the weights a hundred times as much as it moves
    the outputs, so that the weights of the layer may differ as much more in float32.
    """
    assert set(found) == set(expected)
    name = linear_name(topology, layer)
    for key, value in found.items():
        is_fitted = key.startswith(name) and dtype == torch.float32
        assert_close(value, expected[key], dtype, 100 if is_fitted else 1)
    outputs = []
    for weights in (found, expected):
        network = build(topology, in_precision(weights, torch.float64)).eval()
        with torch.no_grad():
            inputs = inputs_of(network, images.double(), layer)
            outputs.append(network.get_submodule(name)(inputs))
    assert_close(outputs[0].to(dtype), outputs[1], dtype)


@EACH_DTYPE
@pytest.mark.parametrize("cell", [0, 1])
@EACH_TOPOLOGY
def test_reconnection_is_the_plain_one(
    topology: Topology, cell: int, dtype: torch.dtype
) -> None:
    images = images_for(topology)
    weights = in_precision(calibrated(topology), dtype)
    child = changed_from(weights, topology, cell)
    parent = Activations(weights, topology, images)
    for layer in range(len(topology.dense) + 1):
        wanted = parent.outputs_of(layer).double()
        found = reconnect(child, topology, layer, wanted, parent)
        expected = plainly_reconnected(child, topology, layer, wanted, images)
        assert_reconnected(found, expected, topology, layer, images, dtype)
    first = reconnect_first_dense(child, topology, parent)
    expected = plainly_reconnected(child, topology, 0, parent.outputs_of(0).double(), images)
    assert_reconnected(first, expected, topology, 0, images, dtype)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(50, 3), (9, 9), (7, 40), (3, 2)])
def test_ridge_regression_is_least_squares(shape: tuple[int, int], dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=shape), rng.normal(size=(shape[0], 4))
    penalty = 1e-2 * np.square(inputs).sum() / shape[1]
    # The penalty as additional rows whose target is zero.
    rows = np.concatenate([inputs, np.sqrt(penalty) * np.eye(shape[1])])
    wanted = np.concatenate([targets, np.zeros((shape[1], 4))])
    expected = torch.from_numpy(np.linalg.lstsq(rows, wanted, rcond=None)[0])
    found = ridge_regression(
        torch.from_numpy(inputs).to(dtype), torch.from_numpy(targets).to(dtype), 1e-2
    )
    assert_close(found, expected, dtype)


def test_ridge_regression_where_one_direction_dominates() -> None:
    # The penalty is less than what rounding makes of the products.
    rng = np.random.default_rng(0)
    inputs = np.outer(rng.uniform(0.2, 1, 100), rng.uniform(0.9, 1.1, 20_000))
    inputs -= inputs.mean(axis=0)
    targets = rng.normal(size=(100, 3))
    found = ridge_regression(*(torch.from_numpy(a).float() for a in (inputs, targets)), 1e-5)
    residual = targets - inputs @ found.double().numpy()
    assert np.square(residual).mean() < np.square(targets).mean()


def test_inputs_that_say_nothing_change_nothing() -> None:
    assert not ridge_regression(torch.zeros(8, 3), torch.ones(8, 2), 1e-2).any()

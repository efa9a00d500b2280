"""The network against one written by hand in numpy, and how weights come in and out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skectonas import ConvCell, Dense, Topology
from skectonas.network import (
    BATCH_NORM_EPSILON,
    TopologyNetwork,
    build,
    initial_weights,
    pool,
    weights_of,
)

Array = NDArray[np.float64]
RELAXED = examples(50)

EXAMPLE = Topology((5, 7, 2), [ConvCell(3), ConvCell(4, "max")], [Dense(6)], 3)
NAMES = [
    *(
        f"cells.{i}.{name}"
        for i in range(2)
        for name in (
            "conv.weight",
            "norm.weight",
            "norm.bias",
            "norm.running_mean",
            "norm.running_var",
        )
    ),
    "dense.0.weight",
    "dense.0.bias",
    "output.weight",
    "output.bias",
]


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    n_cells = draw(st.integers(0, min(2, (min(height, width) - 1).bit_length())))
    cell = st.builds(ConvCell, st.integers(1, 4), st.sampled_from(["average", "max", None]))
    cells = draw(st.lists(cell, min_size=n_cells, max_size=n_cells))
    dense = draw(st.lists(st.builds(Dense, st.integers(1, 5)), max_size=2))
    shape = (height, width, draw(st.integers(1, 3)))
    return Topology(shape, cells, dense, draw(st.integers(2, 4)))


def random_weights(topology: Topology, seed: int) -> dict[str, torch.Tensor]:
    """Return float64 weights in which nothing is zero, one or alike by chance."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, value in TopologyNetwork(topology).state_dict().items():
        if name.endswith("running_var"):
            weights[name] = torch.from_numpy(rng.uniform(0.3, 3, value.shape))
        elif not name.endswith("num_batches_tracked"):
            weights[name] = torch.from_numpy(rng.normal(size=value.shape))
    return weights


def some_images(topology: Topology, n: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, *topology.input_shape)))


def pooled_convolution(maps: Array, kernel: Array, pooling: str | None) -> Array:
    """Convolve and pool (n, h, w, c), pixel by pixel and window by window."""
    n, height, width, _ = maps.shape
    padded = np.zeros((n, height + 2, width + 2, maps.shape[3]))
    padded[:, 1:-1, 1:-1] = maps
    convolved = np.zeros((n, height, width, len(kernel)))
    for y in range(height):
        for x in range(width):
            patch = padded[:, y : y + 3, x : x + 3]  # n, 3, 3, c
            convolved[:, y, x] = np.einsum("nyxc,ocyx->no", patch, kernel)
    if pooling is None:
        return convolved
    rows = []
    for y in range(0, height, 2):
        windows = [convolved[:, y : y + 2, x : x + 2] for x in range(0, width, 2)]
        summed = [w.max((1, 2)) if pooling == "max" else w.mean((1, 2)) for w in windows]
        rows.append(np.stack(summed, 1))
    return np.stack(rows, 1)


def by_hand(
    topology: Topology, weights: dict[str, torch.Tensor], images: torch.Tensor, train: bool
) -> Array:
    """Return the logits."""
    w = {name: value.numpy() for name, value in weights.items()}
    values = images.numpy()
    for i, cell in enumerate(topology.cells):
        values = pooled_convolution(values, w[f"cells.{i}.conv.weight"], cell.pooling)
        norm = f"cells.{i}.norm"
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        if train:
            mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
        values = (values - mean) / np.sqrt(variance + BATCH_NORM_EPSILON)
        values = np.maximum(values * w[f"{norm}.weight"] + w[f"{norm}.bias"], 0)
    values = values.transpose(0, 3, 1, 2).reshape(len(values), -1)
    for i in range(len(topology.dense)):
        values = np.maximum(values @ w[f"dense.{i}.weight"].T + w[f"dense.{i}.bias"], 0)
    return values @ w["output.weight"].T + w["output.bias"]


@contextmanager
def global_generators_untouched() -> Iterator[None]:
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    now = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(now, numpy_state, strict=True))


@RELAXED
@given(topologies(), st.integers(0, 1000), st.booleans())
def test_forward_is_the_one_by_hand(topology: Topology, seed: int, train: bool) -> None:
    weights, images = random_weights(topology, seed), some_images(topology, 5, seed)
    network = build(topology, weights).train(train)
    expected = by_hand(topology, weights, images, train)
    with torch.no_grad():
        logits = network(images)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-9, atol=1e-9)
    assert logits.dtype == torch.float64


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("average", [[3, 4.5], [7.5, 9]]), ("max", [[5, 6], [8, 9]])],
)
def test_pooling_counts_the_valid_pixels_only(
    pooling: str, expected: list[list[float]]
) -> None:
    maps = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    assert pool(maps, pooling)[0, 0].tolist() == expected
    # A maximum does not see the zeros of the padding either.
    assert pool(-maps - 10, "max").max() < -10


@RELAXED
@given(topologies(), st.integers(0, 1000), st.booleans())
def test_calibrated_evaluation_is_training(
    topology: Topology, seed: int, constant: bool
) -> None:
    weights, images = random_weights(topology, seed), some_images(topology, 6, seed)
    if constant and topology.is_cnn:
        weights["cells.0.conv.weight"][0] = 0  # a channel without variance
    network = build(topology, weights)
    network.calibrate(images)
    calibrated = weights_of(network)
    with torch.no_grad():
        evaluated = network.eval()(images)
        trained = network.train()(images)
    torch.testing.assert_close(evaluated, trained, rtol=0, atol=1e-9)
    expected = by_hand(topology, weights, images, True)
    np.testing.assert_allclose(evaluated.numpy(), expected, rtol=1e-9, atol=1e-9)
    for name, value in weights.items():
        assert torch.equal(calibrated[name], value) or ".running_" in name


def test_calibration_measures_what_the_norm_sees() -> None:
    weights, images = random_weights(EXAMPLE, 1), some_images(EXAMPLE, 8, 1)
    network = build(EXAMPLE, weights)
    before = pooled_convolution(
        images.numpy(), weights["cells.0.conv.weight"].numpy(), "average"
    )
    network.calibrate(images)
    norm = weights_of(network)
    np.testing.assert_allclose(norm["cells.0.norm.running_mean"], before.mean((0, 1, 2)))
    np.testing.assert_allclose(norm["cells.0.norm.running_var"], before.var((0, 1, 2)))
    assert network.training
    assert not any(p.grad is not None for p in network.parameters())


def test_a_single_value_is_normalised_as_in_evaluation() -> None:
    topology = Topology((2, 2, 1), [ConvCell(3)], [], 2)
    network = build(topology, random_weights(topology, 0))
    images = some_images(topology, 4, 0)
    network.calibrate(images)
    with torch.no_grad():
        assert torch.equal(network.train()(images[:1]), network.eval()(images[:1]))
        assert not torch.equal(network.train()(images[:2]), network.eval()(images[:2]))


def test_build_draws_nothing() -> None:
    weights = initial_weights(EXAMPLE, np.random.default_rng(0))
    with global_generators_untouched():
        build(EXAMPLE, weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_build_gives_a_network_to_train(dtype: torch.dtype) -> None:
    weights = {name: value.to(dtype) for name, value in random_weights(EXAMPLE, 0).items()}
    network = build(EXAMPLE, weights)
    assert network.training
    assert network.topology == EXAMPLE
    assert {value.dtype for value in network.parameters()} == {dtype}
    assert all(p.requires_grad and p.is_leaf for p in network.parameters())
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    assert not any(p.requires_grad for p in weights.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_weight_is_an_error(name: str) -> None:
    weights = random_weights(EXAMPLE, 0)
    del weights[name]
    with pytest.raises(RuntimeError, match=name):
        build(EXAMPLE, weights)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_another_shape_is_an_error(name: str) -> None:
    weights = random_weights(EXAMPLE, 0)
    weights[name] = torch.cat([weights[name], weights[name][:1]])
    with pytest.raises(RuntimeError, match=name):
        build(EXAMPLE, weights)


@pytest.mark.parametrize("name", ["dense.1.weight", "cells.2.conv.weight", "cells.0.conv.bias"])
def test_an_unknown_weight_is_an_error(name: str) -> None:
    weights = random_weights(EXAMPLE, 0) | {name: torch.zeros(3)}
    with pytest.raises(RuntimeError, match=name):
        build(EXAMPLE, weights)


def test_no_weights_at_all_are_an_error() -> None:
    with pytest.raises(RuntimeError):
        build(EXAMPLE, {})


def test_nothing_that_is_built_is_uninitialised() -> None:
    weights = random_weights(EXAMPLE, 0)
    torch.use_deterministic_algorithms(True)  # then torch fills empty memory with noise
    try:
        state = build(EXAMPLE, weights).state_dict()
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in state.items():
        expected = weights.get(name, torch.tensor(0))
        assert torch.equal(value, expected), name


def test_networks_share_no_memory_with_their_weights() -> None:
    weights = random_weights(EXAMPLE, 0)
    before = {name: value.clone() for name, value in weights.items()}
    network = build(EXAMPLE, weights)
    taken = weights_of(network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(1)
    for name in NAMES:
        assert torch.equal(weights[name], before[name])
        assert torch.equal(taken[name], before[name])
        assert not taken[name].requires_grad
    with torch.no_grad():
        for value in taken.values():
            value.zero_()
    assert torch.equal(network.output.bias, before["output.bias"] + 1)


def test_names() -> None:
    assert list(weights_of(TopologyNetwork(EXAMPLE))) == NAMES
    assert set(initial_weights(EXAMPLE, np.random.default_rng(0))) == set(NAMES)


def test_a_dict_does_as_well() -> None:
    weights, images = random_weights(EXAMPLE, 0), some_images(EXAMPLE, 2, 0)
    network = TopologyNetwork(EXAMPLE.to_dict()).double()
    network.load_state_dict(weights, strict=False)
    assert network.topology == EXAMPLE
    assert torch.equal(network.eval()(images), build(EXAMPLE, weights).eval()(images))


WIDE = Topology((6, 6, 5), [ConvCell(20), ConvCell(30)], [Dense(40)], 10)
LIMITS = {
    # sqrt(6 / (fan in + fan out))
    "cells.0.conv.weight": ((20, 5, 3, 3), np.sqrt(6 / (9 * (5 + 20)))),
    "cells.1.conv.weight": ((30, 20, 3, 3), np.sqrt(6 / (9 * (20 + 30)))),
    "dense.0.weight": ((40, 120), np.sqrt(6 / 160)),  # 2 * 2 * 30 inputs
    "output.weight": ((10, 40), np.sqrt(6 / 50)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_initial_weights_are_glorot_uniform(name: str) -> None:
    shape, limit = LIMITS[name]
    values = initial_weights(WIDE, np.random.default_rng(0))[name].numpy()
    assert values.shape == shape
    assert values.dtype == np.float32
    assert 0.97 * limit < np.abs(values).max() <= np.float32(limit)
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    assert abs(values.mean()) < 0.15 * limit


def test_initial_biases_and_norms_are_neutral() -> None:
    weights = initial_weights(WIDE, np.random.default_rng(0))
    for name, value in weights.items():
        assert value.dtype == torch.float32
        if name not in LIMITS:
            neutral = 1.0 if name.endswith(("norm.weight", "running_var")) else 0.0
            assert value.eq(neutral).all(), name
    assert build(WIDE, weights)(torch.zeros(2, 6, 6, 5)).isfinite().all()


def test_initial_weights_depend_on_the_generator_alone() -> None:
    with global_generators_untouched():
        one, again, other = (
            initial_weights(WIDE, np.random.default_rng(seed)) for seed in (1, 1, 2)
        )
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in LIMITS)

"""Topologies: counts and shapes match real networks, and survive serialisation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st

from skectonas import ConvCell, Dense, Topology
from skectonas.network import TopologyNetwork
from skectonas.topology import ALL_POOLINGS, POOLINGS, linear_name, pooled

RELAXED = examples(60)

WIDTHS = st.integers(1, 6)
CELLS = st.builds(ConvCell, WIDTHS, st.sampled_from(POOLINGS))
UNPOOLED = st.builds(ConvCell, WIDTHS, st.none())
EXAMPLE = Topology((28, 28, 1), [ConvCell(3), ConvCell(6, "max")], [Dense(10)], 10)


def most_cells(height: int, width: int) -> int:
    """Count the poolings of the smaller side down to one pixel, one by one."""
    side, cells = min(height, width), 0
    while side > 1:
        side, cells = side // 2 + side % 2, cells + 1
    return cells


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    shape = (draw(st.integers(1, 17)), draw(st.integers(1, 17)), draw(st.integers(1, 3)))
    cells = draw(st.lists(CELLS, max_size=min(3, most_cells(*shape[:2]))))
    cells = draw(st.permutations([*cells, *draw(st.lists(UNPOOLED, max_size=2))]))
    dense = draw(st.lists(st.builds(Dense, WIDTHS), max_size=3))
    return Topology(shape, cells, dense, draw(st.integers(2, 5)))


def activations(topology: Topology) -> dict[str, tuple[int, ...]]:
    """Return the output shape, channels last, of each layer of a real network."""
    shapes: dict[str, tuple[int, ...]] = {}
    network = TopologyNetwork(topology)

    def keep(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any, output: torch.Tensor) -> None:
            _, first, *rest = output.shape
            shapes[name] = (*rest, first)

        return hook

    for name, module in network.named_modules():
        if re.fullmatch(r"cells\.\d+|dense\.\d+|output", name):
            module.register_forward_hook(keep(name))
    network(torch.zeros(2, *topology.input_shape))
    return shapes


@RELAXED
@given(topologies())
def test_counts_and_shapes_are_those_of_the_real_network(topology: Topology) -> None:
    network = TopologyNetwork(topology)
    assert topology.n_parameters == sum(p.numel() for p in network.parameters())
    assert {layer.name: layer.output_shape for layer in topology.layers} == activations(
        topology
    )
    for layer in topology.layers:
        module = network.get_submodule(layer.name)
        assert layer.n_parameters == sum(p.numel() for p in module.parameters())
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert list(topology.weight_shapes.items()) == list(shapes.items())
    assert topology.widths[0] == topology.n_flat
    assert topology.widths[1:] == tuple(
        layer.output_shape[0] for layer in topology.layers if len(layer.output_shape) == 1
    )
    assert topology.channels == (
        topology.input_shape[2],
        *(layer.output_shape[2] for layer in topology.layers if len(layer.output_shape) == 3),
    )
    assert topology.map_sizes == (
        topology.input_shape[:2],
        *(layer.output_shape[:2] for layer in topology.layers if len(layer.output_shape) == 3),
    )
    assert topology.is_cnn == any(layer.name.startswith("cells") for layer in topology.layers)


@RELAXED
@given(topologies())
def test_it_survives_being_written_down(topology: Topology) -> None:
    plain = json.loads(json.dumps(topology.to_dict()))
    again = Topology.from_dict(plain)
    assert again == topology
    assert hash(again) == hash(topology)
    assert {topology: 1}[again] == 1
    assert again.to_dict() == plain == topology.to_dict()
    assert eval(repr(topology)) == topology


@RELAXED
@given(topologies())
def test_the_line_tells_all(topology: Topology) -> None:
    first, *middle, last = str(topology).split(" > ")
    poolings = {"avg": "average", "max": "max", "": None}
    cells = [(part + " ").split(" ")[1:3] for part in middle if part.startswith("conv ")]
    dense = [part.split()[1:] for part in middle if part.startswith("dense ")]
    assert len(cells) + len(dense) == len(middle)
    read = Topology(
        tuple(int(side) for side in first.split("x")),
        [ConvCell(int(channels), poolings[short]) for channels, short in cells],
        [Dense(int(units)) for (units,) in dense],
        int(last.removesuffix(" classes")),
    )
    assert read == topology
    assert Topology.from_string(str(topology)) == topology
    assert "\n" not in str(topology)


def test_example() -> None:
    assert str(EXAMPLE) == "28x28x1 > conv 3 avg > conv 6 max > dense 10 > 10 classes"
    # 27 + 6, 162 + 12, 7 * 7 * 6 * 10 + 10, 100 + 10
    assert [layer.n_parameters for layer in EXAMPLE.layers] == [33, 174, 2950, 110]
    assert EXAMPLE.n_parameters == 3267
    assert EXAMPLE.to_dict() == {
        "input_shape": [28, 28, 1],
        "cells": [
            {"channels": 3, "pooling": "average"},
            {"channels": 6, "pooling": "max"},
        ],
        "dense": [{"units": 10}],
        "n_classes": 10,
    }
    assert [layer.kind for layer in EXAMPLE.layers] == [
        "conv 3x3, average pooling, batch norm, relu",
        "conv 3x3, max pooling, batch norm, relu",
        "dense, relu",
        "dense, softmax",
    ]
    assert [linear_name(EXAMPLE, i) for i in range(2)] == ["dense.0", "output"]


def test_poolings_change_the_value() -> None:
    one, two, three = (
        Topology((4, 4, 1), [ConvCell(2, pooling)], [], 2) for pooling in ALL_POOLINGS
    )
    assert one != two
    assert one.n_parameters == two.n_parameters
    assert three.n_flat == 4 * one.n_flat
    assert three.layers[0].kind == "conv 3x3, batch norm, relu"
    assert str(three) == "4x4x1 > conv 2 > 2 classes"


@pytest.mark.parametrize("side", range(1, 40))
def test_pooled_counts_the_windows(side: int) -> None:
    assert pooled(side) == len(list(islice(range(side), 0, None, 2)))


def test_values_are_frozen() -> None:
    for value, name in ((EXAMPLE, "n_classes"), (ConvCell(2), "channels"), (Dense(2), "units")):
        with pytest.raises(AttributeError):
            setattr(value, name, 3)
    cells = [ConvCell(3)]
    topology = Topology([8, 8, 1], cells, [], 2)
    cells.append(ConvCell(4))
    assert topology == Topology((8, 8, 1), (ConvCell(3),), (), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *(
            (
                lambda value=value: ConvCell(value),
                f"ConvCell.channels .* {re.escape(repr(value))}",
            )
            for value in (0, -1, 1.0, True, "3", None)
        ),
        *(
            (lambda value=value: Dense(value), f"Dense.units .* {re.escape(repr(value))}")
            for value in (0, -7, 2.5, False, None)
        ),
        (lambda: ConvCell(3, "mean"), "ConvCell.pooling .*'average', 'max'.* 'mean'"),
        (lambda: ConvCell(3, "none"), "ConvCell.pooling .* or None, got 'none'"),
        (lambda: Topology((4, 4), [], [], 2), r"input_shape .* \(4, 4\)"),
        (lambda: Topology((4, 4, 1, 1), [], [], 2), "input_shape .*channels"),
        (lambda: Topology((4, 0, 1), [], [], 2), "input_shape .* 0"),
        (lambda: Topology((4, 4.0, 1), [], [], 2), r"input_shape .* 4\.0"),
        (lambda: Topology((4, 4, 1), [], [], 1), "n_classes must be at least 2, got 1"),
        (lambda: Topology((4, 4, 1), [], [], 0), "n_classes .* 0"),
        (lambda: Topology((4, 4, 1), [], [], "2"), "n_classes .* '2'"),
        (
            lambda: Topology((4, 4, 1), [Dense(3)], [], 2),
            r"cells .*ConvCell.* Dense\(units=3\)",
        ),
        (lambda: Topology((4, 4, 1), [], [ConvCell(3)], 2), "dense .*Dense .* ConvCell"),
        (lambda: Topology((4, 4, 1), [], [3], 2), "dense .*Dense .* 3"),
        (
            lambda: Topology((4, 9, 1), [ConvCell(1)] * 3, [], 2),
            "Cell 2 .* 1x3 after 2 poolings of a 4x9 image; use at most 2 cells",
        ),
        (lambda: Topology((1, 9, 1), [ConvCell(1)], [], 2), "Cell 0 .* 1x9"),
        (
            lambda: Topology((3, 9, 1), [ConvCell(1, None), *[ConvCell(1)] * 3], [], 2),
            "Cell 3 .* 1x3 after 2 poolings of a 3x9 image; use at most 2 cells that pool",
        ),
    ],
)
def test_an_error_names_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@RELAXED
@given(st.integers(1, 40), st.integers(1, 40))
def test_cells_fit_until_a_side_is_one(height: int, width: int) -> None:
    most = most_cells(height, width)
    assert len(Topology((height, width, 1), [ConvCell(1)] * most, [], 2).cells) == most
    with pytest.raises(ValueError, match=f"Cell {most} "):
        Topology((height, width, 1), [ConvCell(1)] * (most + 1), [], 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["channels", "pooling", "units", "cells", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@examples(200)
@given(
    st.dictionaries(
        st.sampled_from(["input_shape", "cells", "dense", "n_classes", "name"]),
        JSON,
        max_size=2,
    ),
    st.sets(st.sampled_from(["input_shape", "cells", "dense", "n_classes"]), max_size=1),
)
def test_malformed_dicts_give_value_errors(changes: dict[str, Any], drop: set[str]) -> None:
    plain = EXAMPLE.to_dict() | changes
    for key in drop:
        del plain[key]
    try:
        topology = Topology.from_dict(plain)
    except ValueError:
        return
    assert Topology.from_dict(topology.to_dict()) == topology


@RELAXED
@given(JSON)
def test_what_is_no_dict_gives_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Topology.from_dict(value)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (EXAMPLE.to_dict() | {"colour": 1}, "colour"),
        ({"cells": []}, "keys"),
        (EXAMPLE.to_dict() | {"cells": [{"channel": 3}]}, "channel"),
        (EXAMPLE.to_dict() | {"dense": [{}]}, "units"),
        (EXAMPLE.to_dict() | {"dense": None}, "Not a topology"),
        (EXAMPLE.to_dict() | {"input_shape": "28x28x1"}, "input_shape"),
        (EXAMPLE.to_dict() | {"n_classes": "10"}, "n_classes"),
        (list(EXAMPLE.to_dict()), r".+"),
        (None, r".+"),
        (3, r".+"),
        ([["cells"]], r".+"),
    ],
)
def test_from_dict_says_what_is_wrong(plain: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Topology.from_dict(plain)


@pytest.mark.parametrize(
    "line",
    ["", "8x8 > 10 classes", "8x8x1 > conv > 10 classes", "8x8x1 > conv 3 mean > 10 classes",
     "8x8x1 > dense 10 > conv 3 avg > 10 classes", "8x8x1 > dense 10", "8x8x1 > 10 classes ",
     "8x8x1 > dense 0 > 10 classes", "1x1x1 > conv 3 avg > 2 classes", None],
)  # fmt: skip
def test_from_string_takes_only_what_str_gives(line: Any) -> None:
    with pytest.raises(ValueError, match=r"Not a topology|positive integer|no 2x2 pixels"):
        Topology.from_string(line)

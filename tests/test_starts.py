"""The starting topologies are those of the paper's Table 6."""

from __future__ import annotations

from typing import Any

import pytest

from skectonas import ConvCell, Dense, Topology
from skectonas.topology import STARTS, starting_topology

SHAPE = (28, 28, 1)

TABLE_6 = {
    "small_cnn": ([3, 6, 9], [10]),
    "small_ffnn": ([], [10]),
    "medium_cnn": ([3, 6], [10, 10]),
    "medium_ffnn": ([], [10, 10]),
    "large_cnn": ([3], [100, 50, 10]),
    "large_ffnn": ([], [100, 50, 10]),
}


@pytest.mark.parametrize("name", TABLE_6)
def test_table_6(name: str) -> None:
    channels, units = TABLE_6[name]
    topology = starting_topology(name, SHAPE, 10)
    assert [cell.channels for cell in topology.cells] == channels
    assert all(cell.pooling == "average" for cell in topology.cells)
    assert [layer.units for layer in topology.dense] == units
    assert (topology.input_shape, topology.n_classes) == (SHAPE, 10)


def test_there_are_no_others() -> None:
    assert set(STARTS) == set(TABLE_6)


@pytest.mark.parametrize("kind", ["cnn", "ffnn"])
def test_sizes_are_those_of_the_parameter_count(kind: str) -> None:
    sizes = [
        starting_topology(f"{size}_{kind}", SHAPE, 10).n_parameters
        for size in ("small", "medium", "large")
    ]
    assert sizes == sorted(set(sizes))


def test_a_topology_is_taken_as_it_is() -> None:
    mine = Topology((6, 5, 2), [ConvCell(4, "max")], [Dense(3)], 3)
    assert starting_topology(mine, (6, 5, 2), 3) is mine


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("tiny_cnn", "start must be one of .*small_ffnn.* got 'tiny_cnn'"),
        ("Small_CNN", "start .* got 'Small_CNN'"),
        ("", "start .* got ''"),
        (None, "start .* got None"),
        (3, "start .* got 3"),
        ([ConvCell(3)], "start .* got .*ConvCell"),
        (("small_cnn",), "start .* got .*small_cnn"),
        (
            Topology((28, 27, 1), [], [], 10),
            r"start .*input_shape=\(28, 27, 1\).*\(28, 28, 1\)",
        ),
        (Topology((28, 28, 3), [], [], 10), "start .*input_shape"),
        (Topology(SHAPE, [], [], 9), "start .*n_classes=9.* 10"),
    ],
)
def test_what_does_not_fit_is_refused(start: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        starting_topology(start, SHAPE, 10)


@pytest.mark.parametrize(
    ("name", "side", "fits"),
    [
        ("small_cnn", 5, True),  # 5, 3, 2, 1
        ("small_cnn", 4, False),
        ("medium_cnn", 3, True),
        ("medium_cnn", 2, False),
        ("large_cnn", 2, True),
        ("large_cnn", 1, False),
        ("large_ffnn", 1, True),
    ],
)
def test_small_images_hold_few_cells(name: str, side: int, fits: bool) -> None:
    if fits:
        topology = starting_topology(name, (side, 9, 1), 2)
        assert topology.map_sizes[-1][0] == 1
    else:
        with pytest.raises(ValueError, match=f"start='{name}' .*Cell"):
            starting_topology(name, (side, 9, 1), 2)

"""Architectures of networks, as values without weights."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

Pooling: TypeAlias = Literal["average", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
ALL_POOLINGS: tuple[Pooling | None, ...] = (*POOLINGS, None)
"""These, and None for cells that do not pool. The engines number them in this order."""

SHORT: dict[Pooling, str] = {"average": "avg", "max": "max"}

KERNEL = 3  # every convolution is 3x3, stride 1, padded with zeros to the same size


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def pooled(side: int) -> int:
    """Return the side of a map after one 2x2 pooling of stride 2, which rounds up."""
    return ceil_div(side, 2)


def _positive(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return number


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{name} must be a sequence, got {value!r}.")
    return tuple(value)


@dataclass(frozen=True)
class ConvCell:
    """Convolution, pooling, batch normalisation and relu, added or removed together.

    The convolution is 3x3 with stride 1 and zero padding to the same size. It has no bias,
    which the batch normalisation would cancel. The pooling is 2x2 with stride 2, rounding up;
    a cell can be without it.

    Parameters
    ----------
    channels : int
        Number of output channels of the convolution.
    pooling : {"average", "max"} or None, default="average"
        How each 2x2 window is pooled. Windows beyond the edge of a map with an odd side only
        count the pixels inside. With None, maps keep their size.

    Examples
    --------
    >>> from skectonas import ConvCell
    >>> ConvCell(3, "max")
    ConvCell(channels=3, pooling='max')
    >>> print(ConvCell(3, "max"), "and", ConvCell(3, None))
    conv 3 max and conv 3
    """

    channels: int
    pooling: Pooling | None = "average"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", _positive("ConvCell.channels", self.channels))
        if self.pooling not in ALL_POOLINGS:
            raise ValueError(
                f"ConvCell.pooling must be one of {list(POOLINGS)} or None, "
                f"got {self.pooling!r}."
            )

    def __str__(self) -> str:
        pooling = f" {SHORT[self.pooling]}" if self.pooling else ""
        return f"conv {self.channels}{pooling}"

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the output for an input of some size."""
        return (pooled(height), pooled(width)) if self.pooling else (height, width)


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias and relu.

    Parameters
    ----------
    units : int
        Number of outputs.

    Examples
    --------
    >>> from skectonas import Dense
    >>> Dense(10)
    Dense(units=10)
    """

    units: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", _positive("Dense.units", self.units))


class Layer(NamedTuple):
    """One row of `Topology.layers`: a layer, its output shape and number of parameters."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    n_parameters: int


@dataclass(frozen=True)
class Topology:
    """A small sequential network: cells, flatten, dense layers, output layer.

    Parameters
    ----------
    input_shape : tuple of int
        Height, width and channels of the images, channels last.
    cells : sequence of ConvCell
        Convolutional cells, first to last. The input of each that pools has at least 2x2
        pixels.
    dense : sequence of Dense
        Dense layers between flatten and the output layer.
    n_classes : int
        Units of the output layer, at least 2. The softmax belongs to the loss.

    Attributes
    ----------
    n_parameters : int
        Exact number of trained weights. The running statistics of the batch normalisation are
        not trained and do not count.
    weight_shapes : dict of str to tuple of int
        Shape of every trained weight by its name in `TopologyNetwork`.

    Examples
    --------
    >>> from skectonas import ConvCell, Dense, Topology
    >>> topology = Topology((28, 28, 1), [ConvCell(3), ConvCell(6, "max")], [Dense(10)], 10)
    >>> print(topology)
    28x28x1 > conv 3 avg > conv 6 max > dense 10 > 10 classes
    >>> topology.n_parameters
    3267
    >>> Topology.from_dict(topology.to_dict()) == topology
    True
    >>> Topology.from_string(str(topology)) == topology
    True
    >>> topology.is_cnn
    True
    """

    input_shape: tuple[int, int, int]
    cells: tuple[ConvCell, ...]
    dense: tuple[Dense, ...]
    n_classes: int

    if TYPE_CHECKING:  # lists are accepted

        def __init__(
            self,
            input_shape: Sequence[int],
            cells: Sequence[ConvCell],
            dense: Sequence[Dense],
            n_classes: int,
        ) -> None: ...

    def __post_init__(self) -> None:
        shape = _sequence("Topology.input_shape", self.input_shape)
        if len(shape) != 3:
            raise ValueError(
                "Topology.input_shape must be (height, width, channels), "
                f"got {self.input_shape!r}."
            )
        shape = tuple(_positive("Each entry of Topology.input_shape", n) for n in shape)
        n_classes = _positive("Topology.n_classes", self.n_classes)
        if n_classes < 2:
            raise ValueError(f"Topology.n_classes must be at least 2, got {n_classes}.")
        # Lists are accepted too, and stored as tuples, so that the value is hashable.
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "n_classes", n_classes)
        object.__setattr__(self, "cells", _sequence("Topology.cells", self.cells))
        object.__setattr__(self, "dense", _sequence("Topology.dense", self.dense))
        for name, kind in (("cells", ConvCell), ("dense", Dense)):
            wrong = [layer for layer in getattr(self, name) if not isinstance(layer, kind)]
            if wrong:
                raise ValueError(
                    f"Topology.{name} must hold {kind.__name__} objects, got {wrong[0]!r}."
                )
        n_poolings = 0
        for index, (cell, sides) in enumerate(zip(self.cells, self.map_sizes, strict=False)):
            if cell.pooling and min(sides) < 2:
                raise ValueError(
                    f"Cell {index} has no 2x2 pixels left to pool: its input is "
                    f"{sides[0]}x{sides[1]} after {n_poolings} poolings of a "
                    f"{shape[0]}x{shape[1]} image; use at most {n_poolings} cells that pool."
                )
            n_poolings += cell.pooling is not None

    @property
    def map_sizes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the input of every cell, and of the output of the last."""
        sizes = [self.input_shape[:2]]
        for cell in self.cells:
            sizes.append(cell.output_size(*sizes[-1]))
        return tuple(sizes)

    @property
    def channels(self) -> tuple[int, ...]:
        """Number of channels of the input of every cell, and of the output of the last."""
        return (self.input_shape[2], *(cell.channels for cell in self.cells))

    @property
    def n_flat(self) -> int:
        """Number of outputs of flatten."""
        height, width = self.map_sizes[-1]
        return height * width * self.channels[-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the dense part: flatten, the dense layers, the output layer."""
        return (self.n_flat, *(layer.units for layer in self.dense), self.n_classes)

    @property
    def is_cnn(self) -> bool:
        """Whether there is at least one convolutional cell."""
        return bool(self.cells)

    @property
    def is_linear(self) -> bool:
        """Whether there are no hidden layers."""
        return not self.cells and not self.dense

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer with its name, kind, output shape (channels last) and parameters."""
        shapes = self.weight_shapes
        rows = []
        for i, (channels, sizes) in enumerate(
            zip(self.channels[1:], self.map_sizes[1:], strict=True)
        ):
            pooling = self.cells[i].pooling
            parts = ("conv 3x3", f"{pooling} pooling" if pooling else "", "batch norm, relu")
            kind = ", ".join(filter(None, parts))
            name = cell_name(i)
            rows.append(Layer(name, kind, (*sizes, channels), _n_weights(shapes, name)))
        for i, units in enumerate(self.widths[1:]):
            name = linear_name(self, i)
            kind = "dense, softmax" if i == len(self.dense) else "dense, relu"
            rows.append(Layer(name, kind, (units,), _n_weights(shapes, name)))
        return tuple(rows)

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every trained weight by name.

        The layers are in the order of the network. Each cell has the weight of its convolution,
        then weight and bias of its batch normalisation; each dense layer has weight and bias.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for i, (before, after) in enumerate(pairwise(self.channels)):
            shapes[f"{conv_name(i)}.weight"] = (after, before, KERNEL, KERNEL)
            shapes[f"{norm_name(i)}.weight"] = (after,)
            shapes[f"{norm_name(i)}.bias"] = (after,)
        for i, (before, after) in enumerate(pairwise(self.widths)):
            name = linear_name(self, i)
            shapes[f"{name}.weight"] = (after, before)
            shapes[f"{name}.bias"] = (after,)
        return shapes

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `json` can write."""
        return {
            "input_shape": list(self.input_shape),
            "cells": [asdict(cell) for cell in self.cells],
            "dense": [asdict(layer) for layer in self.dense],
            "n_classes": self.n_classes,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Topology:
        """Build a topology from the result of `to_dict`.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is not valid.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"A topology as plain data is a dict, got {data!r}.")
        expected = {"input_shape", "cells", "dense", "n_classes"}
        if set(data) != expected:
            raise ValueError(
                f"A topology has the keys {sorted(expected)}, got {sorted(map(str, data))}."
            )
        try:
            cells = tuple(ConvCell(**cell) for cell in data["cells"])
            dense = tuple(Dense(**layer) for layer in data["dense"])
            return cls(data["input_shape"], cells, dense, data["n_classes"])
        except TypeError as error:
            raise ValueError(f"Not a topology: {dict(data)!r} ({error}).") from error

    @classmethod
    def from_string(cls, line: str) -> Topology:
        """Build a topology from the result of `str`, such as an entry of ``history_``.

        Raises
        ------
        ValueError
            If the line does not describe a topology.
        """
        poolings: dict[str, Pooling | None] = {"": None}
        poolings |= {f" {short}": pooling for pooling, short in SHORT.items()}
        cell, layer = (
            rf" > conv (\d+)({'|'.join(sorted(poolings, reverse=True))})",
            r" > dense (\d+)",
        )
        found = re.fullmatch(
            r"(\d+)x(\d+)x(\d+)"
            rf"(?P<cells>(?:{cell})*)(?P<dense>(?:{layer})*) > (?P<n>\d+) classes",
            str(line),
        )
        if found is None:
            raise ValueError(f"Not a topology in one line: {line!r}.")
        height, width, channels = map(int, found.group(1, 2, 3))
        cells = [
            ConvCell(int(n), poolings[short]) for n, short in re.findall(cell, found["cells"])
        ]
        dense = [Dense(int(n)) for n in re.findall(layer, found["dense"])]
        return cls((height, width, channels), tuple(cells), tuple(dense), int(found["n"]))

    def __str__(self) -> str:
        parts = ["x".join(map(str, self.input_shape))]
        parts += map(str, self.cells)
        parts += [f"dense {layer.units}" for layer in self.dense]
        parts.append(f"{self.n_classes} classes")
        return " > ".join(parts)


# Names of the layers in a network. The name of a weight is "<layer>.weight" or "<layer>.bias".
OUTPUT = "output"


def cell_name(index: int) -> str:
    """Return the name of a cell."""
    return f"cells.{index}"


def conv_name(index: int) -> str:
    """Return the name of the convolution of a cell."""
    return f"{cell_name(index)}.conv"


def norm_name(index: int) -> str:
    """Return the name of the batch normalisation of a cell."""
    return f"{cell_name(index)}.norm"


def dense_name(index: int) -> str:
    """Return the name of a dense layer, other than the output layer."""
    return f"dense.{index}"


def linear_name(topology: Topology, index: int) -> str:
    """Return the name of a dense layer, or of the output layer, which follows the last one."""
    return OUTPUT if index == len(topology.dense) else dense_name(index)


def _n_weights(shapes: Mapping[str, tuple[int, ...]], layer: str) -> int:
    return sum(
        math.prod(shape) for name, shape in shapes.items() if name.startswith(f"{layer}.")
    )


def multiplications(topology: Topology, batch: int = 1) -> int:
    """Return the number of multiplications of the forward pass of a batch.

    Examples
    --------
    >>> from skectonas import ConvCell, Dense, Topology
    >>> from skectonas.topology import multiplications
    >>> multiplications(Topology((8, 8, 1), [], [Dense(20)], 10))
    1480
    >>> multiplications(Topology((8, 8, 1), [ConvCell(3, "max")], [], 10))
    2208
    """
    total = 0
    for i, cell in enumerate(topology.cells):
        before, after = topology.channels[i : i + 2]
        height, width = topology.map_sizes[i + 1]
        # Averages can be taken before the convolution, which then has a quarter of the places.
        pixels = 4 if cell.pooling == "max" else 1  # for each of the output
        total += KERNEL**2 * before * after * height * width * pixels
    total += sum(before * after for before, after in pairwise(topology.widths))
    return total * batch


Widths: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Channels of the cells, and units of the dense layers."""

STARTS: dict[str, Widths] = {
    "small_ffnn": ((), (10,)),
    "medium_ffnn": ((), (10, 10)),
    "large_ffnn": ((), (100, 50, 10)),
    "small_cnn": ((3, 6, 9), (10,)),
    "medium_cnn": ((3, 6), (10, 10)),
    "large_cnn": ((3,), (100, 50, 10)),
}

CELL_STARTS: tuple[Widths, ...] = (((12, 12, 24, 32), ()),)
DENSE_STARTS: tuple[Widths, ...] = (((), (100, 50)), ((), (64, 32)))
"""What a search begins with by itself, for images and for tables."""

LINEAR_START: Widths = ((), ())
"""What it also begins with for tables: for small networks, and with columns in pieces."""

POOLINGS_OF_START: tuple[Pooling | None, ...] = ("max", None, "average", "average")
"""How the cells pool. On images of clothes and of digits, this is more accurate than averages
alone, or without the second cell. Maxima in later cells would take longer to compute."""

DIVISORS = (2, 4)
"""What the widths of the first start are divided by, for smaller ones."""

SMALLEST_SIDE_OF_CELLS = 4
"""Pixels of the shorter side from which on a search begins with cells."""


def starting_topology(
    start: str | Topology, input_shape: tuple[int, int, int], n_classes: int
) -> Topology:
    """Return the topology that a search starts with.

    Parameters
    ----------
    start : str or Topology
        A topology, or a name of the paper's Table 6: "small", "medium" or "large", followed by
        "_ffnn" or "_cnn". The sizes refer to the number of parameters, so ``small_cnn`` has
        the most cells.
    input_shape : tuple of int
        Height, width and channels of the images.
    n_classes : int
        Number of classes.

    Returns
    -------
    Topology

    Raises
    ------
    ValueError
        If the name is unknown, or the topology does not fit the data.

    Examples
    --------
    >>> from skectonas import starting_topology
    >>> print(starting_topology("medium_cnn", (28, 28, 1), 10))
    28x28x1 > conv 3 avg > conv 6 avg > dense 10 > dense 10 > 10 classes
    """
    if isinstance(start, Topology):
        for name, wanted, found in (
            ("input_shape", input_shape, start.input_shape),
            ("n_classes", n_classes, start.n_classes),
        ):
            if wanted != found:
                raise ValueError(
                    f"start is a topology with {name}={found}, but the data have {wanted}."
                )
        return start
    if not isinstance(start, str) or start not in STARTS:
        raise ValueError(f"start must be one of {list(STARTS)} or a Topology, got {start!r}.")
    channels, units = STARTS[start]
    try:
        return Topology(
            input_shape,
            tuple(ConvCell(n) for n in channels),
            tuple(Dense(n) for n in units),
            n_classes,
        )
    except ValueError as error:
        raise ValueError(f"start={start!r} does not fit the data. {error}") from error


def suitable_starts(
    input_shape: tuple[int, int, int],
    n_classes: int,
    is_image: bool,
    smaller: bool = False,
    in_pieces: bool = False,
) -> list[Topology]:
    """Return topologies to begin a search with, for data of some kind.

    Parameters
    ----------
    input_shape : tuple of int
        Height, width and channels of the images.
    n_classes : int
        Number of classes.
    is_image : bool
        Whether the images are more than a table that is laid out as pixels.
    smaller : bool, default=False
        Whether small networks are asked for.
    in_pieces : bool, default=False
        Whether the columns of a table are in pieces.

    Returns
    -------
    list of Topology
        A network with cells for images that have room for them; dense ones otherwise. The
        first dense one is also there in a half and in a quarter of its width, and that with
        cells if `smaller`. With `smaller` or `in_pieces`, there is a network without hidden
        layers for tables. With pieces it is an additive model.

    Examples
    --------
    >>> from skectonas.topology import suitable_starts
    >>> for topology in suitable_starts((28, 28, 1), 10, is_image=True, smaller=True):
    ...     print(topology)  # only the first one without `smaller`
    28x28x1 > conv 12 max > conv 12 > conv 24 avg > conv 32 avg > 10 classes
    28x28x1 > conv 6 max > conv 6 > conv 12 avg > conv 16 avg > 10 classes
    28x28x1 > conv 3 max > conv 3 > conv 6 avg > conv 8 avg > 10 classes
    >>> for topology in suitable_starts((5, 5, 1), 2, is_image=False, in_pieces=True):
    ...     print(topology)  # all but the last one without `in_pieces`
    5x5x1 > dense 100 > dense 50 > 2 classes
    5x5x1 > dense 64 > dense 32 > 2 classes
    5x5x1 > dense 50 > dense 25 > 2 classes
    5x5x1 > dense 25 > dense 12 > 2 classes
    5x5x1 > 2 classes
    """
    height, width, _ = input_shape
    has_cells = is_image and min(height, width) >= SMALLEST_SIDE_OF_CELLS
    # All cells but one halve the sides, which keep two pixels or more.
    n_cells = min(int(math.log2(min(height, width))), len(POOLINGS_OF_START))
    shapes = CELL_STARTS if has_cells else DENSE_STARTS
    widths = [(1, shape) for shape in shapes]
    if smaller or not has_cells:
        widths += [(divisor, shapes[0]) for divisor in DIVISORS]
    if not has_cells and (smaller or in_pieces):
        widths.append((1, LINEAR_START))
    return [
        Topology(
            input_shape,
            tuple(map(ConvCell, [n // divisor for n in channels[:n_cells]], POOLINGS_OF_START)),
            tuple(Dense(n // divisor) for n in units),
            n_classes,
        )
        for divisor, (channels, units) in widths
    ]

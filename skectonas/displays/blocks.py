"""How large the layers of a network are drawn, and how much room they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from skectonas.displays.style import BLUE, GREY, ORANGE, PALE
from skectonas.topology import Topology

Point: TypeAlias = tuple[float, float]

# A cabinet projection: the columns of a map, which recede, and its channels, which lie along
# the page, are drawn shorter than rows and units, which stand upright.
SHORTER = 0.35

# In points, for a font of 10 points.
MARGIN, TITLE, HEADER, COLUMN, LABEL, GAP = 8.0, 20.0, 58.0, 58.0, 38.0, 6.0
THIN = 3.0  # the least thickness of a layer


class Block(NamedTuple):
    """A layer as a box, in pixels, channels and units."""

    name: str
    shape: tuple[int, ...]
    n_parameters: int | None
    colour: str

    @property
    def height(self) -> int:
        """Rows of a map, or units of a layer."""
        return self.shape[0]

    @property
    def depth(self) -> float:
        """How far the columns of a map recede, to the right and upwards alike."""
        return SHORTER * self.shape[1] if len(self.shape) == 3 else 0.0

    def width(self, scale: float) -> float:
        """Return the channels of a map in points; units stand in a thin line."""
        return max(SHORTER * self.shape[2] * scale if len(self.shape) == 3 else 0.0, THIN)

    def column(self, scale: float) -> float:
        """Return the points that it and its label take from left to right."""
        return max(COLUMN, self.width(scale) + self.depth * scale + 2 * GAP)

    @property
    def label(self) -> str:
        """What stands below it."""
        count = "" if self.n_parameters is None else f"\n{self.n_parameters:,}"
        return f"{self.name}\n{'×'.join(map(str, self.shape))}{count}"

    def faces(self, left: float, low: float, scale: float) -> list[list[Point]]:
        """Return the corners of its front, its top and its right side."""
        right, high = left + self.width(scale), low + self.height * scale
        front = [(left, low), (right, low), (right, high), (left, high)]
        back = [(x + self.depth * scale, y + self.depth * scale) for x, y in front]
        return [
            front,
            [front[3], front[2], back[2], back[3]],
            [front[1], front[2], back[2], back[1]],
        ]


def blocks_of(topology: Topology) -> list[Block]:
    """Return the layers of a network, the input first.

    Examples
    --------
    >>> from skectonas import ConvCell, Topology
    >>> from skectonas.displays.blocks import blocks_of
    >>> [block.height for block in blocks_of(Topology((8, 8, 1), [ConvCell(3)], [], 10))]
    [8, 4, 10]
    """
    kinds = [(str(cell), ORANGE) for cell in topology.cells]
    kinds += [(f"dense {layer.units}", BLUE) for layer in topology.dense]
    return [
        Block("input", topology.input_shape, None, PALE),
        *(
            Block(name, layer.output_shape, layer.n_parameters, colour)
            for (name, colour), layer in zip(
                [*kinds, ("output", GREY)], topology.layers, strict=True
            )
        ),
    ]


def tallest(blocks: Sequence[Block]) -> float:
    """Return the height of a network in pixels or units."""
    return max(block.height + block.depth for block in blocks)


def needed(rows: Sequence[Sequence[Block]], scale: float) -> Point:
    """Return the width and the height in points that networks take, one below the other."""
    width = max(sum(block.column(scale) for block in blocks) for blocks in rows)
    height = sum(TITLE + tallest(blocks) * scale + LABEL + GAP for blocks in rows)
    return width + HEADER + 2 * MARGIN, height


def largest_scale(rows: Sequence[Sequence[Block]], width: float, height: float) -> float:
    """Return the largest scale, in points a pixel or unit, at which the networks fit.

    Where there is no room even for their labels, it is next to nothing.
    """
    low, high = 0.0, height
    for _ in range(50):
        middle = (low + high) / 2
        wide, tall = needed(rows, middle)
        low, high = (middle, high) if wide <= width and tall <= height else (low, middle)
    return max(low, 1e-3)

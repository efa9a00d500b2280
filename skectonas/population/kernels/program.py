"""What the kernels of a step work off: lists of operations and the tiles they are cut into."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from enum import IntEnum
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from skectonas.population.stack import Stack
from skectonas.topology import Topology, linear_name, pooled

THREADS = 512
"""Threads of a block."""

WARP, CHUNK, FEW = 32, 8, 4  # as in stage.cu
WARPS = THREADS // WARP
NORMS = 6  # values a channel has in `norms`
SMALL_FIELDS = 10  # of an operation: those behind them are offsets
ALIGNMENT = 32  # values; what a warp reads at once begins here


class Kind(IntEnum):
    """Operations, as stage.cu numbers them."""

    CONVOLVE = 0
    NORMALISE = 1
    DENSE = 2
    LOSS = 3
    DENSE_WEIGHT = 4
    DENSE_INPUT = 5
    NORMALISE_BACK = 6
    CONVOLVE_WEIGHT = 7
    CONVOLVE_INPUT = 8


@dataclass(frozen=True)
class Op:
    """An operation of one candidate: the `Op` of stage.cu, field by field."""

    kind: int
    candidate: int
    height: int = 1
    width: int = 1
    inputs: int = 1
    outputs: int = 1
    maximum: int = 0
    relu: int = 0
    x_channels: int = 1
    x_area: int = 1
    x: int = -1
    x_norms: int = -1
    dx: int = -1
    weight: int = -1
    bias: int = -1
    gamma: int = -1
    beta: int = -1
    y: int = -1
    dy: int = -1
    norms: int = -1
    codes: int = -1

    def tiles(self, batch: int) -> int:
        """Return how many blocks of threads share the operation."""
        positions = -(-pooled(self.height) * pooled(self.width) * batch // THREADS)
        rows = -(-batch // WARP)

        def parts(size: int, of: int) -> int:
            return -(-size // of)

        return {
            Kind.CONVOLVE: positions * parts(self.outputs, CHUNK),
            Kind.NORMALISE: self.outputs,
            Kind.DENSE: rows * parts(self.outputs, CHUNK),
            Kind.LOSS: 1,
            Kind.DENSE_WEIGHT: parts(self.inputs, WARP) * parts(self.outputs, WARPS),
            Kind.DENSE_INPUT: rows * parts(self.inputs, WARPS),
            Kind.NORMALISE_BACK: self.outputs,
            Kind.CONVOLVE_WEIGHT: self.inputs * parts(self.outputs, FEW),
            Kind.CONVOLVE_INPUT: positions * parts(self.inputs, FEW),
        }[Kind(self.kind)]


LAYOUT = np.dtype(
    [
        (field.name, np.int32 if place < SMALL_FIELDS else np.int64)
        for place, field in enumerate(fields(Op))
    ]
)
"""How an operation lies in memory."""


class Allocator:
    """Hands out places in a buffer that is made later."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, *shape: int) -> int:
        """Return where this many values lie."""
        place = self.size
        self.size += -(-math.prod(shape) // ALIGNMENT) * ALIGNMENT
        return place


class Program:
    """The step of a population, launch by launch.

    Each candidate has a list of stages, of which each needs the one before. The launches go
    through the lists of all candidates side by side, whatever their topologies.

    Parameters
    ----------
    stacks : sequence of Stack
        The candidates' weights, which lie one stack behind the other in one tensor.
    batch : int
        Rows of a batch.

    Attributes
    ----------
    ops : ndarray of uint8
        All operations, as they lie in memory.
    launches : list of ndarray of shape (n_blocks, 2), int32
        For each block of threads of a launch, the operation and which of its tiles.
    n_candidates : int
        Of all stacks.
    n_values, n_codes : int
        Sizes of the buffers `work` and `codes`.
    """

    def __init__(self, stacks: Sequence[Stack], batch: int) -> None:
        self._batch = batch
        self._work, self._codes = Allocator(), Allocator()
        lists: list[list[list[Op]]] = []
        offset = 0
        for stack in stacks:
            for member in range(len(stack)):
                places = {
                    name: offset + slot.offset + member * math.prod(slot.shape[1:])
                    for name, slot in stack.slots.items()
                }
                lists.append(self._stages(len(lists), stack.topology, places))
            offset += len(stack.flat)
        self.n_candidates = len(lists)
        self.n_values, self.n_codes = self._work.size, self._codes.size
        ops: list[Op] = []
        self.launches: list[NDArray[np.int32]] = []
        for stages in zip_longest(*lists, fillvalue=()):
            blocks = []
            for op in itertools.chain(*stages):
                tiles = np.arange(op.tiles(batch))
                blocks.append(np.stack([np.full_like(tiles, len(ops)), tiles], 1))
                ops.append(op)
            self.launches.append(np.concatenate(blocks).astype(np.int32))
        self.ops = np.array([astuple(op) for op in ops], dtype=LAYOUT).view(np.uint8)

    def _stages(
        self, candidate: int, topology: Topology, places: dict[str, int]
    ) -> list[list[Op]]:
        """Return the stages of a candidate: forwards, loss, backwards."""
        cells = self._cells(candidate, topology, places)
        layers = self._layers(candidate, topology, places, cells)
        forward = [[as_(kind, op)] for op in cells for kind in (Kind.CONVOLVE, Kind.NORMALISE)]
        forward += [[op] for op in layers]
        loss = [as_(Kind.LOSS, layers[-1])]
        backward = [back(op, Kind.DENSE_WEIGHT, Kind.DENSE_INPUT) for op in reversed(layers)]
        for op in reversed(cells):
            backward.append([as_(Kind.NORMALISE_BACK, op)])
            backward.append(back(op, Kind.CONVOLVE_WEIGHT, Kind.CONVOLVE_INPUT))
        return [*forward, loss, *backward]

    def _cells(self, candidate: int, topology: Topology, places: dict[str, int]) -> list[Op]:
        cells: list[Op] = []
        for i, cell in enumerate(topology.cells):
            size = (cell.channels, *topology.map_sizes[i + 1], self._batch)
            maximum = cell.pooling == "max"
            op = Op(
                Kind.CONVOLVE,
                candidate,
                *topology.map_sizes[i],
                inputs=topology.channels[i],
                outputs=cell.channels,
                maximum=int(maximum),
                weight=places[f"cells.{i}.conv.weight"],
                gamma=places[f"cells.{i}.norm.weight"],
                beta=places[f"cells.{i}.norm.bias"],
                y=self._work(*size),
                dy=self._work(*size),
                norms=self._work(NORMS, cell.channels),
                codes=self._codes(*size) if maximum else -1,
            )
            cells.append(behind(cells[-1], op) if cells else op)
        return cells

    def _layers(
        self, candidate: int, topology: Topology, places: dict[str, int], cells: list[Op]
    ) -> list[Op]:
        layers: list[Op] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(topology.widths)):
            name = linear_name(topology, i)
            op = Op(
                Kind.DENSE,
                candidate,
                inputs=inputs,
                outputs=outputs,
                relu=int(i < len(topology.dense)),
                weight=places[f"{name}.weight"],
                bias=places[f"{name}.bias"],
                y=self._work(outputs, self._batch),
                dy=self._work(outputs, self._batch),
            )
            before = [*cells, *layers]
            layers.append(behind(before[-1], op) if before else op)
        return layers


def as_(kind: Kind, op: Op) -> Op:
    """Return another operation on the same layer."""
    return replace(op, kind=kind)


def back(op: Op, weight: Kind, inputs: Kind) -> list[Op]:
    """Return the way back through a layer; there is no gradient of the batch."""
    kinds = [weight] if op.x < 0 else [weight, inputs]
    return [as_(kind, op) for kind in kinds]


def behind(before: Op, op: Op) -> Op:
    """Return an operation that takes what the layer before puts out."""
    if before.norms < 0:
        return replace(op, x=before.y, dx=before.dy)
    return replace(
        op,
        x=before.y,
        dx=before.dy,
        x_norms=before.norms,
        x_channels=before.outputs,
        x_area=pooled(before.height) * pooled(before.width),
    )

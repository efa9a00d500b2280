"""The program of the kernel: operations, and the stages that candidates go through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from enum import IntEnum

import numpy as np

from skectonas.population.groups.stack import Stack
from skectonas.topology import (
    ALL_POOLINGS,
    KERNEL,
    Topology,
    ceil_div,
    conv_name,
    linear_name,
    multiplications,
    norm_name,
    pooled,
)

WARP, FEW, INPUTS, UNITS, FEW_UNITS = 32, 4, 128, 16, 32  # as in train.cu
TAPS = KERNEL**2
NORMS = 3  # values of each channel in `norms`
N_INT_FIELDS = 11  # first fields of an operation; the fields after them are offsets
ALIGNMENT = 32  # values; a warp reads this many at once
MAX_OPS = 70  # operations of a candidate
MIN_GRADIENT_TILES = 8  # a gradient of a convolution with fewer tiles is split


class OpKind(IntEnum):
    """Operations, as train.cu numbers them."""

    CONVOLVE = 0
    NORMALISE = 1
    DENSE = 2
    LOSS = 3
    DENSE_WEIGHT = 4
    DENSE_INPUT = 5
    NORMALISE_BACK = 6
    CONVOLVE_WEIGHT = 7
    CONVOLVE_INPUT = 8
    COLLECT = 9
    UPDATE = 10


@dataclass(frozen=True)
class Op:
    """An operation of one candidate: the `Op` of train.cu, field by field."""

    kind: int
    candidate: int
    n_tiles: int = 0
    height: int = 1
    width: int = 1
    inputs: int = 1
    outputs: int = 1
    pooling: int = 0
    relu: int = 0
    splits: int = 1
    ends: int = 0
    x: int = -1
    dx: int = -1
    weight: int = -1
    bias: int = -1
    gamma: int = -1
    beta: int = -1
    y: int = -1
    dy: int = -1
    z: int = -1
    norms: int = -1
    parts: int = -1
    codes: int = -1


LAYOUT = np.dtype(
    [
        (field.name, np.int32 if place < N_INT_FIELDS else np.int64)
        for place, field in enumerate(fields(Op))
    ],
    align=True,
)
"""Memory layout of an operation."""


def n_tiles(op: Op, batch: int, threads: int) -> int:
    """Return the number of tiles of an operation, which the blocks of threads share."""
    places = ceil_div(pooled(op.height) * pooled(op.width) * batch, threads)
    rows, warps = ceil_div(batch, WARP), threads // WARP
    units = 2 if op.outputs <= FEW_UNITS else 8
    return {
        OpKind.CONVOLVE: places * ceil_div(op.outputs, FEW),
        OpKind.NORMALISE: op.outputs,
        OpKind.DENSE: rows * ceil_div(op.outputs, units),
        OpKind.LOSS: ceil_div(batch, warps),
        OpKind.DENSE_WEIGHT: ceil_div(op.inputs, INPUTS) * ceil_div(op.outputs, UNITS),
        OpKind.DENSE_INPUT: rows * ceil_div(op.inputs, warps * FEW),
        OpKind.NORMALISE_BACK: op.outputs,
        OpKind.CONVOLVE_WEIGHT: op.splits * op.inputs * ceil_div(op.outputs, FEW),
        OpKind.CONVOLVE_INPUT: places * ceil_div(op.inputs, FEW),
        OpKind.COLLECT: ceil_div(op.inputs, threads),
        OpKind.UPDATE: ceil_div(op.inputs, threads),
    }[OpKind(op.kind)]


class Allocator:
    """Assigns places in a buffer that is allocated later."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, *shape: int) -> int:
        """Return the place of an array of this shape."""
        place = self.size
        self.size += ceil_div(math.prod(shape), ALIGNMENT) * ALIGNMENT
        return place


@dataclass(frozen=True)
class Program:
    """The operations of a step of a population.

    The operations of a candidate form stages. Each stage needs the results of the one before.

    Attributes
    ----------
    ops : ndarray of uint8
        All operations, as they lie in memory.
    begins : ndarray of int32
        Where the operations of each candidate begin, and where those of the last one end.
    n_candidates : int
        Number of candidates of all stacks.
    max_ops : int
        Maximum number of operations of a candidate.
    n_values, n_codes : int
        Sizes of the buffers `work` and `codes`.
    """

    ops: np.ndarray[tuple[int], np.dtype[np.uint8]]
    begins: np.ndarray[tuple[int], np.dtype[np.int32]]
    n_candidates: int
    max_ops: int
    n_values: int
    n_codes: int


def build_program(
    stacks: Sequence[Stack], batch: int, threads: int, *, updates: bool
) -> Program:
    """Build the program for the candidates of some stacks.

    Parameters
    ----------
    stacks : sequence of Stack
        The weights; the stacks lie one after the other in one tensor.
    batch : int
        Number of rows of a batch.
    threads : int
        Number of threads of a block.
    updates : bool
        Whether the last stage updates the weights.

    Returns
    -------
    Program
    """
    builder = _StageBuilder(batch, threads)
    candidates: list[list[list[Op]]] = []
    offset = 0
    for stack in stacks:
        for member in range(len(stack)):
            sizes = {name: math.prod(block.shape[1:]) for name, block in stack.blocks.items()}
            places = {
                name: offset + block.offset + member * sizes[name]
                for name, block in stack.blocks.items()
            }
            stages = list(builder.stages(len(candidates), stack.topology, places))
            candidates.append([*stages, gradient_stage(stages, places, sizes, updates=updates)])
        offset += len(stack.flat)
    # The longest candidates start first, because not all may run at the same time.
    topologies = [stack.topology for stack in stacks for _ in stack.members]
    order = np.argsort([-multiplications(t, batch) for t in topologies], kind="stable")
    candidates = [candidates[i] for i in order]
    n_ops = [sum(map(len, stages)) for stages in candidates]
    ops = [
        astuple(replace(op, n_tiles=n_tiles(op, batch, threads), ends=int(op is stage[-1])))
        for stage in itertools.chain(*candidates)
        for op in stage
    ]
    return Program(
        ops=np.array(ops, dtype=LAYOUT).view(np.uint8),
        begins=np.array([0, *itertools.accumulate(n_ops)], dtype=np.int32),
        n_candidates=len(candidates),
        max_ops=max(n_ops),
        n_values=builder.work.size,
        n_codes=builder.codes.size,
    )


def gradient_stage(
    stages: list[list[Op]], places: dict[str, int], sizes: dict[str, int], *, updates: bool
) -> list[Op]:
    """Return the stage that uses the gradients: it updates weights, or adds up parts."""
    split = {op.weight: op for op in itertools.chain(*stages) if op.splits > 1}
    ops = []
    for name, place in places.items():
        if place in split or updates:
            kind = OpKind.UPDATE if updates else OpKind.COLLECT
            whole = Op(kind, stages[0][0].candidate, inputs=sizes[name], weight=place)
            source = split.get(place, whole)
            ops.append(replace(whole, splits=source.splits, parts=source.parts))
    return ops


class _StageBuilder:
    """Makes the stages of candidates, and counts the memory that they need."""

    def __init__(self, batch: int, threads: int) -> None:
        self._batch, self._threads = batch, threads
        self.work, self.codes = Allocator(), Allocator()

    def stages(
        self, candidate: int, topology: Topology, places: dict[str, int]
    ) -> Iterator[list[Op]]:
        """Yield the stages of a candidate: forward pass, loss, backward pass."""
        cells = self._cells(candidate, topology, places)
        layers = self._layers(candidate, topology, places, cells)
        for op in cells:
            yield [replace(op, kind=OpKind.CONVOLVE)]
            yield [replace(op, kind=OpKind.NORMALISE)]
        for op in layers:
            yield [op]
        yield [replace(layers[-1], kind=OpKind.LOSS)]
        for op in reversed(layers):
            yield backward_stage(op, OpKind.DENSE_WEIGHT, OpKind.DENSE_INPUT)
        for op in reversed(cells):
            yield [replace(op, kind=OpKind.NORMALISE_BACK)]
            yield backward_stage(op, OpKind.CONVOLVE_WEIGHT, OpKind.CONVOLVE_INPUT)

    def _cells(self, candidate: int, topology: Topology, places: dict[str, int]) -> list[Op]:
        cells: list[Op] = []
        for i, cell in enumerate(topology.cells):
            height, width = topology.map_sizes[i + 1]
            inputs, size = topology.channels[i], (cell.channels, height, width, self._batch)
            tiles = inputs * ceil_div(cell.channels, FEW)
            windows = math.prod(map(pooled, topology.map_sizes[i])) * self._batch
            splits = min(
                ceil_div(MIN_GRADIENT_TILES, tiles), ceil_div(windows, 2 * self._threads)
            )
            op = Op(
                OpKind.CONVOLVE,
                candidate,
                height=topology.map_sizes[i][0],
                width=topology.map_sizes[i][1],
                inputs=inputs,
                outputs=cell.channels,
                pooling=ALL_POOLINGS.index(cell.pooling),
                splits=splits,
                weight=places[f"{conv_name(i)}.weight"],
                gamma=places[f"{norm_name(i)}.weight"],
                beta=places[f"{norm_name(i)}.bias"],
                y=self.work(*size),
                dy=self.work(*size),
                z=self.work(*size),
                norms=self.work(NORMS, cell.channels),
                parts=self.work(splits, cell.channels, inputs, TAPS) if splits > 1 else -1,
                codes=self.codes(*size) if cell.pooling == "max" else -1,
            )
            cells.append(connect(cells[-1], op) if cells else op)
        return cells

    def _layers(
        self, candidate: int, topology: Topology, places: dict[str, int], cells: list[Op]
    ) -> list[Op]:
        layers: list[Op] = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise(topology.widths)):
            name = linear_name(topology, i)
            op = Op(
                OpKind.DENSE,
                candidate,
                inputs=inputs,
                outputs=outputs,
                relu=int(i < len(topology.dense)),
                weight=places[f"{name}.weight"],
                bias=places[f"{name}.bias"],
                y=self.work(outputs, self._batch),
                dy=self.work(outputs, self._batch),
            )
            before = [*cells, *layers]
            layers.append(connect(before[-1], op) if before else op)
        return layers


def fits(topology: Topology) -> bool:
    """Return whether the operations of a candidate fit in the memory reserved for them."""
    n_ops = 8 * len(topology.cells) + 5 * (len(topology.dense) + 1) + 1
    return n_ops <= MAX_OPS


def backward_stage(op: Op, weight: OpKind, inputs: OpKind) -> list[Op]:
    """Return the backward pass through a layer; there is no gradient of the batch."""
    kinds = [weight] if op.x < 0 else [inputs, weight]
    return [replace(op, kind=kind) for kind in kinds]


def connect(before: Op, op: Op) -> Op:
    """Return `op` with the output of the layer before as its input."""
    return replace(op, x=before.y, dx=before.dy)

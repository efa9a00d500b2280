"""What the kernel works off: operations, and the stages that candidates go through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from enum import IntEnum

import numpy as np

from skectonas.population.groups.stack import Stack
from skectonas.topology import KERNEL, Topology, conv_name, linear_name, norm_name, pooled

WARP, FEW, INPUTS, UNITS, FEW_UNITS = 32, 4, 128, 16, 32  # as in train.cu
TAPS = KERNEL**2
NORMS = 3  # values that a channel has in `norms`
SMALL_FIELDS = 11  # of an operation: those behind them are offsets
ALIGNMENT = 32  # values; what a warp reads at once begins here
MOST_OPS = 70  # of a candidate
PARTS_OF_A_GRADIENT = 8  # tiles of the gradient of a convolution that are worth having


class Kind(IntEnum):
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
    maximum: int = 0
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
        (field.name, np.int32 if place < SMALL_FIELDS else np.int64)
        for place, field in enumerate(fields(Op))
    ],
    align=True,
)
"""How an operation lies in memory."""


def n_tiles(op: Op, batch: int, threads: int) -> int:
    """Return how many parts of an operation there are for blocks of threads to share."""
    places = parts(pooled(op.height) * pooled(op.width) * batch, threads)
    rows, warps = parts(batch, WARP), threads // WARP
    units = 2 if op.outputs <= FEW_UNITS else 8
    return {
        Kind.CONVOLVE: places * parts(op.outputs, FEW),
        Kind.NORMALISE: op.outputs,
        Kind.DENSE: rows * parts(op.outputs, units),
        Kind.LOSS: parts(batch, warps),
        Kind.DENSE_WEIGHT: parts(op.inputs, INPUTS) * parts(op.outputs, UNITS),
        Kind.DENSE_INPUT: rows * parts(op.inputs, warps * FEW),
        Kind.NORMALISE_BACK: op.outputs,
        Kind.CONVOLVE_WEIGHT: op.splits * op.inputs * parts(op.outputs, FEW),
        Kind.CONVOLVE_INPUT: places * parts(op.inputs, FEW),
        Kind.COLLECT: parts(op.inputs, threads),
        Kind.UPDATE: parts(op.inputs, threads),
    }[Kind(op.kind)]


def parts(size: int, most: int) -> int:
    """Return how many parts of at most so much there are."""
    return -(-size // most)


class Allocator:
    """Hands out places in a buffer that is made later."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, *shape: int) -> int:
        """Return where this many values lie."""
        place = self.size
        self.size += parts(math.prod(shape), ALIGNMENT) * ALIGNMENT
        return place


class Program:
    """The step of a population: for each candidate stages, each needing the one before.

    Parameters
    ----------
    stacks : sequence of Stack
        The candidates' weights, which lie one stack behind the other in one tensor.
    batch : int
        Rows of a batch.
    threads : int
        Of a block.
    updates : bool
        Whether the last stage updates the weights.

    Attributes
    ----------
    ops : ndarray of uint8
        All operations, as they lie in memory.
    begins : ndarray of int32
        Where the operations of each candidate begin, and where the last one's end.
    n_candidates : int
        Of all stacks.
    most_ops : int
        Operations that a candidate has at the most.
    n_values, n_codes : int
        Sizes of the buffers `work` and `codes`.
    """

    def __init__(
        self, stacks: Sequence[Stack], batch: int, threads: int, *, updates: bool
    ) -> None:
        self._batch, self._threads = batch, threads
        self._work, self._codes = Allocator(), Allocator()
        lists: list[list[list[Op]]] = []
        offset = 0
        for stack in stacks:
            for member in range(len(stack)):
                sizes = {name: math.prod(slot.shape[1:]) for name, slot in stack.slots.items()}
                places = {
                    name: offset + slot.offset + member * sizes[name]
                    for name, slot in stack.slots.items()
                }
                stages = list(self._stages(len(lists), stack.topology, places))
                lists.append([*stages, self._last(stages, places, sizes, updates=updates)])
            offset += len(stack.flat)
        self.n_candidates = len(lists)
        self.n_values, self.n_codes = self._work.size, self._codes.size
        # Not all may run at the same time: the longest ones come first.
        topologies = [stack.topology for stack in stacks for _ in stack.members]
        order = np.argsort([-multiplications(t, batch) for t in topologies], kind="stable")
        lists = [lists[i] for i in order]
        n_ops = [sum(map(len, stages)) for stages in lists]
        self.most_ops = max(n_ops)
        self.begins = np.array([0, *itertools.accumulate(n_ops)], dtype=np.int32)
        ops = [
            astuple(replace(op, n_tiles=n_tiles(op, batch, threads), ends=int(op is stage[-1])))
            for stage in itertools.chain(*lists)
            for op in stage
        ]
        self.ops = np.array(ops, dtype=LAYOUT).view(np.uint8)

    def _stages(
        self, candidate: int, topology: Topology, places: dict[str, int]
    ) -> Iterator[list[Op]]:
        """Yield the stages of a candidate: forwards, loss, backwards."""
        cells = self._cells(candidate, topology, places)
        layers = self._layers(candidate, topology, places, cells)
        for op in cells:
            yield [as_(Kind.CONVOLVE, op)]
            yield [as_(Kind.NORMALISE, op)]
        for op in layers:
            yield [op]
        yield [as_(Kind.LOSS, layers[-1])]
        for op in reversed(layers):
            yield back(op, Kind.DENSE_WEIGHT, Kind.DENSE_INPUT)
        for op in reversed(cells):
            yield [as_(Kind.NORMALISE_BACK, op)]
            yield back(op, Kind.CONVOLVE_WEIGHT, Kind.CONVOLVE_INPUT)

    def _last(
        self,
        stages: list[list[Op]],
        places: dict[str, int],
        sizes: dict[str, int],
        *,
        updates: bool,
    ) -> list[Op]:
        """Return what is done with the gradients."""
        split = {op.weight: op for op in itertools.chain(*stages) if op.splits > 1}
        ops = []
        for name, place in places.items():
            if place in split or updates:
                kind = Kind.UPDATE if updates else Kind.COLLECT
                whole = Op(kind, stages[0][0].candidate, inputs=sizes[name], weight=place)
                of = split.get(place, whole)
                ops.append(replace(whole, splits=of.splits, parts=of.parts))
        return ops

    def _cells(self, candidate: int, topology: Topology, places: dict[str, int]) -> list[Op]:
        cells: list[Op] = []
        for i, cell in enumerate(topology.cells):
            height, width = topology.map_sizes[i + 1]
            inputs, size = topology.channels[i], (cell.channels, height, width, self._batch)
            tiles = inputs * parts(cell.channels, FEW)
            splits = min(
                parts(PARTS_OF_A_GRADIENT, tiles), parts(math.prod(size[1:]), 2 * self._threads)
            )
            maximum = cell.pooling == "max"
            op = Op(
                Kind.CONVOLVE,
                candidate,
                height=topology.map_sizes[i][0],
                width=topology.map_sizes[i][1],
                inputs=inputs,
                outputs=cell.channels,
                maximum=int(maximum),
                splits=splits,
                weight=places[f"{conv_name(i)}.weight"],
                gamma=places[f"{norm_name(i)}.weight"],
                beta=places[f"{norm_name(i)}.bias"],
                y=self._work(*size),
                dy=self._work(*size),
                z=self._work(*size),
                norms=self._work(NORMS, cell.channels),
                parts=self._work(splits, cell.channels, inputs, TAPS) if splits > 1 else -1,
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


def multiplications(topology: Topology, batch: int) -> int:
    """Return how many multiplications it takes to pass a batch forwards."""
    total = 0
    for i, cell in enumerate(topology.cells):
        before, after = topology.channels[i : i + 2]
        height, width = topology.map_sizes[i + 1]
        pixels = 4 if cell.pooling == "max" else 1
        total += TAPS * before * after * height * width * pixels
    total += sum(before * after for before, after in itertools.pairwise(topology.widths))
    return total * batch


def fits(topology: Topology) -> bool:
    """Return whether the operations of a candidate fit in the memory that is kept for them."""
    n_ops = 8 * len(topology.cells) + 5 * (len(topology.dense) + 1) + 1
    return n_ops <= MOST_OPS


def as_(kind: Kind, op: Op) -> Op:
    """Return another operation on the same layer."""
    return replace(op, kind=kind)


def back(op: Op, weight: Kind, inputs: Kind) -> list[Op]:
    """Return the way back through a layer; there is no gradient of the batch."""
    kinds = [weight] if op.x < 0 else [inputs, weight]
    return [as_(kind, op) for kind in kinds]


def behind(before: Op, op: Op) -> Op:
    """Return an operation that takes what the layer before puts out."""
    return replace(op, x=before.y, dx=before.dy)

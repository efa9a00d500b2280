"""An interpreter of the programs that the CUDA kernel works off, in numpy.

It takes the arguments of a launch, divides the work among blocks and tiles as train.cu does,
and computes each tile as the function of the same name there. It also watches every access to
memory, and raises `Fault` at what would be undefined or depend on chance on a device: reading
what nobody has written, writing twice, sharing a place, or not waiting for another tile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.kernels.compiled import BLOCKS, Launch
from skectonas.population.kernels.program import (
    FEW,
    FEW_UNITS,
    INPUTS,
    LAYOUT,
    TAPS,
    UNITS,
    WARP,
    OpKind,
)
from skectonas.topology import ALL_POOLINGS, ceil_div

SOURCE = files("skectonas.population.kernels").joinpath("train.cu").read_text()
ARGUMENTS = re.findall(r"(\w+)[,)]", SOURCE.partition(" void train(")[2].partition("{")[0])
"""Names of the arguments of the kernel."""

MEAN, FACTOR, DEVIATION = range(3)  # the `Norm` of train.cu
AVERAGE, MAXIMUM, NONE = map(ALL_POOLINGS.index, ("average", "max", None))
SAME = {"x": "y", "dx": "dy", "bias": "weight", "gamma": "weight", "beta": "weight"}
"""Fields for the same memory: the input of a layer is the output of the one before."""

NOBODY, MANY = -1, -2  # tiles


class Fault(Exception):
    """Something that a program must not make the kernel do."""


def require(condition: Any, *message: object) -> None:
    if not condition:
        raise Fault(" ".join(map(str, message)))


class Given:
    """Memory that is only read, such as the loaded batches."""

    def __init__(self, name: str, values: np.ndarray) -> None:
        require(values.flags.c_contiguous, name, "is not contiguous")
        self.name, self.values = name, values.reshape(-1)

    def at(self, index: np.ndarray) -> np.ndarray:
        """Return an index if it is valid; to numpy, negative numbers would be as well."""
        inside = (index >= 0) & (index < len(self.values))
        require(inside.all(), "outside of", self.name)
        return index

    def read(self, index: np.ndarray) -> np.ndarray:
        return self.values[self.at(index)]


class Buffer(Given):
    """Memory that tiles write to, and who did what to each value last.

    Parameters
    ----------
    name : str
        Name of the argument.
    values : ndarray
        The memory.
    given : bool
        Whether a value may be read before it is written.
    kept : bool
        Whether a value may be read in later steps than the one in which it was written.
    """

    def __init__(self, name: str, values: np.ndarray, *, given: bool, kept: bool) -> None:
        super().__init__(name, values)
        n = len(self.values)
        self._kept = kept
        self._written_step = np.full(n, 0 if given else -1)
        self._written_stage, self._read_stage = np.full((2, n), -1)
        self._writer, self._reader = np.full((2, n), NOBODY)
        self._owner = np.full(n, NOBODY)
        self._owners: dict[object, int] = {}
        if not given:
            self.values[...] = 255 if values.dtype == np.uint8 else np.nan

    def read_by(self, tile: Tile, owner: object, index: np.ndarray) -> np.ndarray:
        at = self._owned(owner, index)
        is_new = self._written_stage[at] == tile.stage
        is_foreign = self._writer[at] != tile.number
        require(not (is_new & is_foreign).any(), self.name, tile, "reads what another writes")
        is_known = self._written_step[at] >= (0 if self._kept else tile.step)
        require(is_known.all(), self.name, tile, "reads what was not written")
        is_shared = (self._read_stage[at] == tile.stage) & (self._reader[at] != tile.number)
        self._reader[at] = np.where(is_shared, MANY, tile.number)
        self._read_stage[at] = tile.stage
        return self.values[at]

    def write_by(
        self, tile: Tile, owner: object, index: np.ndarray, values: np.ndarray
    ) -> None:
        at = self._owned(owner, index)
        is_new = self._written_stage[at] == tile.stage
        require(not is_new.any(), self.name, tile, "writes what was written")
        is_foreign = (self._read_stage[at] == tile.stage) & (self._reader[at] != tile.number)
        require(not is_foreign.any(), self.name, tile, "writes what another reads")
        self._writer[at] = order = np.arange(at.size).reshape(at.shape)
        require((self._writer[at] == order).all(), self.name, tile, "writes twice")
        self._writer[at] = tile.number
        self._written_step[at], self._written_stage[at] = tile.step, tile.stage
        self.values[at] = values
        tile.n_written += at.size

    def _owned(self, owner: object, index: np.ndarray) -> np.ndarray:
        at = self.at(index)
        number = self._owners.setdefault(owner, len(self._owners))
        is_own = (self._owner[at] == NOBODY) | (self._owner[at] == number)
        require(is_own.all(), self.name, owner, "is not alone in its place")
        self._owner[at] = number
        return at


class Op:
    """An operation as the kernel finds it in memory; it knows which fields were read."""

    def __init__(self, row: np.void) -> None:
        self._values = dict(zip(LAYOUT.names or (), row.item(), strict=True))
        self.used: set[str] = set()

    def __getattr__(self, name: str) -> int:
        self.used.add(name)
        return self._values[name]


class Tile:
    """A tile of an operation, and how it reads and writes.

    Attributes
    ----------
    op : Op
        The operation.
    index : int
        Which of its tiles.
    candidate : int
        Place of the candidate in the program.
    number, stage, step : int
        Numbers of the tile, of the stage and of the step; none of them is used again.
    n_written : int
        Number of values that the tile has written.
    """

    def __init__(
        self, launch: Interpreter, op: Op, index: int, candidate: int, number: int
    ) -> None:
        self.launch, self.op, self.index = launch, op, index
        self.candidate, self.number = candidate, number
        self.stage, self.step = launch.stage, launch.step
        self.batch, self.threads, self.warps = launch.batch, launch.threads, launch.warps
        self.n_written = 0

    def __str__(self) -> str:
        return f"tile {self.index} of {OpKind(self.op.kind).name}"

    def _owner(self, field: str) -> tuple[int, str, int]:
        return self.candidate, SAME.get(field, field), getattr(self.op, field)

    def read(self, buffer: str, field: str, index: np.ndarray) -> np.ndarray:
        owner = self._owner(field)
        return self.launch.buffers[buffer].read_by(self, owner, owner[-1] + index)

    def write(self, buffer: str, field: str, index: np.ndarray, values: np.ndarray) -> None:
        owner = self._owner(field)
        self.launch.buffers[buffer].write_by(self, owner, owner[-1] + index, values)

    def input(self, index: np.ndarray) -> np.ndarray:
        if self.op.x < 0:
            return self.launch.loaded["images"].read(index)
        return self.read("work", "x", index)

    def add_losses(self, index: np.ndarray, values: np.ndarray) -> None:
        losses, place = self.launch.buffers["losses"], self.op.candidate * self.batch
        before = losses.read_by(self, self.candidate, place + index)
        losses.write_by(self, self.candidate, place + index, before + values)


class Interpreter:
    """A launch of the kernel.

    Parameters
    ----------
    arguments : mapping of str to object
        The arguments of the kernel by their names there; it writes to the arrays.
    threads : int
        Number of threads of a block.

    Attributes
    ----------
    used : set of (int, str)
        Operations, by their places, and fields that were read.
    """

    def __init__(self, arguments: Mapping[str, Any], threads: int) -> None:
        self.arguments = arguments
        self._begins = np.asarray(arguments["begins"])
        self._ops = [Op(row) for row in np.asarray(arguments["ops"]).view(LAYOUT)]
        self.batch, self.threads, self.warps = arguments["batch"], threads, threads // WARP
        given = {"weights": True, "velocity": not arguments["fresh"], "losses": True}
        self.buffers = {
            name: Buffer(
                name,
                np.asarray(arguments[name]),
                given=given.get(name, False),
                kept=name in given,
            )
            for name in ("weights", "gradient", "velocity", "work", "codes", "losses")
        }
        self.loaded: dict[str, Given] = {}
        self.rate, self.fresh = np.nan, False
        self.stage = self.step = self._n_tiles = 0

    @property
    def used(self) -> set[tuple[int, str]]:
        return {(i, field) for i, op in enumerate(self._ops) for field in op.used}

    def run(self) -> None:
        with np.errstate(all="ignore"):
            # Candidates do not wait for one another. What they share, `Buffer` finds.
            for candidate in range(len(self._begins) - 1):
                self.stage += 1
                for step in range(self.arguments["n_steps"]):
                    self.step += 1
                    self._load(step)
                    self._run_step(candidate)

    def _load(self, step: int) -> None:
        sizes = {"images": "n_pixels", "targets": "n_classes", "shares": None}
        for name, size in sizes.items():
            length = self.batch * (self.arguments[size] if size else 1)
            every = Given(name, np.asarray(self.arguments[name])).values
            self.loaded[name] = Given(name, every[step * length : (step + 1) * length])
        rates = Given("rates", np.asarray(self.arguments["rates"]))
        (self.rate,) = rates.read(np.array([step]))
        self.fresh = bool(self.arguments["fresh"]) and step == 0

    def _run_step(self, candidate: int) -> None:
        stage: list[Op] = []
        for op in self._ops[self._begins[candidate] : self._begins[candidate + 1]]:
            stage.append(op)
            if op.ends:
                self._run_stage(candidate, stage)
                self.stage += 1
                stage = []
        # Without an end, the next step does not wait.
        self._run_stage(candidate, stage)

    def _run_stage(self, candidate: int, ops: Sequence[Op]) -> None:
        for rank in range(BLOCKS):
            index = rank
            for op in ops:
                for i in range(index, op.n_tiles, BLOCKS):
                    self._run_tile(op, i, candidate)
                index = (index + BLOCKS - op.n_tiles % BLOCKS) % BLOCKS

    def _run_tile(self, op: Op, index: int, candidate: int) -> None:
        require(op.kind in FUNCTIONS, "there is no operation", op.kind)
        tile = Tile(self, op, index, candidate, self._n_tiles)
        self._n_tiles += 1
        FUNCTIONS[OpKind(op.kind)](tile)
        require(tile.n_written, tile, "writes nothing")


def launch_with(threads: int) -> Launch:
    """Return a function that interprets what `compiled` would launch."""

    def launch(n_candidates: int, shared_bytes: int, arguments: Sequence[Any]) -> None:
        named = dict(zip(ARGUMENTS, arguments, strict=True))
        n_ops = np.diff(named["begins"])
        require(len(n_ops) == n_candidates, "wrong number of candidates")
        require(shared_bytes >= n_ops.max() * LAYOUT.itemsize, "too little shared memory")
        Interpreter(named, threads).run()

    return launch


class Windows:
    """The windows of 2x2 pixels that the threads of a tile compute, or those of some places.

    Attributes
    ----------
    at : ndarray of shape (n,)
        Places in a map of windows; row, column and row of the batch.
    below, right : ndarray of bool
        Whether a window has a second row, and a second column.
    """

    def __init__(self, tile: Tile, at: np.ndarray) -> None:
        op = tile.op
        self._tile, self.height, self.width = tile, op.height, op.width
        self.h, self.w, self.batch = *n_windows(op), tile.batch
        self.at = at[at < self.h * self.w * tile.batch]
        place, self.b = np.divmod(self.at, tile.batch)
        self.row, self.column = np.divmod(place, self.w)
        self.below, self.right = 2 * self.row + 1 < op.height, 2 * self.column + 1 < op.width

    def patches(
        self, channels: np.ndarray, read: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return the pixels that kernels reach from each window: (channel, 4, 4, at)."""
        r, c = (2 * first - 1 + np.arange(4)[:, None] for first in (self.row, self.column))
        inside = ((r >= 0) & (r < self.height))[:, None] & ((c >= 0) & (c < self.width))
        rows, columns = r.clip(0, self.height - 1)[:, None], c.clip(0, self.width - 1)
        pixels = channels[:, None, None, None] * self.height + rows
        pixels = (pixels * self.width + columns) * self.batch + self.b
        return np.where(inside, read(pixels), 0)

    def taps(self, channels: np.ndarray) -> np.ndarray:
        """Return what the taps of a kernel see at each pixel: (channel, 3, 3, at, 2, 2)."""
        return sliding_window_view(self.patches(channels, self._tile.input), (2, 2), (1, 2))

    def averages(self, channels: np.ndarray) -> np.ndarray:
        """Return the mean of what the taps see in a window: (channel, 3, 3, at)."""
        taps = self.taps(channels)
        inside = np.ones((2, 2, len(self.at)))
        inside[1] *= self.below
        inside[:, 1] *= self.right
        return np.einsum("iyxlpq,pql->iyxl", taps, inside / inside.sum((0, 1)))

    def pixels(self, channels: np.ndarray, p: int, q: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which windows have pixel (p, q), and its places in the maps."""
        kept = np.flatnonzero((self.below | (p == 0)) & (self.right | (q == 0)))
        row, column = 2 * self.row[kept] + p, 2 * self.column[kept] + q
        to = (channels[:, None] * self.height + row) * self.width + column
        return kept, to * self.batch + self.b[kept]


def n_windows(op: Op) -> tuple[int, int]:
    """Return the number of windows of a map, down and across."""
    return (op.height + 1) // 2, (op.width + 1) // 2


def size_of_output(op: Op) -> tuple[int, int]:
    return (op.height, op.width) if op.pooling == NONE else n_windows(op)


def range_of(begin: int, length: int, end: int) -> np.ndarray:
    """Return up to `length` numbers from `begin` that are below `end`."""
    return np.arange(begin, min(begin + length, end))


def windows_of_threads(tile: Tile) -> tuple[int, Windows]:
    """Return the first channel of a tile, and its windows."""
    h, w = n_windows(tile.op)
    places = ceil_div(h * w * tile.batch, tile.threads)
    begin = tile.index % places * tile.threads
    windows = Windows(tile, np.arange(begin, begin + tile.threads))
    return tile.index // places * FEW, windows


def kernels_of(tile: Tile, outputs: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Return kernels: (output, input, 3, 3)."""
    places = outputs[:, None, None] * tile.op.inputs + inputs[:, None]
    weights = tile.read("weights", "weight", places * TAPS + np.arange(TAPS))
    return weights.reshape(len(outputs), len(inputs), 3, 3)


def convolve(tile: Tile) -> None:
    op = tile.op
    first, windows = windows_of_threads(tile)
    outputs, inputs = range_of(first, FEW, op.outputs), np.arange(op.inputs)
    kernels = kernels_of(tile, outputs, inputs)
    n = windows.h * windows.w * tile.batch
    to = outputs[:, None] * n + windows.at
    if op.pooling == AVERAGE:
        value = np.einsum("oiyx,iyxl->ol", kernels, windows.averages(inputs))
        tile.write("work", "z", to, value)
        return
    sums = np.einsum("oiyx,iyxlpq->pqol", kernels, windows.taps(inputs))
    if op.pooling == MAXIMUM:
        value, code = sums[0, 0], np.zeros(to.shape, np.uint8)
        for pixel in range(1, 4):
            p, q = divmod(pixel, 2)
            other = sums[p, q]
            inside = (windows.below | (p == 0)) & (windows.right | (q == 0))
            larger = inside & ((other > value) | np.isnan(other))
            value, code = np.where(larger, other, value), np.where(larger, pixel, code)
        tile.write("codes", "codes", to, code)
        tile.write("work", "z", to, value)
        return
    for p, q in product(range(2), repeat=2):
        kept, to = windows.pixels(outputs, p, q)
        tile.write("work", "z", to, sums[p, q][:, kept])


def channel_of(tile: Tile) -> np.ndarray:
    """Return the places of the channel that a tile normalises."""
    h, w = size_of_output(tile.op)
    n = h * w * tile.batch
    return tile.index * n + np.arange(n)


def normalise(tile: Tile) -> None:
    op, channel = tile.op, np.array([tile.index])
    at = channel_of(tile)
    z = tile.read("work", "z", at)
    gamma, beta = (tile.read("weights", name, channel) for name in ("gamma", "beta"))
    mean = z.sum() / len(at)
    deviation = 1 / np.sqrt(((z - mean) ** 2).sum() / len(at) + BATCH_NORM_EPSILON)
    factor = gamma * deviation
    value = (z - mean) * factor + beta
    tile.write("work", "y", at, np.where(value < 0, 0, value))
    for place, number in ((MEAN, mean), (FACTOR, factor), (DEVIATION, deviation)):
        tile.write("work", "norms", place * op.outputs + channel, number)


def dense(tile: Tile) -> None:
    op = tile.op
    n = 2 if op.outputs <= FEW_UNITS else 8
    chunks = ceil_div(op.outputs, n)
    units = range_of(tile.index % chunks * n, n, op.outputs)
    rows = range_of(tile.index // chunks * WARP, WARP, tile.batch)
    inputs = np.arange(op.inputs)
    weight = tile.read("weights", "weight", units[:, None] * op.inputs + inputs)
    bias = tile.read("weights", "bias", units)
    value = weight @ tile.input(inputs[:, None] * tile.batch + rows) + bias[:, None]
    if op.relu:
        value = np.where(value < 0, 0, value)
    tile.write("work", "y", units[:, None] * tile.batch + rows, value)


def loss(tile: Tile) -> None:
    rows = range_of(tile.index * tile.warps, tile.warps, tile.batch)
    at = np.arange(tile.op.outputs)[:, None] * tile.batch + rows
    logits = tile.read("work", "y", at)
    most = logits.max(0)
    values = logits - (most + np.log(np.exp(logits - most).sum(0)))
    targets, shares = (tile.launch.loaded[name] for name in ("targets", "shares"))
    target = targets.read(at)
    tile.write("work", "dy", at, target + np.exp(values) * shares.read(rows))
    tile.add_losses(rows, (values * target).sum(0))


def dense_slopes(tile: Tile, units: np.ndarray, rows: np.ndarray) -> np.ndarray:
    at = units[:, None] * tile.batch + rows
    slopes = tile.read("work", "dy", at)
    return np.where(tile.read("work", "y", at) > 0, slopes, 0) if tile.op.relu else slopes


def dense_weight(tile: Tile) -> None:
    op = tile.op
    chunks = ceil_div(op.outputs, UNITS)
    units = range_of(tile.index % chunks * UNITS, UNITS, op.outputs)
    inputs = range_of(tile.index // chunks * INPUTS, INPUTS, op.inputs)
    rows = np.arange(tile.batch)
    slopes = dense_slopes(tile, units, rows)
    x = tile.input(inputs[:, None] * tile.batch + rows)
    if tile.index < chunks:
        tile.write("gradient", "bias", units, slopes.sum(1))
    tile.write("gradient", "weight", units[:, None] * op.inputs + inputs, slopes @ x.T)


def dense_input(tile: Tile) -> None:
    op = tile.op
    own = tile.warps * FEW
    chunks = ceil_div(op.inputs, own)
    inputs = range_of(tile.index % chunks * own, own, op.inputs)
    rows = range_of(tile.index // chunks * WARP, WARP, tile.batch)
    units = np.arange(op.outputs)
    weight = tile.read("weights", "weight", units[:, None] * op.inputs + inputs)
    slopes = dense_slopes(tile, units, rows)
    tile.write("work", "dx", inputs[:, None] * tile.batch + rows, weight.T @ slopes)


def normalise_back(tile: Tile) -> None:
    op, channel = tile.op, np.array([tile.index])
    at = channel_of(tile)
    z, y, dy = (tile.read("work", name, at) for name in ("z", "y", "dy"))
    mean, factor, deviation = (
        tile.read("work", "norms", place * op.outputs + channel)
        for place in (MEAN, FACTOR, DEVIATION)
    )
    slope = np.where(y > 0, dy, 0)
    total, product = slope.sum(), (slope * (z - mean)).sum() * deviation
    same, along = factor * total / len(at), factor * deviation * product / len(at)
    tile.write("work", "dy", at, factor * slope - same - along * (z - mean))
    tile.write("gradient", "beta", channel, total)
    tile.write("gradient", "gamma", channel, product)


def convolve_weight(tile: Tile) -> None:
    op = tile.op
    h, w = n_windows(op)
    n = h * w * tile.batch
    part, channel = tile.index % op.splits, tile.index // op.splits % op.inputs
    first = tile.index // op.splits // op.inputs * FEW
    length = ceil_div(n, op.splits)
    windows = Windows(tile, range_of(part * length, length, n))
    outputs, channels = range_of(first, FEW, op.outputs), np.array([channel])
    there = outputs[:, None] * n + windows.at
    if op.pooling == AVERAGE:
        slopes = tile.read("work", "dy", there)
        sums = np.einsum("ol,yxl->oyx", slopes, windows.averages(channels)[0])
    else:
        slopes = np.zeros((2, 2, len(outputs), len(windows.at)))
        if op.pooling == MAXIMUM:
            codes = tile.read("codes", "codes", there)
            own = codes == np.arange(4).reshape(2, 2, 1, 1)
            slopes += np.where(own, tile.read("work", "dy", there), 0)
        else:
            for p, q in product(range(2), repeat=2):
                kept, pixels = windows.pixels(outputs, p, q)
                slopes[p, q][:, kept] = tile.read("work", "dy", pixels)
        sums = np.einsum("pqol,yxlpq->oyx", slopes, windows.taps(channels)[0])
    to = (outputs[:, None] * op.inputs + channel) * TAPS + np.arange(TAPS)
    if op.splits > 1:
        to += part * op.outputs * op.inputs * TAPS
        tile.write("work", "parts", to, sums.reshape(to.shape))
    else:
        tile.write("gradient", "weight", to, sums.reshape(to.shape))


def sums_of_taps(kernels: np.ndarray, axis: int) -> np.ndarray:
    """Return taps 0, 1 and 2, and the sums of 0 and 1, and of 1 and 2."""
    first, middle, last = np.moveaxis(kernels, axis, 0)
    return np.stack([first, middle, last, first + middle, middle + last], axis)


def convolve_input(tile: Tile) -> None:
    op = tile.op
    first, windows = windows_of_threads(tile)
    channels, outputs = range_of(first, FEW, op.inputs), np.arange(op.outputs)
    kernels = kernels_of(tile, outputs, channels)
    sums = np.zeros((2, 2, len(channels), len(windows.at)))
    if op.pooling == AVERAGE:
        numbers = sums_of_taps(sums_of_taps(kernels, 2), 3)
        slopes = slopes_around(tile, windows, outputs)
        ones = np.ones_like(windows.at)
        # Which taps connect the first and second pixel to their first and second window.
        rows, columns = (
            ((2 * ones, np.where(two, 3, 1)), (4 * ones, 0 * ones))
            for two in (windows.below, windows.right)
        )
        for p, q, u, v in product(range(2), repeat=4):
            weights = numbers[:, :, rows[p][u], columns[q][v]]
            sums[p, q] += np.einsum("ocl,ol->cl", weights, slopes[:, p + u, q + v])
    else:
        pixels = slopes_before_pooling(tile, windows, outputs)
        for p, q, y, x in product(range(2), range(2), range(3), range(3)):
            sums[p, q] += kernels[:, :, y, x].T @ pixels[:, p + 2 - y, q + 2 - x]
    for p, q in product(range(2), repeat=2):
        kept, to = windows.pixels(channels, p, q)
        tile.write("work", "dx", to, sums[p, q][:, kept])


def places_around(windows: Windows, outputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the places of windows around, whether they are inside, their rows and columns.

    A place outside is that of the window itself.
    """
    steps = np.arange(-1, 2)
    r, c = np.broadcast_arrays(
        windows.row + steps[:, None, None], windows.column + steps[:, None]
    )
    batch, n = windows.batch, windows.h * windows.w * windows.batch
    inside = (r >= 0) & (r < windows.h) & (c >= 0) & (c < windows.w)
    around = np.where(inside, (r * windows.w + c) * batch + windows.b, windows.at)
    return outputs[:, None, None, None] * n + around, inside, r, c


def slopes_around(tile: Tile, windows: Windows, outputs: np.ndarray) -> np.ndarray:
    """Return the shares of pixels in the gradients of windows: (output, 3, 3, at)."""
    there, inside, r, c = places_around(windows, outputs)
    height, width = tile.op.height, tile.op.width
    sizes = np.where(2 * r + 1 < height, 2, 1) * np.where(2 * c + 1 < width, 2, 1)
    return tile.read("work", "dy", there) * (inside / sizes)


def slopes_before_pooling(tile: Tile, windows: Windows, outputs: np.ndarray) -> np.ndarray:
    """Return the gradients of the pixels that kernels reach: (output, 4, 4, at)."""
    if tile.op.pooling == NONE:
        return windows.patches(outputs, lambda index: tile.read("work", "dy", index))
    there, inside, *_ = places_around(windows, outputs)
    slopes = tile.read("work", "dy", there) * inside
    codes = tile.read("codes", "codes", there)
    pixels = np.zeros((len(outputs), 4, 4, len(windows.at)))
    for p, q in product(range(4), repeat=2):
        # The first of four rows is the second row of the window above, and so on.
        u, v, own = (p + 1) // 2, (q + 1) // 2, (p + 1) % 2 * 2 + (q + 1) % 2
        pixels[:, p, q] = np.where(codes[:, u, v] == own, slopes[:, u, v], 0)
    return pixels


def gradient_of(tile: Tile, at: np.ndarray) -> np.ndarray:
    if tile.op.splits == 1:
        return tile.read("gradient", "weight", at)
    parts = np.arange(tile.op.splits)[:, None] * tile.op.inputs
    return tile.read("work", "parts", parts + at).sum(0)


def collect(tile: Tile) -> None:
    at = range_of(tile.index * tile.threads, tile.threads, tile.op.inputs)
    tile.write("gradient", "weight", at, gradient_of(tile, at))


def update(tile: Tile) -> None:
    rule = tile.launch.arguments
    at = range_of(tile.index * tile.threads, tile.threads, tile.op.inputs)
    weight = tile.read("weights", "weight", at)
    slope = gradient_of(tile, at) + rule["decay"] * weight
    if rule["momentum"]:
        velocity = slope
        if not tile.launch.fresh:
            before = tile.read("velocity", "weight", at)
            velocity = rule["momentum"] * before + (1 - rule["dampening"]) * slope
        tile.write("velocity", "weight", at, velocity)
        slope = slope + rule["momentum"] * velocity if rule["nesterov"] else velocity
    tile.write("weights", "weight", at, weight - tile.launch.rate * slope)


FUNCTIONS: dict[int, Callable[[Tile], None]] = {
    OpKind.CONVOLVE: convolve,
    OpKind.NORMALISE: normalise,
    OpKind.DENSE: dense,
    OpKind.LOSS: loss,
    OpKind.DENSE_WEIGHT: dense_weight,
    OpKind.DENSE_INPUT: dense_input,
    OpKind.NORMALISE_BACK: normalise_back,
    OpKind.CONVOLVE_WEIGHT: convolve_weight,
    OpKind.CONVOLVE_INPUT: convolve_input,
    OpKind.COLLECT: collect,
    OpKind.UPDATE: update,
}

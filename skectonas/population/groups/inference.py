"""Running statistics and validation of all candidates of a group in one pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.groups.stack import Stack
from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.convolution import convolution_of
from skectonas.population.layers.first import SharedMaxConvolution
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.population.run.columns import Inputs
from skectonas.topology import conv_name, linear_name, norm_name
from skectonas.training import TrainingData

CHUNK_VALUES = 2**22
"""Values of the largest activation of a chunk of rows, at the most."""

ON_DEVICE = 32
"""So many times more on a device, which has more memory and takes longer to start anything."""

CALIBRATED_VALUES = 2**24
"""Values of the largest map of all calibration rows, of the members that are done at once."""


class Statistics(NamedTuple):
    """Mean and variance in front of a batch norm, (candidates, channels, 1)."""

    mean: Tensor
    variance: Tensor


class Inference:
    """Statistics and logits of a group under its present weights.

    Parameters
    ----------
    stack : Stack
        The weights.
    data : TrainingData
        Calibration and validation rows.

    Attributes
    ----------
    statistics : list of Statistics
        One for each cell, on the calibration rows as one batch, layer after layer.
    logits : Tensor of shape (candidates, rows, classes)
        Of the validation rows, with these statistics.
    """

    def __init__(self, stack: Stack, data: TrainingData) -> None:
        self._stack, self._data = stack, data
        self._buffers: dict[tuple[int, int], AverageConvolution | MaxConvolution] = {}
        self._firsts: dict[int, tuple[Inputs, SharedMaxConvolution | None]] = {}
        rows = chunk_rows(stack)
        self.statistics: list[Statistics] = []
        if stack.topology.cells:
            self._calibrate(list(torch.split(data.calibration, rows)))
        logits = torch.cat([self._logits(chunk) for chunk in data.validation.chunks(rows)], -1)
        self.logits = logits.mT

    def _calibrate(self, chunks: list[Tensor]) -> None:
        maps = chunks
        for i in range(len(self._stack.topology.cells)):
            z = [self._convolve(i, part).clone() for part in maps]
            n = sum(part.shape[-1] for part in z)
            mean = sum_of([part.sum(-1, keepdim=True) for part in z]) / n
            squares = [(part - mean).square_().sum(-1, keepdim=True) for part in z]
            self.statistics.append(Statistics(mean, sum_of(squares) / n))
            maps = [self._activate(i, part) for part in z]

    def _logits(self, images: Tensor) -> Tensor:
        topology, views = self._stack.topology, self._stack.views
        maps = images
        for i in range(len(topology.cells)):
            maps = self._activate(i, self._convolve(i, maps))
        if not topology.cells:
            maps = self._first(len(images))[0].columns_of(images)
        x = maps.reshape(-1, topology.n_flat, len(images))
        x = x.expand(len(self._stack), *x.shape[1:])
        for i in range(len(topology.dense) + 1):
            name = linear_name(topology, i)
            x = torch.baddbmm(views[f"{name}.bias"].unsqueeze(-1), views[f"{name}.weight"], x)
            if i < len(topology.dense):
                x.relu_()
        return x

    def _activate(self, i: int, z: Tensor) -> Tensor:
        """Return batch norm and relu of `z`, which is overwritten, as maps."""
        mean, variance = self.statistics[i]
        gamma, beta = (self._stack.views[f"{norm_name(i)}.{n}"] for n in ("weight", "bias"))
        factor = gamma.unsqueeze(-1) * (variance + BATCH_NORM_EPSILON).rsqrt()
        z.sub_(mean).mul_(factor).add_(beta.unsqueeze(-1)).relu_()
        height, width = self._stack.topology.map_sizes[i + 1]
        return z.view(*z.shape[:2], height, width, -1)

    def _convolve(self, i: int, maps: Tensor) -> Tensor:
        """Return the pooled convolution of maps, or for the first cell of images."""
        if i == 0:
            return self._convolve_images(maps)
        convolution = self._later(i, maps.shape[-1])
        for where, value, _ in convolution.pieces:
            value.copy_(maps[where])
        convolution.forward(0)
        return convolution.z

    def _convolve_images(self, images: Tensor) -> Tensor:
        inputs, convolution = self._first(len(images))
        columns = inputs.columns_of(images)
        if convolution is not None:
            convolution.forward(0)
            return convolution.z
        weight = self._stack.views[f"{conv_name(0)}.weight"]
        n, channels = weight.shape[:2]
        return (weight.view(n * channels, -1) @ columns).view(n, channels, -1)

    def _first(self, rows: int) -> tuple[Inputs, SharedMaxConvolution | None]:
        if rows not in self._firsts:
            topology, dtype = self._stack.topology, self._stack.flat.dtype
            inputs = Inputs(topology, self._data, 1, rows, dtype)
            convolution = None
            if topology.cells and topology.cells[0].pooling == "max":
                weight = self._stack.views[f"{conv_name(0)}.weight"]
                size = topology.input_shape[:2]
                convolution = SharedMaxConvolution(
                    weight, torch.empty_like(weight), inputs.columns, *size, rows
                )
            self._firsts[rows] = inputs, convolution
        return self._firsts[rows]

    def _later(self, i: int, rows: int) -> AverageConvolution | MaxConvolution:
        if (i, rows) not in self._buffers:
            weight = self._stack.views[f"{conv_name(i)}.weight"]
            self._buffers[i, rows] = convolution_of(
                self._stack.topology, i, weight, torch.empty_like(weight), rows
            )
        return self._buffers[i, rows]


def sum_of(parts: list[Tensor]) -> Tensor:
    """Return the sum of tensors, first to last."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def members_at_once(stack: Stack, data: TrainingData) -> int:
    """Return how many members to calibrate at once: the maps of all their rows are kept."""
    topology = stack.topology
    largest = 1
    for (height, width), channels in zip(
        topology.map_sizes[1:], topology.channels[1:], strict=True
    ):
        largest = max(largest, height * width * channels * len(data.calibration))
    return max(times(stack) * CALIBRATED_VALUES // largest, 1)


def chunk_rows(stack: Stack) -> int:
    """Return how many rows go through the network at once."""
    topology = stack.topology
    largest = math.prod(topology.input_shape)
    # The columns of a cell: nine taps, or four pixels to the left and right.
    for (height, width), before, after in zip(
        topology.map_sizes[1:], topology.channels, topology.channels[1:], strict=False
    ):
        largest = max(largest, height * width * max(9 * before, 4 * after) * len(stack))
    largest = max(largest, *(width * len(stack) for width in topology.widths[1:]))
    return min(max(times(stack) * CHUNK_VALUES // largest, 8), times(stack) * 1024)


def times(stack: Stack) -> int:
    """Return how many times more is done at once where the stack lies."""
    return 1 if stack.flat.device.type == "cpu" else ON_DEVICE

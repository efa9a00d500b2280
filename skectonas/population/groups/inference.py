"""Running statistics and validation logits of all candidates of a group in one pass."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.batches.columns import Inputs
from skectonas.population.groups.stack import Stack
from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.convolution import convolution_of
from skectonas.population.layers.first import SharedMaxConvolution
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.topology import conv_name, linear_name, norm_name
from skectonas.training import TrainingData

CHUNK_VALUES = 2**22
"""Maximum number of values of the largest activation of a chunk of rows."""

CALIBRATION_VALUES = 2**24
"""Maximum number of values of the largest map, over all calibration rows, of the members that
are calibrated at once."""

DEVICE_FACTOR = 32
"""A device computes this many times more values at once: it has more memory, and every call
has a larger overhead."""


class Statistics(NamedTuple):
    """Mean and variance of the input of a batch norm, (candidates, channels, 1)."""

    mean: Tensor
    variance: Tensor


class Inference(NamedTuple):
    """Statistics and logits of a group under its present weights.

    Attributes
    ----------
    statistics : list of Statistics
        One for each cell, computed from the calibration rows as one batch.
    logits : Tensor of shape (candidates, rows, classes)
        Logits of the validation rows, computed with these statistics.
    """

    statistics: list[Statistics]
    logits: Tensor


def infer(stack: Stack, data: TrainingData) -> Inference:
    """Compute statistics and logits of a group.

    Parameters
    ----------
    stack : Stack
        The weights.
    data : TrainingData
        Calibration and validation rows.

    Returns
    -------
    Inference
    """
    network = _StackNetwork(stack, data)
    n_rows = rows_per_chunk(stack)
    statistics = []
    if stack.topology.cells:
        statistics = network.calibrate(torch.split(data.calibration, n_rows))
    chunks = data.validation.chunks(n_rows)
    logits = torch.cat([network.logits(chunk, statistics) for chunk in chunks], -1)
    return Inference(statistics, logits.mT)


class _StackNetwork:
    """Forward pass of a group; the buffers for each number of rows are made once."""

    def __init__(self, stack: Stack, data: TrainingData) -> None:
        self._stack, self._data = stack, data
        self._convolutions: dict[tuple[int, int], AverageConvolution | MaxConvolution] = {}
        self._inputs: dict[int, tuple[Inputs, SharedMaxConvolution | None]] = {}

    def calibrate(self, chunks: Sequence[Tensor]) -> list[Statistics]:
        """Return the statistics of all cells, each computed with those of the cells before.

        They are those of `skectonas.network.channel_statistics`, summed chunk by chunk.
        """
        statistics = []
        maps = list(chunks)
        for i in range(len(self._stack.topology.cells)):
            z = [self._convolve(i, chunk).clone() for chunk in maps]
            n = sum(chunk.shape[-1] for chunk in z)
            mean = reduce(operator.add, [chunk.sum(-1, keepdim=True) for chunk in z]) / n
            squares = [(chunk - mean).square_().sum(-1, keepdim=True) for chunk in z]
            statistics.append(Statistics(mean, reduce(operator.add, squares) / n))
            maps = [self._normalize(i, chunk, statistics[i]) for chunk in z]
        return statistics

    def logits(self, images: Tensor, statistics: Sequence[Statistics]) -> Tensor:
        """Return the logits (candidates, classes, rows) of a chunk of images."""
        topology, views = self._stack.topology, self._stack.views
        maps = images
        for i in range(len(topology.cells)):
            maps = self._normalize(i, self._convolve(i, maps), statistics[i])
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

    def _normalize(self, i: int, z: Tensor, statistics: Statistics) -> Tensor:
        """Apply batch norm and relu to `z` in place; return it as maps."""
        mean, variance = statistics
        gamma, beta = (self._stack.views[f"{norm_name(i)}.{n}"] for n in ("weight", "bias"))
        factor = gamma.unsqueeze(-1) * (variance + BATCH_NORM_EPSILON).rsqrt()
        z.sub_(mean).mul_(factor).add_(beta.unsqueeze(-1)).relu_()
        height, width = self._stack.topology.map_sizes[i + 1]
        return z.view(*z.shape[:2], height, width, -1)

    def _convolve(self, i: int, maps: Tensor) -> Tensor:
        """Return the pooled convolution of maps; the first cell takes images."""
        if i == 0:
            return self._convolve_images(maps)
        convolution = self._convolution(i, maps.shape[-1])
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

    def _first(self, n_rows: int) -> tuple[Inputs, SharedMaxConvolution | None]:
        """Return the columns of the first layer, and its convolution if it has max pooling."""
        if n_rows not in self._inputs:
            topology, dtype = self._stack.topology, self._stack.flat.dtype
            inputs = Inputs(topology, self._data, 1, n_rows, dtype)
            convolution = None
            if topology.cells and topology.cells[0].pooling == "max":
                weight = self._stack.views[f"{conv_name(0)}.weight"]
                size = topology.input_shape[:2]
                convolution = SharedMaxConvolution(
                    weight, torch.empty_like(weight), inputs.columns, *size, n_rows
                )
            self._inputs[n_rows] = inputs, convolution
        return self._inputs[n_rows]

    def _convolution(self, i: int, n_rows: int) -> AverageConvolution | MaxConvolution:
        if (i, n_rows) not in self._convolutions:
            weight = self._stack.views[f"{conv_name(i)}.weight"]
            self._convolutions[i, n_rows] = convolution_of(
                self._stack.topology, i, weight, torch.empty_like(weight), n_rows
            )
        return self._convolutions[i, n_rows]


def members_per_pass(stack: Stack, data: TrainingData) -> int:
    """Return how many members to calibrate at once; the maps of all their rows are kept."""
    topology = stack.topology
    largest = 1
    for (height, width), channels in zip(
        topology.map_sizes[1:], topology.channels[1:], strict=True
    ):
        largest = max(largest, height * width * channels * len(data.calibration))
    return max(device_factor(stack) * CALIBRATION_VALUES // largest, 1)


def rows_per_chunk(stack: Stack) -> int:
    """Return how many rows go through the network at once."""
    topology, factor = stack.topology, device_factor(stack)
    largest = math.prod(topology.input_shape)
    # A cell has nine columns per input channel, or four positions per output channel.
    for (height, width), before, after in zip(
        topology.map_sizes[1:], topology.channels, topology.channels[1:], strict=False
    ):
        largest = max(largest, height * width * max(9 * before, 4 * after) * len(stack))
    largest = max(largest, *(width * len(stack) for width in topology.widths[1:]))
    return min(max(factor * CHUNK_VALUES // largest, 8), factor * 1024)


def device_factor(stack: Stack) -> int:
    """Return how many times more values are computed at once than on the CPU."""
    return 1 if stack.flat.device.type == "cpu" else DEVICE_FACTOR

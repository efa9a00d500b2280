"""Inputs and outputs of the layers of a network for a batch of images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, pad

from skectonas.network import BATCH_NORM_EPSILON, Weights, channel_statistics, dtype_of, pool
from skectonas.topology import Pooling, Topology, conv_name, linear_name, norm_name

CHUNK_VALUES = 2**19
"""Maximum number of values of a convolution computed at once before pooling, to stay in the
cache."""


class Activations:
    """Inputs and outputs of the layers of a network, in evaluation mode.

    They are computed when they are needed, and only once.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Weights of the network; they must not be modified.
    topology : Topology
        Its architecture.
    images : Tensor of shape (n, height, width, channels)
        The scaled images.
    parent : Activations or None, default=None
        Activations of the network before a change, on the same images. The leading cells that
        did not change are not computed again. The running statistics of the other cells are set
        to those of the images.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skectonas import ConvCell, Topology
    >>> from skectonas.morphisms import Activations
    >>> from skectonas.network import initial_weights
    >>> topology = Topology((6, 6, 1), [ConvCell(3)], [], 4)
    >>> weights = initial_weights(topology, np.random.default_rng(0))
    >>> activations = Activations(weights, topology, torch.rand(5, 6, 6, 1))
    >>> activations.maps_after(1).shape, activations.inputs_of(0).shape
    (torch.Size([5, 3, 3, 3]), torch.Size([5, 27]))
    """

    def __init__(
        self,
        weights: Weights,
        topology: Topology,
        images: Tensor,
        parent: Activations | None = None,
    ) -> None:
        self.weights = weights
        self.topology = topology
        self.images = images
        self._parent = parent
        self._n_shared = 0 if parent is None else _n_common_cells(self, parent)
        self._cells: dict[int, _CellOutput] = {}
        self._inputs: list[Tensor] = []

    def maps_after(self, n_cells: int) -> Tensor:
        """Return the maps after the first cells, in the precision of the weights.

        Parameters
        ----------
        n_cells : int
            Number of cells; the maps after 0 cells are the images.

        Returns
        -------
        Tensor of shape (n, channels, height, width)
        """
        if n_cells:
            return self._cell(n_cells - 1).maps
        return self.images.permute(0, 3, 1, 2).to(dtype_of(self.weights))

    def running_statistics(self) -> dict[str, Tensor]:
        """Return the running statistics of every batch normalisation by their names."""
        statistics: dict[str, Tensor] = {}
        for i in range(len(self.topology.cells)):
            names = _names_of_cell(i)[-2:]
            statistics |= zip(names, (self._cell(i).mean, self._cell(i).variance), strict=True)
        return statistics

    def inputs_of(self, layer: int) -> Tensor:
        """Return the inputs of a dense layer.

        Parameters
        ----------
        layer : int
            Index of the layer; the output layer has the index after the last dense layer.

        Returns
        -------
        Tensor of shape (n, width)
        """
        while len(self._inputs) <= layer:
            n = len(self._inputs)
            flat = self.maps_after(len(self.topology.cells)).flatten(1)
            self._inputs.append(torch.relu(self.outputs_of(n - 1)) if n else flat)
        return self._inputs[layer]

    def outputs_of(self, layer: int) -> Tensor:
        """Return the outputs of a dense layer, without relu.

        Parameters
        ----------
        layer : int
            Index of the layer; the output layer has the index after the last dense layer.

        Returns
        -------
        Tensor of shape (n, units)
        """
        name = linear_name(self.topology, layer)
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.addmm(bias, self.inputs_of(layer), weight.T)

    def _cell(self, i: int) -> _CellOutput:
        if self._parent is not None and i < self._n_shared:
            return self._parent._cell(i)
        if i not in self._cells:
            self._cells[i] = self._compute(i)
        return self._cells[i]

    def _compute(self, i: int) -> _CellOutput:
        conv, gamma, beta, mean, variance = (self.weights[name] for name in _names_of_cell(i))
        z = pooled_convolution(self.maps_after(i), conv, self.topology.cells[i].pooling)
        if self._parent is not None:
            mean, variance = channel_statistics(z)
        maps = batch_norm(z, mean, variance, gamma, beta, eps=BATCH_NORM_EPSILON).relu_()
        return _CellOutput(maps, mean, variance)


class _CellOutput(NamedTuple):
    """The maps after a cell, and the running statistics of its batch normalisation."""

    maps: Tensor
    mean: Tensor
    variance: Tensor


def _names_of_cell(i: int) -> list[str]:
    norm = ("weight", "bias", "running_mean", "running_var")
    return [f"{conv_name(i)}.weight", *(f"{norm_name(i)}.{name}" for name in norm)]


def _n_common_cells(one: Activations, other: Activations) -> int:
    """Return the number of leading cells whose weights are the same objects in both."""
    n = 0
    for ours, theirs in zip(one.topology.cells, other.topology.cells, strict=False):
        same = (one.weights[name] is other.weights[name] for name in _names_of_cell(n))
        if ours != theirs or not all(same):
            break
        n += 1
    return n


def pooled_convolution(maps: Tensor, weight: Tensor, pooling: Pooling | None) -> Tensor:
    """Convolve with zero padding to the same size, and pool if a cell does so.

    Parameters
    ----------
    maps : Tensor of shape (n, channels_in, height, width)
        The maps; the channels-last memory format is fastest.
    weight : Tensor of shape (channels, channels_in, 3, 3)
        The filters.
    pooling : {"average", "max"} or None
        How each 2x2 window is pooled.

    Returns
    -------
    Tensor of shape (n, channels, ceil(height / 2), ceil(width / 2))
        Without pooling, height and width are those of `maps`.

    Notes
    -----
    The mean of four 3x3 convolutions, shifted by a pixel each, is a single convolution with a
    4x4 kernel. It takes less than half the multiplications, and writes no map of full size. If
    a side is odd, the windows at the edge are smaller and would need other kernels.
    """
    if pooling == "average" and maps.shape[2] % 2 == maps.shape[3] % 2 == 0:
        shifts = [pad(weight, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
        return conv2d(maps, torch.stack(shifts).mean(0), stride=2, padding=1)
    rows = max(CHUNK_VALUES // (len(weight) * maps.shape[2] * maps.shape[3]), 1)
    parts = [fast_pool(conv2d(part, weight, padding=1), pooling) for part in maps.split(rows)]
    return torch.cat(parts)


def fast_pool(maps: Tensor, pooling: Pooling | None) -> Tensor:
    """Return the result of `skectonas.network.pool`, faster for the maximum."""
    if pooling != "max" or maps.shape[2] % 2 or maps.shape[3] % 2:
        return pool(maps, pooling)
    rows = torch.maximum(maps[..., ::2, :], maps[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])

"""What the layers of a network see of a batch of images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, pad

from skectonas.network import BATCH_NORM_EPSILON, Weights, channel_statistics, dtype_of, pool
from skectonas.topology import Pooling, Topology, conv_name, linear_name, norm_name

CHUNK_VALUES = 2**19
"""Values of a convolution that are computed at a time where they are only to be pooled: they
then stay in memory that was used just before."""


class Activations:
    """What the layers of a network see of a batch of images in evaluation mode.

    Nothing is computed before it is asked for, and nothing twice.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Weights of the network; they must not be written to.
    topology : Topology
        Its architecture.
    images : Tensor of shape (n, height, width, channels)
        The images as the network sees them.
    parent : Activations or None, default=None
        Those of the network that this one was made from by a change, on the same images. The
        leading cells that both have are not computed again; from the first changed one on, the
        running statistics are set to those of the images.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skectonas import ConvCell, Topology
    >>> from skectonas.morphisms import Activations
    >>> from skectonas.network import initial_weights
    >>> topology = Topology((6, 6, 1), [ConvCell(3)], [], 4)
    >>> weights = initial_weights(topology, np.random.default_rng(0))
    >>> seen = Activations(weights, topology, torch.rand(5, 6, 6, 1))
    >>> seen.maps_behind(1).shape, seen.inputs_of(0).shape
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
        self._cells: dict[int, _Cell] = {}
        self._inputs: list[Tensor] = []

    def maps_behind(self, n_cells: int) -> Tensor:
        """Return the maps behind the first cells, in the precision of the weights.

        Parameters
        ----------
        n_cells : int
            How many cells; behind 0 are the images.

        Returns
        -------
        Tensor of shape (n, channels, height, width)
        """
        if n_cells:
            return self._cell(n_cells - 1).maps
        return self.images.permute(0, 3, 1, 2).to(dtype_of(self.weights))

    def running_statistics(self) -> dict[str, Tensor]:
        """Return those of every batch normalisation, by the names of the weights."""
        statistics: dict[str, Tensor] = {}
        for i in range(len(self.topology.cells)):
            names = _names_of_cell(i)[-2:]
            statistics |= zip(names, (self._cell(i).mean, self._cell(i).variance), strict=True)
        return statistics

    def inputs_of(self, layer: int) -> Tensor:
        """Return what a dense layer sees; the one behind the last is the output layer.

        Parameters
        ----------
        layer : int
            Index of the layer.

        Returns
        -------
        Tensor of shape (n, width)
        """
        while len(self._inputs) <= layer:
            n = len(self._inputs)
            flat = self.maps_behind(len(self.topology.cells)).flatten(1)
            self._inputs.append(torch.relu(self.outputs_of(n - 1)) if n else flat)
        return self._inputs[layer]

    def outputs_of(self, layer: int) -> Tensor:
        """Return what a dense layer puts out, without the relu.

        Parameters
        ----------
        layer : int
            Index of the layer; the one behind the last is the output layer.

        Returns
        -------
        Tensor of shape (n, units)
        """
        name = linear_name(self.topology, layer)
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.addmm(bias, self.inputs_of(layer), weight.T)

    def _cell(self, i: int) -> _Cell:
        if self._parent is not None and i < self._n_shared:
            return self._parent._cell(i)
        if i not in self._cells:
            self._cells[i] = self._computed(i)
        return self._cells[i]

    def _computed(self, i: int) -> _Cell:
        conv, gamma, beta, mean, variance = (self.weights[name] for name in _names_of_cell(i))
        z = pooled_convolution(self.maps_behind(i), conv, self.topology.cells[i].pooling)
        if self._parent is not None:
            mean, variance = channel_statistics(z)
        maps = batch_norm(z, mean, variance, gamma, beta, eps=BATCH_NORM_EPSILON).relu_()
        return _Cell(maps, mean, variance)


class _Cell(NamedTuple):
    """The maps behind a cell, and the running statistics that its batch normalisation took."""

    maps: Tensor
    mean: Tensor
    variance: Tensor


def _names_of_cell(i: int) -> list[str]:
    norm = ("weight", "bias", "running_mean", "running_var")
    return [f"{conv_name(i)}.weight", *(f"{norm_name(i)}.{name}" for name in norm)]


def _n_common_cells(one: Activations, other: Activations) -> int:
    """Return how many leading cells are the same in both: the same tensors, not equal ones."""
    n = 0
    for ours, theirs in zip(one.topology.cells, other.topology.cells, strict=False):
        same = (one.weights[name] is other.weights[name] for name in _names_of_cell(n))
        if ours != theirs or not all(same):
            break
        n += 1
    return n


def pooled_convolution(maps: Tensor, weight: Tensor, pooling: Pooling) -> Tensor:
    """Convolve with zero padding to the same size, and pool, as a cell does.

    Parameters
    ----------
    maps : Tensor of shape (n, channels_in, height, width)
        Fastest where the channels are the last in memory.
    weight : Tensor of shape (channels, channels_in, 3, 3)
        The filters.
    pooling : {"average", "max"}
        How each 2x2 window is summed up.

    Returns
    -------
    Tensor of shape (n, channels, ceil(height / 2), ceil(width / 2))

    Notes
    -----
    The mean of four 3x3 convolutions, each a pixel further, is a single convolution with a
    kernel of 4x4 pixels: less than half the multiplications, and nothing of full size is
    written. Where a side is odd, the windows at the edge are smaller, and no such kernel serves
    for all of them.
    """
    if pooling == "average" and maps.shape[2] % 2 == maps.shape[3] % 2 == 0:
        shifts = [pad(weight, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
        return conv2d(maps, torch.stack(shifts).mean(0), stride=2, padding=1)
    rows = max(CHUNK_VALUES // (len(weight) * maps.shape[2] * maps.shape[3]), 1)
    parts = [fast_pool(conv2d(part, weight, padding=1), pooling) for part in maps.split(rows)]
    return torch.cat(parts)


def fast_pool(maps: Tensor, pooling: Pooling) -> Tensor:
    """Return what `skectonas.network.pool` gives; torch is slow at the maximum of windows."""
    if pooling == "average" or maps.shape[2] % 2 or maps.shape[3] % 2:
        return pool(maps, pooling)
    rows = torch.maximum(maps[..., ::2, :], maps[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])

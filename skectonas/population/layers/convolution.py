"""The interface of a convolution with its pooling, and the choice of one for a cell."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.topology import Topology


class Convolution(Protocol):
    """A convolution with its pooling, on given views of the weights and their gradients.

    Attributes
    ----------
    z : Tensor of shape (candidates, channels, n)
        The pooled maps, n running over row, column and batch.
    """

    z: Tensor

    def forward(self, step: int) -> None:
        """Fill `z`; a first layer reads the loaded batch number `step`."""
        ...

    def backward(self, step: int, dz: Tensor) -> None:
        """Set the gradients of the weights and, except in a first layer, of the pieces."""
        ...


def convolution_of(
    topology: Topology, i: int, weight: Tensor, gradient: Tensor, batch: int
) -> AverageConvolution | MaxConvolution:
    """Return convolution and pooling of cell `i`, which is not the first.

    Parameters
    ----------
    topology : Topology
        The padded topology of a group.
    i : int
        Index of the cell.
    weight, gradient : Tensor of shape (candidates, channels, channels_in, 3, 3)
        The kernels, and where to store their gradients.
    batch : int
        Number of rows.
    """
    kind = AverageConvolution if topology.cells[i].pooling == "average" else MaxConvolution
    return kind(weight, gradient, *topology.map_sizes[i], batch)

"""What every convolution with its pooling offers, and which one a cell has."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.topology import Topology


class Convolution(Protocol):
    """A convolution with its pooling; the weights and their gradients are views given to it.

    Attributes
    ----------
    z : Tensor of shape (candidates, channels, n)
        The pooled maps, n running over row, column and batch.
    """

    z: Tensor

    def forward(self, step: int) -> None:
        """Fill `z`; a first layer takes the loaded batch number `step`."""
        ...

    def backward(self, step: int, dz: Tensor) -> None:
        """Set the gradients of the weights, and of the pieces where there are any."""
        ...


def convolution_of(
    topology: Topology, i: int, weight: Tensor, gradient: Tensor, batch: int
) -> AverageConvolution | MaxConvolution:
    """Return cell `i` up to its pooling; it is not the first.

    Parameters
    ----------
    topology : Topology
        The padded topology of a group.
    i : int
        Which cell.
    weight, gradient : Tensor of shape (candidates, channels, channels_in, 3, 3)
        The kernels and where their gradients go.
    batch : int
        Rows at once.
    """
    kind = AverageConvolution if topology.cells[i].pooling == "average" else MaxConvolution
    return kind(weight, gradient, *topology.map_sizes[i], batch)

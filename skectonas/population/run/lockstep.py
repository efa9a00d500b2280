"""One training step of a whole group: forward pass, loss and backward pass."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from skectonas.population.batches.feed import Feed
from skectonas.population.groups.stack import Stack
from skectonas.population.layers.average import AverageConvolution
from skectonas.population.layers.convolution import Convolution, convolution_of
from skectonas.population.layers.dense import DenseRelu, SharedDense
from skectonas.population.layers.first import SharedAverageCell, SharedMaxConvolution
from skectonas.population.layers.loss import CrossEntropy
from skectonas.population.layers.maximum import MaxConvolution
from skectonas.population.layers.norm import NormRelu
from skectonas.population.layers.pieces import Piece, single_piece
from skectonas.topology import conv_name, linear_name, norm_name


class Stage(Protocol):
    """A part of the network with a forward and a backward pass."""

    def forward(self, step: int) -> None:
        """Fill the input of the next stage."""
        ...

    def backward(self, step: int) -> None:
        """Set the gradients of the stage's weights and of its input."""
        ...


class CellStage:
    """A convolution with its pooling, followed by batch norm and relu."""

    def __init__(self, convolution: Convolution, norm: NormRelu) -> None:
        self._convolution, self._norm = convolution, norm

    def forward(self, step: int) -> None:
        """Fill the input of the next stage."""
        self._convolution.forward(step)
        self._norm.forward()

    def backward(self, step: int) -> None:
        """Set the gradients of the stage's weights and of its input."""
        self._norm.backward()
        self._convolution.backward(step, self._norm.dz)


class Lockstep:
    """The networks of a group as one computation, for batches of one size.

    A step neither waits for the device nor allocates memory: all buffers and their views are
    made in advance.

    Parameters
    ----------
    stack : Stack
        The weights.
    feed : Feed
        Source of the batches.
    learning_rate : float or None
        With a number, a step updates the matrices of dense layers by gradient descent, and does
        not store their gradients. With None, it stores the gradients of all weights.

    Attributes
    ----------
    gradient : Tensor of shape (n,)
        Gradients, in the layout of `stack.flat`.
    loss : CrossEntropy
        Holds the sum of the losses.
    """

    def __init__(self, stack: Stack, feed: Feed, learning_rate: float | None) -> None:
        self._learning_rate = learning_rate
        self.gradient = torch.zeros_like(stack.flat)
        self._stack, self._feed = stack, feed
        self._batch = feed.weights.shape[1]
        self._gradients = stack.views_of(self.gradient)
        self._stages: list[Stage] = []
        if stack.topology.cells:
            x, dx = self._add_cells()
            y, dy = self._add_dense(x, dx, first=0)
        else:
            shared = self._shared_dense()
            y, dy = self._add_dense(shared.y, shared.dy, first=1)
        self.loss = CrossEntropy(y, dy, feed.targets, feed.weights)
        self._backward_stages = self._stages[::-1]

    def step(self, step: int) -> None:
        """Set the gradients of a loaded batch, or update matrices; add up its losses."""
        for stage in self._stages:
            stage.forward(step)
        self.loss.step(step)
        for stage in self._backward_stages:
            stage.backward(step)

    def _weight_and_bias(
        self, layer: str
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return weight and bias of a layer, and where to store their gradients."""
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        views, gradients = self._stack.views, self._gradients
        return (views[weight], views[bias]), (gradients[weight], gradients[bias])

    def _add_cells(self) -> tuple[Tensor, Tensor]:
        """Add the cells; return the output of flatten, and where to store its gradient."""
        topology, n, flat = self._stack.topology, len(self._stack), self._stack.flat
        shapes = [
            (n, channels, *sizes, self._batch)
            for channels, sizes in zip(topology.channels, topology.map_sizes, strict=True)
        ]
        last, d_last = (flat.new_empty(shapes[-1]) for _ in range(2))
        later = [self._convolution(i) for i in range(1, len(topology.cells))]
        outs = [*(convolution.pieces for convolution in later), single_piece(last, d_last)]
        self._stages.append(self._first_cell(outs[0], shapes[1]))
        for i, convolution in enumerate(later, 1):
            self._stages.append(self._cell(i, convolution, outs[i], shapes[i + 1]))
        rows = (n, math.prod(shapes[-1][1:-1]), self._batch)
        return last.view(rows), d_last.view(rows)

    def _cell(
        self, i: int, convolution: Convolution, out: list[Piece], shape: tuple[int, ...]
    ) -> CellStage:
        weights, gradients = self._weight_and_bias(norm_name(i))
        return CellStage(convolution, NormRelu(weights, gradients, convolution.z, out, shape))

    def _first_cell(self, out: list[Piece], shape: tuple[int, ...]) -> Stage:
        topology = self._stack.topology
        if self._feed.moments is not None:
            return SharedAverageCell(
                self._stack.views, self._gradients, self._feed.moments, out, shape
            )
        name = f"{conv_name(0)}.weight"
        convolution = SharedMaxConvolution(
            self._stack.views[name],
            self._gradients[name],
            self._feed.columns,
            *topology.input_shape[:2],
            self._batch,
        )
        return self._cell(0, convolution, out, shape)

    def _convolution(self, i: int) -> AverageConvolution | MaxConvolution:
        name = f"{conv_name(i)}.weight"
        views, gradients = self._stack.views, self._gradients
        return convolution_of(
            self._stack.topology, i, views[name], gradients[name], self._batch
        )

    def _shared_dense(self) -> SharedDense:
        topology = self._stack.topology
        name = linear_name(topology, 0)
        weights, gradients = self._weight_and_bias(name)
        relu = bool(topology.dense)
        layer = SharedDense(
            weights, gradients, self._feed.columns, relu=relu, learning_rate=self._learning_rate
        )
        self._stages.append(layer)
        return layer

    def _add_dense(self, x: Tensor, dx: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Add the dense layers, starting with `first`; return logits and their gradient."""
        topology = self._stack.topology
        for i in range(first, len(topology.dense) + 1):
            name = linear_name(topology, i)
            weights, gradients = self._weight_and_bias(name)
            relu = i < len(topology.dense)
            layer = DenseRelu(
                weights, gradients, x, dx, relu=relu, learning_rate=self._learning_rate
            )
            self._stages.append(layer)
            x, dx = layer.y, layer.dy
        return x, dx

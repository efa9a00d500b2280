"""Dense layers of all candidates of a group, batch last."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.population.layers.pieces import where_positive


class DenseRelu:
    """A dense layer on the own input of each candidate, with relu unless it is the output.

    Parameters
    ----------
    weights, gradients : tuple of two Tensors
        Weight (candidates, units, units_in) and bias (candidates, units), and where to store
        their gradients.
    x, dx : Tensor of shape (candidates, units_in, batch)
        The input, and where to store its gradient.
    relu : bool
        Whether relu follows.
    learning_rate : float or None
        With a number, `backward` updates the weight by gradient descent. With None, it stores
        the gradient of the weight.

    Attributes
    ----------
    y, dy : Tensor of shape (candidates, units, batch)
        The output, and where the next layer stores its gradient.
    """

    def __init__(
        self,
        weights: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        x: Tensor,
        dx: Tensor,
        *,
        relu: bool,
        learning_rate: float | None,
    ) -> None:
        self._weight, bias = weights
        self._d_weight, self._d_bias = gradients
        self._bias = bias.unsqueeze(-1)
        self._x, self._dx = x, dx
        self._relu, self._learning_rate = relu, learning_rate
        self.y = x.new_empty(*self._bias.shape[:2], x.shape[-1])
        self.dy = torch.empty_like(self.y)

    def forward(self, step: int) -> None:
        """Fill `y`."""
        torch.baddbmm(self._bias, self._weight, self._x, out=self.y)
        if self._relu:
            self.y.relu_()

    def backward(self, step: int) -> None:
        """Set the gradients, or update the weight; `dy` is overwritten."""
        if self._relu:
            where_positive(self.dy, self.y, self.dy)
        torch.sum(self.dy, -1, out=self._d_bias)
        torch.bmm(self._weight.mT, self.dy, out=self._dx)
        if self._learning_rate is None:
            torch.bmm(self.dy, self._x.mT, out=self._d_weight)
        else:
            # Most weights are in such matrices: this saves three passes over them.
            self._weight.baddbmm_(self.dy, self._x.mT, alpha=-self._learning_rate)


class SharedDense:
    """The first dense layer of networks without cells, as one product for all candidates.

    Parameters
    ----------
    weights, gradients : tuple of two Tensors
        Weight (candidates, units, pixels) and bias (candidates, units), and where to store
        their gradients.
    columns : Tensor of shape (n_batches, pixels, batch)
        See `Inputs`.
    relu : bool
        Whether relu follows.
    learning_rate : float or None
        See `DenseRelu`.
    """

    def __init__(
        self,
        weights: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        columns: Tensor,
        *,
        relu: bool,
        learning_rate: float | None,
    ) -> None:
        n, units, pixels = weights[0].shape
        self._weight, self._d_weight = (
            named[0].view(n * units, pixels) for named in (weights, gradients)
        )
        self._bias = weights[1].view(n * units, 1)
        self._d_bias = gradients[1].view(n * units)
        self._columns = columns.unbind(0)
        self._relu, self._learning_rate = relu, learning_rate
        self.y = columns.new_empty(n, units, columns.shape[-1])
        self.dy = torch.empty_like(self.y)
        self._flat_y, self._flat_dy = (t.view(n * units, -1) for t in (self.y, self.dy))

    def forward(self, step: int) -> None:
        """Fill `y`."""
        torch.addmm(self._bias, self._weight, self._columns[step], out=self._flat_y)
        if self._relu:
            self.y.relu_()

    def backward(self, step: int) -> None:
        """Set the gradients, or update the weight; `dy` is overwritten."""
        if self._relu:
            where_positive(self.dy, self.y, self.dy)
        torch.sum(self._flat_dy, -1, out=self._d_bias)
        columns = self._columns[step].mT
        if self._learning_rate is None:
            torch.mm(self._flat_dy, columns, out=self._d_weight)
        else:
            self._weight.addmm_(self._flat_dy, columns, alpha=-self._learning_rate)

"""First cells, which compute one product of the common batch for all candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.layers.maximum import MaximumOfFour
from skectonas.population.layers.moments import Moments
from skectonas.population.layers.patches import POSITIONS, PatchKernels
from skectonas.population.layers.pieces import Piece, where_positive
from skectonas.topology import conv_name, norm_name, pooled


class SharedMaxConvolution:
    """The first convolution, with max pooling.

    Parameters
    ----------
    weight, gradient : Tensor of shape (candidates, channels, channels_in, 3, 3)
        The kernels, and where to store their gradients.
    columns : Tensor of shape (n_batches, channels_in * 16, n)
        See `Inputs`.
    height, width, batch : int
        Size of the input maps.
    """

    def __init__(
        self,
        weight: Tensor,
        gradient: Tensor,
        columns: Tensor,
        height: int,
        width: int,
        batch: int,
    ) -> None:
        n, channels = weight.shape[:2]
        h, w = pooled(height), pooled(width)
        self._kernels = PatchKernels(weight, gradient, "c dy a dx b", halves=1)
        rows = n * POSITIONS * channels
        self._rows = self._kernels.rows.view(rows, -1)
        self._d_rows = self._kernels.d_rows.view(rows, -1)
        self._d_rows_t = columns.new_empty(columns.shape[1], rows)
        self._columns = columns.unbind(0)
        self._products = columns.new_empty(rows, columns.shape[2])
        positions = self._products.view(n, POSITIONS, channels, h, w, batch)
        maximum = columns.new_empty(n, channels, h, w, batch)
        self._pool = MaximumOfFour(positions.unbind(1), height, width, maximum)
        self.z = maximum.view(n, channels, h * w * batch)
        self._shape = maximum.shape

    def forward(self, step: int) -> None:
        """Fill `z`."""
        self._kernels.spread()
        torch.mm(self._rows, self._columns[step], out=self._products)
        self._pool.forward()

    def backward(self, step: int, dz: Tensor) -> None:
        """Set the gradients of the weights."""
        self._pool.backward(dz.view(self._shape))
        # The transposed product is faster, and the result to transpose is small.
        torch.mm(self._columns[step], self._products.mT, out=self._d_rows_t)
        self._d_rows.copy_(self._d_rows_t.mT)
        self._kernels.collect()


class SharedAverageCell:
    """The first cell, with average pooling, which is combined with the convolution.

    All candidates share the columns X, and the input of the batch norm is linear in them:
    z = W X. So mean and variance of z follow from those of X, and the batch norm is a scaling
    of W. Its gradients follow from the product that the gradient of W needs. The batch norm
    takes no pass over the activations.

    Parameters
    ----------
    views, gradients : dict of str to Tensor
        Stacked weights of the group, and where to store their gradients.
    moments : Moments
        Moments of the columns of the loaded batches.
    out : list of Piece
        The input of the next layer, (candidates, channels, rows, columns, batch), in parts.
    shape : tuple of int
        Shape of that input.
    """

    def __init__(
        self,
        views: dict[str, Tensor],
        gradients: dict[str, Tensor],
        moments: Moments,
        out: list[Piece],
        shape: tuple[int, ...],
    ) -> None:
        rows, k = shape[0] * shape[1], moments.covariance.shape[-1]

        def matrices(named: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            return (
                named[f"{conv_name(0)}.weight"].view(rows, k),
                named[f"{norm_name(0)}.weight"].view(rows, 1),
                named[f"{norm_name(0)}.bias"].view(rows, 1),
            )

        self._weight, self._gamma, self._beta = matrices(views)
        self._d_weight, self._d_gamma, self._d_beta = matrices(gradients)
        self._columns = moments.columns.unbind(0)
        self._covariance = moments.covariance.unbind(0)
        new = self._weight.new_empty
        n = moments.columns.shape[-1]
        self._correlated, self._small = new(rows, k), new(rows, k)
        self._variance, self._inv_std, self._factor = new(rows, 1), new(rows, 1), new(rows, 1)
        self._scaled = new(rows, k + 1)
        self._product, self._reverse = new(k + 1, rows), new(rows, k + 1)
        self._y = new(rows, n)
        self._maps = self._y.view(shape)
        self._out = [(self._maps[p.where], p.value, p.gradient) for p in out]

    def forward(self, step: int) -> None:
        """Fill the input of the next layer."""
        torch.mm(self._weight, self._covariance[step], out=self._correlated)
        torch.mul(self._correlated, self._weight, out=self._small)
        torch.sum(self._small, 1, keepdim=True, out=self._variance)
        # Rounding can make a variance of zero negative.
        self._variance.clamp_min_(0).add_(BATCH_NORM_EPSILON)
        torch.rsqrt(self._variance, out=self._inv_std)
        torch.mul(self._gamma, self._inv_std, out=self._factor)
        torch.mul(self._weight, self._factor, out=self._scaled[:, :-1])
        self._scaled[:, -1:].copy_(self._beta)
        torch.mm(self._scaled, self._columns[step], out=self._y)
        for maps, value, _ in self._out:
            torch.clamp_min(maps, 0, out=value)

    def backward(self, step: int) -> None:
        """Set the gradients of kernels, gamma and beta."""
        for maps, value, gradient in self._out:
            where_positive(gradient, value, maps)
        torch.mm(self._columns[step], self._y.mT, out=self._product)
        reverse = self._reverse
        reverse.copy_(self._product.mT)
        products = reverse[:, :-1]
        self._d_beta.copy_(reverse[:, -1:])
        torch.mul(self._weight, products, out=self._small)
        torch.sum(self._small, 1, keepdim=True, out=self._d_gamma)
        self._d_gamma.mul_(self._inv_std)
        torch.mul(self._d_gamma, self._inv_std, out=self._variance)
        torch.mul(self._correlated, self._variance, out=self._small)
        torch.sub(products, self._small, out=self._d_weight)
        self._d_weight.mul_(self._factor)

"""Batch norm and relu of all candidates of a group, on contiguous memory."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.network import BATCH_NORM_EPSILON
from skectonas.population.layers.pieces import Piece, where_positive


class NormRelu:
    """Batch norm with the statistics of the batch, then relu into the input of the next layer.

    The statistics are those of `skectonas.network.channel_statistics`, computed in place.

    Parameters
    ----------
    weights, gradients : tuple of two Tensors of shape (candidates, channels)
        Gamma and beta, and where to store their gradients.
    z : Tensor of shape (candidates, channels, n)
        The input; it is overwritten by its centred values.
    out : list of Piece
        The input of the next layer, (candidates, channels, rows, columns, batch), in parts.
    shape : tuple of int
        Shape of that input.
    """

    def __init__(
        self,
        weights: tuple[Tensor, Tensor],
        gradients: tuple[Tensor, Tensor],
        z: Tensor,
        out: list[Piece],
        shape: tuple[int, ...],
    ) -> None:
        n, channels, values = z.shape
        rows = n * channels
        self._gamma, self._beta = (weight.view(rows, 1) for weight in weights)
        self._d_gamma, self._d_beta = (gradient.view(rows) for gradient in gradients)
        self._z = z.view(rows, values)
        self._y = torch.empty_like(self._z)
        self._mean, self._inv_std, self._factor = (z.new_empty(rows, 1) for _ in range(3))
        self._zeros = z.new_zeros(rows)
        self._dz = torch.empty_like(self._z)
        self.dz = self._dz.view(z.shape)
        maps = self._y.view(shape)
        self._out = [(maps[p.where], p.value, p.gradient) for p in out]

    def forward(self) -> None:
        """Fill the input of the next layer."""
        z, inv_std = self._z, self._inv_std
        torch.mean(z, 1, keepdim=True, out=self._mean)
        z.sub_(self._mean)
        # `torch.var_mean` is many times slower along a long last axis.
        torch.linalg.vector_norm(z, dim=1, keepdim=True, out=inv_std)
        inv_std.square_().div_(z.shape[1]).add_(BATCH_NORM_EPSILON).rsqrt_()
        torch.mul(self._gamma, inv_std, out=self._factor)
        torch.mul(z, self._factor, out=self._y)
        self._y.add_(self._beta)
        for maps, value, _ in self._out:
            torch.clamp_min(maps, 0, out=value)

    def backward(self) -> None:
        """Fill `dz` and set the gradients of gamma and beta."""
        for maps, value, gradient in self._out:
            where_positive(gradient, value, maps)
        torch.ops.aten.native_batch_norm_backward.out(
            self._y.unsqueeze(0),
            self._z.unsqueeze(0),
            self._gamma.view(-1),
            None,
            None,
            self._zeros,
            self._inv_std.view(-1),
            True,
            BATCH_NORM_EPSILON,
            [True, True, True],
            out0=self._dz.unsqueeze(0),
            out1=self._d_gamma,
            out2=self._d_beta,
        )

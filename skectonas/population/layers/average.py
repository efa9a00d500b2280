"""Convolution with average pooling of all candidates of a group, batch last."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.population.layers.pieces import single_piece
from skectonas.population.layers.windows import BoxWindows, BoxWindowsBackward
from skectonas.topology import KERNEL, pooled

TAPS = KERNEL**2


class AverageConvolution:
    """Convolution and average pooling combined into one product: see `BoxWindows`.

    Parameters
    ----------
    weight, gradient : Tensor of shape (candidates, channels, channels_in, 3, 3)
        The kernels, and where to store their gradients.
    height, width, batch : int
        Size of the input maps.
    """

    def __init__(
        self, weight: Tensor, gradient: Tensor, height: int, width: int, batch: int
    ) -> None:
        n, channels, channels_in = weight.shape[:3]
        h, w = pooled(height), pooled(width)
        padded = weight.new_zeros(n, channels_in, height + 2, width + 2, batch)
        columns = weight.new_empty(n, channels_in, KERNEL, KERNEL, h, w, batch)
        maps = weight.new_empty(n, channels_in, height, width, batch)
        self._weight = weight.view(n, channels, channels_in * TAPS)
        self._gradient = gradient.view(n, channels, channels_in * TAPS)
        self._columns = columns.view(n, channels_in * TAPS, h * w * batch)
        self._gather = BoxWindows(padded, columns)
        self._scatter = BoxWindowsBackward(columns, maps)
        self.pieces = single_piece(padded[:, :, 1:-1, 1:-1], maps)
        self.z = weight.new_empty(n, channels, h * w * batch)

    def forward(self, step: int) -> None:
        """Fill `z`."""
        self._gather.gather()
        # The windows hold sums of four pixels, not their averages.
        torch.baddbmm(self.z, self._weight, self._columns, beta=0, alpha=0.25, out=self.z)

    def backward(self, step: int, dz: Tensor) -> None:
        """Set the gradients of the weights and of the maps."""
        columns = self._columns
        torch.baddbmm(self._gradient, dz, columns.mT, beta=0, alpha=0.25, out=self._gradient)
        # The windows are no longer needed: their gradients overwrite them.
        torch.baddbmm(columns, self._weight.mT, dz, beta=0, alpha=0.25, out=columns)
        self._scatter.scatter()

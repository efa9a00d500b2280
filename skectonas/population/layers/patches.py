"""Kernels that map the 4x4 pixels around a 2x2 pooling window to its four positions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skectonas.topology import KERNEL

TAPS = KERNEL**2
PATCH = KERNEL + 1  # side of the pixels that a 2x2 pooling window depends on
POSITIONS = 4  # positions in a pooling window


class PatchKernels:
    """Kernels as matrices from the 4x4 pixels around a pooling window to its four positions.

    Parameters
    ----------
    weight, gradient : Tensor of shape (candidates, channels, channels_in, 3, 3)
        The kernels, and where to store their gradients.
    order : str
        Order of the columns, slowest axis first: "dy", "dx" (halves of the patch), "c"
        (channel), "a", "b" (pixel within a half). A pixel has row 2 dy + a, column 2 dx + b.
    halves : int
        2 if the upper and the lower half of the patch have separate matrices, with "dy" first
        in `order`; else 1.

    Attributes
    ----------
    rows, d_rows : Tensor of shape (candidates, halves, 4 * channels, columns)
        The matrices and their gradients; the positions of the window come before the channels.
    """

    def __init__(self, weight: Tensor, gradient: Tensor, order: str, halves: int) -> None:
        n, channels, channels_in = weight.shape[:3]
        columns = channels_in * PATCH**2 // halves
        place = patch_places(channels, channels_in, order, halves)
        kernels = channels * channels_in * TAPS
        # Places without a tap read the zero that is stored after the kernels.
        source = np.full(halves * POSITIONS * channels * columns, kernels)
        for position in place:
            source[position] = np.arange(kernels)
        self._weight = weight.view(n, kernels)
        self._extended = weight.new_zeros(n, kernels + 1)
        self._source = torch.from_numpy(source).to(weight.device)
        self._place = torch.from_numpy(place.reshape(-1)).to(weight.device)
        self._gradient = gradient.view(n, kernels)
        self._picked = weight.new_empty(n, POSITIONS * kernels)
        self._flat = weight.new_empty(n, len(source))
        self._d_flat = weight.new_empty(n, len(source))
        shape = (n, halves, POSITIONS * channels, columns)
        self.rows = self._flat.view(shape)
        self.d_rows = self._d_flat.view(shape)

    def spread(self) -> None:
        """Set the rows from the kernels."""
        self._extended[:, :-1].copy_(self._weight)
        torch.index_select(self._extended, 1, self._source, out=self._flat)

    def collect(self) -> None:
        """Set the gradients of the kernels from those of the rows."""
        n, kernels = self._gradient.shape
        torch.index_select(self._d_flat, 1, self._place, out=self._picked)
        torch.sum(self._picked.view(n, POSITIONS, kernels), 1, out=self._gradient)


def patch_places(
    channels: int, channels_in: int, order: str, halves: int
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the places of each weight of the kernels, one for each position of the window.

    Returns
    -------
    ndarray of shape (4, channels * channels_in * 9)
        Flat indices into (dy, position, channel, other axes of `order`). If `halves` is 1, dy
        is one of the other axes.
    """
    u, v, out, c, i, j = np.ogrid[:2, :2, :channels, :channels_in, :KERNEL, :KERNEL]
    (dy, a), (dx, b) = np.divmod(u + i, 2), np.divmod(v + j, 2)
    sizes = {"dy": 2, "dx": 2, "c": channels_in, "a": 2, "b": 2}
    values = {"dy": dy, "dx": dx, "c": c, "a": a, "b": b}
    names = order.split()
    axes = [(2 * u + v, POSITIONS), (out, channels)]
    axes += [(values[name], sizes[name]) for name in names]
    if halves == 2:
        axes.insert(0, axes.pop(2))
    flat = np.zeros(1, dtype=np.int64)
    for value, size in axes:
        flat = flat * size + value
    shape = (2, 2, channels, channels_in, KERNEL, KERNEL)
    return np.broadcast_to(flat, shape).reshape(POSITIONS, -1).astype(np.int64)

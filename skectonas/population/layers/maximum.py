"""Convolution with max pooling of all candidates of a group, batch last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skectonas.population.layers.patches import POSITIONS, PatchKernels
from skectonas.population.layers.pieces import Piece, where_positive
from skectonas.topology import pooled


class MaximumOfFour:
    """The maximum over the positions of a pooling window, and its gradient.

    The first of equal values gets the gradient, as in `torch.nn.MaxPool2d`. The forward pass
    keeps differences; `where_positive` reads their signs in the backward pass.

    Parameters
    ----------
    positions : sequence of Tensor
        The four positions, (candidates, channels, rows, columns, batch).
    height, width : int
        Size of the map before pooling.
    maximum : Tensor
        Where to store the maximum.
    """

    def __init__(
        self, positions: Sequence[Tensor], height: int, width: int, maximum: Tensor
    ) -> None:
        self._positions = positions
        self._maximum = maximum
        self._upper, self._lower = maximum, torch.empty_like(maximum)
        self._differences = [torch.empty_like(maximum) for _ in range(3)]
        self._d_upper, self._d_lower = torch.empty_like(maximum), torch.empty_like(maximum)
        self._outside = []
        if height % 2:
            self._outside += [positions[k][:, :, -1] for k in (2, 3)]
        if width % 2:
            self._outside += [positions[k][:, :, :, -1] for k in (1, 3)]

    def forward(self) -> None:
        """Fill the maximum."""
        for edge in self._outside:
            edge.fill_(-torch.inf)
        first, second, third, fourth = self._positions
        in_upper, in_lower, lower_wins = self._differences
        torch.sub(second, first, out=in_upper)
        torch.sub(fourth, third, out=in_lower)
        torch.maximum(first, second, out=self._upper)
        torch.maximum(third, fourth, out=self._lower)
        torch.sub(self._lower, self._upper, out=lower_wins)
        torch.maximum(self._upper, self._lower, out=self._maximum)

    def backward(self, gradient: Tensor) -> None:
        """Overwrite the four positions with their gradients."""
        first, second, third, fourth = self._positions
        in_upper, in_lower, lower_wins = self._differences
        split_gradient(gradient, lower_wins, self._d_upper, self._d_lower)
        split_gradient(self._d_upper, in_upper, first, second)
        split_gradient(self._d_lower, in_lower, third, fourth)


def split_gradient(gradient: Tensor, difference: Tensor, first: Tensor, second: Tensor) -> None:
    """Pass a gradient to `second` where the difference is positive, else to `first`."""
    where_positive(gradient, difference, second)
    torch.sub(gradient, second, out=first)


class MaxConvolution:
    """Convolution and max pooling, as a 2x2 convolution of the map folded into 2x2 blocks.

    The map is kept as (half dx, channel, pixel a, pixel b, row, column, batch), where the four
    pixels of a block are separate channels. The next block is then an offset in flat memory:
    the columns of the matrix product are views of the map, and only the shift to the right, dx,
    needs a copy. The last column of blocks has no neighbour, so its products are ignored.

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
        self._kernels = PatchKernels(weight, gradient, "dy dx c a b", halves=2)
        blocks = (n, 2, channels_in, 2, 2, h + 1, w + 1, batch)
        maps, d_maps = weight.new_zeros(blocks), weight.new_zeros(blocks)
        self.pieces = block_pieces(maps[:, 0], d_maps[:, 0], height, width)
        plane, row = (h + 1) * (w + 1) * batch, (w + 1) * batch
        self._columns = maps.view(n, channels_in * 8, plane)
        self._d_columns = d_maps.view(n, channels_in * 8, plane)
        flat, d_flat = maps.view(n, 2, -1), d_maps.view(n, 2, -1)
        self._shift = flat[:, 1, :-batch], flat[:, 0, batch:]
        self._d_shift = d_flat[:, 0, batch:], d_flat[:, 1, :-batch]
        self._at_dy = [slice(0, plane - row), slice(row, plane)]
        self._products = weight.new_zeros(n, POSITIONS * channels, plane - row)
        positions = self._products.view(n, POSITIONS, channels, h, w + 1, batch)[..., :w, :]
        maximum = weight.new_empty(n, channels, h, w, batch)
        self._pool = MaximumOfFour(positions.unbind(1), height, width, maximum)
        self._ignored = self._products.view(n, POSITIONS, channels, h, w + 1, batch)[..., w, :]
        self.z = maximum.view(n, channels, h * w * batch)
        self._shape = maximum.shape

    def forward(self, step: int) -> None:
        """Fill `z`."""
        here, right = self._shift
        here.copy_(right)
        self._kernels.spread()
        rows, (upper, lower) = self._kernels.rows, self._at_dy
        torch.bmm(rows[:, 0], self._columns[:, :, upper], out=self._products)
        torch.baddbmm(
            self._products, rows[:, 1], self._columns[:, :, lower], out=self._products
        )
        self._pool.forward()

    def backward(self, step: int, dz: Tensor) -> None:
        """Set the gradients of the weights and of the maps."""
        self._pool.backward(dz.view(self._shape))
        self._ignored.zero_()
        products, columns, rows = self._products, self._columns, self._kernels.rows
        for dy, window in enumerate(self._at_dy):
            self._kernels.d_rows[:, dy] = torch.bmm(products, columns[:, :, window].mT)
        self._kernels.collect()
        upper, lower = self._at_dy
        torch.bmm(rows[:, 0].mT, products, out=self._d_columns[:, :, upper])
        self._d_columns[:, :, upper.stop :].zero_()
        below = self._d_columns[:, :, lower]
        torch.baddbmm(below, rows[:, 1].mT, products, out=below)
        right, here = self._d_shift
        right.add_(here)


def block_pieces(value: Tensor, gradient: Tensor, height: int, width: int) -> list[Piece]:
    """Return the pieces of a map that is folded into 2x2 blocks, with a border of zeros."""
    pieces = []
    for a in (0, 1):
        for b in (0, 1):
            # Pixel (r, c) is (r + 1, c + 1) within the border.
            rows, columns = slice(1 - a, height, 2), slice(1 - b, width, 2)
            inside = (
                slice(1 - a, 1 - a + len(range(1 - a, height, 2))),
                slice(1 - b, 1 - b + len(range(1 - b, width, 2))),
            )
            pieces.append(
                Piece(
                    (slice(None), slice(None), rows, columns),
                    value[(slice(None), slice(None), a, b, *inside)],
                    gradient[(slice(None), slice(None), a, b, *inside)],
                )
            )
    return pieces

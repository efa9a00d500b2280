"""The 3x3 windows of a map, averaged over each 2x2 pooling window, and their gradients.

A convolution followed by average pooling is a linear map of the input: the convolution of
stride 2 of the box-filtered input. It takes a quarter of the multiplications, and no map of
full size. The box filter sums pairs of neighbouring rows, then pairs of neighbouring columns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skectonas.topology import pooled


class Sum(NamedTuple):
    """An elementwise operation: out = left + factor * right."""

    left: Tensor
    right: Tensor
    factor: float
    out: Tensor

    def run(self) -> None:
        """Compute the sum."""
        torch.add(self.left, self.right, alpha=self.factor, out=self.out)


def pair_sums(source: Tensor, target: Tensor, axis: int, tap: int, side: int) -> list[Sum]:
    """Return the sums of neighbours along an axis, for each of the three taps of a kernel.

    Output y of tap i is pixel 2y + i plus its successor, in padded coordinates. The last window
    of an odd side has one pixel only, which counts twice: the average is over valid pixels.

    Parameters
    ----------
    source : Tensor
        Maps with `side` + 2 pixels along `axis`, of which the first and the last are zero.
    target : Tensor
        Sums, with ceil(`side` / 2) pixels along `axis` and the three taps along `tap`.
    axis, tap : int
        Negative numbers of the axes: `axis` in `source` and `target`, `tap` in `target`.
    side : int
        Number of pixels of the map along the axis, without the padding.
    """
    sums = []
    full = side // 2
    for i in range(3):
        out = target.select(tap, i)
        first, second = (
            source.narrow(axis, i + shift, side + 2 - i - shift)
            .unfold(axis, 1, 2)
            .squeeze(-1)
            .narrow(axis, 0, full)
            for shift in (0, 1)
        )
        sums.append(Sum(first, second, 1.0, out.narrow(axis, 0, full)))
        if side % 2:
            last = source.narrow(axis, side - 1 + i, 1)
            sums.append(Sum(last, last, 1.0, out.narrow(axis, full, 1)))
    return sums


def pair_sums_backward(
    target: Tensor, source: Tensor, axis: int, tap: int, side: int
) -> list[Sum]:
    """Return the operations of the transpose of `pair_sums`; they overwrite `target`.

    `source` has no padding here, because the gradient of the padding is not needed.
    """
    taps = [target.select(tap, i) for i in range(3)]
    full = side // 2

    def at(i: int, start: int, length: int) -> Tensor:
        return taps[i].narrow(axis, start, length)

    def every_other(start: int, length: int) -> Tensor:
        step = source.narrow(axis, start, side - start).unfold(axis, 1, 2).squeeze(-1)
        return step.narrow(axis, 0, length)

    sums = []
    if full > 1:
        # This sum of taps 0 and 2 is used twice: for a pixel and for its successor.
        sums.append(Sum(at(0, 1, full - 1), at(2, 0, full - 1), 1.0, at(0, 1, full - 1)))
    sums.append(Sum(at(0, 0, full), at(1, 0, full), 1.0, every_other(0, full)))
    if full > 1:
        sums.append(Sum(at(0, 1, full - 1), at(1, 0, full - 1), 1.0, every_other(1, full - 1)))
    last = source.narrow(axis, 2 * full - 1, 1)
    sums.append(Sum(at(2, full - 1, 1), at(1, full - 1, 1), 1.0, last))
    if side % 2:
        sums.append(Sum(last, at(0, full, 1), 2.0, last))
        odd = source.narrow(axis, side - 1, 1)
        sums.append(Sum(at(2, full - 1, 1), at(1, full, 1), 2.0, odd))
    return sums


class BoxWindows:
    """The 3x3 windows of padded maps, summed over 2x2 pixels: four times their averages.

    Parameters
    ----------
    padded : Tensor of shape (n, channels, height + 2, width + 2, batch)
        Maps with a border of zeros.
    columns : Tensor of shape (n, channels, 3, 3, ceil(height / 2), ceil(width / 2), batch)
        Where to store the windows.
    """

    def __init__(self, padded: Tensor, columns: Tensor) -> None:
        n, channels, height, width, batch = padded.shape
        height, width = height - 2, width - 2
        rows = padded.new_empty(n, channels, 3, pooled(height), width + 2, batch)
        self._sums = pair_sums(padded, rows, -3, -4, height)
        self._sums += pair_sums(rows, columns, -2, -4, width)

    def gather(self) -> None:
        """Fill the columns."""
        for step in self._sums:
            step.run()


class BoxWindowsBackward:
    """The transpose of `BoxWindows`: it maps gradients of the windows to those of the maps.

    Parameters
    ----------
    columns : Tensor of shape (n, channels, 3, 3, ceil(height / 2), ceil(width / 2), batch)
        Gradients of the windows; they are overwritten.
    maps : Tensor of shape (n, channels, height, width, batch)
        Where to store the gradients of the maps.
    """

    def __init__(self, columns: Tensor, maps: Tensor) -> None:
        n, channels, height, width, batch = maps.shape
        rows = maps.new_empty(n, channels, 3, pooled(height), width, batch)
        self._sums = pair_sums_backward(columns, rows, -2, -4, width)
        self._sums += pair_sums_backward(rows, maps, -3, -4, height)

    def scatter(self) -> None:
        """Fill the maps."""
        for step in self._sums:
            step.run()

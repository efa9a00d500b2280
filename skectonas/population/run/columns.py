"""What the first layer sees: pixels as columns of a matrix product, the same for everybody."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.population.layers.patches import PATCH
from skectonas.population.layers.windows import BoxWindows
from skectonas.population.run.slots import slots
from skectonas.topology import KERNEL, Topology, pooled
from skectonas.training import TrainingData


class Inputs:
    """Columns of the first layer for several batches at once: buffers and how to fill them.

    Parameters
    ----------
    topology : Topology
        Says what the first layer is: dense, or a cell with one of the poolings.
    data : TrainingData
        The rows; pixels stay as they are until a batch is taken.
    n_batches, batch : int
        How many batches are loaded at once, and their rows.
    dtype : torch.dtype
        Of the columns.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k, n)
        k is the number of pixels and n the batch for a dense layer; for average pooling, k runs
        over channel and the 3x3 taps, for maximum pooling over channel and 4x4 pixels, and n
        over row, column and batch of the pooled map.
    """

    def __init__(
        self,
        topology: Topology,
        data: TrainingData,
        n_batches: int,
        batch: int,
        dtype: torch.dtype,
    ) -> None:
        height, width, channels = topology.input_shape
        self._offset, self._scale = data.offset_and_scale(dtype)
        self._pixels = torch.empty(
            (n_batches, batch, height, width, channels),
            dtype=dtype,
            device=data.train.labels.device,
        )
        # Pixels with the batch last; many at a time are turned faster than channels one by one.
        self._turned = self._pixels.new_empty(n_batches, height, width, channels, batch)
        flat = self._turned.view(n_batches, -1, batch)
        self._turns = list(zip(flat, self._pixels.view(n_batches, batch, -1), strict=True))
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._sums: BoxWindows | None = None
        if not topology.cells:
            self._maps = slots(self._pixels, n_batches, channels, height, width, batch)
            self.columns = self._maps.view(n_batches, channels * height * width, batch)
        elif topology.cells[0].pooling == "average":
            self._average(height, width)
        else:
            self._maximum(height, width)

    def _average(self, height: int, width: int) -> None:
        padded, windows = self._windows(height, width, KERNEL, (0, 0))
        self._sums = BoxWindows(padded, windows)
        self._scale = self._scale / 4  # of sums of four pixels

    def _maximum(self, height: int, width: int) -> None:
        # The windows of odd sides reach one pixel further.
        padded, windows = self._windows(height, width, PATCH, (height % 2, width % 2))
        h, w = windows.shape[4:6]
        for i in range(PATCH):
            for j in range(PATCH):
                source = padded[:, :, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2]
                self._copies.append((windows[:, :, i, j], source))

    def _windows(
        self, height: int, width: int, side: int, beyond: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Make the padded maps, and the columns as windows of them."""
        n_batches, batch, _, _, channels = self._pixels.shape
        h, w = pooled(height), pooled(width)
        padded = self._pixels.new_zeros(
            n_batches, channels, height + 2 + beyond[0], width + 2 + beyond[1], batch
        )
        self._maps = padded[:, :, 1 : height + 1, 1 : width + 1]
        windows = slots(padded, n_batches, channels, side, side, h, w, batch)
        self.columns = windows.view(n_batches, channels * side**2, h * w * batch)
        return padded, windows

    def load(self, images: Tensor) -> None:
        """Fill the columns from images (n_batches * batch, ...), as they came."""
        pixels = self._pixels
        pixels.view(len(images), -1).copy_(images.flatten(1))
        pixels.sub_(self._offset).mul_(self._scale)
        if pixels.shape[-1] == 1:
            self._maps.copy_(pixels.permute(0, 4, 2, 3, 1))
        else:
            for turned, batch in self._turns:
                turned.copy_(batch.mT)
            self._maps.copy_(self._turned.permute(0, 3, 1, 2, 4))
        if self._sums is not None:
            self._sums.gather()
        for window, source in self._copies:
            window.copy_(source)

    def columns_of(self, images: Tensor) -> Tensor:
        """Return the columns (k, n) of a single batch of images."""
        self.load(images)
        return self.columns[0]

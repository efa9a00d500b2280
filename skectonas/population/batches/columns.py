"""The input of the first layer: pixels as columns of a matrix product, for all candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.population.layers.patches import PATCH
from skectonas.population.layers.slots import empty_slots
from skectonas.population.layers.windows import BoxWindows
from skectonas.topology import KERNEL, Topology, pooled
from skectonas.training import TrainingData


class Inputs:
    """Buffers with the columns of the first layer for several batches.

    Parameters
    ----------
    topology : Topology
        Its first layer decides the columns: a dense layer, or a cell with one of the poolings.
    data : TrainingData
        Gives the device of the buffers, and the scaling of the pixels.
    n_batches, batch : int
        Number of batches loaded at once, and number of rows of each.
    dtype : torch.dtype
        Type of the columns.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k, n)
        For a dense layer, k is the number of pixels, and n the batch. For a cell, n runs over
        row, column and batch of the pooled map; k runs over channel and the 3x3 taps for
        average pooling, and over channel and 4x4 pixels for max pooling.
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
        device = data.train.labels.device
        self._offset, self._scale = data.scaling.tensors(dtype, device)
        self._pixels = torch.empty(
            (n_batches, batch, height, width, channels),
            dtype=dtype,
            device=device,
        )
        # Pixels with the batch last. A transpose of all pixels is faster than one per channel.
        self._transposed = self._pixels.new_empty(n_batches, height, width, channels, batch)
        flat = self._transposed.view(n_batches, -1, batch)
        self._transposes = list(zip(flat, self._pixels.view(n_batches, batch, -1), strict=True))
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._sums: BoxWindows | None = None
        if not topology.cells:
            self._maps = empty_slots(self._pixels, n_batches, channels, height, width, batch)
            self.columns = self._maps.view(n_batches, channels * height * width, batch)
        elif topology.cells[0].pooling == "average":
            self._prepare_average(height, width)
        else:
            self._prepare_maximum(height, width)

    def _prepare_average(self, height: int, width: int) -> None:
        padded, windows = self._windows(height, width, KERNEL, (0, 0))
        self._sums = BoxWindows(padded, windows)
        self._scale = self._scale / 4  # `BoxWindows` are sums of four pixels

    def _prepare_maximum(self, height: int, width: int) -> None:
        # The last window of an odd side reaches one pixel further.
        padded, windows = self._windows(height, width, PATCH, (height % 2, width % 2))
        h, w = windows.shape[4:6]
        for i in range(PATCH):
            for j in range(PATCH):
                source = padded[:, :, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2]
                self._copies.append((windows[:, :, i, j], source))

    def _windows(
        self, height: int, width: int, side: int, extra: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Make the padded maps, and the columns as windows of these maps."""
        n_batches, batch, _, _, channels = self._pixels.shape
        h, w = pooled(height), pooled(width)
        padded = self._pixels.new_zeros(
            n_batches, channels, height + 2 + extra[0], width + 2 + extra[1], batch
        )
        self._maps = padded[:, :, 1 : height + 1, 1 : width + 1]
        windows = empty_slots(padded, n_batches, channels, side, side, h, w, batch)
        self.columns = windows.view(n_batches, channels * side**2, h * w * batch)
        return padded, windows

    def load(self, images: Tensor) -> None:
        """Fill the columns from images (n_batches * batch, ...), which are not scaled yet."""
        pixels = self._pixels
        pixels.view(len(images), -1).copy_(images.flatten(1))
        pixels.sub_(self._offset).mul_(self._scale)
        if pixels.shape[-1] == 1:
            self._maps.copy_(pixels.permute(0, 4, 2, 3, 1))
        else:
            for transposed, batch in self._transposes:
                transposed.copy_(batch.mT)
            self._maps.copy_(self._transposed.permute(0, 3, 1, 2, 4))
        if self._sums is not None:
            self._sums.gather()
        for window, source in self._copies:
            window.copy_(source)

    def columns_of(self, images: Tensor) -> Tensor:
        """Return the columns (k, n) of a single batch of images."""
        self.load(images)
        return self.columns[0]

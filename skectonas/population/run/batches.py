"""Batches of the training rows, as the steps read them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skectonas.training import TrainingData

MAX_BATCHES = 16
"""Maximum number of batches loaded at once. A device trains on them without waiting for the
host, and more are not faster."""

MAX_VALUES = 2**19
"""Maximum number of pixels loaded at once on a CPU, to stay in the cache."""


class Batch(NamedTuple):
    """Some rows, or several batches of them along a further first axis.

    Attributes
    ----------
    images : Tensor of shape (rows, height, width, channels)
        Scaled pixels.
    labels : Tensor of shape (rows,)
        Class indices.
    shares : Tensor of shape (rows,)
        Weight of each row in the mean loss of its batch.
    """

    images: Tensor
    labels: Tensor
    shares: Tensor

    def number(self, i: int) -> Batch:
        """Return one of several batches.

        It is a copy, which begins where all tensors of torch begin. The rounding of a product
        depends on where its operands begin in memory, and how many batches are loaded at once
        depends on which groups are trained together.
        """
        return Batch(self.images[i].clone(), self.labels[i].clone(), self.shares[i].clone())


class Loader:
    """Loads batches of training rows.

    Parameters
    ----------
    data : TrainingData
        The rows, on the device that computes.
    dtype : torch.dtype
        Type of the weights that are trained.
    """

    def __init__(self, data: TrainingData, dtype: torch.dtype) -> None:
        self._rows, self._dtype = data.train, dtype
        # On the device once and for all, because to bring them there waits for it.
        self._offset, self._scale = data.scaling.tensors(dtype, data.train.labels.device)

    def load(self, rows: Tensor) -> Batch:
        """Return the batches of these rows (n_batches, rows), along the first axis."""
        pixels = self._rows.take(rows.flatten()).to(self._dtype)
        images = (pixels - self._offset).mul_(self._scale)
        shares = images.new_full(rows.shape, 1 / rows.shape[1])
        if self._rows.weights is not None:
            shares *= self._rows.weights_of(rows)
        return Batch(images.unflatten(0, rows.shape), self._rows.labels_of(rows), shares)


def batches_at_once(shape: tuple[int, ...], device: torch.device) -> int:
    """Return the maximum number of batches, of images of some shape, to load at once.

    Parameters
    ----------
    shape : tuple of int
        Rows, height, width and channels of a batch.
    device : torch.device
        The device that computes.
    """
    if device.type != "cpu":
        return MAX_BATCHES
    return min(max(MAX_VALUES // math.prod(shape), 1), MAX_BATCHES)

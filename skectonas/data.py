"""The rows that a search trains and validates on, and the order in which batches see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CALIBRATION_ROWS = 1024
"""Rows that running statistics and reconnections are computed on: enough for both on the data
of the paper, and a small part of an epoch."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Images with their labels.

    Parameters
    ----------
    images : Tensor of shape (n, height, width, channels)
        Pixels as they came, 8-bit or float.
    labels : Tensor of shape (n,)
        Class indices, int64.
    weights : Tensor of shape (n,) or None, default=None
        Sample weights; None means 1 for all.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Rows:
        """Return the same rows on a device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Rows(self.images.to(device), self.labels.to(device), weights)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All that trainers need to know of the data.

    Parameters
    ----------
    train, validation : Rows
        The two sides of the split.
    offset, scale : float
        A network sees (pixel - offset) * scale.
    batch_size : int
        Rows of a batch, at the most.
    """

    train: Rows
    validation: Rows
    offset: float = 0.0
    scale: float = 1.0
    batch_size: int = 32

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.train) // self.batch_size)

    def scaled(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images as a network sees them."""
        return (images.to(dtype) - self.offset) * self.scale

    @cached_property
    def calibration(self) -> Tensor:
        """The training images on which running statistics are computed, unscaled."""
        return self.train.images[:CALIBRATION_ROWS]

    def batches(self, n_steps: int, key: Sequence[int]) -> NDArray[np.int64]:
        """Return which training rows each batch takes: `batch_order` for these data."""
        return batch_order(len(self.train), self.batch_size, n_steps, key)

    def to(self, device: torch.device) -> TrainingData:
        """Return the same data on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


def batch_order(
    n_rows: int, batch_size: int, n_steps: int, key: Sequence[int]
) -> NDArray[np.int64]:
    """Return the rows of the first `n_steps` batches of an endless training.

    All batches of an epoch have the same size, the smallest with which as few batches as
    `batch_size` allows cover all rows; the few places left over in the last one are filled with
    rows of the first. Every epoch is another permutation.

    Parameters
    ----------
    n_rows : int
        Rows of the training data.
    batch_size : int
        Rows of a batch, at the most.
    n_steps : int
        Batches asked for; a longer order begins with the shorter one of the same key.
    key : sequence of int
        What the order depends on, and on nothing else: seed, generation, phase, round.

    Returns
    -------
    ndarray of shape (n_steps, size), int64

    Examples
    --------
    >>> from skectonas.data import batch_order
    >>> batch_order(5, 2, 3, key=(0,)).shape
    (3, 2)
    """
    per_epoch = -(-n_rows // batch_size)
    size = -(-n_rows // per_epoch)
    epochs = [np.empty((0, size), np.int64)]
    for epoch in range(-(-n_steps // per_epoch)):
        rows = np.random.default_rng([*key, epoch]).permutation(n_rows)
        epochs.append(np.resize(rows, (per_epoch, size)))
    return np.concatenate(epochs)[:n_steps]

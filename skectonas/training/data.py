"""The rows that a search trains and validates on, and the order in which batches see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from skectonas.inputs import UNSCALED, MappedImages, PixelScaling
from skectonas.training.recipe import NO_AUGMENTATION, Augmentation

CALIBRATION_ROWS = 512
"""Rows that running statistics are computed on. On digits and on Fashion-MNIST, networks are
not more accurate with all training rows."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Images with their labels.

    Parameters
    ----------
    images : Tensor of shape (n, height, width, channels) or MappedImages
        Pixels as they came, 8-bit or float.
    labels : Tensor of shape (n,)
        Class indices, int64.
    weights : Tensor of shape (n,) or None, default=None
        Sample weights; None means 1 for all.
    places : Tensor of shape (n,) or None, default=None
        Which of the images belongs to each row, so that the two sides of a split share them
        and neither copies its own. None means that there are no others.
    augmentation : Augmentation, default=NO_AUGMENTATION
        The variants of each row. Number ``variant * n + row`` is a variant of a row.
    """

    images: Tensor | MappedImages
    labels: Tensor
    weights: Tensor | None = None
    places: Tensor | None = None
    augmentation: Augmentation = NO_AUGMENTATION

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the images of some rows, or variants of them.

        Parameters
        ----------
        numbers : Tensor of shape (m,)
            Numbers of the rows, or of variants of them.
        out : Tensor of shape (m, height, width, channels) or None, default=None
            Memory that the result may take.
        """
        places, variants = self.places_of(numbers), self.variants_of(numbers)
        if isinstance(self.images, MappedImages):
            images = self.images.take(places)
        else:
            images = torch.index_select(self.images, 0, places, out=out)
        return images if variants is None else self.augmentation.apply(images, variants)

    def places_of(self, numbers: Tensor) -> Tensor:
        """Return which of the images some rows have, or variants of them."""
        rows = self._rows_of(numbers)
        return rows if self.places is None else self.places[rows]

    def variants_of(self, numbers: Tensor) -> Tensor | None:
        """Return which variant of its row each number is; None if there are none."""
        return numbers // len(self) if self._has_variants else None

    def labels_of(self, numbers: Tensor) -> Tensor:
        """Return the labels of some rows, or of variants of them."""
        return self.labels[self._rows_of(numbers)]

    def weights_of(self, numbers: Tensor) -> Tensor:
        """Return the sample weights of some rows, or of variants of them; there have to be."""
        assert self.weights is not None
        return self.weights[self._rows_of(numbers)]

    def _rows_of(self, numbers: Tensor) -> Tensor:
        return numbers % len(self) if self._has_variants else numbers

    @property
    def _has_variants(self) -> bool:
        return self.augmentation.n_variants > 1

    def chunks(self, size: int) -> Iterator[Tensor]:
        """Yield the images of all rows in their order, so many at a time."""
        for rows in torch.arange(len(self), device=self.labels.device).split(size):
            yield self.take(rows)

    def to(self, device: torch.device) -> Rows:
        """Return the same rows on a device."""
        return self._with(self.images.to(device), device)

    def sharing(self, other: Rows) -> Rows:
        """Return the same rows on the device of others, whose images are the same."""
        return self._with(other.images, other.labels.device)

    def _with(self, images: Tensor | MappedImages, device: torch.device) -> Rows:
        """Return the same rows on the device that the images have been taken to."""
        weights, places = (
            None if other is None else other.to(device) for other in (self.weights, self.places)
        )
        return Rows(images, self.labels.to(device), weights, places, self.augmentation)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """All that trainers need to know of the data.

    Parameters
    ----------
    train, validation : Rows
        The two sides of the split.
    scaling : PixelScaling, default=UNSCALED
        What a network sees of the pixels.
    batch_size : int, default=32
        Maximum number of rows in a batch.
    """

    train: Rows
    validation: Rows
    scaling: PixelScaling = UNSCALED
    batch_size: int = 32

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.train) // self.batch_size)

    def scaled(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images as a network sees them."""
        return self.scaling.apply_to_tensor(images, dtype)

    @cached_property
    def calibration(self) -> Tensor:
        """The training images on which running statistics are computed, unscaled."""
        return next(self.train.chunks(CALIBRATION_ROWS))

    def batches(self, n_steps: int, key: Sequence[int]) -> BatchOrder:
        """Return which training rows, or variants of them, each batch takes."""
        device, n_variants = self.train.labels.device, self.train.augmentation.n_variants
        return BatchOrder(len(self.train), self.batch_size, n_steps, key, device, n_variants)

    def augmented(self, augmentation: Augmentation) -> TrainingData:
        """Return the same data, with variants of the training rows."""
        if augmentation == self.train.augmentation:
            return self
        return replace(self, train=replace(self.train, augmentation=augmentation))

    def to(self, device: torch.device) -> TrainingData:
        """Return the same data on a device; images that both sides share are moved once."""
        train, validation = self.train.to(device), self.validation
        if validation.images is self.train.images:
            return replace(self, train=train, validation=validation.sharing(train))
        return replace(self, train=train, validation=validation.to(device))


class BatchOrder:
    """The rows of the first batches of an endless training, drawn epoch by epoch.

    All batches of an epoch have the same size, the smallest with which as few batches as
    `batch_size` allows cover all rows; the few places left over in the last one are filled with
    rows of the first. Every epoch is another permutation. Only the one that was asked for last
    is kept: those of a long training would take more memory than small images do.

    Parameters
    ----------
    n_rows : int
        Rows of the training data.
    batch_size : int
        Maximum number of rows in a batch.
    n_steps : int
        Batches; a longer order begins with the shorter one of the same key.
    key : sequence of int
        What the order depends on, and on nothing else: seed, generation, phase, round.
    device : torch.device, default=cpu
        Where the rows are wanted.
    n_variants : int, default=1
        Variants of each row, of which one is drawn whenever a batch takes it. The variants of
        row i have the numbers i, n_rows + i and so on.

    Attributes
    ----------
    shape : tuple of int
        Batches, and rows of each.

    Examples
    --------
    >>> from skectonas.training.data import BatchOrder
    >>> order = BatchOrder(5, 2, 4, key=(0,))
    >>> order.shape
    (4, 2)
    >>> order[1:4].shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        n_rows: int,
        batch_size: int,
        n_steps: int,
        key: Sequence[int],
        device: torch.device | str = "cpu",
        n_variants: int = 1,
    ) -> None:
        self._per_epoch = -(-n_rows // batch_size)
        self.shape = (n_steps, -(-n_rows // self._per_epoch))
        self._n_rows, self._key, self._device = n_rows, key, device
        self._n_variants = n_variants
        self._epoch = -1
        self._batches = torch.empty((0, self.shape[1]), dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, steps: slice) -> Tensor:
        """Return the rows of consecutive batches: (steps, size), int64."""
        first, last, _ = steps.indices(len(self))
        parts = [self._batches[:0]]
        while first < last:
            epoch, begin = divmod(first, self._per_epoch)
            parts.append(self._of(epoch)[begin : begin + last - first])
            first += len(parts[-1])
        return torch.cat(parts)

    def _of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            rng = np.random.default_rng([*self._key, epoch])
            # Before numpy 2, the integers of Windows have 32 bits.
            rows = rng.permutation(self._n_rows).astype(np.int64, copy=False)
            left_over = self._per_epoch * self.shape[1] - self._n_rows
            filled = np.concatenate([rows, rows[:left_over]]).reshape(-1, self.shape[1])
            if self._n_variants > 1:
                filled += self._n_rows * rng.integers(self._n_variants, size=filled.shape)
            self._epoch, self._batches = epoch, torch.from_numpy(filled).to(self._device)
        return self._batches

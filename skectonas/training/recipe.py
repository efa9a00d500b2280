"""How networks are trained: the course of the learning rate, and changes of the images."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VALUES_AT_ONCE = 2**20
"""Values of images that are changed at once; their places in memory take eight bytes each."""

ERASED_PLACES = 16
"""Places of the centre of a square that is erased, along each side of an image."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images that leave their class as it is.

    Each time that an image is trained on, one of the variants is drawn for it. Variant 0 is the
    image itself.

    Parameters
    ----------
    shift : int, default=0
        Maximum number of pixels by which images are shifted in each direction. What is missing
        at the edge repeats the pixels there.
    flip : bool, default=False
        Whether half of the images are mirrored from left to right.
    erase : int, default=0
        Side in pixels of a square that is erased: its pixels are set to the mean of the image,
        for each channel. Its centre is in one of 16×16 places all over the image, so that a
        part of it may be outside. One of 257 images stays whole.

    Raises
    ------
    ValueError
        If `shift` or `erase` is not a whole number from 0 on, or `flip` is no bool.

    References
    ----------
    T. DeVries and G. W. Taylor, "Improved regularization of convolutional neural networks with
    cutout", 2017, arXiv:1708.04552.

    Examples
    --------
    >>> import torch
    >>> from skectonas.training import Augmentation
    >>> augmentation = Augmentation(flip=True)
    >>> image = torch.arange(3).view(1, 1, 3, 1)
    >>> augmentation.apply(image, torch.tensor([1])).flatten()
    tensor([2, 1, 0])
    >>> Augmentation(shift=1, flip=True).n_variants
    18
    """

    shift: int = 0
    flip: bool = False
    erase: int = 0

    def __post_init__(self) -> None:
        for name in ("shift", "erase"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 0:
                raise ValueError(f"{name} must be a whole number from 0 on, got {value!r}.")
        if not isinstance(self.flip, bool | np.bool_):
            raise ValueError(f"flip must be a bool, got {self.flip!r}.")

    @property
    def n_variants(self) -> int:
        """Number of variants of an image."""
        return self._n_moves * (1 + ERASED_PLACES**2 if self.erase else 1)

    @property
    def _n_moves(self) -> int:
        return (1 + self.flip) * (2 * self.shift + 1) ** 2

    def apply(self, images: Tensor, variants: Tensor) -> Tensor:
        """Return a variant of each image.

        Parameters
        ----------
        images : Tensor of shape (n, height, width, channels)
            The images.
        variants : Tensor of shape (n,)
            Numbers from 0 to below `n_variants`.
        """
        n_rows = max(VALUES_AT_ONCE // math.prod(images.shape[1:]), 1)
        pieces = zip(images.split(n_rows), variants.split(n_rows), strict=True)
        return torch.cat([self._apply(*piece) for piece in pieces])

    def _apply(self, images: Tensor, variants: Tensor) -> Tensor:
        n, *sides = images.shape
        places = _places(self.shift, self.flip, *sides).to(images.device)
        flat = images.reshape(n, -1).gather(1, places[variants % self._n_moves])
        made = flat.view(images.shape)
        if self.erase:
            self._erase(made, variants // self._n_moves)
        return made

    def _erase(self, images: Tensor, numbers: Tensor) -> None:
        """Erase a square of each image, whose place has this number; 0 is none."""
        _, height, width, channels = images.shape
        places = (numbers - 1).clamp(min=0)
        rows = self._erased(places // ERASED_PLACES, height)
        columns = self._erased(places % ERASED_PLACES, width)
        erased = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
        erased = erased[:, :, None].expand(-1, -1, channels)
        pixels = images.flatten(1, 2)
        own, means = pixels.gather(1, erased), _means(pixels)[:, None]
        pixels.scatter_(1, erased, torch.where((numbers == 0)[:, None, None], own, means))

    def _erased(self, places: Tensor, side: int) -> Tensor:
        """Return the rows or columns that the square covers, for each of its places."""
        centres = (2 * places + 1) * side // (2 * ERASED_PLACES)
        size = min(self.erase, 2 * side)  # a larger square covers no more
        offsets = torch.arange(size, device=places.device) - size // 2
        # What is outside counts as the edge, which the square covers then.
        return (centres[:, None] + offsets).clamp(0, side - 1)


def _means(pixels: Tensor) -> Tensor:
    """Return the mean of each channel of images (n, pixels, channels), in their type."""
    n = pixels.shape[1]
    if not pixels.is_floating_point():
        return (pixels.sum(1, dtype=torch.int64).double() / n).round().to(pixels.dtype)
    # Halves are added up, as the native library does it, so that the bits are the same.
    sums = pixels.double() / n
    while sums.shape[1] > 1:
        sums, others = sums.split(-(-sums.shape[1] // 2), dim=1)
        sums[:, : others.shape[1]] += others
    return sums[:, 0].to(pixels.dtype)


@functools.lru_cache(maxsize=8)
def _places(shift: int, flip: bool, height: int, width: int, channels: int) -> Tensor:
    """Return where each value of each variant is in the flattened image."""
    steps = sorted(range(-shift, shift + 1), key=abs)
    all_rows, all_columns = torch.arange(height), torch.arange(width)
    variants = []
    for is_flipped in (False, True) if flip else (False,):
        for down in steps:
            for right in steps:
                rows = (all_rows - down).clamp(0, height - 1)
                columns = (all_columns - right).clamp(0, width - 1)
                pixels = rows[:, None] * width + (columns.flip(0) if is_flipped else columns)
                values = pixels[:, :, None] * channels + torch.arange(channels)
                variants.append(values.flatten())
    return torch.stack(variants)


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class Recipe:
    """How the candidates of a round are trained.

    Parameters
    ----------
    annealing_steps : int, default=0
        Number of batches over which the learning rate falls to zero, as half a cosine. With 0
        it is constant.
    augmentation : Augmentation, default=NO_AUGMENTATION
        How training images are changed.
    evaluates_epochs : bool, default=True
        Whether candidates are evaluated after every epoch, or else only at the end.

    Examples
    --------
    >>> from skectonas.training import Recipe
    >>> Recipe(annealing_steps=3).rates(0.1, n_steps=4)
    array([0.1  , 0.075, 0.025, 0.   ])
    """

    annealing_steps: int = 0
    augmentation: Augmentation = NO_AUGMENTATION
    evaluates_epochs: bool = True

    def rates(self, learning_rate: float, n_steps: int) -> NDArray[np.float64]:
        """Return the learning rate of each of the first steps of a training."""
        if not self.annealing_steps:
            return np.full(n_steps, learning_rate)
        progress = np.minimum(np.arange(n_steps) / self.annealing_steps, 1)
        return learning_rate * (1 + np.cos(np.pi * progress)) / 2


PLAIN_RECIPE = Recipe()

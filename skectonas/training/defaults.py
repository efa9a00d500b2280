"""What the parameters of a recipe stand for if they are left to a rule."""

from __future__ import annotations

import math
from typing import Any

import torch

from skectonas.training.plain import OptimizerSpec, resolve_optimizer
from skectonas.training.recipe import NO_AUGMENTATION, Augmentation

SMALLEST_SHIFTED_SIDE = 16
"""Pixels of the shorter side from which on images are shifted by a pixel. On the 8x8 pixels of
digits, a shift costs half a point of accuracy."""

ERASED_SHARE = 0.4
"""Side of the square that is erased in these images, as a share of their shorter side."""

FEWEST_EPOCHS_TO_ERASE, MOST_IMAGES_TO_ERASE = 100, 10_000
"""Squares are erased if the final training has at least this many epochs and there are at most
this many images. With fewer epochs or more images a network overfits less, and squares cost
accuracy."""

MOMENTUM = {"momentum": 0.9, "nesterov": True}

USUAL_DECAY = 0.005
"""Weight decay of SGD for few images, and for tables if no trial chooses another one. Networks
without hidden layers have another one for tables."""

DECAYED_IMAGES = 10
"""Weight decay times the number of images, if there are more. A decay that does not depend on
their number makes a network forget a batch after as many batches, however long an epoch is."""

DECAYED_ROWS = 1
"""Weight decay of networks without hidden layers times the number of rows of a table, about as
in scikit-learn's `LogisticRegression` with its default of C. Such networks hardly overfit."""


def usual_augmentation(
    augmentation: str | Augmentation | None,
    image_shape: tuple[int, int, int],
    is_image: bool,
    n_epochs: float,
    n_images: int,
) -> Augmentation:
    """Return how training images are changed.

    Parameters
    ----------
    augmentation : "auto", Augmentation or None
        The parameter; "auto" shifts images that are large enough, and erases a square of them
        if they are few and seen often.
    image_shape : tuple of int
        Height, width and channels.
    is_image : bool
        Whether the images are more than a table that is laid out as pixels.
    n_epochs : float
        Epochs of the final training; inf if they are not known.
    n_images : int
        Number of images to train on, those that are held out included.

    Returns
    -------
    Augmentation

    Raises
    ------
    ValueError
        If images would be shifted out of their frame.

    Examples
    --------
    >>> from skectonas.training.defaults import usual_augmentation
    >>> for n_images in (5_000, 50_000):
    ...     print(usual_augmentation("auto", (28, 28, 1), True, 200, n_images))
    Augmentation(shift=1, flip=False, erase=11)
    Augmentation(shift=1, flip=False, erase=0)
    """
    height, width, _ = image_shape
    if isinstance(augmentation, Augmentation):
        # An image with a side of one pixel does not change when it is shifted along it.
        sides = [side for side in (height, width) if side > 1] or [1]
        if augmentation.shift >= min(sides):
            raise ValueError(
                "augmentation: expected a shift by less than the sides of the images of "
                f"{height}x{width} pixels, got {augmentation}"
            )
        return augmentation
    is_large = min(height, width) >= SMALLEST_SHIFTED_SIDE
    if augmentation == "auto" and is_image and is_large:
        erases = FEWEST_EPOCHS_TO_ERASE <= n_epochs < math.inf
        erases = erases and n_images <= MOST_IMAGES_TO_ERASE
        erased = round(ERASED_SHARE * min(height, width)) if erases else 0
        return Augmentation(shift=1, erase=erased)
    return NO_AUGMENTATION


def has_usual_settings(optimizer: Any, params: dict[str, Any] | None) -> bool:
    """Return whether the settings of an optimiser are those of our recipe.

    Examples
    --------
    >>> from skectonas.training.defaults import has_usual_settings
    >>> [has_usual_settings(name, None) for name in ("SGD", "sgd", "Adam")]
    [True, True, False]
    """
    name = optimizer.lower() if isinstance(optimizer, str) else optimizer
    return params is None and name in ("sgd", torch.optim.SGD)


def usual_weight_decay(n_images: int | None = None) -> float:
    """Return the weight decay of our recipe.

    Parameters
    ----------
    n_images : int or None, default=None
        Number of images to train on, those that are held out included; None for a table. The
        more there are, the weaker is the weight decay.

    Examples
    --------
    >>> from skectonas.training.defaults import usual_weight_decay
    >>> [usual_weight_decay(n_images) for n_images in (None, 1_000, 10_000)]
    [0.005, 0.005, 0.001]
    """
    return USUAL_DECAY if not n_images else min(USUAL_DECAY, DECAYED_IMAGES / n_images)


def linear_weight_decay(n_rows: int) -> float:
    """Return the weight decay of our recipe for a network without hidden layers on a table.

    Parameters
    ----------
    n_rows : int
        Number of rows to train on, those that are held out included.

    Examples
    --------
    >>> from skectonas.training.defaults import linear_weight_decay
    >>> [linear_weight_decay(n_rows) for n_rows in (100, 1_000, 10_000)]
    [0.005, 0.001, 0.0001]
    """
    return min(USUAL_DECAY, DECAYED_ROWS / n_rows)


def usual_optimizer(
    optimizer: Any,
    learning_rate: float,
    params: dict[str, Any] | None,
    weight_decay: float | None,
) -> OptimizerSpec:
    """Return an optimiser; without further arguments, SGD gets those of our recipe.

    Parameters
    ----------
    optimizer, learning_rate, params
        As `resolve_optimizer` takes them.
    weight_decay : float or None
        The weight decay of our recipe; None is that for a table and networks with hidden
        layers.

    Returns
    -------
    OptimizerSpec

    Raises
    ------
    ValueError
        As `resolve_optimizer`.

    Examples
    --------
    >>> from skectonas.training.defaults import usual_optimizer
    >>> usual_optimizer("SGD", 0.03, None, 0.001).settings
    {'lr': 0.03, 'momentum': 0.9, 'nesterov': True, 'weight_decay': 0.001}
    >>> usual_optimizer("Adam", 0.001, None, 0.001).settings
    {'lr': 0.001}
    """
    if has_usual_settings(optimizer, params):
        if weight_decay is None:
            weight_decay = usual_weight_decay()
        params = {**MOMENTUM, "weight_decay": weight_decay}
    return resolve_optimizer(optimizer, learning_rate, params)

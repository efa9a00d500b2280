"""Which rows are trained on and which are held out, and the weights of rows in the loss."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils.class_weight import compute_sample_weight

ENOUGH_ROWS = 200
"""Rows to hold out, if that is between a tenth and a fifth of all."""


def fraction_to_hold_out(n_rows: int) -> float:
    """Return the fraction of the rows that is held out by default.

    Few rows say little about which candidate is better, so that more of them are held out.

    Examples
    --------
    >>> from skectonas.training.holdout import fraction_to_hold_out
    >>> [fraction_to_hold_out(n) for n in (100, 1_600, 60_000)]
    [0.2, 0.125, 0.1]
    """
    return min(max(0.1, ENOUGH_ROWS / n_rows), 0.2)


def split(
    indices: NDArray[np.int64], validation_fraction: float | Literal["auto"], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train and to validate on, stratified.

    With "auto", the fraction is that of `fraction_to_hold_out`. Each class with at least two
    rows has at least one on each side. A class with a single row is only trained on.

    Raises
    ------
    ValueError
        If no class has two rows, or too few rows are left to train on.
    """
    if validation_fraction == "auto":
        validation_fraction = fraction_to_hold_out(len(indices))
    counts = np.bincount(indices)
    rows = np.flatnonzero(counts[indices] > 1)
    n_rows, n_classes = len(indices), int((counts > 1).sum())
    if not n_classes:
        raise ValueError(
            "y must hold at least 2 rows of some class, one to train on and one to validate "
            f"on, got {n_rows} rows of as many classes."
        )
    n_validation = max(round(validation_fraction * n_rows), n_classes)
    if len(rows) - n_validation < n_classes:
        raise ValueError(
            f"validation_fraction={validation_fraction!r} of {n_rows} rows leaves "
            f"{n_rows - n_validation} to train {int((counts > 0).sum())} classes on; lower it."
        )
    splitter = StratifiedShuffleSplit(1, test_size=n_validation, random_state=seed)
    train, validation = next(splitter.split(np.zeros(len(rows)), indices[rows]))
    train, validation = rows[train], rows[validation]
    # The proportional split may leave a rare class without rows on one side.
    _complete(validation, train, indices)
    _complete(train, validation, indices)
    return np.concatenate([train, np.flatnonzero(counts[indices] == 1)]), validation


def _complete(
    side: NDArray[np.int64], other: NDArray[np.int64], indices: NDArray[np.int64]
) -> None:
    """Swap rows between two sides until this side has every class of the other.

    Each swap exchanges a row of the commonest class for one of a missing class.
    """
    for missing in np.setdiff1d(indices[other], indices[side]):
        give = (indices[side] == np.bincount(indices[side]).argmax()).argmax()
        take = (indices[other] == missing).argmax()
        side[give], other[take] = other[take], side[give]


def training_weights(
    weights: NDArray[np.float64] | None, class_weight: Any, labels: NDArray[Any]
) -> NDArray[np.float64] | None:
    """Return the weights of the training loss: sample times class weights, with mean 1."""
    if class_weight is not None:
        by_class = compute_sample_weight(class_weight, labels)
        weights = by_class if weights is None else weights * by_class
    if weights is None:
        return None
    if not (np.isfinite(weights).all() and weights.any() and (weights >= 0).all()):
        raise ValueError(
            f"class_weight={class_weight!r} leaves weights that are negative, not finite or "
            "all zero."
        )
    normalised: NDArray[np.float64] = weights / weights.mean()
    return normalised

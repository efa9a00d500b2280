"""Which rows are trained on and which are held out, and the weights of rows in the loss."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit
from sklearn.utils.class_weight import compute_sample_weight

from skectonas.callers import no_warnings

MOST_FOLDS = 20
"""The rows held out are a multiple of a twentieth, if there are so many groups."""

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
    """Return the rows to train and to validate on, stratified and in a random order.

    With "auto", the fraction is that of `fraction_to_hold_out`, or less if too many classes
    have a single row. Each class with at least two rows has at least one on each side. A class
    with a single row is only trained on.

    Raises
    ------
    ValueError
        If no class has two rows, or too few rows are left to train on.
    """
    counts = np.bincount(indices)
    rows = np.flatnonzero(counts[indices] > 1)
    n_rows, n_classes = len(indices), int((counts > 1).sum())
    if not n_classes:
        raise ValueError(
            "y must hold at least 2 rows of some class, one to train on and one to validate "
            f"on, got {n_rows} rows of as many classes."
        )
    is_auto, most = validation_fraction == "auto", len(rows) - n_classes
    fraction = fraction_to_hold_out(n_rows) if is_auto else float(validation_fraction)
    n_validation = max(round(fraction * n_rows), n_classes)
    if n_validation > most and not is_auto:
        raise ValueError(
            f"validation_fraction={fraction!r} of {n_rows} rows holds out {n_validation}, more "
            f"than the {most} that the classes of two rows or more can spare; lower it."
        )
    n_validation = min(n_validation, most)
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


def split_by_groups(
    indices: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: NDArray[Any],
    validation_fraction: float | Literal["auto"],
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows to train and to validate on; no group is on both sides.

    The rows held out are some of the folds of scikit-learn's `StratifiedGroupKFold`, which come
    closest to the fraction. Then groups change sides until each class is on both, or until no
    such change helps; all classes are trained on. As in `split`, the order of the rows is
    random: running statistics are computed on the first of them.

    Raises
    ------
    ValueError
        If there are fewer than two groups, or if all rows of a class are in one group.
    """
    if validation_fraction == "auto":
        validation_fraction = fraction_to_hold_out(len(indices))
    groups = np.unique(groups, return_inverse=True)[1]
    table = np.zeros((groups.max() + 1, indices.max() + 1), np.int64)
    np.add.at(table, (groups, indices), 1)
    if len(table) < 2:
        raise ValueError(
            "groups must hold at least 2 groups, one to train on and one to validate on, got 1 "
            "(rows with zero sample_weight do not count)."
        )
    lonely = np.flatnonzero((table > 0).sum(0) == 1)
    if len(lonely):
        raise ValueError(
            "groups must have each class in at least 2 groups, one to train on and one to "
            f"validate on, got one group only for {classes[lonely].tolist()}."
        )
    is_held_out = _grouped_folds(indices, groups, len(table), validation_fraction, seed)
    _share_classes(is_held_out, table)
    rows = np.random.default_rng(seed).permutation(len(groups))
    return rows[~is_held_out[groups[rows]]], rows[is_held_out[groups[rows]]]


def _grouped_folds(
    indices: NDArray[np.int64],
    groups: NDArray[np.int64],
    n_groups: int,
    validation_fraction: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Return for each group whether it is in the folds that are closest to the fraction."""
    n_folds = min(n_groups, MOST_FOLDS, int(np.bincount(indices).max()))
    n_taken = min(max(round(validation_fraction * n_folds), 1), n_folds - 1)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    fold_of = np.zeros(n_groups, np.int64)
    # Not every fold can have a class of few rows.
    with no_warnings("The least populated class"):
        for fold, (_, rows) in enumerate(splitter.split(indices, indices, groups)):
            fold_of[groups[rows]] = fold
    sizes = np.bincount(fold_of[groups], minlength=n_folds)
    taken = (np.arange(n_folds)[:, None] + np.arange(n_taken)) % n_folds
    distances = np.abs(sizes[taken].sum(1) - validation_fraction * len(indices))
    return np.isin(fold_of, taken[distances.argmin()])


def _share_classes(is_held_out: NDArray[np.bool_], table: NDArray[np.int64]) -> None:
    """Move groups to the other side, one by one, until each class has groups on both.

    A class without rows to train on is worse than any number of classes without rows to
    validate on. Of the groups that help most, the smallest is moved.

    Parameters
    ----------
    is_held_out : ndarray of shape (n_groups,)
        The sides; changed in place.
    table : ndarray of shape (n_groups, n_classes)
        Numbers of rows. Each class is in two groups or more.
    """
    has = table > 0
    sizes, n_classes = table.sum(1), table.shape[1]

    def badness(n_held_out: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how bad sides are, from the numbers of groups held out of each class."""
        is_untrained, is_unseen = n_held_out == has.sum(0), n_held_out == 0
        bad: NDArray[np.int64] = ((n_classes + 1) * is_untrained + is_unseen).sum(-1)
        return bad

    while True:
        n_held_out = has[is_held_out].sum(0)
        change = np.where(is_held_out, -1, 1)[:, None] * has
        after = badness(n_held_out + change)
        best = np.lexsort((sizes, after))[0]
        if after[best] >= badness(n_held_out):
            return
        is_held_out[best] = not is_held_out[best]


def training_weights(
    weights: NDArray[np.float64] | None, class_weight: Any, labels: NDArray[Any]
) -> NDArray[np.float64] | None:
    """Return the weights of the training loss: sample times class weights, with mean 1."""
    if class_weight is not None:
        try:
            by_class = compute_sample_weight(class_weight, labels)
        except (ValueError, TypeError) as error:
            raise ValueError(f"class_weight={class_weight!r}: {error}") from error
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

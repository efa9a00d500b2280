"""The rows of a fit, and what a search trains on and scores with."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from skectonas.callers import level_of_user, no_warnings
from skectonas.inputs import Data, InputEncoder, MappedImages, check_classes, mapping_of
from skectonas.training import (
    Rows,
    Scorer,
    TrainingData,
    make_scorer,
    split,
    split_by_groups,
    training_weights,
)


class Sample(NamedTuple):
    """The rows of a fit, checked.

    Parameters
    ----------
    X : data frame, ndarray or sparse array
        All rows that were given.
    rows : ndarray of shape (n,) or None
        Numbers of the rows of X that have a weight; None means all rows.
    classes : ndarray of shape (n_classes,)
        The classes.
    indices : ndarray of shape (n,)
        For each of these rows, the index of its class.
    weights : ndarray of shape (n,) or None
        Their sample weights.
    groups : ndarray of shape (n,) or None
        The numbers of their groups.
    """

    X: Data
    rows: NDArray[np.intp] | None
    classes: NDArray[Any]
    indices: NDArray[np.int64]
    weights: NDArray[np.float64] | None
    groups: NDArray[np.int64] | None

    @classmethod
    def of(
        cls,
        X: Data,
        labels: NDArray[Any],
        weights: NDArray[np.float64] | None,
        groups: NDArray[np.int64] | None,
    ) -> Sample:
        """Leave out the rows without weight, and encode the classes of the others."""
        rows = None
        if weights is not None and not weights.all():
            rows = np.flatnonzero(weights)
            labels, weights = labels[rows], weights[rows]
            groups = None if groups is None else groups[rows]
        return cls(X, rows, *check_classes(labels), weights, groups)

    def numbers_in_X(self, chosen: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the row numbers in X of the chosen rows of the sample."""
        return chosen if self.rows is None else self.rows[chosen]

    def split(
        self, validation_fraction: float | Literal["auto"], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows to train and to validate on; no group is on both sides.

        Warns
        -----
        UserWarning
            If no group that holds some class can be spared from training.
        """
        if self.groups is None:
            return split(self.indices, validation_fraction, seed)
        train, validation = split_by_groups(
            self.indices, self.groups, self.classes, validation_fraction, seed
        )
        unseen = np.delete(self.classes, np.unique(self.indices[validation])).tolist()
        if unseen:
            named = ", ".join(map(repr, unseen[:5])) + (", ..." if len(unseen) > 5 else "")
            warnings.warn(
                "With these groups, no row of some classes is held out. They are trained on, "
                f"but the validation score says nothing of them: {named}.",
                stacklevel=level_of_user(),
            )
        return train, validation

    def training_data(
        self,
        encoder: InputEncoder,
        train: NDArray[np.int64],
        validation: NDArray[np.int64],
        class_weight: dict[Any, float] | Literal["balanced"] | None,
        batch_size: int,
    ) -> tuple[TrainingData, Rows]:
        """Return the two sides of the split, and all rows to train on, which share the images.

        Parameters
        ----------
        encoder : InputEncoder
            Turns X into images.
        train, validation : ndarray of int
            The rows to train and to validate on.
        class_weight, batch_size : object
            The parameters of the estimator.
        """
        images = _images(encoder, self)
        in_loss = training_weights(self.weights, class_weight, self.classes[self.indices])
        data = TrainingData(
            self._rows(images, in_loss, train),
            self._rows(images, self.weights, validation),
            encoder.scaling_,
            batch_size,
        )
        return data, self._rows(images, in_loss, np.concatenate([train, validation]))

    def scorer(
        self,
        scoring: str | Callable[..., float],
        data: TrainingData,
        validation: NDArray[np.int64],
    ) -> Scorer:
        """Return what scores candidates on the rows to validate on."""
        seen = None
        if callable(scoring):  # it may look at the rows
            seen = next(data.validation.chunks(len(validation))).numpy()
        return make_scorer(
            scoring,
            seen,
            self.indices[validation],
            self.classes,
            None if self.weights is None else self.weights[validation],
        )

    def _rows(
        self,
        images: torch.Tensor | MappedImages,
        weights: NDArray[np.float64] | None,
        chosen: NDArray[np.int64],
    ) -> Rows:
        return Rows(
            images,
            torch.from_numpy(self.indices[chosen]),
            None if weights is None else torch.from_numpy(weights[chosen].astype(np.float32)),
            torch.from_numpy(chosen),
        )


def _images(encoder: InputEncoder, sample: Sample) -> torch.Tensor | MappedImages:
    """Return the rows as images, without a copy if possible."""
    if sparse.issparse(sample.X) or mapping_of(sample.X) is not None:
        return MappedImages(sample.X, encoder.transform, sample.rows)
    images = encoder.transform(sample.X, sample.rows)
    with no_warnings("The given NumPy array is not writable"):  # nobody writes to them
        return torch.from_numpy(images)

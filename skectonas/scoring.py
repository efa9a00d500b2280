"""From probabilities on the validation rows to a score, higher is better."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer

Array: TypeAlias = NDArray[Any]
Scoring: TypeAlias = str | Callable[..., float]
Scorer: TypeAlias = Callable[[Array], float]
"""Probabilities of the validation rows, (n, n_classes), to a score."""


def make_scorer(
    scoring: Scoring,
    images: Array | None,
    labels: Array,
    classes: Array,
    weights: Array | None,
) -> Scorer:
    """Return the function that scores the probabilities of the validation rows.

    Parameters
    ----------
    scoring : str or callable
        "accuracy", "neg_log_loss", any other name of `sklearn.metrics.get_scorer_names`, or a
        callable ``scorer(estimator, X, y)``, which gets ``sample_weight`` too if it takes it.
    images : ndarray of shape (n, height, width, channels) or None
        The validation rows; only handed on to a callable, a name needs none.
    labels : ndarray of shape (n,)
        Class indices of the validation rows.
    classes : ndarray of shape (n_classes,)
        The classes as the user knows them.
    weights : ndarray of shape (n,) or None
        Sample weights; a score that takes none is computed without.

    Returns
    -------
    callable
        Probabilities, (n, n_classes), to a float.

    Raises
    ------
    ValueError
        If the name is unknown, or the score cannot be computed on these rows.
    """
    if weights is not None and not weights.any():
        weights = None  # all weight lies on the training side
    if scoring == "accuracy":
        return lambda p: _average(p.argmax(1) == labels, weights)
    if scoring == "neg_log_loss":
        return lambda p: _average(_log_likelihood(p, labels), weights)
    try:
        scorer = get_scorer(scoring)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "scoring must be a name in sklearn.metrics.get_scorer_names() or a callable, "
            f"got {scoring!r}."
        ) from error
    keywords = {}
    if weights is not None and _takes_weights(scorer):
        keywords["sample_weight"] = weights

    def score(probabilities: Array) -> float:
        holder = _Predictions(probabilities, classes, images)
        return float(scorer(holder, images, classes[labels], **keywords))

    try:
        # Found out now, before any training, rather than at the end of the first epoch. That
        # some class is not predicted says nothing yet.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = score(np.full((len(labels), len(classes)), 1 / len(classes)))
    except Exception as error:
        raise ValueError(
            f"scoring={scoring!r} cannot be computed on the validation rows: {error}"
        ) from error
    if not np.isfinite(value):
        raise ValueError(f"scoring={scoring!r} gives {value} on the validation rows.")
    return score


def _log_likelihood(probabilities: Array, labels: Array) -> Array:
    chosen = probabilities[np.arange(len(labels)), labels]
    logarithms: Array = np.log(np.maximum(chosen, np.finfo(chosen.dtype).tiny))
    return logarithms


def _average(values: Array, weights: Array | None) -> float:
    return float(np.average(values, weights=weights))


def _takes_weights(scorer: Callable[..., float]) -> bool:
    # scikit-learn's scorers take anything and hand it on to their metric.
    parameters = signature(getattr(scorer, "_score_func", scorer)).parameters.values()
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


class _Predictions(ClassifierMixin, BaseEstimator):
    """An estimator that has predicted already: what scikit-learn's scorers want to see."""

    def __init__(self, probabilities: Array, classes: Array, images: Array | None) -> None:
        self.probabilities = probabilities
        self.classes = classes
        self.images = images
        self.classes_ = classes

    def predict_proba(self, X: object) -> Array:
        if X is not self.images:
            raise ValueError("a scorer can only ask for predictions of the X that it gets")
        return self.probabilities

    def predict(self, X: object) -> Array:
        labels: Array = self.classes_[self.predict_proba(X).argmax(1)]
        return labels

"""From probabilities on the validation rows to a score, higher is better."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from copy import copy
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, get_scorer_names

from skectonas.callers import level_of_user, no_warnings

Array: TypeAlias = NDArray[Any]
Scoring: TypeAlias = str | Callable[..., float]
Scorer: TypeAlias = Callable[[Array], float]
"""Probabilities of the validation rows, (n, n_classes), to a score."""

OTHER_TASKS = {"_regression": "regressions", "cluster": "clusterings"}
"""Parts of `sklearn.metrics` whose scores do not say how good a classification is."""


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
        "accuracy", "neg_log_loss", any other classification scorer in
        `sklearn.metrics.get_scorer_names`, or a callable ``scorer(estimator, X, y)``, which is
        also given ``sample_weight`` if it takes it.
    images : ndarray of shape (n, height, width, channels) or None
        The validation rows; only needed for a callable.
    labels : ndarray of shape (n,)
        Class indices of the validation rows.
    classes : ndarray of shape (n_classes,)
        The classes as the user knows them.
    weights : ndarray of shape (n,) or None
        Sample weights; ignored by a score that takes none.

    Returns
    -------
    callable
        A function from probabilities of shape (n, n_classes) to a float. If the score raises
        later, it warns and returns NaN.

    Raises
    ------
    ValueError
        If the name is unknown or belongs to a score of another task, or if the score cannot be
        computed on these rows.
    """
    if weights is not None and not weights.any():
        weights = None  # all weight lies on the training side
    if scoring == "accuracy":
        return lambda p: _average(p.argmax(1) == labels, weights)
    if scoring == "neg_log_loss":
        return lambda p: _average(_log_likelihood(p, labels), weights)
    scorer = _with_labels(check_scoring(scoring), classes)
    keywords = {}
    if weights is not None and _takes_weights(scorer):
        keywords["sample_weight"] = weights

    def score(probabilities: Array) -> float:
        holder = _Predictions(probabilities, classes, images)
        return float(scorer(holder, images, classes[labels], **keywords))

    missing = classes[np.bincount(labels, minlength=len(classes)) == 0].tolist()
    but = f", which have no row of the class(es) {missing}" if missing else ""
    try:
        # Try the score before any training rather than at the end of the first epoch. All
        # classes are predicted, because a score may fail for some of them only.
        with no_warnings():
            value = score(_any_predictions(len(labels), len(classes)))
    except Exception as error:
        of_X = ""
        if images is not None and not hasattr(scorer, "_score_func"):
            of_X = f" (X holds the validation rows as images of shape {images.shape})"
        raise ValueError(
            f"scoring={scoring!r} cannot be computed on the validation rows{but}: {error}{of_X}"
        ) from error
    if not np.isfinite(value):
        raise ValueError(f"scoring={scoring!r} gives {value} on the validation rows{but}.")

    def score_or_nan(probabilities: Array) -> float:
        try:
            return score(probabilities)
        except Exception as error:
            warnings.warn(
                f"scoring={name_of(scoring)!r} raised {type(error).__name__}: {error}. The "
                "candidate counts as the worst.",
                stacklevel=level_of_user(),
            )
            return math.nan

    return score_or_nan


def check_scoring(scoring: Scoring) -> Callable[..., float]:
    """Return the scorer that a parameter names, or is.

    Raises
    ------
    ValueError
        If the name is unknown or belongs to a score of another task.
    """
    try:
        scorer: Callable[..., float] = get_scorer(scoring)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "scoring must be a name in sklearn.metrics.get_scorer_names() or a callable, "
            f"got {scoring!r}."
        ) from error
    if isinstance(scoring, str):
        _refuse_other_tasks(scoring, scorer)
    return scorer


def name_of(scoring: Scoring) -> str:
    """Return the name of a score, which is the same in every process.

    Examples
    --------
    >>> from sklearn.metrics import f1_score, make_scorer
    >>> from skectonas.training.scoring import name_of
    >>> name_of("accuracy")
    'accuracy'
    >>> name_of(f1_score)
    'f1_score'
    >>> def accuracy(estimator, X, y): ...
    >>> name_of(accuracy)  # another one than scikit-learn's
    'accuracy()'
    >>> name_of(make_scorer(f1_score, average="micro"))
    "make_scorer(f1_score, response_method='predict', average=micro)"
    """
    if isinstance(scoring, str):
        return scoring
    name: str = re.sub(r" at 0x[0-9A-Fa-f]+", "", getattr(scoring, "__name__", repr(scoring)))
    return f"{name}()" if name in get_scorer_names() else name  # not that of scikit-learn


def _refuse_other_tasks(name: str, scorer: Callable[..., float]) -> None:
    module = getattr(getattr(scorer, "_score_func", None), "__module__", "")
    for part, task in OTHER_TASKS.items():
        if part in module.split("."):
            raise ValueError(
                f"scoring must be a score of classifications, got {name!r}, which is one of "
                f"{task}. If it is meant, give sklearn.metrics.get_scorer({name!r})."
            )


def _with_labels(scorer: Callable[..., float], classes: Array) -> Callable[..., float]:
    """Return a scorer that knows which class each column of probabilities belongs to.

    Metrics of probabilities infer this from the rows, and cannot if a class has none.
    """
    metric = getattr(scorer, "_score_func", None)
    by_probability = "predict_proba" in getattr(scorer, "_response_method", ())
    if metric is None or not by_probability or "labels" not in signature(metric).parameters:
        return scorer
    knowing: Any = copy(scorer)
    knowing._kwargs = {"labels": classes, **knowing._kwargs}
    told: Callable[..., float] = knowing
    return told


def _any_predictions(n_rows: int, n_classes: int) -> Array:
    """Return probabilities that predict the classes in turn, row by row."""
    certain: Array = np.eye(n_classes)[np.arange(n_rows) % n_classes]
    probabilities: Array = (certain + 1 / n_classes) / 2
    return probabilities


def _log_likelihood(probabilities: Array, labels: Array) -> Array:
    chosen = probabilities[np.arange(len(labels)), labels]
    logarithms: Array = np.log(np.maximum(chosen, np.finfo(chosen.dtype).tiny))
    return logarithms


def _average(values: Array, weights: Array | None) -> float:
    return float(np.average(values, weights=weights))


def _takes_weights(scorer: Callable[..., float]) -> bool:
    try:
        # scikit-learn's scorers accept anything and pass it on to their metric.
        parameters = signature(getattr(scorer, "_score_func", scorer)).parameters.values()
    except ValueError:  # some builtins have no signature
        return False
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


class _Predictions(ClassifierMixin, BaseEstimator):
    """An estimator with known predictions, as scikit-learn's scorers expect."""

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

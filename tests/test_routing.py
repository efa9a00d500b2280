"""Sample weights reach the estimator through the tools of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from helpers import quick
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skectonas import PseudoImageTransformer

RNG = np.random.default_rng(0)
N = 90
Y = np.arange(N) % 3
X = RNG.normal(size=(N, 6)) + Y[:, None]
WEIGHTS = np.where(Y == 0, 9.0, 1.0) * RNG.random(N)
FOLDS = StratifiedKFold(2)


@pytest.fixture(autouse=True)
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def weighted(**settings: Any) -> Any:
    """Return an estimator that requests weights for `fit` and `score`."""
    clf = quick(12, **settings).set_fit_request(sample_weight=True)
    return clf.set_score_request(sample_weight=True)


def assert_same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("convert", [np.asarray, pd.DataFrame])
def test_cross_validate(convert: Any) -> None:
    table = convert(X)
    found = cross_validate(
        weighted(), table, Y, params={"sample_weight": WEIGHTS}, cv=FOLDS, return_estimator=True
    )
    for (train, test), estimator, score in zip(
        FOLDS.split(X, Y), found["estimator"], found["test_score"], strict=True
    ):
        rows = [convert(X[part]) for part in (train, test)]
        expected = quick(12).fit(rows[0], Y[train], WEIGHTS[train])
        np.testing.assert_array_equal(
            estimator.predict_proba(rows[1]), expected.predict_proba(rows[1])
        )
        assert score == expected.score(rows[1], Y[test], WEIGHTS[test])
        assert score != expected.score(rows[1], Y[test])


def test_grid_search() -> None:
    grid = GridSearchCV(weighted(), {"alpha": [0.5, 1.0]}, cv=FOLDS)
    grid.fit(X, Y, sample_weight=WEIGHTS)
    assert_same(grid.best_estimator_, quick(12, **grid.best_params_).fit(X, Y, WEIGHTS))
    for number, (train, test) in enumerate(FOLDS.split(X, Y)):
        for alpha, score in zip(
            [0.5, 1.0], grid.cv_results_[f"split{number}_test_score"], strict=True
        ):
            clf = quick(12, alpha=alpha).fit(X[train], Y[train], WEIGHTS[train])
            assert score == clf.score(X[test], Y[test], WEIGHTS[test])


def test_pipeline() -> None:
    pipeline = make_pipeline(MinMaxScaler(), PseudoImageTransformer(), weighted())
    pipeline.fit(X, Y, sample_weight=WEIGHTS)
    images = pipeline[:-1].transform(X)
    expected = quick(12).fit(images, Y, WEIGHTS)
    np.testing.assert_array_equal(pipeline.predict_proba(X), expected.predict_proba(images))
    assert pipeline.score(X, Y, sample_weight=WEIGHTS) == expected.score(images, Y, WEIGHTS)
    # scikit-learn 1.7 does not ask the last step of a pipeline what its `score` takes.
    scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
    alphas = {"ectonasclassifier__alpha": [0.5, 1.0]}
    grid = GridSearchCV(pipeline, alphas, cv=FOLDS, scoring=scorer)
    grid.fit(X, Y, sample_weight=WEIGHTS)
    alpha = grid.best_params_["ectonasclassifier__alpha"]
    expected = quick(12, alpha=alpha).fit(images, Y, WEIGHTS)
    np.testing.assert_array_equal(grid.predict_proba(X), expected.predict_proba(images))


def test_weights_of_another_name_and_library() -> None:
    clf = quick(12).set_fit_request(sample_weight="importance")
    pipeline = make_pipeline(MinMaxScaler(), clf)
    pipeline.fit(pl.DataFrame(X), pl.Series(Y), importance=pl.Series(WEIGHTS))
    table = MinMaxScaler().fit_transform(X)
    expected = quick(12).fit(table, Y, WEIGHTS)
    np.testing.assert_array_equal(
        pipeline.predict_proba(pl.DataFrame(X)), expected.predict_proba(table)
    )


def test_weights_that_were_not_asked_for() -> None:
    params = {"sample_weight": WEIGHTS}
    with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
        cross_validate(quick(12), X, Y, params=params, cv=FOLDS)
    clf = quick(12).set_fit_request(sample_weight=False).set_score_request(sample_weight=True)
    found = cross_validate(clf, X, Y, params=params, cv=FOLDS, return_estimator=True)
    for (train, _), estimator in zip(FOLDS.split(X, Y), found["estimator"], strict=True):
        assert_same(estimator, quick(12).fit(X[train], Y[train]))

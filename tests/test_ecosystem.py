"""The estimator among those of scikit-learn and its tools."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from helpers import quick
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skectonas import (
    Dense,
    ECToNASClassifier,
    PseudoImageTransformer,
    Topology,
)
from skectonas.morphisms import AddCell


def test_pipeline_and_grid(digits: Any) -> None:
    X, y = digits
    pipeline = Pipeline([("scale", StandardScaler()), ("net", quick(12))])
    grid = GridSearchCV(pipeline, {"net__alpha": [0.5, 1.0]}, cv=2, n_jobs=2)
    grid.fit(X.reshape(len(X), -1), y)
    assert grid.best_score_ > 0.2  # twice what guessing gives
    parallel = grid.cv_results_["mean_test_score"]
    grid.set_params(n_jobs=1).fit(X.reshape(len(X), -1), y)
    np.testing.assert_array_equal(parallel, grid.cv_results_["mean_test_score"])


def test_grid_over_images_and_starts(digits: Any) -> None:
    grid = GridSearchCV(quick(11), {"start": ["small_ffnn", "small_cnn"]}, cv=2)
    grid.fit(*digits)
    assert grid.best_estimator_.image_shape_ == (8, 8, 1)


def test_pseudo_images_in_a_pipeline() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(
        MinMaxScaler(), PseudoImageTransformer(order="correlation"), quick(40)
    )
    assert pipeline.fit(X, y).score(X, y) > 0.8  # the larger class has .63
    assert pipeline[-1].image_shape_ == (6, 6, 1)


@pytest.mark.parametrize("copy", [lambda e: pickle.loads(pickle.dumps(e)), None])
def test_saved_and_loaded(
    copy: Callable[[Any], Any] | None, fitted: ECToNASClassifier, digits: Any, tmp_path: Any
) -> None:
    if copy is None:
        joblib.dump(fitted, tmp_path / "clf.joblib")
        loaded = joblib.load(tmp_path / "clf.joblib")
    else:
        loaded = copy(fitted)
    X, _ = digits
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    pd.testing.assert_frame_equal(loaded.history_, fitted.history_)


def test_clone_and_set_params(fitted: ECToNASClassifier, digits: Any) -> None:
    start = Topology((8, 8, 1), [], [Dense(6)], 10)
    other = clone(fitted).set_params(alpha=0.5, start=start, morphisms=[AddCell(extra=(2,))])
    assert not hasattr(other, "network_")
    assert clone(other).get_params()["start"] == start
    assert clone(other).fit(*digits).alpha == 0.5

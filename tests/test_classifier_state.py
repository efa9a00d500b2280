"""Determinism, global state, interruptions and failed fits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import quick
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import (
    ECToNASClassifier,
)

# --- determinism and global state ------------------------------------------------------------


def test_same_seed_same_bits(digits: Any) -> None:
    X, y = digits
    first, second = (quick(60, start="medium_cnn").fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    pd.testing.assert_frame_equal(
        first.history_.drop(columns="seconds"), second.history_.drop(columns="seconds")
    )
    for ours, theirs in zip(
        first.network_.state_dict().values(), second.network_.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    other = ECToNASClassifier(budget=60, start="medium_cnn", random_state=1).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))


def test_bits_do_not_depend_on_the_number_of_threads(digits: Any) -> None:
    X, y = digits
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(quick(60, start="medium_cnn").fit(X, y).predict_proba(X))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("random_state", [0, None])
def test_global_state_is_left_alone(digits: Any, random_state: int | None) -> None:
    def state() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()
        return (
            tuple(numpy_state[1]),
            numpy_state[2],
            random.getstate(),
            tuple(torch.get_rng_state().tolist()),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            tuple(np.geterr().items()),
        )

    before = state()
    clf = ECToNASClassifier(budget=25, start="small_cnn", random_state=random_state)
    clf.fit(*digits).predict(digits[0])
    assert state() == before


def test_threads_are_restored_after_an_error(digits: Any) -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="diverged"):
        quick(learning_rate=1e30).fit(*digits)
    assert torch.get_num_threads() == before


def test_predictions_do_not_depend_on_the_company(
    fitted: ECToNASClassifier, digits: Any
) -> None:
    X, _ = digits
    together = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(together[:20], alone, rtol=0, atol=1e-12)


def test_an_unfrozen_network_is_still_evaluated(digits: Any) -> None:
    clf = quick(12, start="medium_cnn").fit(*digits)
    expected = clf.predict_proba(digits[0])
    clf.network_.train()
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)


# --- interruption ----------------------------------------------------------------------------


class Interrupt:
    """A scorer that raises KeyboardInterrupt after a number of calls."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return float((estimator.predict(X) == y).mean())


def test_ctrl_c_keeps_the_best_so_far(digits: Any) -> None:
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick(200, scoring=Interrupt(40)).fit(*digits)
    assert clf.history_["budget_spent"].iloc[-1] < 200
    assert clf.predict(digits[0]).shape == (300,)


def test_ctrl_c_during_the_warm_up_is_passed_on(digits: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick(200, scoring=Interrupt(5)).fit(*digits)


def test_ctrl_c_stops_a_grid(digits: Any) -> None:
    grid = GridSearchCV(quick(200), {"scoring": [Interrupt(40)]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        grid.fit(*digits)


def test_ctrl_c_in_a_pipeline_keeps_the_best_so_far(digits: Any) -> None:
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), quick(200, scoring=Interrupt(40)))
    with pytest.warns(UserWarning, match="interrupted") as caught:
        pipeline.fit(X.reshape(len(X), -1), y)
    assert pipeline.predict(X.reshape(len(X), -1)).shape == (300,)
    assert {warning.filename for warning in caught} == {__file__}


# --- a failed refit --------------------------------------------------------------------------


def test_a_failed_fit_changes_nothing_and_fits_nothing(digits: Any) -> None:
    X, y = digits
    clf = quick(12).fit(X, y)
    expected = clf.predict_proba(X)
    other = np.where(y > 4, "high", "low")
    for broken in ({"scoring": "r2"}, {"learning_rate": 1e30}, {"scoring": Interrupt(3)}):
        clf.set_params(**broken)
        with pytest.raises((ValueError, KeyboardInterrupt)):
            clf.fit(X * 0.5, np.where(y > 4, np.nan, y) if "r2" in broken.values() else other)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)
        assert clf.classes_.tolist() == list(range(10))
        clf.set_params(scoring="accuracy", learning_rate=0.1)
    with pytest.raises(ValueError, match="scoring"):
        (failed := quick(scoring="no_such")).fit(X, y)
    with pytest.raises(NotFittedError):
        failed.predict(X)


@pytest.mark.parametrize(
    ("settings", "y", "weights", "error"),
    [
        ({}, "missing", None, ValueError),
        ({}, None, "negative", ValueError),
        ({"scoring": "no_such"}, None, None, ValueError),
        ({"budget": -1}, None, None, ValueError),
        ({"learning_rate": 1e30}, None, None, ValueError),
        ({}, None, None, KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_a_failed_refit_leaves_the_whole_state(
    settings: dict[str, Any],
    y: Any,
    weights: Any,
    error: Any,
    warm_start: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
    labels = np.arange(40) % 2
    clf = quick(3, warmup_epochs=1, warm_start=warm_start).fit(frame, labels)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    if error is KeyboardInterrupt:
        monkeypatch.setattr("skectonas.population.FusedTrainer.train", interrupt)
    clf.set_params(**settings)
    before = vars(clf).copy()
    X = frame if warm_start else frame.to_numpy()[:, :2]
    with pytest.raises(error):
        clf.fit(
            X,
            labels if y is None else np.where(labels, np.nan, 0),
            sample_weight=None if weights is None else -np.ones(40),
        )
    assert vars(clf).keys() == before.keys()
    assert all(vars(clf)[name] is value for name, value in before.items())
    assert clf.predict(frame).shape == (40,)


def test_names_of_an_earlier_fit_go() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    frame = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    clf = quick(2, warmup_epochs=1)
    for other in (
        rng.normal(size=(40, 3)),
        rng.random((40, 4, 4)),
        frame.set_axis([0, 1, 2], axis=1),
    ):
        assert clf.fit(frame, labels).feature_names_in_.tolist() == ["a", "b", "c"]
        assert not hasattr(clf.fit(other, labels), "feature_names_in_")


def test_an_autocast_around_changes_nothing(digits: Any) -> None:
    X, y = digits
    expected = quick(12, start="medium_cnn").fit(X, y).predict_proba(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quick(12, start="medium_cnn").fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)

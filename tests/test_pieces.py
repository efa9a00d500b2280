"""Columns cut into pieces, and the trial that tells whether they help."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from test_checkpoint import bits, stopped_after

from skectonas import PAPER_SETTINGS, ECToNASClassifier, fitting
from skectonas.inputs import ColumnPieces, InputEncoder
from skectonas.inputs.pieces import FEWEST, MOST, SMALLEST_DEVIATION
from skectonas.search import Search
from skectonas.training import OutOfTime

any_float = st.floats(allow_nan=False, allow_infinity=False)
columns_of_floats = st.lists(
    hnp.arrays(
        np.float64,
        st.integers(1, 60),
        elements=st.one_of(any_float, st.just(np.nan), st.sampled_from([0.0, 1.0, 2.0])),
    ),
    min_size=1,
    max_size=4,
)


def passed_by_hand(value: float, begin: float, end: float) -> float:
    """Return which share of a piece a value has passed, one case at a time."""
    if value <= begin:
        return 0.0
    if value >= end:
        return 1.0
    return (value / 2 - begin / 2) / (end / 2 - begin / 2)


# Pieces


@given(columns_of_floats)
def test_pieces_are_those_that_are_computed_one_by_one(columns: list[np.ndarray]) -> None:
    pieces = ColumnPieces.fit(columns)
    n = min(map(len, columns))
    X = np.stack([column[:n] for column in columns], axis=1)
    scaled = pieces.scale(X)
    assert scaled.shape == (n, len(pieces))
    assert np.isfinite(scaled).all()
    for k, i in enumerate(pieces.columns):
        for value, found in zip(X[:, i], scaled[:, k], strict=True):
            passed = passed_by_hand(value, pieces.begin[k], pieces.end[k])
            expected = (passed - pieces.mean[k]) * pieces.factor[k]
            assert found == pytest.approx(0 if np.isnan(value) else expected, abs=1e-9)


@given(columns_of_floats)
def test_pieces_cover_the_range_without_gaps(columns: list[np.ndarray]) -> None:
    pieces = ColumnPieces.fit(columns)
    assert (np.diff(pieces.columns) >= 0).all()
    for i, column in enumerate(columns):
        values = column[~np.isnan(column)]
        begin, end = (side[pieces.columns == i] for side in (pieces.begin, pieces.end))
        if len(np.unique(values)) <= 2:
            assert not len(begin)
            continue
        assert begin[0] == values.min()
        assert end[-1] == values.max()
        assert (begin[1:] == end[:-1]).all()
        assert (begin < end).all()
        assert np.isin(np.append(begin, end), values).all()
        assert len(begin) <= np.clip(round(np.cbrt(len(values))), FEWEST, MOST)


@given(st.integers(3, 3000), st.integers(0, 2**16))
def test_pieces_are_centred_and_together_of_one_size(n: int, seed: int) -> None:
    column = np.random.default_rng(seed).normal(size=n)
    scaled = ColumnPieces.fit([column]).scale(column[:, None])
    assert np.abs(scaled.mean(0)).max() < 1e-9
    assert scaled.var(0).sum() <= 1 + 1e-9
    if scaled.shape[1] * SMALLEST_DEVIATION < 1:  # none of them is rare
        assert scaled.var(0).sum() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("n", [30, 1000, 40_000])
def test_pieces_have_equally_many_values(n: int) -> None:
    column = np.random.default_rng(0).lognormal(sigma=2, size=n)
    pieces = ColumnPieces.fit([column])
    assert len(pieces) == np.clip(round(np.cbrt(n)), FEWEST, MOST)
    ends = zip(pieces.begin, pieces.end, strict=True)
    counts = [(column > b).sum() - (column > e).sum() for b, e in ends]
    assert max(counts) - min(counts) <= 2


def test_a_frequent_value_leaves_the_pieces_to_the_others() -> None:
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(8000) < 0.9, 0.0, rng.lognormal(8, 1, 8000))
    pieces = ColumnPieces.fit([gains])
    assert len(pieces) >= 10
    # By quantiles, nine of ten would end at zero.
    assert (pieces.begin > 0).sum() >= len(pieces) - 2


def test_no_pieces_of_two_values() -> None:
    pieces = ColumnPieces.fit([np.array([0.0, 1, 1, np.nan]), np.full(4, np.nan), np.ones(4)])
    assert len(pieces) == 0
    assert pieces.scale(np.ones((5, 3))).shape == (5, 0)


def test_names_say_which_column_a_piece_is_of() -> None:
    X = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0, 1, np.nan, 0], "a_piece_1": [1, 1, 1, 2]})
    encoder = InputEncoder(column_scaling="piecewise").fit(X)
    assert list(encoder.feature_names_out_) == [
        *("a", "b", "b_missing", "a_piece_1", "a_piece_1_", "a_piece_2")
    ]


def test_an_encoder_in_pieces_is_the_one_that_is_fitted_so() -> None:
    X = pd.DataFrame({"a": np.arange(50.0), "b": list("xyzxy") * 10, "c": [1, None] * 25})
    for rows in (None, np.arange(0, 50, 3)):
        derived = InputEncoder().fit(X, rows).in_pieces(X, rows)
        fitted = InputEncoder(column_scaling="piecewise").fit(X, rows)
        assert np.array_equal(derived.transform(X), fitted.transform(X))
        assert list(derived.feature_names_out_) == list(fitted.feature_names_out_)


# The trial


def bands(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return a table whose classes are narrow bands of one column; the others are noise."""
    X = np.random.default_rng(0).random((n, 5))
    return X, (X[:, 0] * 8).astype(int) % 2


def noise(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, 5)), rng.integers(0, 2, n)


@pytest.fixture(scope="module")
def in_bands() -> ECToNASClassifier:
    return quick(200).fit(*bands())


def test_pieces_are_used_where_they_help(in_bands: ECToNASClassifier) -> None:
    assert in_bands.encoder_.column_scaling == "piecewise"
    assert in_bands.score(*bands()) > quick(200, column_scaling="quantile").fit(*bands()).score(
        *bands()
    )
    plain = quick(200).fit(*noise())
    assert plain.encoder_.column_scaling == "quantile"
    assert plain.image_shape_ == (3, 3, 1)


def test_the_trial_is_paid_for(in_bands: ECToNASClassifier) -> None:
    for clf in (in_bands, quick(200).fit(*noise())):
        assert 170 < clf.history_["budget_spent"].iloc[-1] <= 180
    alone = quick(200, column_scaling="piecewise").fit(*bands())
    assert 190 < alone.history_["budget_spent"].iloc[-1] <= 200
    assert alone.image_shape_ == in_bands.image_shape_


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the starts of the trials."""
    seen: list[str] = []
    trial = Search.trial

    def watched(self: Search, start: Any, *others: Any) -> Any:
        seen.append(str(start))
        return trial(self, start, *others)

    monkeypatch.setattr(Search, "trial", watched)
    return seen


WITHOUT: dict[str, dict[str, Any]] = {
    "a short budget": {"budget": 199},
    "a shape of one's own": {"image_shape": (3, 2)},
    "a choice": {"column_scaling": "quantile"},
    "little room": {"max_parameters": 500},
    "the paper's settings": dict(PAPER_SETTINGS),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_there_is_no_trial_with(name: str, trials: list[str]) -> None:
    clf = quick(200).set_params(**WITHOUT[name]).fit(*bands())
    assert not trials
    assert clf.encoder_.column_scaling in ("quantile", "minmax")


def test_there_is_no_trial_of_images_or_wide_tables(
    trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = bands()
    quick(200).fit(X[:60, :4].reshape(-1, 2, 2), y[:60])
    quick(200).fit((X > 0.5).astype(float)[:60], y[:60])  # nothing to cut
    monkeypatch.setattr(fitting, "MOST_COLUMNS", 10)
    assert quick(200).fit(X[:300], y[:300]).encoder_.column_scaling == "quantile"
    assert not trials
    monkeypatch.setattr(fitting, "MOST_COLUMNS", 100)
    quick(200).fit(X[:300], y[:300])
    assert len(trials) == 2


def test_a_topology_says_what_it_was_found_with(
    in_bands: ECToNASClassifier, trials: list[str]
) -> None:
    for budget in (20, 200):
        clf = quick(budget, start=in_bands.best_topology_).fit(*bands())
        assert clf.encoder_.column_scaling == "piecewise"
    plain = quick(20).fit(*bands()).best_topology_
    assert quick(200, start=plain).fit(*bands()).encoder_.column_scaling == "quantile"
    assert not trials
    with pytest.raises(ValueError, match=r"input_shape=\(9, 9, 1\), but the data have"):
        quick(200, start=plain.__class__((9, 9, 1), [], [], 2)).fit(*bands())


def test_the_same_bits_however_rows_come(in_bands: ECToNASClassifier, tmp_path: Path) -> None:
    X, y = bands()
    expected = bits(in_bands, X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for rows in (X, np.asfortranarray(X), sparse.csr_array(X), mapped):
        assert bits(quick(200, n_jobs=2).fit(rows, y), X) == expected
    frame = pd.DataFrame(X, columns=list("abcde"))
    assert np.array_equal(
        quick(200).fit(frame, y).predict_proba(frame), in_bands.predict_proba(X)
    )


def test_a_copy_predicts_alike(in_bands: ECToNASClassifier, tmp_path: Path) -> None:
    X, _ = bands()
    in_bands.save(tmp_path / "model")
    for copy in (
        pickle.loads(pickle.dumps(in_bands)),
        ECToNASClassifier.load(tmp_path / "model"),
    ):
        assert np.array_equal(copy.predict_proba(X), in_bands.predict_proba(X))


def test_a_search_that_was_stopped_needs_no_other_trial(
    in_bands: ECToNASClassifier, tmp_path: Path, trials: list[str]
) -> None:
    X, y = bands()
    path = tmp_path / "search"
    stopped_after(3, lambda: quick(200, checkpoint=path).fit(X, y))
    assert len(trials) == 2
    clf = quick(200, checkpoint=path).fit(X, y)
    assert len(trials) == 2
    assert bits(clf, X) == bits(in_bands, X)


def test_a_search_in_a_folder_continues(in_bands: ECToNASClassifier, tmp_path: Path) -> None:
    X, y = bands()
    stopped_after(3, lambda: quick(200, checkpoint=tmp_path).fit(X, y))
    clf = quick(200, checkpoint=tmp_path).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 1
    assert bits(clf, X) == bits(in_bands, X)


@pytest.mark.parametrize("n_trials", [0, 1])
def test_without_time_there_are_no_pieces(
    n_trials: int, monkeypatch: pytest.MonkeyPatch, trials: list[str]
) -> None:
    trial = Search.trial

    def too_late(self: Search, *arguments: Any) -> Any:
        if len(trials) == n_trials:
            raise OutOfTime
        return trial(self, *arguments)

    monkeypatch.setattr(Search, "trial", too_late)
    clf = quick(200).fit(*bands())
    assert clf.encoder_.column_scaling == "quantile"
    assert clf.history_["budget_spent"].iloc[-1] <= 180


def test_a_warm_start_keeps_the_pieces(trials: list[str]) -> None:
    X, y = bands()
    clf = quick(200, warm_start=True).fit(X, y)
    encoder = clf.encoder_
    assert len(trials) == 2
    clf.fit(X, y)
    assert len(trials) == 2
    assert clf.encoder_ is encoder


def test_ctrl_c_in_a_trial_leaves_the_estimator_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: Search, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "trial", interrupted)
    clf = quick(200)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*bands())
    assert not hasattr(clf, "network_")

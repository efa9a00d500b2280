"""Columns cut into pieces, and the trial that tells whether they help."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from test_checkpoint import bits, stopped_after

from skectonas import PAPER_SETTINGS, ECToNASClassifier, Topology, fitting
from skectonas import sample as rows_of_a_fit
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
    # A piece may be too narrow to divide by its width.
    return (min(value, end) / 2 - begin / 2) / max(end / 2 - begin / 2, np.finfo(float).tiny)


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


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_a_frequent_value_leaves_the_pieces_to_the_others(share: float) -> None:
    rng = np.random.default_rng(0)
    gains = np.where(rng.random(40_000) < share, 0.0, rng.lognormal(8, 1, 40_000))
    pieces = ColumnPieces.fit([gains])
    assert len(pieces) >= MOST - 1
    # By quantiles, half of them or nearly all would end at zero.
    assert (pieces.begin > 0).sum() >= MOST - 3


@given(
    st.lists(st.integers(1, 50), min_size=3, max_size=60),
    st.integers(0, 2),
    st.integers(0, 2**16),
)
def test_no_piece_has_many_values_but_those_of_a_frequent_one(
    counts: list[int], n_frequent: int, seed: int
) -> None:
    n_values = np.array(counts)
    n_values[:n_frequent] *= 100
    np.random.default_rng(seed).shuffle(n_values)
    column = np.repeat(np.arange(len(n_values)) * 1.0, n_values)
    pieces = ColumnPieces.fit([column])
    for begin, end in zip(pieces.begin, pieces.end, strict=True):
        inside = n_values[int(begin) + 1 : int(end)]
        if len(inside):  # a frequent value ends a piece, or begins one
            assert inside.sum() <= 2 * len(column) / len(pieces)


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


def test_verbose_tells_of_the_trial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    params: dict[str, Any] = {"verbose": 1, "checkpoint": str(tmp_path / "search")}
    first = "[ECToNASClassifier] trial: 20 epochs, columns are "
    quick(200, **params).fit(*bands())
    assert capsys.readouterr().out.startswith(first + "cut into pieces; ")
    quick(200, verbose=1).fit(*noise())
    assert capsys.readouterr().out.startswith(first + "not cut into pieces; ")
    for clf in (quick(200, **params), quick(199, verbose=1)):  # neither tries again
        clf.fit(*bands())
        assert "trial" not in capsys.readouterr().out
    with mock.patch.object(Search, "trial", side_effect=OutOfTime):
        quick(200, verbose=1).fit(*bands())
    none = "[ECToNASClassifier] trial: no time for it, columns are not cut into pieces; "
    assert capsys.readouterr().out.startswith(none)


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
    "few rows held out": {"validation_fraction": 0.03},
    "weights of classes": {"class_weight": "balanced"},
    "another score": {"scoring": "f1"},
    "a selection by the score": {"selection": "score"},
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


@pytest.mark.parametrize("n", [700, 900, 1800])
def test_a_topology_that_was_found_with_pieces_fits_other_rows(
    n: int, in_bands: ECToNASClassifier, trials: list[str]
) -> None:
    start = in_bands.best_topology_
    for budget in (20, 200):
        clf = quick(budget, start=start).fit(*bands(n))
        assert clf.encoder_.column_scaling == "piecewise"
        first = Topology.from_string(clf.lineage_["topology"].iloc[0])
        assert (first.cells, first.dense) == (start.cells, start.dense)
    assert not trials


def test_a_topology_that_was_found_without_pieces_is_tried_with_them(
    trials: list[str],
) -> None:
    start = quick(20).fit(*bands()).best_topology_
    assert quick(20, start=start).fit(*bands()).image_shape_ == (3, 3, 1)
    assert not trials
    quick(200, start=start).fit(*bands())
    assert len(trials) == 2
    X, y = bands()
    for settings in ({"column_scaling": "quantile"}, {"image_shape": (3, 3)}):
        with pytest.raises(ValueError, match=r"input_shape=\(8, 8, 1\), but the data have"):
            quick(20, start=replace(start, input_shape=(8, 8, 1)), **settings).fit(X, y)


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


def test_a_search_in_a_folder_needs_no_other_trial(
    in_bands: ECToNASClassifier, tmp_path: Path, trials: list[str]
) -> None:
    X, y = bands()
    for rows, budget in ((bands(), 200), (noise(), 210)):
        trials.clear()
        stopped_after(3, lambda r=rows, b=budget: quick(b, checkpoint=tmp_path).fit(*r))
        assert len(trials) == 2
        for _ in range(2):  # one that has ended is there, too
            clf = quick(budget, checkpoint=tmp_path).fit(*rows)
            assert len(trials) == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert clf.encoder_.column_scaling == "quantile"
    assert bits(quick(200, checkpoint=tmp_path).fit(X, y), X) == bits(in_bands, X)


def test_a_checkpoint_that_is_impossible_is_found_before_the_trial(
    tmp_path: Path, trials: list[str]
) -> None:
    with pytest.raises(ValueError, match="in a folder that does not exist"):
        quick(200, checkpoint=tmp_path / "no" / "search").fit(*bands())
    (tmp_path / "search").write_text("notes")
    with pytest.raises(ValueError, match="is a damaged file"):
        quick(200, checkpoint=tmp_path / "search").fit(*bands())
    assert not trials


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


def test_a_choice_for_want_of_time_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_bands: ECToNASClassifier
) -> None:
    X, y = bands()
    with monkeypatch.context() as patch:
        patch.setattr(Search, "trial", mock.Mock(side_effect=OutOfTime))
        for checkpoint in (tmp_path, tmp_path / "search"):
            with pytest.warns(UserWarning, match="is not written to the checkpoint"):
                clf = quick(200, checkpoint=checkpoint).fit(X, y)
            assert clf.encoder_.column_scaling == "quantile"
            assert not list(tmp_path.iterdir())
    clf = quick(200, checkpoint=tmp_path / "search").fit(X, y)
    assert bits(clf, X) == bits(in_bands, X)


def test_another_search_in_the_file_is_refused_for_want_of_time_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search"
    quick(5, column_scaling="minmax", checkpoint=path).fit(*bands())
    before = path.read_bytes()
    monkeypatch.setattr(Search, "trial", mock.Mock(side_effect=OutOfTime))
    with pytest.raises(ValueError, match="holds a search with other values of"):
        quick(200, checkpoint=path).fit(*bands())
    assert path.read_bytes() == before


def test_rows_are_not_cut_into_pieces_if_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, trials: list[str]
) -> None:
    images_of, encoded = rows_of_a_fit._images, []

    def slow(encoder: InputEncoder, *others: Any) -> Any:
        encoded.append(encoder.column_scaling)
        time.sleep(0.2)
        return images_of(encoder, *others)

    monkeypatch.setattr(rows_of_a_fit, "_images", slow)
    clf = quick(200, time_limit=8).fit(*bands())
    assert encoded == ["quantile"]  # the other has seven times as many pixels
    assert clf.encoder_.column_scaling == "quantile"


def test_without_a_budget_there_is_a_trial(trials: list[str]) -> None:
    clf = quick(None, time_limit=4).fit(*bands(240))
    assert trials
    assert clf.history_["epochs_total"].max() > 0


@pytest.mark.parametrize("budget", [200.7, 333.3, 1000])
def test_the_budget_holds(budget: float) -> None:
    X, y = bands(240)
    for given_ in ({}, {"alpha": 0.5}):
        clf = quick(budget, **given_).fit(X, y)
        assert clf.history_["budget_spent"].iloc[-1] <= budget - 2 * min(25, budget // 20)


def test_frames_have_pieces_of_numbers_and_times_only() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "price": rng.random(300),
            "when": pd.to_datetime("2020-01-01")
            + pd.to_timedelta(rng.integers(0, 900, 300), "D"),
            "kind": rng.choice(list("abcd"), 300),
            "words": [f"w{i} {'xyz'[i % 3]} {i * 7919 % 101}" for i in range(300)],
        }
    )
    names = InputEncoder(column_scaling="piecewise").fit(X).feature_names_out_
    cut = {name.partition("_piece_")[0] for name in names if "_piece_" in name}
    assert "price" in cut
    assert all(name.startswith(("price", "when")) for name in cut)


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

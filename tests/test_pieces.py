"""Columns cut into pieces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skectonas.inputs import ColumnPieces, InputEncoder
from skectonas.inputs.pieces import FEWEST, MOST, SMALLEST_DEVIATION

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

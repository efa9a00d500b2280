"""Pixels and columns: what their scaling promises, on untidy data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ndtri

import skectonas.inputs.scaling as scaling_module
from skectonas.inputs.scaling import (
    LARGEST_SCORE,
    PIXEL_DEVIATION,
    UNSCALED,
    ColumnRanges,
    ColumnScaling,
    PixelScaling,
)

METHODS = ["quantile", "piecewise", "minmax"]

any_float = st.floats(allow_nan=False, allow_infinity=False)
tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.integers(1, 5)),
    elements=st.one_of(any_float, st.just(np.nan), st.sampled_from([0.0, 1.0])),
)


def batches(X: np.ndarray, size: int) -> list[np.ndarray]:
    return [X[i : i + size] for i in range(0, len(X), size)]


# Pixels


@given(
    hnp.arrays(
        np.float64,
        st.tuples(*[st.integers(1, 5)] * 4),
        elements=st.floats(-1e6, 1e6, allow_subnormal=False),
    ),
    st.integers(1, 5),
)
def test_every_channel_has_the_same_mean_and_deviation(X: np.ndarray, size: int) -> None:
    scaled = PixelScaling.of(batches(X, size)).apply(X).reshape(-1, X.shape[-1])
    varies = np.ptp(X.reshape(-1, X.shape[-1]), axis=0) > 1e-3
    np.testing.assert_allclose(scaled[:, varies].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled[:, varies].std(0), PIXEL_DEVIATION, rtol=1e-6)


@given(any_float, st.integers(1, 5))
@example(180143985094819.84, 3)  # whose mean is rounded
def test_a_constant_channel_is_shifted_only(value: float, side: int) -> None:
    images = np.full((5, side, 3, 1), value)
    scaling = PixelScaling.of([images] * 3)
    assert scaling.scale == (PIXEL_DEVIATION,)
    np.testing.assert_array_equal(scaling.apply(images), 0)


def test_pixels_whose_squares_are_infinite_are_refused() -> None:
    with pytest.raises(ValueError, match="squares are finite"):
        PixelScaling.of([np.array([[[[-1e200], [1e200]]]])])


def test_neither_the_unit_nor_the_contrast_of_pixels_matters() -> None:
    X = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 2)).astype(float)
    expected = PixelScaling.of([X]).apply(X)
    for other in (X / 255, X / 25500, 0.9 + X / 2550, X - 1000, 1e9 + X):
        np.testing.assert_allclose(PixelScaling.of([other]).apply(other), expected, atol=1e-6)


def test_unscaled_changes_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(2, 3, 3, 2))
    assert np.array_equal(UNSCALED.apply(X), X)


# Ranges


@given(tables, st.integers(1, 7))
def test_ranges_do_not_depend_on_the_batches(X: np.ndarray, size: int) -> None:
    whole, parts = ColumnRanges.of([X]), ColumnRanges.of(batches(X, size))
    for name in ("low", "high", "n_missing"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name), equal_nan=True)
    assert whole.n_rows == parts.n_rows == len(X)
    assert np.array_equal(whole.n_missing, np.isnan(X).sum(0))


# Columns


@given(tables, st.sampled_from(METHODS))
def test_scores_are_finite_bounded_and_rise_with_the_values(X: np.ndarray, method: str) -> None:
    scaling = ColumnScaling.fit(X, method)
    scaled = scaling.scale(X)
    assert np.isfinite(scaled).all()
    whole = scaled[:, : scaling.n_whole]
    assert np.abs(whole).max() <= (1 if method == "minmax" else LARGEST_SCORE)
    for column, scores in zip(X.T, whole[:, ~scaling.is_indicator].T, strict=True):
        given_ = ~np.isnan(column)
        order = np.argsort(column[given_])
        # Interpolation is rounded.
        assert (np.diff(scores[given_][order]) >= -1e-9).all()


@given(tables, tables, st.sampled_from(METHODS))
def test_a_row_is_scaled_like_itself_in_any_company(
    X: np.ndarray, other: np.ndarray, method: str
) -> None:
    scaling = ColumnScaling.fit(X, method)
    other = np.resize(other, (len(other), X.shape[1]))
    together = scaling.scale(np.concatenate([X, other]))
    alone = [scaling.scale(row[None]) for row in (*X, *other)]
    assert np.array_equal(together, np.concatenate(alone))
    assert np.isfinite(together).all()


@given(tables, st.sampled_from(METHODS))
def test_a_plain_copy_scales_alike(X: np.ndarray, method: str) -> None:
    scaling = ColumnScaling.fit(X, method)
    again = ColumnScaling.from_dict(scaling.to_dict())
    assert np.array_equal(again.scale(X), scaling.scale(X))


@given(st.data())
def test_few_different_values_get_exactly_the_scores_of_their_middle_ranks(
    data: st.DataObject,
) -> None:
    values = data.draw(st.lists(st.integers(-5, 5), min_size=1, max_size=200))
    column = np.array(values, dtype=float)
    middles = [((column < v).sum() + (column <= v).sum()) / 2 / len(column) for v in column]
    expected = np.clip(ndtri(middles), -LARGEST_SCORE, LARGEST_SCORE)
    scaled = ColumnScaling.fit(column[:, None]).scale(column[:, None])[:, 0]
    np.testing.assert_allclose(scaled, expected, atol=1e-12)


@pytest.mark.parametrize(
    "transform",
    [np.exp, lambda z: np.exp(3 * z), lambda z: z**3, lambda z: 1e9 + z, lambda z: 1e-9 * z],
)
def test_no_rising_change_of_a_column_matters(transform: Callable[[Any], Any]) -> None:
    z = np.random.default_rng(0).normal(size=(5000, 1))
    scaled = ColumnScaling.fit(z).scale(z)
    X = transform(z)
    # Exact at the knots; in between, a line is another line.
    assert np.abs(ColumnScaling.fit(X).scale(X) - scaled).max() < 0.25
    assert scaled.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("n", [20, 300, 2000])
def test_one_outlier_does_not_move_the_others(n: int) -> None:
    X = np.random.default_rng(0).normal(size=(n, 1))
    clean = ColumnScaling.fit(X).scale(X[1:])
    X[0] = 1e3
    assert np.abs(ColumnScaling.fit(X).scale(X[1:]) - clean).max() < 0.75
    assert np.abs(ColumnScaling.fit(X).scale(X[1:]) - clean).mean() < 4 / n


def test_min_and_max_are_the_ends() -> None:
    X = np.array([[1.0, 5.0, -1e308], [2.0, 5.0, 1e308], [4.0, 5.0, 0.0]])
    scaled = ColumnScaling.fit(X, "minmax").scale(X)
    np.testing.assert_allclose(scaled, [[0, 0, 0], [1 / 3, 0, 1], [1, 0, 0.5]])


def test_values_beyond_the_ends_count_as_the_nearer_end() -> None:
    X = np.arange(10.0)[:, None]
    for method in METHODS:
        scaling = ColumnScaling.fit(X, method)
        beyond = scaling.scale(np.array([[-1e300], [1e300]]))
        assert np.array_equal(beyond, scaling.scale(X[[0, -1]]))


@pytest.mark.parametrize("method", METHODS)
def test_missing_values_have_a_middle_score_and_an_indicator(method: str) -> None:
    X = np.array([[1.0, 7.0], [np.nan, 8.0], [3.0, 9.0], [5.0, np.nan], [np.nan, 6.0]])
    scaling = ColumnScaling.fit(X[:, [0, 1]], method)
    assert scaling.origin[:4].tolist() == [0, 0, 1, 1]
    assert scaling.is_indicator.tolist() == [False, True, False, True]
    scaled = scaling.scale(X)
    middle = scaling.scale(np.array([[3.0, 7.0]]))[0]
    assert scaled[1, 0] == scaled[4, 0] == pytest.approx(middle[0])
    assert (scaled[:, 1] == scaled[1, 1]).tolist() == np.isnan(X[:, 0]).tolist()
    assert scaled[1, 1] > scaled[0, 1]


def test_a_value_that_is_missing_later_only_has_no_indicator() -> None:
    scaling = ColumnScaling.fit(np.arange(9.0)[:, None])
    assert scaling.scale(np.array([[np.nan], [4.0]])).tolist() == [[0.0], [0.0]]


def test_a_column_without_values_makes_no_difference() -> None:
    for method in METHODS:
        scaling = ColumnScaling.fit(np.full((5, 1), np.nan), method)
        missing, present = scaling.scale(np.array([[np.nan], [3.0]])).tolist()
        assert missing == present
        assert missing[0] == 0


def test_columns_of_one_source_share_an_indicator() -> None:
    X = np.array([[np.nan, np.nan, 1.0], [1.0, 2.0, np.nan], [3.0, 4.0, 2.0]])
    ranges = ColumnRanges.of([X]).with_one_indicator(np.array([0, 0, 1]))
    assert ColumnScaling.fit(X, "quantile", ranges).origin.tolist() == [0, 0, 1, 2, 2]


def test_a_sample_serves_for_the_whole() -> None:
    X = np.random.default_rng(0).normal(size=(20_000, 2))
    X[5] = 50, -50
    scaling = ColumnScaling.fit(X[1::10], "quantile", ColumnRanges.of([X]))
    assert np.abs(scaling.scale(X[10:]) - ColumnScaling.fit(X).scale(X[10:])).mean() < 0.05
    assert scaling.scale(X[5:6]).tolist() == [[LARGEST_SCORE, -LARGEST_SCORE]]


def test_a_rare_value_outside_of_the_sample_is_still_told_apart() -> None:
    X = np.zeros((1000, 1))
    X[0] = 1
    scaling = ColumnScaling.fit(X[1:], "quantile", ColumnRanges.of([X]))
    rare, common = scaling.scale(X[:2])[:, 0]
    assert rare - common > 2


@pytest.mark.parametrize("values", [1, 20, 1000])
def test_columns_are_sampled_in_blocks(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    X = np.random.default_rng(0).normal(size=(9, 50))
    expected = ColumnScaling.fit(X).scale(X)
    monkeypatch.setattr(scaling_module, "_VALUES_AT_ONCE", values)
    assert np.array_equal(ColumnScaling.fit(X).scale(X), expected)

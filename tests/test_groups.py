"""Rows of one group are trained on together, or held out together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skectonas.inputs.checks import check_groups
from skectonas.training.data import CALIBRATION_ROWS
from skectonas.training.holdout import split_by_groups

RNG = np.random.default_rng(0)
N = 120
GROUPS = np.repeat(np.arange(20), 6)
Y = np.arange(N) % 3
X = RNG.normal(size=(N, 4)) + Y[:, None]


@st.composite
def tables(draw: Any, most: int = 30) -> Any:
    """Draw numbers of rows (groups, classes) in which each class is in two groups or more."""
    n_groups, n_classes = draw(st.integers(2, most)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = draw(st.floats(0, 1))
    table = rng.integers(1, 9, (n_groups, n_classes)) * (
        rng.random((n_groups, n_classes)) < density
    )
    for column in table.T:
        present = rng.permutation(n_groups)[:2]
        column[present] = np.maximum(column[present], 1)
    return table[table.any(1)]


def rows_of(table: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return classes and groups of shuffled rows."""
    groups, classes = (np.repeat(where, table[table > 0]) for where in np.nonzero(table))
    order = np.random.default_rng(seed).permutation(len(groups))
    return classes[order], groups[order]


def parts(table: np.ndarray, fraction: float = 0.1, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    classes, groups = rows_of(table, seed)
    names = np.arange(table.shape[1])
    train, held_out = split_by_groups(classes, groups, names, fraction, seed)
    return classes, groups, train, held_out


@given(table=tables(), fraction=st.floats(0.01, 0.9), seed=st.integers(0, 100))
def test_no_group_is_on_both_sides(table: np.ndarray, fraction: float, seed: int) -> None:
    classes, groups, train, held_out = parts(table, fraction, seed)
    assert sorted([*train, *held_out]) == list(range(len(classes)))
    assert not set(groups[train]) & set(groups[held_out])
    assert len(held_out)
    assert set(classes[train]) == set(classes)
    again = parts(table, fraction, seed)
    np.testing.assert_array_equal(train, again[2])


@given(n=st.lists(st.integers(2, 5), min_size=2, max_size=6), seed=st.integers(0, 100))
def test_each_class_is_on_both_sides_if_groups_have_one_class(n: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.zeros((sum(n), len(n)), int)
    for group, its_class in enumerate(np.repeat(np.arange(len(n)), n)):
        table[group, its_class] = rng.integers(1, 50)
    classes, _, train, held_out = parts(table, 0.1, seed)
    assert set(classes[train]) == set(classes[held_out]) == set(range(len(n)))


@given(table=tables(most=6), seed=st.integers(0, 100))
def test_few_groups_against_all_ways_to_split_them(table: np.ndarray, seed: int) -> None:
    classes, _, _, held_out = parts(table, 0.2, seed)
    sides = itertools.product([False, True], repeat=len(table))
    found = len(set(classes[held_out]))
    best = max(
        int((table[list(side)] > 0).any(0).sum())
        for side in sides
        if any(side) and (table[~np.array(side)] > 0).any(0).all()
    )
    # Groups change sides one by one, which may end a class short of the best.
    assert best - 1 <= found <= best


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
def test_the_fraction_is_kept_where_groups_are_small(fraction: float) -> None:
    table = RNG.integers(1, 4, (200, 3))
    classes, _, _, held_out = parts(table, fraction)
    assert abs(len(held_out) / len(classes) - fraction) < 0.03
    shares = np.bincount(classes[held_out]) / np.bincount(classes)
    np.testing.assert_allclose(shares, fraction, atol=0.04)


def test_groups_that_cannot_be_split() -> None:
    names = np.where(GROUPS == 3, "b", np.where(Y, "a", "c"))
    with pytest.raises(ValueError, match=r"groups must hold at least 2 groups, .* got 1"):
        quick(3).fit(X, Y, groups=np.zeros(N))
    with pytest.raises(
        ValueError, match=r"each class in at least 2 groups, .* only for \['b'\]"
    ):
        quick(3).fit(X, names, groups=GROUPS)
    # Rows without weight are in no group.
    with pytest.raises(ValueError, match=r"groups must hold at least 2 groups"):
        quick(3).fit(X, Y, (GROUPS == 3) * 1.0, groups=GROUPS)


@pytest.mark.filterwarnings("ignore:The network that was found is no better")
def test_a_class_that_no_group_can_be_spared_of_is_told() -> None:
    groups = np.repeat([0, 1, 2], N // 3)
    y = np.where(np.arange(N) % 2, (groups + 1) % 3, groups)
    with pytest.warns(UserWarning, match=r"no row of some classes is held out.*: [012]\."):
        quick(3).fit(X, y, groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (GROUPS[1:], "a label for each of the 120 rows of X, got 119"),
        (GROUPS[:, None], "one label a row"),
        (3, "one label a row"),
        ([[1]] * N, "one label a row"),
        (np.where(Y, np.nan, 1.0), "missing"),
        ([None, "a"] * (N // 2), "missing"),
    ],
)
def test_odd_groups(groups: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"groups must .*{message}"):
        quick(3).fit(X, Y, groups=groups)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        torch.tensor,
        pd.Series,
        pl.Series,
        lambda groups: [f"patient {group}" for group in groups],
        lambda groups: pd.Categorical(groups),
        lambda groups: pd.Series(groups + 3, index=np.arange(N)[::-1]),
        lambda groups: groups.astype("M8[D]"),
    ],
)
def test_only_equality_of_labels_counts(convert: Any) -> None:
    np.testing.assert_array_equal(check_groups(convert(GROUPS), X), GROUPS)


def held_out_rows(clf: Any, **kwargs: Any) -> np.ndarray:
    """Return the rows that a fit scores its candidates on.

    A pixel of each row has its number. Two others tell how the pixels were scaled.
    """
    seen: list[np.ndarray] = []

    def scoring(estimator: Any, images: np.ndarray, y: np.ndarray) -> float:
        number, zero, n = images[:, 0, :, 0].T.astype(float)
        seen.append(N * (number - zero) / (n - zero))
        return 0.5

    images = RNG.random((N, 3, 3)) + 50 * Y[:, None, None]  # so that something can be learned
    images[:, 0] = np.column_stack([np.arange(N), np.zeros(N), np.full(N, N)])
    clf.set_params(scoring=scoring).fit(images, Y, **kwargs)
    return np.sort(seen[-1].round().astype(int))


def test_running_statistics_are_those_of_all_classes() -> None:
    """They are computed on the first of the rows to train on, in whatever order X is."""
    n = 8 * CALIBRATION_ROWS
    classes, groups = np.repeat(np.arange(8), n // 8), np.repeat(np.arange(n // 16), 16)
    for rows in split_by_groups(classes, groups, np.arange(8), 0.2, 0):
        shares = np.bincount(classes[rows[:CALIBRATION_ROWS]], minlength=8) / CALIBRATION_ROWS
        assert shares.min() > 0.06
        assert shares.max() < 0.2


def test_the_candidates_are_scored_on_whole_groups() -> None:
    rows = held_out_rows(quick(3), groups=GROUPS)
    assert len(rows) == 6 * len(set(GROUPS[rows]))
    assert 6 <= len(rows) <= 24
    without = held_out_rows(quick(3))
    assert len(without) < 6 * len(set(GROUPS[without]))


def test_rows_without_weight_are_in_no_group() -> None:
    weights = np.where(np.arange(N) % 6 == 5, 0.0, 1.0)
    rows = held_out_rows(quick(20), sample_weight=weights, groups=GROUPS)
    assert set(rows % 6) == {0, 1, 2, 3, 4}
    assert len(rows) == 5 * len(set(GROUPS[rows]))


def test_a_warm_start_holds_out_the_same_groups() -> None:
    clf = quick(20, warm_start=True)
    first = held_out_rows(clf, groups=GROUPS)
    np.testing.assert_array_equal(held_out_rows(clf, groups=GROUPS), first)


def test_groups_are_routed() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        clf = quick(3).set_fit_request(groups=True)
        pipeline = make_pipeline(MinMaxScaler(), clf)
        grid = GridSearchCV(
            pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=GroupKFold(2)
        )
        grid.fit(X, Y, groups=GROUPS)
        alpha = grid.best_params_["ectonasclassifier__alpha"]
        table = MinMaxScaler().fit_transform(X)
        expected = quick(3, alpha=alpha).fit(table, Y, groups=GROUPS)
        np.testing.assert_array_equal(grid.predict_proba(X), expected.predict_proba(table))
        assert (
            expected.predict_proba(table)
            != quick(3, alpha=alpha).fit(table, Y).predict_proba(table)
        ).any()
        with pytest.raises(UnsetMetadataPassedError, match="groups"):
            GridSearchCV(quick(3), {"alpha": [1.0]}, cv=GroupKFold(2)).fit(X, Y, groups=GROUPS)


def test_callbacks_that_score_do_not_get_groups() -> None:
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = quick(12).set_callbacks(monitor)
    clf.fit(X, Y, groups=GROUPS)
    assert clf.n_parameters_ > 0

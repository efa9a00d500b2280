"""Checks at the border, one by one; `test_classifier` has them through `fit`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers import quick
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.model_selection import StratifiedShuffleSplit

from skectonas.estimators import check_device, draw_seed
from skectonas.inputs import checks, encoder, layout
from skectonas.inputs.checks import check_classes
from skectonas.morphisms import GREEDY_MORPHISMS, MORPHISMS, AddCell, AddUnits
from skectonas.search import check_morphisms
from skectonas.training.holdout import fraction_to_hold_out, split, training_weights

Fraction: TypeAlias = float | Literal["auto"]

CASES = given(
    counts=st.lists(st.integers(0, 3) | st.integers(2, 60), min_size=2, max_size=12).filter(
        lambda counts: max(counts) > 1
    ),
    fraction=st.floats(0.01, 0.6) | st.just("auto"),
    seed=st.integers(0, 100),
)


def split_or_none(labels: np.ndarray, fraction: Fraction, seed: int) -> Any:
    """Return the split; None if too few rows are left to train on, which has to be refused."""
    counts = np.bincount(labels)
    shared = counts[counts > 1]
    wanted = 0 if fraction == "auto" else round(fraction * len(labels))
    if shared.sum() - max(wanted, len(shared)) >= len(shared):
        return split(labels, fraction, seed)
    with pytest.raises(ValueError, match="validation_fraction"):
        split(labels, fraction, seed)
    return None


@CASES
@example(counts=[998, 2], fraction=0.1, seed=0)
@example(counts=[998, 2, 1], fraction=0.1, seed=0)
@example(counts=[2, 998], fraction=0.9, seed=0)
@example(counts=[3, *[1] * 40], fraction="auto", seed=0)
def test_split_has_each_class_on_both_sides(
    counts: list[int], fraction: Fraction, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    found = split_or_none(labels, fraction, seed)
    if found is None:
        return
    train, validation = found
    assert sorted([*train, *validation]) == list(range(len(labels)))
    shared = [count for count in counts if count > 1]
    most = sum(shared) - len(shared) if fraction == "auto" else len(labels)
    share = fraction_to_hold_out(len(labels)) if fraction == "auto" else fraction
    assert len(validation) == min(max(round(share * len(labels)), len(shared)), most)
    held_out = np.bincount(labels[validation], minlength=len(counts))
    trained_on = np.bincount(labels[train], minlength=len(counts))
    for count, outside, inside in zip(counts, held_out, trained_on, strict=True):
        assert (outside > 0) == (count > 1)
        assert (inside > 0) == (count > 0)
    again = split(labels, fraction, seed)
    assert (train == again[0]).all()
    assert (validation == again[1]).all()


@CASES
def test_split_is_that_of_scikit_learn_where_that_has_each_class(
    counts: list[int], fraction: Fraction, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    found = split_or_none(labels, fraction, seed)
    if found is None or 1 in counts:
        return
    splitter = StratifiedShuffleSplit(1, test_size=len(found[1]), random_state=seed)
    expected = next(splitter.split(labels, labels))
    if all(set(labels[side]) == set(labels) for side in expected):
        for side, rows in zip(found, expected, strict=True):
            np.testing.assert_array_equal(side, rows)


def test_split_without_two_rows_of_any_class() -> None:
    with pytest.raises(ValueError, match=r"2 rows of some class, .* got 5 rows"):
        split(np.arange(5), 0.1, 0)


def test_split_that_leaves_too_little_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"0\.9 of 10 rows holds out 9, more than the 8 that"):
        split(np.arange(10) % 2, 0.9, 0)


def test_the_usual_fraction_takes_what_there_is() -> None:
    labels = np.r_[np.arange(100), np.zeros(8), np.ones(8)].astype(int)
    with pytest.raises(ValueError, match="holds out 23, more than the 16 that"):
        split(labels, 0.2, 0)
    train, validation = split(labels, "auto", 0)
    assert len(validation) == 16
    assert set(labels[validation]) == {0, 1}
    assert set(labels[train]) == set(range(100))


def test_training_weights() -> None:
    labels = np.array(["a", "a", "a", "b"])
    assert training_weights(None, None, labels) is None
    balanced = training_weights(None, "balanced", labels)
    np.testing.assert_allclose(balanced, [2 / 3, 2 / 3, 2 / 3, 2])
    both = training_weights(np.array([1.0, 2.0, 3.0, 4.0]), {"a": 1, "b": 2}, labels)
    np.testing.assert_allclose(both, np.array([1, 2, 3, 8]) / 3.5)
    for bad in ({"a": -1, "b": 1}, {"a": 0, "b": 0}, {"a": np.inf, "b": 1}):
        with pytest.raises(ValueError, match="class_weight"):
            training_weights(None, bad, labels)


def test_classes() -> None:
    classes, indices = check_classes(np.array(["b", "a", "b", "a"]))
    assert classes.tolist() == ["a", "b"]
    assert indices.tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="one class only"):
        check_classes(np.zeros(3))
    with pytest.warns(UserWarning, match=r"single row .* nothing of them: 'a', 'c'\."):
        check_classes(np.array(["a", "b", "b", "c"]))
    with pytest.warns(UserWarning, match=r"them: 0, 1, 2, 3, 4, \.\.\.\."):
        check_classes(np.array([0, 1, 2, 3, 4, 5, 6, 6]))


def test_morphisms() -> None:
    assert check_morphisms("all", MORPHISMS) == MORPHISMS
    wide = AddUnits(fraction=1.0)
    assert check_morphisms(["identity", wide], MORPHISMS) == (MORPHISMS[0], wide)
    wide_cell = AddCell(extra=(15,), poolings=("average", "max", None))
    assert check_morphisms("add_cell", GREEDY_MORPHISMS) == (wide_cell,)
    for bad in (["no_such"], [3], [AddUnits], [], ["identity", "identity"]):
        with pytest.raises(ValueError, match="morphisms"):
            check_morphisms(bad, MORPHISMS)


def test_device() -> None:
    assert check_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert check_device("auto").type == expected
    for bad in ("no_such", "cuda:99", "meta:x", "vulkan", "hpu"):
        with pytest.raises(ValueError, match="device") as caught:
            check_device(bad)
        assert len(str(caught.value).splitlines()) == 1


def test_seed() -> None:
    assert draw_seed(7) == draw_seed(7) == draw_seed(np.random.RandomState(7))
    assert draw_seed(7) != draw_seed(8)
    assert draw_seed(np.random.default_rng(1)) == draw_seed(np.random.default_rng(1))
    before = np.random.get_state()[1].copy()
    assert draw_seed(None) != draw_seed(None)
    assert (np.random.get_state()[1] == before).all()
    with pytest.raises(ValueError, match="seed"):
        draw_seed("x")


FRAME = pd.DataFrame({"a": np.arange(40.0), "b": list("xyxz") * 10})
KINDS_OF_X = {
    "array": np.arange(80.0).reshape(40, 2),
    "images": np.arange(640.0).reshape(40, 4, 4),
    "lists": np.arange(80.0).reshape(40, 2).tolist(),
    "frame": FRAME,
    "arrow": pa.Table.from_pandas(FRAME),
    "sparse": sparse.csr_array(np.eye(40)),
}


@pytest.mark.parametrize("kind", KINDS_OF_X)
def test_X_is_converted_and_validated_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(function: Any, name: str) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return function(*args, **kwargs)

        return wrapper

    for module in (checks, encoder, layout):
        for name in ("to_pandas", "validate_data"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted(getattr(module, name), name))
    X = KINDS_OF_X[kind]
    clf = quick(5).fit(X, np.arange(40) % 2)
    assert sorted(calls) == ["to_pandas", "to_pandas", "validate_data"]  # X and y
    calls.clear()
    clf.predict(X)
    assert sorted(calls) == ["to_pandas", "validate_data"]


def test_parameters_that_are_set_later_do_not_change_what_is_checked() -> None:
    X = np.random.default_rng(0).random((50, 3))
    clf = quick(3).fit(X, np.arange(50) % 2)
    missing = np.array([[np.nan, 1.0, 2.0]])
    expected = clf.predict_proba(missing)
    clf.set_params(image_shape=(8, 8))
    np.testing.assert_array_equal(clf.predict_proba(missing), expected)

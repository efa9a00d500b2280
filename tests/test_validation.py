"""Checks at the border, one by one; `test_classifier` has them through `fit`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skectonas.morphisms import GREEDY_MORPHISMS, MORPHISMS, AddCell, AddUnits
from skectonas.validation import (
    check_classes,
    check_device,
    check_morphisms,
    draw_seed,
    split,
    training_weights,
)


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 100),
)
def test_split_is_stratified_and_complete(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, validation = split(labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    assert len(validation) == max(round(fraction * len(labels)), len(counts))
    assert set(labels[train]) == set(range(len(counts)))
    share = len(validation) / len(labels)
    found = np.bincount(labels[validation], minlength=len(counts))
    assert (abs(found - share * np.array(counts)) <= 1 + 1e-9).all()
    again = split(labels, fraction, seed)
    assert (train == again[0]).all()


def test_split_that_leaves_too_little_to_train_on() -> None:
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9 of 10 rows leaves 1"):
        split(np.arange(10) % 2, 0.9, 0)


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
    with pytest.raises(ValueError, match="'a' has only 1 member"):
        check_classes(np.array(["a", "b", "b"]))


def test_morphisms() -> None:
    assert check_morphisms("all", MORPHISMS) == MORPHISMS
    wide = AddUnits(fraction=1.0)
    assert check_morphisms(["identity", wide], MORPHISMS) == (MORPHISMS[0], wide)
    assert check_morphisms("add_cell", GREEDY_MORPHISMS) == (AddCell(extra=(15,)),)
    for bad in (["no_such"], [3], [AddUnits], [], ["identity", "identity"]):
        with pytest.raises(ValueError, match="morphisms"):
            check_morphisms(bad, MORPHISMS)


def test_device() -> None:
    assert check_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert check_device("auto").type == expected
    for bad in ("no_such", "cuda:99", "meta:x"):
        with pytest.raises(ValueError, match="device"):
            check_device(bad)


def test_seed() -> None:
    assert draw_seed(7) == draw_seed(7) == draw_seed(np.random.RandomState(7))
    assert draw_seed(7) != draw_seed(8)
    assert draw_seed(np.random.default_rng(1)) == draw_seed(np.random.default_rng(1))
    before = np.random.get_state()[1].copy()
    assert draw_seed(None) != draw_seed(None)
    assert (np.random.get_state()[1] == before).all()
    with pytest.raises(ValueError, match="seed"):
        draw_seed("x")

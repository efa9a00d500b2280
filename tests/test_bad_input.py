"""Bad input gets a clear error before any training."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from helpers import census, quick
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skectonas import Topology
from skectonas.candidate import Candidate, Evaluation
from skectonas.guessing import warn_if_a_guess_is_as_good
from skectonas.training import Rows

X_GOOD, Y_GOOD = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
IMAGES = np.random.default_rng(0).random((20, 6, 6))
FRAME = pd.DataFrame({"number": np.arange(20.0), "text": ["u", "v"] * 10})
RECORDS = FRAME.to_dict("records")


class Readable:
    """What numpy can read, and nothing else."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __array__(self, *arguments: Any, **settings: Any) -> Any:
        return np.array(self.frame.to_numpy(), *arguments, **settings)


class Delayed(Readable):
    """A frame as Dask has it."""

    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__(frame)
        self.columns, self.ndim, self.shape = frame.columns, frame.ndim, frame.shape

    def compute(self) -> pd.DataFrame:
        return self.frame


@pytest.mark.parametrize(
    ("X", "y", "settings", "message"),
    [
        (X_GOOD[:1], Y_GOOD[:1], {}, "1 sample"),
        (IMAGES[:1], Y_GOOD[:1], {}, "1 sample"),
        (X_GOOD, np.zeros(20), {}, "one class only"),
        (X_GOOD[:3], ["a", "b", "c"], {}, "2 rows of some class"),
        (X_GOOD, Y_GOOD[:19], {}, "inconsistent numbers of samples"),
        (X_GOOD, None, {}, "requires y"),
        (X_GOOD, np.where(Y_GOOD, np.nan, 0), {}, r"y contains NaN: 10 of 20 .* in row 1, "),
        (X_GOOD, pd.DataFrame({"a": [0, None] * 10}), {}, "10 of 20 labels .* row 1, .* Drop"),
        (X_GOOD, np.linspace(0, 1, 20), {}, "continuous"),
        (X_GOOD, np.stack([Y_GOOD, Y_GOOD], 1), {}, r"one label a row, .* shape \(20, 2\)"),
        (X_GOOD, pd.DataFrame({"a": Y_GOOD, "b": Y_GOOD}), {}, r"label a row, .* \(20, 2\)"),
        (X_GOOD, pd.MultiIndex.from_arrays([Y_GOOD, Y_GOOD]), {}, r"label a row, .* \(20, 2\)"),
        (X_GOOD, [[0], [0, 1]] * 10, {}, r"one label a row, .* shape \(20, \.\.\.\)"),
        (X_GOOD, Y_GOOD[0], {}, "1d array"),
        (X_GOOD, dict(enumerate(Y_GOOD)), {}, "y must hold one label a row, .* of type dict"),
        (X_GOOD, {0, 1}, {}, "y must hold one label a row, .* of type set"),
        (X_GOOD, map(int, Y_GOOD), {}, "y must hold one label a row, .* of type map"),
        (FRAME, "text", {}, "y must hold one label a row, .* of type str"),
        (np.where(X_GOOD > 2, X_GOOD, np.inf), Y_GOOD, {}, "infinity"),
        (np.where(X_GOOD > 2, X_GOOD, np.nan), Y_GOOD, {"image_shape": (2, 2)}, "NaN"),
        (np.full((20, 6, 6), None), Y_GOOD, {}, "NaN"),
        (np.where(IMAGES > 0.9, np.nan, IMAGES), Y_GOOD, {}, "NaN"),
        (np.where(IMAGES > 0.9, np.inf, IMAGES), Y_GOOD, {}, "infinity among the pixels"),
        (np.full((20, 4), -np.inf), Y_GOOD, {"image_shape": (2, 2)}, "infinity among the pix"),
        (np.empty((0, 4)), [], {}, "0 sample"),
        (np.empty((20, 0)), Y_GOOD, {}, r"0 feature"),
        (np.empty((0, 6, 6)), [], {}, "0 sample"),
        (np.empty((20, 6, 0)), Y_GOOD, {}, "without pixels"),
        (np.float64(3), Y_GOOD, {}, "[Ss]calar|singleton"),
        (X_GOOD[0], Y_GOOD, {}, "1D array(.|\n)*Reshape your data"),
        (X_GOOD[0].tolist(), Y_GOOD, {}, "1D array(.|\n)*Reshape your data"),
        (FRAME["number"], Y_GOOD, {}, r"X must have a row .* Series of 20 values: frame\.iloc"),
        (FRAME["text"], Y_GOOD, {}, r"X must have a row .* Series of 20 values: frame\.iloc"),
        (
            FRAME.iloc[0],
            Y_GOOD,
            {},
            r"X must have a row .* Series of 2 values: .*iloc\[\[0\]\]",
        ),
        (
            pl.Series(FRAME["text"].tolist()),
            Y_GOOD,
            {},
            "X must have a row .* Series of 20 val",
        ),
        (FRAME["text"].tolist(), Y_GOOD, {}, r"X must have a row .* 20 .*DataFrame\(\[X\]\)"),
        (FRAME["text"].to_numpy("U"), Y_GOOD, {}, "X must have a row .* 20 values"),
        (FRAME["text"].to_numpy(object), Y_GOOD, {}, "X must have a row .* 20 values"),
        (pd.Categorical(FRAME["text"]), Y_GOOD, {}, "X must have a row .* 20 values"),
        (np.arange(20).astype("M8[s]"), Y_GOOD, {}, "X must have a row .* 20 values"),
        (Readable(FRAME), Y_GOOD, {}, "X must hold numbers, got an array of objects"),
        (FRAME.to_dict("list"), Y_GOOD, {}, r"of type dict: give pandas\.DataFrame\(X\)"),
        (RECORDS[0], Y_GOOD, {}, r"of type dict: give pandas\.DataFrame\(\[X\]\)"),
        (RECORDS, Y_GOOD, {}, r"rows of type dict: give pandas\.DataFrame\(list\(X\)\)"),
        (pd.Series(RECORDS), Y_GOOD, {}, r"rows of type dict: give .*DataFrame\(list\(X\)\)"),
        (np.array(RECORDS), Y_GOOD, {}, r"rows of type dict: give .*DataFrame\(list\(X\)\)"),
        (FRAME.to_records(), Y_GOOD, {}, r"array of records: give pandas\.DataFrame\(X\)"),
        (load_iris(), Y_GOOD, {}, r"of type Bunch: give X\.data, and y=X\.target"),
        (Bunch(a=[1] * 20), Y_GOOD, {}, r"of type Bunch: give pandas\.DataFrame\(X\)"),
        ("table.csv", Y_GOOD, {}, "of type str: read the file first"),
        (Path("table.csv"), Y_GOOD, {}, "of type .*Path: read the file first"),
        (set(range(20)), Y_GOOD, {}, "X must be an array .* of type set: give a list"),
        (map(list, X_GOOD), Y_GOOD, {}, "X must be an array .* of type map: give a list"),
        (dict(enumerate(X_GOOD)).values(), Y_GOOD, {}, "of type dict_values: give a list"),
        (np.ones((20, 2, 2, 2, 2)), Y_GOOD, {}, "5 dimensions"),
        (np.array([["a", {}]] * 20, dtype=object), Y_GOOD, {}, "type dict.*column of its own"),
        (np.array([["a", 2j]] * 20, dtype=object), Y_GOOD, {}, "real and imaginary parts"),
        (np.array([["a", np.inf]] * 20, dtype=object), Y_GOOD, {}, "infinite"),
        (np.empty((0, 2), dtype=object), [], {}, "0 sample"),
        (np.empty((20, 0), dtype=object), Y_GOOD, {}, "0 feature"),
        (np.full((20, 6, 6), "a", dtype=object), Y_GOOD, {}, "could not convert"),
        (
            X_GOOD.astype("M8[s]").reshape(len(X_GOOD), 1, -1),
            Y_GOOD,
            {},
            r"X must hold numbers, .* datetime64\[s\]",
        ),
        (IMAGES.astype("m8[D]"), Y_GOOD, {}, r"X must hold numbers, .* timedelta64\[D\]"),
        ([[10**400]] * 20, Y_GOOD, {}, "(Column 0: expected|X must hold) numbers.* too large"),
        (np.full((20, 6, 6), 10**400), Y_GOOD, {}, "X must hold numbers that float64 can hold"),
        (X_GOOD.astype(np.longdouble) * np.longdouble("1e4000"), Y_GOOD, {}, "too large|infin"),
        (X_GOOD.astype("m8"), Y_GOOD, {}, r"times in some unit, got an array of timedelta64"),
        (X_GOOD.astype(complex), Y_GOOD, {}, "[Cc]omplex"),
        (pd.DataFrame(X_GOOD)[:0], [], {}, "0 sample"),
        (pd.DataFrame(X_GOOD)[[]], Y_GOOD, {}, "0 feature"),
        (pd.DataFrame({"a": [np.inf] * 20}), Y_GOOD, {}, "a"),
        (pd.DataFrame({"when": [datetime.time(1)] * 20}), Y_GOOD, {}, "when.* since midnight"),
        (X_GOOD, Y_GOOD, {"column_scaling": "standard"}, "'column_scaling'"),
        (X_GOOD, Y_GOOD, {"start": "no_such"}, "start must be one of"),
        (X_GOOD, Y_GOOD, {"start": "small_cnn"}, "start='small_cnn' does not fit"),
        (X_GOOD, Y_GOOD, {"start": Topology((2, 2, 1), [], [], 9)}, "start is a topology"),
        (IMAGES, Y_GOOD, {"start": Topology((9, 9, 1), [], [], 2)}, "start is a topology"),
        (X_GOOD, Y_GOOD, {"start": Topology((2, 2, 1), [], [], 3)}, "n_classes=3"),
        (X_GOOD, Y_GOOD, {"max_parameters": 5}, "max_parameters"),
        (X_GOOD, Y_GOOD, {"budget": 0}, "'budget'"),
        (X_GOOD, Y_GOOD, {"budget": 0.01}, "budget=0.01"),
        (X_GOOD, Y_GOOD, {"budget": np.nan}, "budget"),
        (X_GOOD, Y_GOOD, {"alpha": 1.1}, "'alpha'"),
        (X_GOOD, Y_GOOD, {"batch_size": 0}, "'batch_size'"),
        (X_GOOD, Y_GOOD, {"validation_fraction": 1.0}, "'validation_fraction'"),
        (X_GOOD, Y_GOOD, {"validation_fraction": 0.97}, "validation_fraction=0.97"),
        (X_GOOD, Y_GOOD, {"scoring": "no_such"}, "scoring"),
        (X_GOOD, Y_GOOD, {"scoring": "r2"}, "classifications, got 'r2', .* regressions"),
        (X_GOOD, Y_GOOD, {"optimizer": "no_such"}, "optimizer must be one of"),
        (X_GOOD, Y_GOOD, {"optimizer_params": {"no_such": 1}}, "optimizer_params"),
        (X_GOOD, Y_GOOD, {"device": "no_such"}, "device"),
        (X_GOOD, Y_GOOD, {"device": "meta"}, "device"),
        (X_GOOD, Y_GOOD, {"n_jobs": 0}, "'n_jobs'"),
        (X_GOOD, Y_GOOD, {"image_shape": (1, 3)}, "image_shape"),
        (X_GOOD, Y_GOOD, {"image_shape": (0, 9)}, "image_shape"),
        (IMAGES, Y_GOOD, {"image_shape": (4, 9)}, "image_shape"),
        (X_GOOD, Y_GOOD, {"column_order": "best"}, "'column_order'"),
        (X_GOOD, Y_GOOD, {"morphisms": ["no_such"]}, "morphisms"),
        (X_GOOD, Y_GOOD, {"class_weight": "heavy"}, "'class_weight'"),
        (X_GOOD, Y_GOOD, {"random_state": "x"}, "'random_state'"),
        (
            X_GOOD,
            np.array([1, "a"] * 10, object),
            {},
            r"y must hold whole numbers of up to 64 bits.*'int', 'str'",
        ),
        (
            X_GOOD,
            [10**400, 1] * 10,
            {},
            r"y must hold whole numbers of up to 64 bits.*\['int'\]",
        ),
        (X_GOOD, [-1, 2**63 + 1] * 10, {}, "y must hold whole numbers of up to 64 bits"),
        (X_GOOD, [2.0, 2**62, 2**62 + 1, 2.0] * 5, {}, "y must hold whole numbers of up to 64"),
        (X_GOOD, pd.MultiIndex.from_arrays([Y_GOOD]), {}, r"one label a row, .* \(20, 1\)"),
        (X_GOOD, Y_GOOD, {"device": "hpu"}, "device must be .* got 'hpu'"),
        (X_GOOD, Y_GOOD, {"device": "cuda:200"}, "device must be .* got 'cuda:200'"),
        (X_GOOD, Y_GOOD, {"budget": 10**400}, r"budget must be a number of up to 1e\+100"),
        (
            X_GOOD,
            Y_GOOD,
            {"budget": 1e300},
            r"budget must be a number of up to 1e\+100, got 1e",
        ),
        (X_GOOD, Y_GOOD, {"warmup_epochs": 1e308}, "warmup_epochs must be a number of up to"),
        (X_GOOD, Y_GOOD, {"round_epochs": 10**400}, "round_epochs must be a number of up to"),
        (X_GOOD, Y_GOOD, {"n_rounds": 10**400}, "n_rounds must be a number of up to"),
        (X_GOOD, Y_GOOD, {"n_jobs": 10**400}, "n_jobs must be a number of up to"),
        (X_GOOD, Y_GOOD, {"learning_rate": 1e300}, "learning_rate must be a number of up to"),
        (
            X_GOOD,
            Y_GOOD,
            {"optimizer_params": {"momentum": 10**400}},
            r"optimizer_params\['momentum'\] must be a number of up to .* a larger integer",
        ),
        (
            X_GOOD,
            Y_GOOD,
            {"optimizer": "Adam", "optimizer_params": {"betas": (0.9, np.nan)}},
            r"optimizer_params\['betas'\] must be a number of up to .*, got nan",
        ),
        (X_GOOD, Y_GOOD, {"class_weight": {0: "x"}}, "class_weight={0: 'x'}"),
        (X_GOOD, Y_GOOD, {"class_weight": {0: 10**400}}, r"class_weight\[0\] must be a number"),
    ],
)
def test_bad_input(
    X: Any, y: Any, settings: dict[str, Any], message: str, monkeypatch: Any
) -> None:
    def trained(*arguments: Any) -> None:
        raise AssertionError("trained before the input was checked")

    monkeypatch.setattr("skectonas.population.FusedTrainer.train", trained)
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit(X, y)


@pytest.mark.parametrize(
    "unreadable",
    [
        lambda *shape: torch.ones(shape, device="meta"),
        lambda *shape: torch.ones(shape).to_sparse(),
    ],
    ids=["meta", "sparse"],
)
def test_tensors_that_numpy_cannot_read(unreadable: Any) -> None:
    message = r"{} must be a dense tensor that numpy can read, got a tensor of torch\."
    clf = quick()
    for data, name in (
        ((unreadable(20, 4), Y_GOOD), "X"),
        ((X_GOOD, unreadable(20)), "y"),
        ((X_GOOD, Y_GOOD, unreadable(20)), "sample_weight"),
    ):
        with pytest.raises(TypeError, match=message.format(name)):
            clf.fit(*data)
        assert vars(clf) == vars(quick())


def test_tensors_that_require_gradients_are_read(digits: Any) -> None:
    X, y = digits[0][:60], digits[1][:60] % 2
    expected = quick(2, warmup_epochs=1).fit(X, y.astype(float), np.ones(60))
    whole = [torch.tensor(part, requires_grad=True) for part in (X, y.astype(float))]
    lists = [[torch.tensor(row, requires_grad=True) for row in part] for part in (X, y * 1.0)]
    for data in (whole, lists):
        weights = torch.ones(60, requires_grad=True)
        for given in (weights, list(weights)):
            found = quick(2, warmup_epochs=1).fit(*data, sample_weight=given)
            np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    nested = [[[torch.tensor(v, requires_grad=True) for v in r] for r in im] for im in X[:3]]
    with pytest.raises(TypeError, match=r"X must hold numbers: .*grad"):
        quick().fit(nested, y[:3])


@pytest.mark.parametrize("tensor", [torch._neg_view(torch.eye(20)), torch.eye(20).bfloat16()])
def test_tensors_of_kinds_that_numpy_lacks_are_read(tensor: torch.Tensor) -> None:
    found = quick(2, warmup_epochs=1).fit(tensor, Y_GOOD)
    expected = quick(2, warmup_epochs=1).fit(tensor.float().numpy(force=True), Y_GOOD)
    np.testing.assert_array_equal(
        found.predict_proba(tensor), expected.predict_proba(tensor.float())
    )


@pytest.mark.parametrize("columns", [["number"], ["number", "text"]])
def test_frames_that_are_not_computed_are_refused(columns: list[str]) -> None:
    X = FRAME[columns]
    message = r"{} must hold its values, got a lazy .*Delayed: call its compute\(\) first"
    clf = quick(2, warmup_epochs=1).fit(X, Y_GOOD)
    for method in (clf.predict, lambda X: clf.fit(X, Y_GOOD)):
        with pytest.raises(TypeError, match=message.format("X")):
            method(Delayed(X))
        method(Delayed(X).compute())
    with pytest.raises(TypeError, match=message.format("y")):
        clf.fit(X, Delayed(X))


def test_arrays_and_columns_that_are_not_computed_are_read() -> None:
    array, labels = Delayed(pd.DataFrame(X_GOOD)), Delayed(pd.DataFrame(Y_GOOD))
    del array.columns  # as of an array of Dask
    labels.frame, labels.shape, labels.ndim = pd.Series(Y_GOOD), (20,), 1  # or its Series
    found = quick(2, warmup_epochs=1).fit(array, labels)
    expected = quick(2, warmup_epochs=1).fit(X_GOOD, Y_GOOD)
    np.testing.assert_array_equal(found.predict(array), expected.predict(X_GOOD))


@pytest.mark.parametrize("X", [FRAME.iloc[0], FRAME.iloc[0].tolist(), RECORDS[0], RECORDS])
def test_what_makes_a_frame_is_said_at_predict(X: Any) -> None:
    clf = quick(2, warmup_epochs=1).fit(FRAME, Y_GOOD)
    with pytest.raises(ValueError, match=r"^X must .*(pandas\.DataFrame\(|frame\.iloc)"):
        clf.predict(X)


@pytest.mark.filterwarnings("ignore:Columns of X")
@pytest.mark.parametrize("X", [np.full((20, 2), None), pd.DataFrame({"a": [None] * 20})])
def test_nothing_to_learn_from(X: Any) -> None:
    with pytest.raises(ValueError, match="expected a column to learn from"):
        quick().fit(X, Y_GOOD)


def test_a_warning_of_columns_names_the_line_of_the_user() -> None:
    X = pd.DataFrame({"number": ["1.5", "2"] * 10, "nothing": [None] * 20, "other": Y_GOOD})
    message = "Columns of X: 'number' is read as numbers; 'nothing' is dropped"
    pipeline = make_pipeline(quick(2, warmup_epochs=1))
    for estimator in (quick(2, warmup_epochs=1), pipeline):
        with pytest.warns(UserWarning, match=message) as caught:
            estimator.fit(X, Y_GOOD)
        assert [warning.filename for warning in caught] == [__file__]
        estimator.predict(X)


@pytest.mark.parametrize(
    "shape", [(20, 3, 32, 32), (20, 1, 28, 28), (20, 4, 6, 5), (20, 13, 20, 20), (20, 5, 9, 9)]
)
def test_channels_that_seem_to_come_first(shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).random(shape)
    clf = quick(2, warmup_epochs=1)
    expected = f"{shape[1]}, a width of {shape[2]} and {shape[3]} channels.*moveaxis"
    with pytest.warns(UserWarning, match=rf"images with a height of {expected}") as caught:
        clf.fit(X, Y_GOOD)
    assert caught[0].filename == __file__
    assert clf.predict(X).shape == (20,)  # said once
    quick(2, warmup_epochs=1).fit(np.moveaxis(X, 1, -1), Y_GOOD)


@pytest.mark.parametrize(
    "shape",
    [
        (20, 3, 3, 30),
        (20, 1, 9, 3),
        (20, 5, 9, 8),
        (20, 3, 9),
        (20, 4, 4, 4),
        (20, 8, 8, 8),
        (20, 6, 3, 3),
    ],
)
def test_channels_that_may_well_be_last(shape: tuple[int, ...]) -> None:
    quick(2, warmup_epochs=1).fit(np.random.default_rng(0).random(shape), Y_GOOD)


def as_objects(images: list[Any]) -> np.ndarray:
    """Return an array whose elements are arrays, as a column of a frame would be."""
    return np.fromiter(images, dtype=object, count=len(images))


@pytest.mark.parametrize("kind", [list, tuple, as_objects])
def test_images_one_by_one(kind: Any) -> None:
    images = kind(list(IMAGES))
    found = quick(2, warmup_epochs=1).fit(images, Y_GOOD)
    assert found.image_shape_ == (6, 6, 1)
    expected = quick(2, warmup_epochs=1).fit(IMAGES, Y_GOOD).predict_proba(IMAGES)
    np.testing.assert_array_equal(found.predict_proba(images), expected)
    with pytest.raises(ValueError, match=r"one shape, got .* the shapes \(6, 5\), \(6, 6\)\."):
        quick().fit(kind([*IMAGES[:19], IMAGES[0, :, 1:]]), Y_GOOD)
    with pytest.raises(ValueError, match=r"one shape, got .* \(1,\), .*, \.\.\.\."):
        found.predict(kind([np.ones(n) for n in range(1, 21)]))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(19), "sample_weight"),
        (-np.ones(20), "[Nn]egative"),
        (np.zeros(20), "zero"),
        (np.full(20, np.nan), "NaN"),
        (np.where(Y_GOOD == 0, 1.0, 0.0), "one class only"),
        ([10**400] * 20, "sample_weight must hold numbers that float64 can hold"),
        (np.arange(20).astype("M8[s]"), r"sample_weight must hold numbers, .* datetime64\[s\]"),
        (np.arange(20).astype("m8[s]"), "sample_weight must hold numbers, .* timedelta64"),
        (pd.Series(np.arange(20).astype("M8[s]")), "sample_weight must hold numbers, .* datet"),
        (["1"] * 20, "sample_weight must hold numbers, .* <U1"),
        ("balanced", "sample_weight must hold numbers"),
    ],
)
def test_bad_sample_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick().fit(X_GOOD, Y_GOOD, sample_weight=weights)


def test_a_scorer_without_a_signature() -> None:
    with pytest.raises(ValueError, match="scoring=<class 'int'> cannot be computed"):
        quick(scoring=int).fit(X_GOOD, Y_GOOD, sample_weight=np.ones(20))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((2, 6, 7)), r"6, 7"),
        (np.ones((2, 4, 9)), r"4, 9"),
        (np.ones((2, 6, 6, 3)), r"6, 6, 3"),
        (np.full((2, 6, 6), np.nan), "NaN"),
        (np.full((2, 6, 6), np.inf), "infinity among the pixels"),
        (np.ones((0, 6, 6)), "0 sample"),
    ],
)
def test_bad_images_at_predict(X: np.ndarray, message: str) -> None:
    clf = quick(2, warmup_epochs=1).fit(IMAGES, Y_GOOD)
    with pytest.raises(ValueError, match=message):
        clf.predict(X)


@pytest.mark.parametrize("shape", [(20, 6, 7), (20, 6, 7, 1), (20, 6, 7, 3)])
def test_a_single_image_is_not_a_batch(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random(shape)
    clf = quick(2, warmup_epochs=1, warm_start=True).fit(images, Y_GOOD)
    for call in (clf.predict, lambda one: clf.fit(one, Y_GOOD[:6])):
        with pytest.raises(ValueError, match=r"single one of shape \(6, 7.*: X\[None\]"):
            call(images[0])
    assert clf.predict(images[0][None]).shape == (1,)


def test_rows_that_are_as_many_as_pixels_of_a_column_are_no_image() -> None:
    clf = quick(2, warmup_epochs=1, image_shape=(6, 6)).fit(IMAGES.reshape(20, 36), Y_GOOD)
    assert clf.predict(IMAGES.reshape(20, 36)[:6]).shape == (6,)
    with pytest.raises(ValueError, match="X has 6 features, but ECToNASClassifier"):
        clf.predict(IMAGES[0])
    # A batch of images with a height of one, as many as they are wide.
    lines = IMAGES[:, :1]
    clf = quick(2, warmup_epochs=1).fit(lines, Y_GOOD)
    assert clf.predict(lines[:1]).shape == (1,)


def test_bad_rows_at_predict() -> None:
    clf = quick(2, warmup_epochs=1).fit(X_GOOD, Y_GOOD)
    with pytest.raises(ValueError, match="X has 3 features, but ECToNASClassifier"):
        clf.predict(X_GOOD[:, :3])
    frame, y = census(60)
    clf = quick(2, warmup_epochs=1).fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that names are missing is said too
        with pytest.raises(ValueError, match="data frame"):
            clf.predict(np.ones((3, 5)))


def test_advice_about_X_comes_before_y() -> None:
    clf = quick(2, warmup_epochs=1).fit(X_GOOD, Y_GOOD)
    with pytest.raises(ValueError, match=r"got an object of type dict: give pandas"):
        clf.score({"a": 1}, Y_GOOD)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clf.score(X_GOOD, Y_GOOD[:3])


def test_a_column_of_images() -> None:
    frame = pd.DataFrame({"img": list(IMAGES)})
    with pytest.raises(ValueError, match=r"one array of them with numpy\.stack"):
        quick().fit(frame, Y_GOOD)
    np.testing.assert_array_equal(np.stack(frame["img"]), IMAGES)


# Momentum would not leave the weights finite.
PLAIN_SGD = {"start": "small_ffnn", "optimizer_params": {}}


@pytest.mark.filterwarnings("ignore:The network that was found")
@pytest.mark.parametrize("learning_rate", [1e4, 1e6])
def test_a_learning_rate_that_is_far_too_large(learning_rate: float, digits: Any) -> None:
    with pytest.warns(UserWarning, match="worse than guessing.*Lower learning_rate") as caught:
        quick(12, learning_rate=learning_rate, **PLAIN_SGD).fit(*digits)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "scoring", ["accuracy", "neg_log_loss", "balanced_accuracy", "f1_macro"]
)
def test_a_winner_that_is_a_constant(scoring: str, digits: Any) -> None:
    """The weights grow until all outputs of the cells are zero."""
    X, y = digits
    settings = PLAIN_SGD | {"start": "medium_cnn", "learning_rate": 10.0, "final_fraction": 0}
    constant = quick(12, scoring=scoring, validation_fraction=0.1, **settings)
    with pytest.warns(UserWarning, match="no better than always naming .*commonest") as caught:
        constant.fit(X, y)
    assert [warning.filename for warning in caught] == [__file__]
    assert len(set(constant.predict(X))) == 1
    # A network that learns is better by the score, or else by the loss.
    quick(12, scoring=scoring).fit(X, y)


@pytest.mark.filterwarnings("error:The network that was found")
def test_a_warning_that_is_an_error_does_not_lose_the_network() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 2, 300)
    clf = quick(60, final_fraction=0, alpha=0.5, start="large_ffnn")
    with pytest.raises(UserWarning, match="no better than always naming") as raised:
        clf.fit(X, y)
    assert raised.value.__notes__ == ["The estimator is fitted with the best network so far."]
    assert clf.predict(X).shape == (300,)


@pytest.mark.parametrize(
    "labels", [(1, "a"), ("1", 1, 2), (True, 1, 2), (b"a", "a"), ("a", 0.5), (False, 2.5)]
)
@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series])
def test_labels_of_several_kinds(labels: tuple[Any, ...], kind: Any, digits: Any) -> None:
    """In a list, numpy would make texts or numbers of all."""
    X, _ = digits
    y = [labels[i % len(labels)] for i in range(len(X))]
    with pytest.raises(ValueError, match=r"y must hold whole numbers .* not several of these"):
        quick().fit(X, kind(y) if kind in (list, tuple) else kind(y, dtype=object))


def test_a_list_of_texts_with_a_missing_one(digits: Any) -> None:
    X, y = digits
    with pytest.raises(ValueError, match="Input y contains NaN"):
        quick().fit(X, [np.nan, *map(str, y[1:])])


def test_a_guess_is_compared_by_score_and_loss_with_weights() -> None:
    topology, labels = Topology((1, 1, 1), [], [], 2), torch.arange(40) % 4 // 3
    weights = torch.where(labels == 1, 1.0, 3.0)  # of the classes: 0.9 and 0.1
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    asked: list[np.ndarray] = []

    def scorer(probabilities: np.ndarray) -> float:
        asked.append(probabilities)
        return 0.9

    def warned(
        score: float, loss: float, n: int = 40, scorer: Any = scorer, later: float | None = None
    ) -> bool:
        rows = Rows(torch.zeros(n, 1, 1, 1), labels[:n], weights[:n])
        evaluation = Evaluation(0.0 if later is None else later, loss, score)
        winner = Candidate(0, topology, {}, evaluations=(evaluation,))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_if_a_guess_is_as_good(winner, rows, scorer, later is not None)
        return bool(caught)

    assert not warned(0.9, entropy - 1e-6)
    assert not asked  # the loss alone decides
    assert warned(0.9, entropy + 1e-6)
    np.testing.assert_allclose(asked[0], [[0.9, 0.1]] * 40)
    assert not warned(0.91, entropy + 1e-6)
    assert warned(0.9, 10.0, n=20)
    assert not warned(0.9, 10.0, n=16)
    # Its training on all rows, after it was scored, has the last word.
    assert warned(0.9, 10.0, later=entropy + 1e-6)
    assert not warned(0.9, 10.0, later=entropy - 1e-6)

    def no_score(probabilities: np.ndarray) -> float:
        raise ValueError("no score of equal probabilities")

    assert not warned(0.9, 10.0, scorer=no_score)


def test_no_guess_is_compared_with_if_all_rows_are_of_a_class() -> None:
    rows = Rows(torch.zeros(40, 1, 1, 1), torch.zeros(40, dtype=torch.int64))
    evaluation = Evaluation(0.1, 0.1, 1.0)
    winner = Candidate(0, Topology((1, 1, 1), [], [], 2), {}, evaluations=(evaluation,))
    warn_if_a_guess_is_as_good(winner, rows, lambda probabilities: 1.0)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro", "top_k_accuracy"])
def test_a_class_with_a_single_row_is_trained_on(scoring: str) -> None:
    y = np.array([0, 1] * 9 + [0, 2])
    with pytest.warns(UserWarning, match=r"single row .* them: 2\.") as caught:
        clf = quick(12, scoring=scoring).fit(X_GOOD, y)
    assert caught[0].filename == __file__
    assert clf.predict_proba(X_GOOD).shape == (20, 3)


def test_a_class_that_cannot_be_validated_on_may_make_a_score_impossible() -> None:
    y = np.array([0] * 19 + [1])
    with (
        pytest.warns(UserWarning, match="single row"),
        pytest.raises(ValueError, match=r"'roc_auc' gives nan .* no row of .* \[1\]"),
    ):
        quick(scoring="roc_auc").fit(X_GOOD, y)


def test_a_rare_class_is_validated_on() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 4))
    y = np.arange(1000) > 997
    clf = quick(2, warmup_epochs=1, scoring="roc_auc").fit(X, y)
    assert 0 <= clf.validation_score_ <= 1


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        quick().predict(X_GOOD)

"""Frames and columns of polars, Arrow and others are taken for what they are in pandas."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from helpers import as_table, census, quick
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from skectonas import PseudoImageTransformer
from skectonas.inputs.checks import check_X
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.frames import to_pandas

OTHERS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "polars": pl.from_pandas,
    "table": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "record batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
}
others = pytest.mark.parametrize("convert", OTHERS.values(), ids=OTHERS)


class Modin:
    """A frame of a library that only has the interchange protocol and `to_pandas`."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __dataframe__(self) -> None:
        raise AssertionError("needed only as a mark")

    def to_pandas(self) -> pd.DataFrame:
        return self._frame


@pytest.fixture
def frame() -> pd.DataFrame:
    """Return a column of each kind."""
    rng, n = np.random.default_rng(0), 60
    gone = rng.random(n) < 0.2
    words = pd.Series(rng.choice(["red", "blue", "naïve"], n), dtype=object)
    flags = rng.random(n) < 0.5
    return pd.DataFrame(
        {
            "float": np.where(gone, np.nan, rng.normal(size=n)),
            "float32": rng.normal(size=n).astype(np.float32),
            "int": rng.integers(-9, 9, n),
            "byte": rng.integers(0, 255, n).astype(np.uint8),
            "gaps": pd.Series(rng.integers(0, 9, n)).astype("Int64").mask(gone),
            "large": pd.Series(2**60 + rng.integers(0, 9999, n)),
            "word": words,
            "word gaps": words.mask(gone, None),
            "flag": flags,
            "flag gaps": pd.Series(flags).astype("boolean").mask(gone),
            "category": pd.Categorical(words),
            "category gaps": pd.Categorical(words.mask(gone, None), ["none", *words.unique()]),
            "constant": 1,
        }
    )


# --- X ---------------------------------------------------------------------------------------


@others
@pytest.mark.parametrize("order", ["given", "correlation"])
def test_the_images_are_those_of_the_pandas_frame(
    convert: Any, order: str, frame: pd.DataFrame
) -> None:
    expected = InputEncoder(column_order=order).fit(frame)
    found = InputEncoder(column_order=order).fit(convert(frame))
    assert found.feature_names_out_.tolist() == expected.feature_names_out_.tolist()
    assert {"gaps_missing", "flag gaps_missing", "word gaps_missing", "word_naïve"} < set(
        found.feature_names_out_
    )
    images = expected.transform(frame)
    np.testing.assert_array_equal(found.transform(convert(frame)), images)
    np.testing.assert_array_equal(expected.transform(convert(frame)), images)
    np.testing.assert_array_equal(found.transform(frame), images)


@others
def test_predictions_are_those_of_the_pandas_frame(convert: Any, frame: pd.DataFrame) -> None:
    y = np.arange(len(frame)) % 2
    expected = quick(12).fit(frame, y)
    found = quick(12).fit(convert(frame), y)
    assert found.feature_names_in_.tolist() == list(frame.columns)
    assert found.n_features_in_ == frame.shape[1]
    for fitted in (expected, found):
        for X in (frame, convert(frame)):
            np.testing.assert_array_equal(
                fitted.predict_proba(X), expected.predict_proba(frame)
            )
            np.testing.assert_array_equal(fitted.predict(X), expected.predict(frame))
            assert fitted.score(X, y) == expected.score(frame, y)
    few = convert(frame[:3])
    np.testing.assert_array_equal(
        expected.predict_proba(few), expected.predict_proba(frame[:3])
    )


@others
def test_columns_go_by_their_names(convert: Any) -> None:
    X, y = census(60)
    clf = quick(2, warmup_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(convert(X[X.columns[::-1]]))
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(convert(X.rename(columns={"age": "years"})))
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(convert(X[["age", "job"]]))


def colours(kind: str, values: list[str | None]) -> Any:
    """Return one column of categories, whose dictionary is as the values come."""
    seen = list(dict.fromkeys(value for value in values if value is not None))
    if kind == "pandas":
        return pd.DataFrame({"colour": pd.Categorical(values, seen)})
    if kind == "arrow":
        codes = pa.array([None if v is None else seen.index(v) for v in values], pa.int8())
        return pa.table({"colour": pa.DictionaryArray.from_arrays(codes, pa.array(seen))})
    dtype = pl.Enum(["unused", *seen]) if kind == "enum" else pl.Categorical
    return pl.DataFrame({"colour": pl.Series(values, dtype=dtype)})


@pytest.mark.parametrize("fitted", ["pandas", "arrow", "enum", "categorical"])
@pytest.mark.parametrize("later", ["pandas", "arrow", "enum", "categorical"])
def test_categories_are_told_by_their_names_and_not_by_their_codes(
    fitted: str, later: str
) -> None:
    encoder = InputEncoder(column_scaling="minmax")
    encoder.fit(colours(fitted, ["red", "blue", "green", None]))
    names = ["colour_blue", "colour_green", "colour_red", "colour_missing"]
    assert encoder.feature_names_out_.tolist() == names
    images = encoder.transform(colours(later, ["green", None, "pink", "red", "blue"]))
    np.testing.assert_array_equal(
        images.reshape(5, 4),
        [[0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]],
    )


def test_types_that_only_others_have() -> None:
    X = pl.DataFrame(
        {
            "nothing": pl.Series([None, None, None], dtype=pl.Null),
            "decimal": [Decimal("0.5"), None, Decimal(2)],
            "tiny": pl.Series([1, 2, None], dtype=pl.Int8),
        }
    )
    for same in (X, X.to_arrow()):
        encoder = InputEncoder(column_scaling="minmax")
        with pytest.warns(UserWarning, match="'nothing' is dropped, because it has no values"):
            encoder.fit(same)
        assert encoder.feature_names_out_.tolist() == [
            *("decimal", "decimal_missing", "tiny", "tiny_missing")
        ]
        np.testing.assert_array_equal(
            encoder.transform(same).reshape(3, 4), [[0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
        )


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([datetime.date(2020, 1, 1 + i) for i in range(20)], "dates"),
        ([datetime.datetime(2020, 1, 1, i) for i in range(20)], "dates"),
        ([datetime.datetime(2020, 1, 1, i, tzinfo=datetime.UTC) for i in range(20)], "dates"),
        ([datetime.timedelta(hours=i) for i in range(20)], "durations"),
    ],
)
def test_times_of_others_are_those_of_pandas(values: list[Any], kind: str) -> None:
    values = [*values[:3], None, *values[4:]]
    expected = InputEncoder().fit(pd.DataFrame({"when": values}))
    for X in (pl.DataFrame({"when": values}), pa.table({"when": values})):
        found = InputEncoder().fit(X)
        assert [column["kind"] for column in found.to_dict()["tables"]["columns"]] == [kind]
        names = found.feature_names_out_.tolist()
        assert names == expected.feature_names_out_.tolist()
        assert "when_missing" in names
        images = found.transform(X)
        assert len(np.unique(images.reshape(20, -1), axis=0)) == 20
        np.testing.assert_array_equal(images, expected.transform(X))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([datetime.time(1)] * 4, "turn it into a number, such as hours since midnight"),
        ([[1, 2]] * 4, "a column of its own"),
        ([{"a": 1}] * 4, "a column of its own"),
        ([float("inf")] * 4, "infinite"),
    ],
)
def test_what_cannot_be_encoded_is_named(values: list[Any], message: str) -> None:
    for X in (pl.DataFrame({"when": values}), pa.table({"when": values})):
        with pytest.raises(ValueError, match=f"Column 'when' .*{message}"):
            quick().fit(X, [0, 1, 0, 1])


def test_an_index_that_Arrow_has_kept_is_no_column(frame: pd.DataFrame) -> None:
    frame.index = pd.Index(np.arange(len(frame)) * 2.5, name="number")
    X = pa.Table.from_pandas(frame)
    assert "number" in X.column_names
    np.testing.assert_array_equal(
        InputEncoder().fit(X).transform(X), InputEncoder().fit(frame).transform(frame)
    )


def test_lazy_frames_are_refused(frame: pd.DataFrame) -> None:
    X, y = pl.from_pandas(frame), np.arange(len(frame)) % 2
    message = r"X must hold its values, got a lazy polars\..*LazyFrame: .* collect\(\)"
    with pytest.raises(TypeError, match=message):
        quick().fit(X.lazy(), y)
    clf = quick(2, warmup_epochs=1).fit(X, y)
    for method in (clf.predict, clf.predict_proba, clf.encoder_.transform):
        with pytest.raises(TypeError, match=message):
            method(X.lazy())
    with pytest.raises(TypeError, match=message):
        PseudoImageTransformer().fit(X.lazy())
    with pytest.raises(TypeError, match="y must hold its values"):
        quick().fit(X, X.lazy())


def test_what_polars_needs_is_named(frame: pd.DataFrame, monkeypatch: Any) -> None:
    X = pl.from_pandas(frame)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = r'pyarrow cannot be imported; pip install "skectonas\[polars\]"'
    for values in (X, X["int"]):
        with pytest.raises(ImportError, match=message):
            to_pandas(values, "X")


def test_others_that_convert_themselves(frame: pd.DataFrame) -> None:
    assert to_pandas(Modin(frame), "X") is frame
    narwhals = pytest.importorskip("narwhals")
    for eager in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        found = to_pandas(narwhals.from_native(eager), "X")
        pd.testing.assert_frame_equal(found, to_pandas(eager, "X"))
    with pytest.raises(TypeError, match="X must hold its values"):
        to_pandas(narwhals.from_native(pl.from_pandas(frame).lazy()), "X")


def test_an_array_with_labels_stays_an_array() -> None:
    class Labelled(np.ndarray):
        def to_pandas(self) -> None:
            raise AssertionError("an image is no frame")

    images = np.random.default_rng(0).random((20, 4, 4))
    y = np.arange(20) % 2
    found = quick(2, warmup_epochs=1).fit(images.view(Labelled), y)
    expected = quick(2, warmup_epochs=1).fit(images, y)
    np.testing.assert_array_equal(found.predict_proba(images), expected.predict_proba(images))


def test_frames_of_numbers_after_an_array() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    frame = pd.DataFrame(X, columns=list("abc"))
    encoder = InputEncoder().fit(X)
    for convert in OTHERS.values():
        np.testing.assert_array_equal(encoder.transform(convert(frame)), encoder.transform(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "Float64"])
@pytest.mark.parametrize("further", [False, True])
def test_frames_hold_no_more_than_the_array_did(dtype: str, further: bool, digits: Any) -> None:
    X, y = as_table(digits)
    frame = pd.DataFrame(X.astype(np.float64)).astype(dtype)
    images = quick(2, warmup_epochs=1, image_shape=(8, 8)).fit(X.astype(np.float32), y)
    table = quick(2, warmup_epochs=1).fit(X.astype(np.float64), y)

    def use(clf: Any) -> Any:
        return clf.set_params(warm_start=True).fit(frame, y) if further else clf.predict(frame)

    use(images)
    frame.iloc[7, 3] = np.nan
    with pytest.raises(ValueError, match="images must have no missing values"):
        use(images)
    use(table)
    frame.iloc[7, 3] = np.inf
    for clf in (images, table):
        with pytest.raises(ValueError, match=r"got infinite ones in \[3\]"):
            use(clf)


@pytest.mark.parametrize("kind", ["lists", "objects", "rows of arrays"])
def test_objects_are_encoded_alike_in_every_part_of_the_rows(kind: str) -> None:
    rows = [[True, 1.5], [False, 2], ["unknown", 2**60], [None, 4.0]] * 10
    convert = {
        "lists": list,
        "objects": lambda rows: np.array(rows, dtype=object),
        "rows of arrays": lambda rows: [np.array(row, dtype=object) for row in rows],
    }[kind]
    clf = quick(20).fit(convert(rows), np.arange(40) % 4)
    expected = clf.predict_proba(pd.DataFrame(rows[:4]))
    np.testing.assert_array_equal(clf.predict_proba(convert(rows[:4])), expected)
    for part in (slice(1), slice(2), slice(3, 4)):
        found = clf.predict_proba(convert(rows[part]))
        np.testing.assert_allclose(found, expected[part], rtol=1e-12)


@pytest.mark.parametrize("kind", ["records", "alike"])
def test_frames_in_another_byte_order(kind: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=[*"abc"])
    y = frame["a"] > 0
    foreign = frame.astype(">f8")
    if kind == "records":
        frame["b"], frame["d"] = frame["b"].astype(np.float32), 1
        foreign = pd.DataFrame(frame.astype({"a": ">f8", "b": ">f4"}).to_records(index=False))
        assert not foreign.dtypes["b"].isnative
    foreign.attrs["from"] = "a file"
    clf, expected = (quick(2, warmup_epochs=1).fit(X, y) for X in (foreign, frame))
    for X in (foreign, frame, foreign[:1]):
        np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))
    checked = check_X(clf, foreign, reset=False)
    assert checked.dtypes.tolist() == frame.dtypes.tolist()
    assert checked.attrs == foreign.attrs
    assert check_X(clf, frame, reset=False) is frame  # which takes no time


def test_an_array_after_a_frame_of_numbers() -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    clf = quick(11).fit(X, np.arange(30) % 3)
    with pytest.warns(UserWarning, match="feature names"):  # of scikit-learn
        found = clf.predict_proba(X.to_numpy())
    np.testing.assert_array_equal(found, clf.predict_proba(X))
    for rows in (X.to_numpy().tolist(), list(X.to_numpy()), X.to_numpy().astype(object)):
        with pytest.warns(UserWarning, match="feature names"):
            np.testing.assert_array_equal(clf.predict_proba(rows), found)
    with (
        pytest.warns(UserWarning, match="feature names"),
        pytest.raises(ValueError, match="infinity"),
    ):
        clf.predict(np.full((1, 2), np.inf))
    mixed = quick(11).fit(X.assign(c=["u", "v", "w"] * 10), np.arange(30) % 3)
    with (
        pytest.warns(UserWarning, match="feature names"),
        pytest.raises(ValueError, match="expected a data frame with 3 columns"),
    ):
        mixed.predict(np.zeros((1, 3)))


def test_a_frame_of_pixels_is_told(digits: Any) -> None:
    X, y = digits[0].astype(np.uint8).reshape(-1, 64), digits[1]
    with pytest.warns(UserWarning, match=r"read as a table, .* Give X.to_numpy\(\)"):
        quick(3, image_shape=(8, 8)).fit(pd.DataFrame(X), y)
    with pytest.warns(UserWarning, match="read as a table"):
        quick(3, image_shape=(8, 8)).fit(pd.DataFrame(X.astype(float)), y)
    # No warnings.
    for table in (X / 16, X > 8, (X > 8).astype(int)):
        quick(3, image_shape=(8, 8)).fit(pd.DataFrame(table), y)
    quick(3, image_shape=(8, 8), column_order="shuffled").fit(pd.DataFrame(X), y)
    quick(3).fit(pd.DataFrame(X), y)


@pytest.mark.parametrize("dtype", ["datetime64[ns]", "timedelta64[ns]", "datetime64[s]"])
def test_rows_of_times_are_those_of_fit(dtype: str) -> None:
    rows = list(np.arange(60).reshape(30, 2).astype(dtype))
    clf = quick(11).fit(rows, np.arange(30) % 3)
    np.testing.assert_array_equal(clf.predict_proba(rows), clf.predict_proba(np.array(rows)))


@pytest.mark.parametrize("box", [np.array, torch.tensor])
def test_rows_of_boxed_numbers(box: Callable[[float], Any]) -> None:
    X = np.random.default_rng(0).normal(size=(30, 2))
    clf = quick(11).fit(pd.DataFrame(X), np.arange(30) % 3)
    boxed = [[box(float(value)) for value in row] for row in X]
    # A tensor of floats has single precision.
    np.testing.assert_allclose(clf.predict_proba(boxed), clf.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("kind", ["polars", "table"])
def test_frames_in_the_tools_of_scikit_learn(kind: str) -> None:
    (X, y), convert = census(90), OTHERS[kind]
    scores = cross_val_score(quick(12), convert(X), y, cv=2)
    np.testing.assert_array_equal(scores, cross_val_score(quick(12), X, y, cv=2))
    grid = GridSearchCV(quick(12), {"alpha": [0.5, 1.0]}, cv=2)
    found = grid.fit(convert(X), y).cv_results_["mean_test_score"]
    expected = grid.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)


# --- y and weights ---------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[Any], Any]] = {
    "polars": pl.Series,
    "array": pa.array,
    "chunked": lambda values: pa.chunked_array([values[:5], values[5:]]),
}
columns = pytest.mark.parametrize("convert", COLUMNS.values(), ids=COLUMNS)


@columns
@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 2] * 10,
        [2**60, 2**60 + 1] * 15,
        [True, False] * 15,
        ["yes", "no"] * 15,
        [1.0, 2.0] * 15,
    ],
)
def test_labels(convert: Any, values: list[Any]) -> None:
    X = np.random.default_rng(0).normal(size=(30, 4))
    expected = quick(2, warmup_epochs=1).fit(X, np.array(values))
    found = quick(2, warmup_epochs=1).fit(X, convert(values))
    assert found.classes_.tolist() == expected.classes_.tolist()
    assert type(found.classes_.tolist()[0]) is type(values[0])
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    # score compares labels with the functions of scikit-learn
    given = convert(values)
    assert found.score(X, given) == expected.score(X, np.array(values))


def test_labels_that_are_categories() -> None:
    X, values = np.random.default_rng(0).normal(size=(30, 4)), ["yes", "no", "maybe"] * 10
    expected = quick(2, warmup_epochs=1).fit(X, np.array(values)).predict(X)
    for y in (
        pl.Series(values, dtype=pl.Categorical),
        pl.Series(values, dtype=pl.Enum(["maybe", "unused", "yes", "no"])),
        pa.array(values).dictionary_encode(),
        pl.DataFrame({"y": values})["y"],
    ):
        assert quick(2, warmup_epochs=1).fit(X, y).predict(X).tolist() == expected.tolist()


@columns
@pytest.mark.parametrize("values", [[0, 1, None] * 10, ["a", "b", None] * 10])
def test_missing_labels(convert: Any, values: list[Any]) -> None:
    with pytest.raises(ValueError, match="Input y contains NaN"):
        quick().fit(np.ones((30, 2)), convert(values))


@columns
def test_weights(convert: Any) -> None:
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 2
    weights = [float(i % 4) for i in range(30)]
    expected = quick(12).fit(X, y, weights)
    found = quick(12).fit(X, y, convert(weights))
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert found.score(X, y, convert(weights)) == expected.score(X, y, weights)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(X, y, convert([None, *weights[1:]]))


# --- masked arrays ---------------------------------------------------------------------------


def test_masked_values_are_refused() -> None:
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    masked = np.ma.masked_array(X, mask=X > 1)
    count = int((X > 1).sum())
    clf = quick(2, warmup_epochs=1).fit(X, y)
    for use in (lambda X: quick().fit(X, y), clf.predict, PseudoImageTransformer().fit):
        with pytest.raises(ValueError, match=f"X has {count} masked values: fill them"):
            use(masked)
    with pytest.raises(ValueError, match="y has 1 masked values"):
        quick().fit(X, np.ma.masked_array(y, mask=np.arange(20) == 3))
    with pytest.raises(ValueError, match="sample_weight has 1 masked values"):
        quick().fit(X, y, np.ma.masked_array(np.ones(20), mask=np.arange(20) == 3))
    images = np.ma.masked_less(np.random.default_rng(0).random((20, 4, 4)), 0.1)
    with pytest.raises(ValueError, match="masked values"):
        quick().fit(images, y)


def test_arrays_that_mask_nothing_are_arrays() -> None:
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    expected = quick(2, warmup_epochs=1).fit(X, y).predict_proba(X)
    for masked in (np.ma.masked_array(X), np.ma.masked_array(X, mask=np.zeros(X.shape, bool))):
        found = quick(2, warmup_epochs=1).fit(masked, y).predict_proba(masked)
        np.testing.assert_array_equal(found, expected)


# --- PseudoImageTransformer ------------------------------------------------------------------


@others
@pytest.mark.parametrize("order", ["given", "correlation"])
def test_pseudo_images(convert: Any, order: str) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 5)), columns=list("abcde"))
    expected = PseudoImageTransformer(order=order).fit(X)
    found = PseudoImageTransformer(order=order).fit(convert(X))
    assert found.feature_names_in_.tolist() == list("abcde")
    assert found.get_feature_names_out().tolist() == expected.get_feature_names_out().tolist()
    for fitted in (expected, found):
        np.testing.assert_array_equal(fitted.transform(convert(X)), expected.transform(X))
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.transform(convert(X[list("edcba")]))
    flat = convert(pd.DataFrame(expected.transform(X).reshape(30, 9)).rename(columns=str))
    np.testing.assert_array_equal(found.inverse_transform(flat), X)


@others
def test_pseudo_images_of_frames_that_are_no_finite_numbers(convert: Any) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        PseudoImageTransformer().fit(convert(pd.DataFrame({"a": ["p", "q"], "b": [1, 2]})))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PseudoImageTransformer().fit(convert(pd.DataFrame({"a": [1.0, None], "b": [1, 2]})))


@others
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_pseudo_images_as_frames(convert: Any, library: str) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 5)), columns=list("abcde"))
    transformer = PseudoImageTransformer(order="shuffled", random_state=0)
    flat = transformer.fit_transform(X).reshape(30, 9)
    output = transformer.set_output(transform=library).fit_transform(convert(X))
    assert type(output).__module__.partition(".")[0] == library
    assert list(output.columns) == list(transformer.get_feature_names_out())
    np.testing.assert_array_equal(output.to_numpy(), flat)
    np.testing.assert_array_equal(transformer.inverse_transform(output), X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_pipeline_whose_steps_hand_frames_on(library: str) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 5)), columns=list("abcde"))
    y = np.arange(30) % 2
    pipeline = make_pipeline(PseudoImageTransformer(), quick(12)).set_output(transform=library)
    names = pipeline.fit(X, y)[-1].feature_names_in_.tolist()
    assert names == [*"abcde", *(f"padding_{i}" for i in range(4))]
    assert pipeline[-1].image_shape_ == (3, 3, 1)

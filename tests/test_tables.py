"""Tests of skectonas.tables."""

from __future__ import annotations

import datetime
import json
import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skectonas.tables import ColumnRange, TableEncoder

# Other programs may keep a small machine busy.
RELAXED = examples(60)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def encode(values, later=None, **params):
    """Encode one column "x"; with `later`, transform other values than in fit."""
    frame = pd.DataFrame({"x": values})
    encoder = TableEncoder(**params).fit(frame)
    other = frame if later is None else pd.DataFrame({"x": later})
    return encoder.transform(other), list(encoder.get_feature_names_out())


class TestColumnRange:
    @RELAXED
    @given(
        hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 3)), elements=FINITE)
    )
    def test_any_finite_column_ends_up_in_the_unit_interval(self, X):
        before = X.copy()
        scaled = ColumnRange.of(X).scale(X)
        assert ((scaled >= 0) & (scaled <= 1)).all()
        np.testing.assert_array_equal(X, before)

    @pytest.mark.parametrize("unit", [1e-300, 1e-20, 1.0, 1e300])
    def test_magnitude_does_not_matter(self, unit):
        X = np.array([[-1.0], [0.0], [1.0]]) * unit
        np.testing.assert_allclose(ColumnRange.of(X).scale(X), [[0], [0.5], [1]])

    def test_largest_range(self):
        most = np.finfo(np.float64).max
        X = np.array([[-most], [most]])
        np.testing.assert_array_equal(ColumnRange.of(X).scale(X), [[0], [1]])

    def test_outside_values_count_as_the_nearer_end(self):
        columns = ColumnRange.of(np.array([[1.0, 7.0], [2.0, 7.0]]))
        scaled = columns.scale(np.array([[-1e300, 1e300], [1e300, -1e300]]))
        np.testing.assert_array_equal(scaled, [[0, 0], [1, 0]])


class TestNumbers:
    @pytest.mark.parametrize(
        "dtype", ["int64", "uint8", "float32", "float64", "Int64", "Float32", "object"]
    )
    def test_scaled_whatever_the_dtype(self, dtype):
        encoded, names = encode(pd.Series([1, 2, 5], dtype=dtype))
        np.testing.assert_array_equal(encoded, np.float32([[0], [0.25], [1]]))
        assert encoded.dtype == np.float32
        assert names == ["x"]

    @pytest.mark.parametrize(
        "values",
        [
            [1.0, np.nan, 2.0, 5.0],
            pd.array([1, None, 2, 5], dtype="Int64"),
            pd.array([1, None, 2, 5], dtype="Float64"),
            pd.Series([1, None, 2, 5], dtype=object),
            pd.Series([1, pd.NA, 2.0, np.int8(5)], dtype=object),
            pd.Series([Decimal(1), None, Decimal(2), 5], dtype=object),
        ],
    )
    def test_missing_becomes_the_median_with_an_indicator(self, values):
        encoded, names = encode(values)
        np.testing.assert_array_equal(encoded, [[0, 0], [0.25, 1], [0.25, 0], [1, 0]])
        assert names == ["x", "x_missing"]

    def test_missing_only_later_is_imputed_without_an_indicator(self):
        encoded, names = encode([0.0, 1.0, 4.0], [np.nan, 4.0])
        np.testing.assert_array_equal(encoded, [[0.25], [1]])
        assert names == ["x"]

    @pytest.mark.parametrize("values", [[3, 3], [0.1, 0.1], [-1e300, -1e300]])
    def test_constant_gives_zeros(self, values):
        np.testing.assert_array_equal(encode(values)[0], [[0], [0]])
        np.testing.assert_array_equal(encode(values, [7, 9])[0], [[0], [0]])

    def test_all_missing_gives_zeros(self):
        encoded, names = encode([np.nan, np.nan], [np.nan, 4.0])
        np.testing.assert_array_equal(encoded, [[0, 1], [0, 0]])
        assert names == ["x", "x_missing"]

    @pytest.mark.parametrize("unit", [1e-300, 1e300])
    def test_extreme_magnitudes(self, unit):
        encoded, _ = encode(np.array([0.0, 0.5, 1.0]) * unit)
        np.testing.assert_allclose(encoded, [[0], [0.5], [1]])

    def test_outside_values_count_as_the_nearer_end(self):
        encoded, _ = encode([0.0, 1.0], [-1e300, 1e300])
        np.testing.assert_array_equal(encoded, [[0], [1]])

    @pytest.mark.parametrize(
        "values",
        [
            [True, False],
            pd.array([True, False], dtype="boolean"),
            pd.Series([True, False], dtype=object),
        ],
    )
    def test_booleans_are_numbers(self, values):
        encoded, names = encode(values)
        np.testing.assert_array_equal(encoded, [[1], [0]])
        assert names == ["x"]

    @pytest.mark.parametrize("dtype", ["boolean", "object"])
    def test_booleans_with_missing(self, dtype):
        encoded, names = encode(pd.Series([True, None, False, True], dtype=dtype))
        np.testing.assert_array_equal(encoded, [[1, 0], [1, 1], [0, 0], [1, 0]])
        assert names == ["x", "x_missing"]

    def test_text_that_parses_later(self):
        np.testing.assert_array_equal(encode([0, 4], ["1", " 4.0 "])[0], [[0.25], [1]])
        later = pd.Series(["1", 4, None], dtype="category")
        np.testing.assert_array_equal(encode([0, 4], later)[0], [[0.25], [1], [0.5]])

    @pytest.mark.parametrize("later", [["1", "many"], ["", None], [object(), 1]])
    def test_text_that_does_not_parse_later(self, later):
        with pytest.raises(ValueError, match="Column 'x': expected numbers, got dtype"):
            encode([0, 4], later)

    def test_arrow_numbers(self):
        pytest.importorskip("pyarrow")
        for dtype in ("int32[pyarrow]", "float[pyarrow]"):
            encoded, names = encode(pd.Series([1, None, 3], dtype=dtype))
            np.testing.assert_array_equal(encoded, [[0, 0], [0.5, 1], [1, 0]])
            assert names == ["x", "x_missing"]
        encoded, _ = encode(pd.Series([True, False], dtype="bool[pyarrow]"))
        np.testing.assert_array_equal(encoded, [[1], [0]])
        encoded, names = encode(pd.Series(["a", None], dtype="string[pyarrow]"))
        np.testing.assert_array_equal(encoded, [[1, 0], [0, 1]])


class TestCategories:
    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    def test_one_hot_whatever_the_dtype(self, dtype):
        encoded, names = encode(pd.Series(["b", "a", "b"], dtype=dtype))
        np.testing.assert_array_equal(encoded, [[0, 1], [1, 0], [0, 1]])
        assert names == ["x_a", "x_b"]

    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_is_a_category_if_seen(self, dtype, missing):
        encoded, names = encode(pd.Series(["b", missing], dtype=dtype))
        np.testing.assert_array_equal(encoded, [[1, 0], [0, 1]])
        assert names == ["x_b", "x_missing"]

    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_only_later_gives_zeros(self, dtype, missing):
        encoded, _ = encode(["b", "a"], pd.Series(["a", missing], dtype=dtype))
        np.testing.assert_array_equal(encoded, [[1, 0], [0, 0]])

    def test_all_kinds_of_missing_are_one(self):
        values = pd.Series([None, np.nan, pd.NA, pd.NaT, "a"], dtype=object)
        encoded, names = encode(values)
        np.testing.assert_array_equal(encoded[:, 1], [1, 1, 1, 1, 0])
        assert names == ["x_a", "x_missing"]

    def test_unknown_gives_zeros(self):
        encoded, _ = encode(["b", "a"], ["a", "new"])
        np.testing.assert_array_equal(encoded, [[1, 0], [0, 0]])

    def test_mixed_types_are_compared_as_text(self):
        encoded, names = encode(
            pd.Series([1, "a", None, 1.5], dtype=object),
            pd.Series(["1", "a", 1.0, "1.5"], dtype=object),
        )
        assert names == ["x_1", "x_1.5", "x_a", "x_missing"]
        np.testing.assert_array_equal(encoded.argmax(axis=1), [0, 2, 0, 1])

    def test_integers_stored_as_floats_are_the_same_category(self):
        fitted = pd.Series([1, 2, 2], dtype="category")
        encoded, names = encode(fitted, [1.0, np.nan, 2.0])
        assert names == ["x_1", "x_2"]
        np.testing.assert_array_equal(encoded, [[1, 0], [0, 0], [0, 1]])

    def test_digits_as_text_are_categories(self):
        assert encode(["10", "9"])[1] == ["x_10", "x_9"]

    def test_all_missing_object_accepts_anything_later(self):
        values = pd.Series([None, None], dtype=object)
        np.testing.assert_array_equal(encode(values)[0], [[1], [1]])
        np.testing.assert_array_equal(encode(values, ["a", None])[0], [[0], [1]])

    def test_intervals_as_categories(self):
        values = pd.cut(pd.Series([1, 2, 9]), 2)
        encoded, _ = encode(values)
        np.testing.assert_array_equal(encoded, [[1, 0], [1, 0], [0, 1]])

    def test_unused_categories_take_no_column(self):
        values = pd.Categorical(["a", "b"], categories=["c", "b", "a"])
        assert encode(values)[1] == ["x_a", "x_b"]

    def test_rare_categories_share_a_column(self):
        values = ["a"] * 4 + ["b"] * 3 + ["c", "d", "e"]
        encoded, names = encode(values, max_categories=3)
        assert names == ["x_a", "x_b", "x_infrequent_sklearn"]
        np.testing.assert_array_equal(encoded.sum(axis=0), [4, 3, 3])
        np.testing.assert_array_equal(encode(values, ["e", "new"], max_categories=3)[0][1], 0)

    def test_default_number_of_categories(self):
        encoded, _ = encode([f"id{i}" for i in range(300)])
        assert encoded.shape == (300, 100)

    @pytest.mark.parametrize("value", [0, -1, 2.5, None, True, "3"])
    def test_max_categories_must_be_a_positive_integer(self, value):
        with pytest.raises(ValueError, match="max_categories: expected a positive integer"):
            encode(["a"], max_categories=value)


REFUSED = {
    "dates": (pd.date_range("2020", periods=2), "days since"),
    "dates with zone": (pd.date_range("2020", periods=2, tz="UTC"), "days since"),
    "durations": (pd.to_timedelta([1, 2], unit="D"), "days since"),
    "periods": (pd.period_range("2020", periods=2, freq="D"), "days since"),
    "intervals": (pd.interval_range(0, 2), "days since"),
    "complex": (np.array([1j, 2]), "imaginary"),
    "sparse": (pd.arrays.SparseArray([0.0, 1.0]), "to_dense"),
    "sparse integers": (pd.arrays.SparseArray([0, 1]), "to_dense"),
    "lists": (pd.Series([[1], [2, 3]]), "each element"),
    "dicts": (pd.Series([{}, {"a": 1}]), "each element"),
    "arrays": (pd.Series([np.ones(2), None]), "each element"),
    "tuples": (pd.Series([(1, 2), "a"], dtype=object), "each element"),
    "date objects": (pd.Series([datetime.date(2020, 1, 1), None], dtype=object), "days since"),
    "timestamps": (pd.Series([pd.Timestamp("2020"), "a"], dtype=object), "days since"),
    "complex objects": (pd.Series([1j, 1], dtype=object), "imaginary"),
}


class TestRefused:
    @pytest.mark.parametrize(("values", "advice"), REFUSED.values(), ids=REFUSED)
    def test_at_fit(self, values, advice):
        frame = pd.DataFrame({"x": [1, 2], "bad": values})
        with pytest.raises(ValueError, match="Column 'bad'") as error:
            TableEncoder().fit(frame)
        assert f"dtype {frame['bad'].dtype}" in str(error.value)
        assert advice in str(error.value)

    @pytest.mark.parametrize(("values", "advice"), REFUSED.values(), ids=REFUSED)
    @pytest.mark.parametrize("fitted", [[1, 2], ["a", "b"]], ids=["numeric", "categorical"])
    def test_later(self, fitted, values, advice):
        with pytest.raises(ValueError, match=r"Column 'x'.*dtype") as error:
            encode(fitted, values)
        assert advice in str(error.value)

    @pytest.mark.parametrize(
        "values",
        [[1.0, np.inf], [-np.inf, 1.0], pd.Series([np.inf, 1], dtype=object)],
    )
    def test_infinite(self, values):
        message = "Column 'x' .dtype .* has infinite values"
        with pytest.raises(ValueError, match=message):
            encode(values)
        with pytest.raises(ValueError, match=message):
            encode([0.0, 1.0], values)

    def test_number_too_large(self):
        with pytest.raises(ValueError, match="Column 'x': expected numbers"):
            encode(pd.Series([10**400, 1], dtype=object))

    def test_arrow_lists_and_times(self):
        pa = pytest.importorskip("pyarrow")
        lists = pd.Series([[1], [2]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))
        times = pd.Series(pd.date_range("2020", periods=2)).astype("timestamp[ns][pyarrow]")
        for values in (lists, times):
            with pytest.raises(ValueError, match="Column 'x'"):
                encode(values)

    @pytest.mark.parametrize("X", [np.ones((2, 2)), [[1, 2]], pd.Series([1, 2])])
    def test_no_frame(self, X):
        with pytest.raises(ValueError, match="X: expected a pandas DataFrame"):
            TableEncoder().fit(X)
        fitted = TableEncoder().fit(pd.DataFrame({"x": [1, 2]}))
        with pytest.raises(ValueError, match="X: expected a pandas DataFrame"):
            fitted.transform(X)

    @pytest.mark.parametrize(
        "X", [pd.DataFrame(), pd.DataFrame({"x": []}), pd.DataFrame(index=[0, 1])]
    )
    def test_empty(self, X):
        with pytest.raises(ValueError, match="at least one row and one column"):
            TableEncoder().fit(X)

    def test_duplicate_names(self):
        frame = pd.DataFrame(np.ones((2, 4)), columns=["a", "b", "a", "c"])
        with pytest.raises(ValueError, match=r"different names.*\['a'\]"):
            TableEncoder().fit(frame)


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "size": [1.0, np.nan, 3.0, 2.0],
            "colour": ["red", None, "blue", "red"],
            "count": pd.array([1, 2, 3, 4], dtype="Int64"),
            "kind": pd.Categorical(["u", "v", "u", "v"]),
            "flag": [True, False, True, True],
        }
    )


class TestFrames:
    def test_output_follows_the_columns(self, frame):
        encoder = TableEncoder().fit(frame)
        assert list(encoder.get_feature_names_out()) == [
            "size",
            "size_missing",
            "colour_blue",
            "colour_red",
            "colour_missing",
            "count",
            "kind_u",
            "kind_v",
            "flag",
        ]
        np.testing.assert_array_equal(encoder.origin_, [0, 0, 1, 1, 1, 2, 3, 3, 4])
        np.testing.assert_allclose(
            encoder.transform(frame),
            [
                [0, 0, 0, 1, 0, 0, 1, 0, 1],
                [0.5, 1, 0, 0, 1, 1 / 3, 0, 1, 0],
                [1, 0, 1, 0, 0, 2 / 3, 1, 0, 1],
                [0.5, 0, 0, 1, 0, 1, 0, 1, 1],
            ],
            rtol=1e-6,
        )

    def test_columns_of_two_numeric_columns_stay_together(self):
        frame = pd.DataFrame({"b": [1, None], "a": [None, 1], "c": [1, 2]})
        names = TableEncoder().fit(frame).get_feature_names_out()
        assert list(names) == ["b", "b_missing", "a", "a_missing", "c"]

    def test_columns_with_many_digits_stay_in_order(self):
        frame = pd.DataFrame({f"c{i}": ["a", "b"] if i % 2 else [1, 2] for i in range(25)})
        assert (np.diff(TableEncoder().fit(frame).origin_) >= 0).all()

    def test_frame_is_left_as_it_was(self, frame):
        before = frame.copy(deep=True)
        TableEncoder().fit(frame).transform(frame)
        pd.testing.assert_frame_equal(frame, before)

    def test_deterministic_and_independent_of_index(self, frame):
        encoded = TableEncoder().fit_transform(frame)
        other = frame.set_axis([5, 5, 1, 0])
        np.testing.assert_array_equal(encoded, TableEncoder().fit_transform(other))

    def test_rows_are_encoded_one_by_one(self, frame):
        encoder = TableEncoder().fit(frame)
        rows = [encoder.transform(frame.iloc[[i]]) for i in range(len(frame))]
        np.testing.assert_array_equal(np.concatenate(rows), encoder.transform(frame))

    def test_names_without_strings(self):
        frame = pd.DataFrame([[1, "a"], [2, "b"]])
        encoder = TableEncoder().fit(frame)
        assert not hasattr(encoder, "feature_names_in_")
        assert list(encoder.get_feature_names_out()) == ["x0", "x1_a", "x1_b"]
        with pytest.raises(ValueError, match="Column 0: expected numbers"):
            encoder.transform(pd.DataFrame([["p", "a"]]))

    def test_other_columns_are_refused(self, frame):
        encoder = TableEncoder().fit(frame)
        with pytest.raises(ValueError, match="feature names should match"):
            encoder.transform(frame.rename(columns={"size": "length"}))
        with pytest.raises(ValueError, match="feature names should match"):
            encoder.transform(frame.drop(columns="size"))
        with pytest.raises(ValueError, match="same order"):
            encoder.transform(frame[frame.columns[::-1]])

    def test_input_features_must_be_those_of_fit(self, frame):
        encoder = TableEncoder().fit(frame)
        assert len(encoder.get_feature_names_out(list(frame.columns))) == 9
        with pytest.raises(ValueError, match="input_features"):
            encoder.get_feature_names_out(list("abcde"))

    def test_output_names_are_distinct(self):
        frame = pd.DataFrame({"a": ["b", "missing", None], "a_b": [1, 2, 3], "a_b_": [1, 2, 3]})
        names = list(TableEncoder().fit(frame).get_feature_names_out())
        assert names == ["a_b", "a_missing", "a_missing_", "a_b_", "a_b__"]

    @pytest.mark.parametrize("columns", [["size"], ["count"], ["colour"]])
    def test_one_kind_of_column(self, frame, columns):
        encoder = TableEncoder().fit(frame[columns])
        encoded = encoder.transform(frame[columns])
        assert encoded.shape == (4, len(encoder.get_feature_names_out()))


class TestAsEstimator:
    def test_pickle_and_clone(self, frame):
        encoder = TableEncoder(max_categories=2).fit(frame)
        again = pickle.loads(pickle.dumps(encoder))
        np.testing.assert_array_equal(encoder.transform(frame), again.transform(frame))
        np.testing.assert_array_equal(
            encoder.transform(frame), clone(encoder).fit_transform(frame)
        )

    def test_refit_forgets(self, frame):
        encoder = TableEncoder().fit(frame).fit(frame[["flag"]])
        assert list(encoder.get_feature_names_out()) == ["flag"]
        assert encoder.transform(frame[["flag"]]).shape == (4, 1)

    def test_pipeline(self, frame):
        y = [0, 1, 0, 1]
        model = make_pipeline(TableEncoder(), LogisticRegression()).fit(frame, y)
        assert model.predict(frame).shape == (4,)

    def test_pandas_output(self, frame):
        frame.index = list("pqrs")
        encoder = TableEncoder().set_output(transform="pandas")
        encoded = encoder.fit_transform(frame)
        assert list(encoded.columns) == list(encoder.get_feature_names_out())
        assert list(encoded.index) == list("pqrs")
        np.testing.assert_array_equal(encoded, TableEncoder().fit_transform(frame))

    def test_global_pandas_output(self, frame):
        expected = TableEncoder().fit_transform(frame)
        with sklearn.config_context(transform_output="pandas"):
            encoded = TableEncoder().fit_transform(frame)
        assert isinstance(encoded, pd.DataFrame)
        np.testing.assert_array_equal(encoded, expected)

    def test_not_fitted(self, frame):
        with pytest.raises(sklearn.exceptions.NotFittedError):
            TableEncoder().transform(frame)
        with pytest.raises(sklearn.exceptions.NotFittedError):
            TableEncoder().get_feature_names_out()


MISSING = st.sampled_from([None, np.nan, pd.NA])
CELLS = st.one_of(MISSING, FINITE, st.booleans(), st.text(max_size=2), st.integers())


@st.composite
def frames(draw):
    rows = draw(st.integers(1, 6))
    kinds = st.sampled_from(
        [st.one_of(MISSING, FINITE), st.booleans(), st.text(max_size=1), CELLS]
    )
    columns = {
        f"c{i}": pd.Series(
            draw(st.lists(draw(kinds), min_size=rows, max_size=rows)), dtype=object
        )
        for i in range(draw(st.integers(1, 4)))
    }
    return pd.DataFrame(columns)


@RELAXED
@given(frames(), st.integers(1, 4))
def test_any_frame_is_encoded_as_numbers_in_the_unit_interval(frame, max_categories):
    encoder = TableEncoder(max_categories=max_categories).fit(frame)
    encoded = encoder.transform(frame)
    names = encoder.get_feature_names_out()
    assert encoded.shape == (len(frame), len(names))
    assert len(set(names)) == len(names)
    assert encoded.dtype == np.float32
    assert ((encoded >= 0) & (encoded <= 1)).all()
    # Every row of fit has one of the categories of each categorical column.
    for column in encoder.categorical_:
        np.testing.assert_array_equal(encoded[:, encoder.origin_ == column].sum(axis=1), 1)


@RELAXED
@given(st.data(), frames(), st.integers(1, 4))
def test_plain_data_tell_all(data, frame, max_categories):
    encoder = TableEncoder(max_categories=max_categories).fit(frame)
    plain = encoder.to_dict()
    arrays = {name: value for name, value in plain.items() if isinstance(value, np.ndarray)}
    text = json.dumps({name: value for name, value in plain.items() if name not in arrays})
    again = TableEncoder.from_dict(json.loads(text) | arrays)
    assert set(vars(again)) == set(vars(encoder))
    np.testing.assert_array_equal(
        again.get_feature_names_out(), encoder.get_feature_names_out()
    )
    np.testing.assert_array_equal(again.origin_, encoder.origin_)
    np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))
    unseen = frame.copy()
    for column in encoder.numeric_:
        unseen.isetitem(column, data.draw(st.sampled_from([None, 0.5, 1e300, -1e300])))
    for column in encoder.categorical_:
        unseen.isetitem(column, data.draw(st.sampled_from([None, "new", "a"])))
    np.testing.assert_array_equal(again.transform(unseen), encoder.transform(unseen))


@pytest.mark.parametrize("max_categories", [1, 2, 3, 4, 100])
def test_plain_data_know_the_rare_categories(max_categories):
    frame = pd.DataFrame({"a": [*"zzyyxxxwv", None], "b": [*"abcdefghij"]})
    encoder = TableEncoder(max_categories=max_categories).fit(frame)
    again = TableEncoder.from_dict(encoder.to_dict())
    np.testing.assert_array_equal(
        again.get_feature_names_out(), encoder.get_feature_names_out()
    )
    np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))


def test_plain_data_keep_the_labels_of_columns():
    for columns in (["a", "b"], [0, 1], [("a", 1), ("b", 2)], pd.date_range("2020", periods=2)):
        frame = pd.DataFrame([[1.0, "x"], [2.0, "y"]], columns=columns)
        encoder = TableEncoder().fit(frame)
        again = TableEncoder.from_dict(encoder.to_dict())
        np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))
        broken = frame.copy()
        broken.isetitem(0, ["no", "number"])
        with pytest.raises(ValueError, match="expected numbers"):
            again.transform(broken)
        assert hasattr(again, "feature_names_in_") == hasattr(encoder, "feature_names_in_")

"""Tests of skectonas.inputs.layout."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skectonas.inputs.layout import PseudoImageTransformer, check_image_shape

# Other programs may keep a small machine busy.
RELAXED = examples(60)
ORDERS = ["given", "shuffled", "correlation"]


@pytest.mark.parametrize("order", ORDERS)
def test_scikit_learn_checks(order):
    results = check_estimator(PseudoImageTransformer(order=order), on_skip=None)
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert sum(result["status"] == "passed" for result in results) > 40


def touching(images):
    """Mean absolute correlation of neighbouring pixels of (n, h, w, 1) images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        flat = images.reshape(len(images), -1)
        corr = np.abs(np.corrcoef(flat.T)).reshape(images.shape[1:3] * 2)
    h, w = images.shape[1:3]
    values = [corr[i, j, i, j + 1] for i in range(h) for j in range(w - 1)]
    values += [corr[i, j, i + 1, j] for i in range(h - 1) for j in range(w)]
    return np.nanmean(values)


def blocks(columns, block, seed=0):
    """Columns in correlated blocks, shuffled."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(200, math.ceil(columns / block)))
    X = np.repeat(causes, block, axis=1)[:, :columns]
    X = X * rng.choice([-1, 1], size=columns) + 0.5 * rng.normal(size=X.shape)
    return X[:, rng.permutation(columns)]


class TestShape:
    @pytest.mark.parametrize(("columns", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (100, 10)])
    def test_smallest_square(self, columns, side):
        X = np.ones((2, columns))
        transformer = PseudoImageTransformer().fit(X)
        assert transformer.image_shape_ == (side, side, 1)
        assert transformer.transform(X).shape == (2, side, side, 1)

    @pytest.mark.parametrize(
        ("image_shape", "fitted"),
        [
            ((2, 3), (2, 3, 1)),
            ((2, 3, 1), (2, 3, 1)),
            ([1, 2, 3], (1, 2, 3)),
            ((6, 7), (6, 7, 1)),
        ],
    )
    def test_given(self, image_shape, fitted):
        X = np.arange(12.0).reshape(2, 6)
        transformer = PseudoImageTransformer(image_shape=image_shape).fit(X)
        assert transformer.image_shape_ == fitted
        images = transformer.transform(X)
        assert images.shape == (2, *fitted)
        np.testing.assert_array_equal(images.reshape(2, -1)[:, :6], X)
        assert not images.reshape(2, -1)[:, 6:].any()

    def test_too_small(self):
        with pytest.raises(ValueError, match=r"image_shape: .* 7 columns, got \(2, 3\) with 6"):
            PseudoImageTransformer(image_shape=(2, 3)).fit(np.ones((2, 7)))

    @pytest.mark.parametrize(
        "image_shape",
        [(), (3,), (1, 2, 3, 4), (0, 3), (-1, -3), (2.0, 3), (True, 3), 3, "33", ("3", "3")],
    )
    def test_no_shape(self, image_shape):
        message = "image_shape: expected two or three positive integers"
        with pytest.raises(ValueError, match=message):
            check_image_shape(image_shape)
        with pytest.raises(ValueError, match=message):
            PseudoImageTransformer(image_shape=image_shape).fit(np.ones((2, 2)))

    def test_checked_shape_is_of_plain_integers(self):
        shape = check_image_shape(tuple(np.array([2, 3])))
        assert shape == (2, 3, 1)
        assert all(type(size) is int for size in shape)


class TestOrder:
    def test_given_is_row_by_row(self):
        X = np.arange(5.0)[None]
        image = PseudoImageTransformer().fit_transform(X)[0, :, :, 0]
        np.testing.assert_array_equal(image, [[0, 1, 2], [3, 4, 0], [0, 0, 0]])

    def test_shuffled_keeps_the_padding_last(self):
        X = np.arange(1.0, 21.0)[None]
        transformer = PseudoImageTransformer(order="shuffled", random_state=0).fit(X)
        flat = transformer.transform(X).ravel()
        np.testing.assert_array_equal(flat[:20], X[0, transformer.column_order_])
        assert not np.array_equal(flat[:20], X[0])
        np.testing.assert_array_equal(flat[20:], 0)

    def test_random_state(self):
        X = np.ones((1, 50))

        def order(random_state):
            transformer = PseudoImageTransformer(order="shuffled", random_state=random_state)
            return transformer.fit(X).column_order_.tolist()

        assert order(1) == order(1) == order(np.random.RandomState(1))
        assert order(1) != order(2)
        assert order(None) != order(None)
        with pytest.raises(ValueError, match="seed"):
            order("seed")

    def test_global_random_state_is_left_alone(self):
        before = np.random.get_state()[1].copy()
        PseudoImageTransformer(order="shuffled").fit(np.ones((1, 50)))
        np.testing.assert_array_equal(before, np.random.get_state()[1])

    @pytest.mark.parametrize("order", ["random", None, 1, ["given"]])
    def test_unknown(self, order):
        with pytest.raises(ValueError, match="order: expected one of"):
            PseudoImageTransformer(order=order).fit(np.ones((1, 2)))


class TestCorrelation:
    @pytest.mark.parametrize("block", [4, 9, 16])
    def test_correlated_columns_lie_together(self, block):
        X = blocks(100, block)
        given = touching(PseudoImageTransformer().fit_transform(X))
        together = touching(PseudoImageTransformer(order="correlation").fit_transform(X))
        assert together > 2.5 * given

    def test_better_than_one_line_after_another(self):
        X = blocks(144, 16)
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        image = transformer.transform(X)
        # Neighbours along one line alone leave the rows above and below to chance.
        line = PseudoImageTransformer(order="correlation", image_shape=(1, 144)).fit(X)
        by_rows = line.transform(X).reshape(len(X), 12, 12, 1)
        assert touching(image) > 1.2 * touching(by_rows)

    def test_a_block_is_a_compact_patch(self):
        X = blocks(64, 16)
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        image = transformer.transform(X).reshape(len(X), -1)
        member = np.abs(np.corrcoef(image.T)) > 0.5
        for row in member:
            rows, columns = np.divmod(np.flatnonzero(row), 8)
            assert len(rows) == 16
            assert np.ptp(rows) < 6
            assert np.ptp(columns) < 6

    @RELAXED
    @given(
        hnp.arrays(
            np.float64,
            st.tuples(st.integers(2, 6), st.integers(4, 12)),
            elements=st.floats(-10, 10, width=16),
        )
    )
    def test_never_worse_than_given(self, X):
        # Without padding, so that the measure here is that of the transformer.
        X = X[:, : X.shape[1] // 2 * 2]
        varies = np.ptp(X, axis=0) > 0
        if varies.sum() < X.shape[1]:
            return
        shape = (2, X.shape[1] // 2)
        given, together = (
            touching(PseudoImageTransformer(order=order, image_shape=shape).fit_transform(X))
            for order in ("given", "correlation")
        )
        assert together >= given - 1e-9

    def test_order_of_columns_in_the_table_does_not_matter_much(self):
        X = blocks(36, 6)
        shuffled = X[:, np.random.default_rng(1).permutation(36)]
        first, second = (
            touching(PseudoImageTransformer(order="correlation").fit_transform(table))
            for table in (X, shuffled)
        )
        assert first == pytest.approx(second, rel=0.2)

    @pytest.mark.parametrize("columns", [1, 2, 3, 7])
    @pytest.mark.parametrize("rows", [1, 2, 30])
    def test_small_tables(self, rows, columns):
        X = np.random.default_rng(0).normal(size=(rows, columns))
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        assert sorted(transformer.column_order_) == list(range(columns))
        np.testing.assert_array_equal(
            transformer.inverse_transform(transformer.transform(X)), X
        )

    @pytest.mark.parametrize("columns", [300, 1100])
    def test_many_columns(self, columns):
        X = blocks(columns, 10)
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        assert sorted(transformer.column_order_) == list(range(columns))

    @pytest.mark.parametrize("value", [0.0, 0.1, 1.7e308])
    def test_constant_columns(self, value):
        X = blocks(9, 3)
        X[:, [0, 4]] = value
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        assert sorted(transformer.column_order_) == list(range(9))
        everything = PseudoImageTransformer(order="correlation").fit(np.full((5, 9), value))
        assert sorted(everything.column_order_) == list(range(9))

    @pytest.mark.parametrize("unit", [1e-300, 1e300])
    def test_magnitude_does_not_matter(self, unit):
        X = blocks(30, 5)
        places = PseudoImageTransformer(order="correlation").fit(X).pixel_index_
        # One column of another magnitude than the rest.
        X[:, 3] *= unit
        other = PseudoImageTransformer(order="correlation").fit(X).pixel_index_
        np.testing.assert_array_equal(places, other)

    @pytest.mark.parametrize("image_shape", [(1, 30), (30, 1), (3, 5, 2), (2, 20), (6, 6)])
    def test_any_shape(self, image_shape):
        X = blocks(30, 5)
        transformer = PseudoImageTransformer(order="correlation", image_shape=image_shape)
        images = transformer.fit_transform(X)
        np.testing.assert_array_equal(transformer.inverse_transform(images), X)

    def test_deterministic(self):
        X = blocks(50, 5)
        first, second = (
            PseudoImageTransformer(order="correlation").fit(X).pixel_index_ for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)

    def test_rows_are_not_mixed(self):
        X = blocks(20, 5)
        transformer = PseudoImageTransformer(order="correlation").fit(X)
        np.testing.assert_array_equal(
            transformer.transform(X)[3:5], transformer.transform(X[3:5])
        )


class TestThereAndBack:
    @RELAXED
    @given(st.data())
    def test_inverse_is_exact(self, data):
        dtype = data.draw(st.sampled_from([np.float32, np.float64]))
        shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))
        columns = data.draw(st.integers(1, math.prod(shape)))
        elements = st.floats(
            allow_nan=False, allow_infinity=False, width=32 if dtype is np.float32 else 64
        )
        X = data.draw(
            hnp.arrays(dtype, (data.draw(st.integers(1, 4)), columns), elements=elements)
        )
        transformer = PseudoImageTransformer(
            order=data.draw(st.sampled_from(ORDERS)),
            image_shape=data.draw(st.sampled_from([None, shape])),
            random_state=0,
        )
        before = X.copy()
        images = transformer.fit(X).transform(X)
        assert images.dtype == dtype
        for given_back in (images, images.reshape(len(X), -1)):
            rows = transformer.inverse_transform(given_back)
            assert rows.dtype == dtype
            np.testing.assert_array_equal(rows, X)
        np.testing.assert_array_equal(X, before)
        np.testing.assert_array_equal(
            transformer.pixel_index_[transformer.column_order_],
            np.sort(transformer.pixel_index_),
        )

    def test_integers_become_float64(self):
        X = np.arange(6).reshape(2, 3)
        images = PseudoImageTransformer().fit_transform(X)
        assert images.dtype == np.float64

    @pytest.mark.parametrize("shape", [(2, 3), (2, 2, 2), (2, 4, 1, 1), (2, 2, 2, 1, 1), (4,)])
    def test_inverse_of_another_shape(self, shape):
        transformer = PseudoImageTransformer().fit(np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"expected|Expected"):
            transformer.inverse_transform(np.ones(shape))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_only_finite(self, value):
        X = np.array([[1.0, value]])
        with pytest.raises(ValueError, match="Input X contains"):
            PseudoImageTransformer().fit(X)


class TestAsTransformer:
    def test_names(self):
        frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "c"])
        transformer = PseudoImageTransformer(order="shuffled", random_state=0).fit(frame)
        names = transformer.get_feature_names_out()
        values = transformer.transform(frame).ravel()
        wanted = {"a": 1, "b": 2, "c": 3, "padding_0": 0}
        assert dict(zip(names, values, strict=True)) == wanted

    def test_names_without_names(self):
        transformer = PseudoImageTransformer().fit(np.ones((1, 3)))
        assert list(transformer.get_feature_names_out()) == ["x0", "x1", "x2", "padding_0"]
        assert list(transformer.get_feature_names_out(list("pqr")))[:3] == list("pqr")

    def test_padding_never_takes_the_name_of_a_column(self):
        frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["padding_0", "_padding_1", "c"])
        names = list(PseudoImageTransformer().fit(frame).get_feature_names_out())
        assert names == ["padding_0", "_padding_1", "c", "__padding_0"]

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames_on_request(self, library):
        pytest.importorskip(library)
        frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=["a", "b"], index=["p", "q"])
        flat = PseudoImageTransformer().fit_transform(frame).reshape(2, -1)
        transformer = PseudoImageTransformer().set_output(transform=library)
        for output in (transformer.fit_transform(frame), transformer.transform(frame)):
            assert type(output).__module__.startswith(library)
            assert list(output.columns) == ["a", "b", "padding_0", "padding_1"]
            np.testing.assert_array_equal(output.to_numpy(), flat)
        if library == "pandas":
            assert list(transformer.transform(frame).index) == ["p", "q"]
            rows = transformer.inverse_transform(transformer.transform(frame))
            np.testing.assert_array_equal(rows, frame)

    def test_frames_by_global_configuration(self):
        with sklearn.config_context(transform_output="pandas"):
            output = PseudoImageTransformer().fit_transform(np.ones((2, 3)))
            own = PseudoImageTransformer().set_output(transform="default")
            images = own.fit_transform(np.ones((2, 3)))
        assert list(output.columns) == ["x0", "x1", "x2", "padding_0"]
        assert images.shape == (2, 2, 2, 1)

    def test_other_columns_are_refused(self):
        frame = pd.DataFrame([[1.0, 2.0]], columns=["a", "b"])
        transformer = PseudoImageTransformer().fit(frame)
        with pytest.raises(ValueError, match="feature names should match"):
            transformer.transform(frame[["b", "a"]])
        with pytest.raises(ValueError, match="expecting 2 features"):
            PseudoImageTransformer().fit(np.ones((1, 2))).transform(np.ones((1, 3)))

    def test_pipeline_pickle_and_clone(self):
        X = blocks(10, 5)
        pipeline = make_pipeline(StandardScaler(), PseudoImageTransformer(order="correlation"))
        images = pipeline.fit_transform(X)
        assert images.shape == (200, 4, 4, 1)
        again = pickle.loads(pickle.dumps(pipeline))
        np.testing.assert_array_equal(again.transform(X), images)
        np.testing.assert_array_equal(clone(pipeline).fit_transform(X), images)
        np.testing.assert_allclose(pipeline.inverse_transform(images), X)

    def test_not_fitted(self):
        transformer = PseudoImageTransformer()
        for method in (transformer.transform, transformer.inverse_transform):
            with pytest.raises(sklearn.exceptions.NotFittedError):
                method(np.ones((1, 1)))
        with pytest.raises(sklearn.exceptions.NotFittedError):
            transformer.get_feature_names_out()

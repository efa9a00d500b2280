"""Tests of skectonas.inputs.encoder."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import examples, quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.scaling import PIXEL_DEVIATION, UNSCALED, ColumnScaling, PixelScaling
from skectonas.inputs.tables import TableEncoder

# Other programs may keep a small machine busy.
RELAXED = examples(60)
SCALINGS = ["quantile", "piecewise", "minmax"]


def seen(encoder, X):
    """Images as a network sees them."""
    return encoder.scaling_.apply(encoder.transform(X))


def standardised(X):
    """What a network should see of images."""
    X = (X if X.ndim == 4 else X[..., None]).astype(np.float64)
    return (X - X.mean(axis=(0, 1, 2))) / X.std(axis=(0, 1, 2)) * PIXEL_DEVIATION


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"size": [1.0, None, 3.0], "colour": ["red", "blue", None], "flag": [True, False, True]}
    )


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, size=(5, 4, 3, 2), dtype=np.uint8)
    photos[0, 0, 0, 0] = 250
    return photos


class TestFrames:
    def test_encoded_and_laid_out(self, frame):
        encoder = InputEncoder(column_scaling="minmax").fit(frame)
        assert encoder.image_shape_ == (3, 3, 1)
        assert encoder.scaling_ == UNSCALED
        assert list(encoder.feature_names_out_) == [
            *("size", "size_missing", "colour_blue", "colour_red", "colour_missing", "flag")
        ]
        images = encoder.transform(frame)
        assert images.dtype == np.float32
        flat = images.reshape(3, 9)
        np.testing.assert_array_equal(
            flat[:, :6], [[0, 0, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 1, 1]]
        )
        assert not flat[:, 6:].any()

    @pytest.mark.parametrize("column_scaling", SCALINGS)
    def test_the_numbers_of_the_table_encoder_are_scaled(self, frame, column_scaling):
        encoder = InputEncoder(column_scaling=column_scaling).fit(frame)
        numbers = TableEncoder().fit(frame).transform(frame)
        scaled = ColumnScaling.fit(numbers, column_scaling).scale(numbers)
        flat = encoder.transform(frame).reshape(3, 9)
        np.testing.assert_array_equal(flat[:, :6], scaled.astype(np.float32))
        assert not flat[:, 6:].any()

    def test_all_that_comes_from_one_column_shares_an_indicator(self):
        when = pd.to_datetime(["2020-01-31", None, "2021-06-01", "2022-12-24"])
        encoder = InputEncoder().fit(pd.DataFrame({"size": [1, 2, 3, 4], "when": when}))
        names = list(encoder.feature_names_out_)
        assert names[0] == "size"
        assert sum(name.endswith("_missing") for name in names) == 1
        assert "when_missing" in names
        images = encoder.transform(pd.DataFrame({"size": [1], "when": [pd.NaT]}))
        assert np.isfinite(images).all()

    def test_image_shape(self, frame):
        encoder = InputEncoder(image_shape=(2, 2, 2)).fit(frame)
        assert encoder.image_shape_ == (2, 2, 2)
        assert encoder.transform(frame).shape == (3, 2, 2, 2)

    def test_image_shape_too_small(self, frame):
        with pytest.raises(ValueError, match=r"image_shape: .* 6 columns .* \(2, 2\) with 4"):
            InputEncoder(image_shape=(2, 2)).fit(frame)

    def test_shuffled(self, frame):
        def encoded(random_state):
            encoder = InputEncoder(column_order="shuffled", random_state=random_state).fit(
                frame
            )
            return encoder.transform(frame)

        np.testing.assert_array_equal(encoded(0), encoded(0))
        assert not np.array_equal(encoded(0), encoded(1))
        given = InputEncoder().fit(frame).transform(frame)
        np.testing.assert_array_equal(np.sort(encoded(0).ravel()), np.sort(given.ravel()))

    @pytest.mark.parametrize("order", ["given", "shuffled", "correlation"])
    def test_missing_and_unknown_later(self, frame, order):
        encoder = InputEncoder(column_order=order).fit(frame)
        later = pd.DataFrame({"size": [None], "colour": ["new"], "flag": [False]})
        images = encoder.transform(later)
        assert images.shape == (1, 3, 3, 1)
        assert np.isfinite(images).all()

    def test_array_later(self, frame):
        encoder = InputEncoder().fit(frame)
        with pytest.raises(ValueError, match=r"data frame with 3 columns .* shape \(2, 3\)"):
            encoder.transform(np.ones((2, 3)))

    def test_frame_is_left_as_it_was(self, frame):
        before = frame.copy(deep=True)
        InputEncoder().fit(frame).transform(frame)
        pd.testing.assert_frame_equal(frame, before)

    def test_unknown_column_order(self, frame):
        with pytest.raises(ValueError, match="order: expected one of"):
            InputEncoder(column_order="random").fit(frame)

    def test_global_configuration_does_not_matter(self, frame):
        expected = InputEncoder().fit(frame).transform(frame)
        with sklearn.config_context(transform_output="pandas"):
            images = InputEncoder().fit(frame).transform(frame)
        assert type(images) is np.ndarray
        np.testing.assert_array_equal(images, expected)


class TestTables:
    @pytest.mark.parametrize(
        ("column_scaling", "expected"),
        [
            ("minmax", [[0, 0, 0, 0], [0.5, 0, 0.25, 0], [1, 0, 1, 0]]),
            # Normal scores of the ranks 1/6, 1/2 and 5/6.
            ("quantile", [[-0.9674216, 0, -0.9674216, 0], [0] * 4, [0.9674216, 0] * 2]),
        ],
    )
    def test_columns_are_scaled(self, column_scaling, expected):
        X = np.array([[0, 5, -1], [2, 5, 0], [4, 5, 3]])
        encoder = InputEncoder(column_scaling=column_scaling).fit(X)
        assert encoder.image_shape_ == (2, 2, 1)
        assert encoder.scaling_ == UNSCALED
        assert list(encoder.feature_names_out_) == ["x0", "x1", "x2"]
        images = encoder.transform(X)
        assert images.dtype == np.float32
        np.testing.assert_allclose(images.reshape(3, 4), expected, rtol=1e-6)

    @pytest.mark.parametrize("column_scaling", ["standard", None, "Quantile"])
    def test_unknown_scaling(self, column_scaling):
        with pytest.raises(ValueError, match="column_scaling: expected one of"):
            InputEncoder(column_scaling=column_scaling).fit(np.ones((2, 2)))

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64, np.float32])
    def test_any_dtype(self, dtype):
        X = np.array([[0, 1], [1, 0]], dtype=dtype)
        images = InputEncoder(column_scaling="minmax").fit(X).transform(X)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images.reshape(2, 4)[:, :2], X)
        as_floats = InputEncoder().fit(X.astype(np.float64))
        np.testing.assert_array_equal(
            InputEncoder().fit(X).transform(X), as_floats.transform(X.astype(np.float64))
        )

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
    @pytest.mark.parametrize("column_scaling", SCALINGS)
    def test_missing_values(self, dtype, column_scaling):
        X = np.array([[0, 5, np.nan], [2, np.nan, 1], [4, 6, np.nan], [3, 7, 2]], dtype=dtype)
        encoder = InputEncoder(column_scaling=column_scaling).fit(X)
        names = encoder.feature_names_out_.tolist()
        assert names[:5] == ["x0", "x1", "x1_missing", "x2", "x2_missing"]
        assert all("_piece_" in name for name in names[5:])
        flat = encoder.transform(X).reshape(4, 9)[:, :5]
        expected = ColumnScaling.fit(X, column_scaling).scale(X)
        np.testing.assert_array_equal(flat, expected[:, :5].astype(np.float32))
        # Columns without gaps in fit may have some later.
        later = encoder.transform(np.full((2, 3), np.nan)).reshape(2, 9)[:, :5]
        assert np.isfinite(later).all()
        np.testing.assert_array_equal(later[:, [2, 4]], [[flat[1, 2], flat[0, 4]]] * 2)

    def test_a_column_of_nothing(self):
        X = np.array([[0, np.nan], [2, np.nan], [4, np.nan]])
        encoder = InputEncoder().fit(X)
        assert encoder.feature_names_out_.tolist() == ["x0", "x1", "x1_missing"]
        assert np.isfinite(encoder.transform(X)).all()
        assert np.isfinite(encoder.transform(np.array([[1.0, 7.0]]))).all()

    def test_an_outlier_leaves_the_other_values_where_they_are(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(500, 3))
        spoiled = X.copy()
        spoiled[7, 0] = 1e12
        plain, other = (InputEncoder().fit(table).transform(X[8:]) for table in (X, spoiled))
        np.testing.assert_allclose(other, plain, atol=0.5)  # the next ranks are far apart
        assert np.quantile(np.abs(other - plain), 0.95) < 0.02
        assert np.abs(plain).max() <= 3

    @pytest.mark.parametrize("column_scaling", SCALINGS)
    @pytest.mark.parametrize("columns", [1, 3])
    def test_a_table_of_constants(self, columns, column_scaling):
        encoder = InputEncoder(column_scaling=column_scaling).fit(np.full((3, columns), 7.0))
        assert not encoder.transform(np.full((3, columns), 7.0)).any()
        assert not encoder.transform(np.array([[-1e9] * columns, [1e9] * columns])).any()

    def test_image_shape_with_room(self):
        X = np.arange(10.0).reshape(2, 5)
        encoder = InputEncoder(image_shape=(2, 3)).fit(X)
        assert encoder.image_shape_ == (2, 3, 1)
        assert encoder.feature_names_out_ is not None

    def test_image_shape_too_small(self):
        with pytest.raises(ValueError, match=r"image_shape: .* 5 columns .* \(2, 2\) with 4"):
            InputEncoder(image_shape=(2, 2)).fit(np.ones((2, 5)))

    def test_column_order_makes_a_table_of_what_fills_the_image(self):
        X = np.arange(8.0).reshape(2, 4)
        encoder = InputEncoder((2, 2), "correlation", "minmax").fit(X)
        assert encoder.feature_names_out_ is not None
        np.testing.assert_array_equal(encoder.transform(X).ravel(), [0] * 4 + [1] * 4)

    @pytest.mark.parametrize("column_scaling", SCALINGS)
    @pytest.mark.parametrize("magnitude", [1e-300, 1e300, 1.7e308])
    def test_extreme_values(self, magnitude, column_scaling):
        X = np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
        expected = InputEncoder(column_scaling=column_scaling).fit(X).transform(X)
        images = InputEncoder(column_scaling=column_scaling).fit(X * magnitude)
        np.testing.assert_allclose(images.transform(X * magnitude), expected, rtol=1e-6)

    @pytest.mark.parametrize("column_scaling", SCALINGS)
    def test_values_beyond_the_ends_later(self, column_scaling):
        X = np.array([[0.0], [1.0]])
        encoder = InputEncoder(column_scaling=column_scaling).fit(X)
        np.testing.assert_array_equal(encoder.transform(X * 1e300), encoder.transform(X))
        low = encoder.transform(np.array([[-1e300]]))
        np.testing.assert_array_equal(low, encoder.transform(X[:1]))

    def test_another_number_of_columns(self):
        encoder = InputEncoder().fit(np.ones((2, 5)))
        with pytest.raises(ValueError, match="5 columns, got 4 columns"):
            encoder.transform(np.ones((2, 4)))
        with pytest.raises(ValueError, match=r"5 columns, got images of shape \(5, 1\)"):
            encoder.transform(np.ones((2, 5, 1)))

    @pytest.mark.parametrize(
        "dtype", ["float64", "int8", "Int64", "Float32", "boolean", "bool"]
    )
    def test_frame_of_numbers_later(self, dtype):
        X = np.array([[0, 1, 1], [1, 0, 1]])
        encoder = InputEncoder().fit(X)
        later = pd.DataFrame(X, columns=list("abc")).astype(dtype)
        np.testing.assert_array_equal(encoder.transform(later), encoder.transform(X))

    def test_frame_of_mixed_numbers_later(self):
        X = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]])
        encoder = InputEncoder().fit(X)
        later = pd.DataFrame(X, columns=list("abc")).astype({"a": bool, "b": "Int64"})
        np.testing.assert_array_equal(encoder.transform(later), encoder.transform(X))

    def test_other_frames_later(self):
        encoder = InputEncoder().fit(np.ones((2, 2)))
        with pytest.raises(ValueError, match=r"only numeric columns.*\['b'\]"):
            encoder.transform(pd.DataFrame({"a": [1, 2], "b": ["p", "q"]}))
        gap = encoder.transform(np.array([[1.0, np.nan], [1.0, 1.0]]))
        for later in (
            pd.DataFrame({"a": [1.0, 1.0], "b": [None, 1.0]}),
            pd.DataFrame({"a": [1, 1], "b": pd.array([None, 1], "Int64")}),
        ):
            np.testing.assert_array_equal(encoder.transform(later), gap)
        with pytest.raises(ValueError, match="2 columns, got 1 columns"):
            encoder.transform(pd.DataFrame({"a": [1.0, 2.0]}))


class TestImages:
    def test_bytes_stay_bytes_without_a_copy(self, photos):
        encoder = InputEncoder().fit(photos)
        assert encoder.image_shape_ == (4, 3, 2)
        assert encoder.scaling_ == PixelScaling.of([photos])
        assert encoder.feature_names_out_ is None
        images = encoder.transform(photos)
        assert images.dtype == np.uint8
        assert np.shares_memory(images, photos)
        np.testing.assert_array_equal(images, photos)

    def test_one_channel_is_added(self, photos):
        grey = np.ascontiguousarray(photos[..., 0])
        encoder = InputEncoder().fit(grey)
        assert encoder.image_shape_ == (4, 3, 1)
        images = encoder.transform(grey)
        assert images.shape == (5, 4, 3, 1)
        assert np.shares_memory(images, grey)
        np.testing.assert_array_equal(encoder.transform(grey[..., None]), images)

    @pytest.mark.parametrize("image_shape", [(4, 3, 2), [4, 3, 2]])
    def test_image_shape_of_the_images(self, photos, image_shape):
        encoder = InputEncoder(image_shape=image_shape).fit(photos)
        assert encoder.image_shape_ == (4, 3, 2)
        grey = photos[..., 0]
        assert InputEncoder(image_shape=(4, 3, 1)).fit(grey).image_shape_ == (4, 3, 1)

    @pytest.mark.parametrize("image_shape", [(3, 4, 2), (4, 3), (24, 1)])
    def test_another_image_shape(self, photos, image_shape):
        with pytest.raises(ValueError, match=r"image_shape: .*\(4, 3, 2\), got \("):
            InputEncoder(image_shape=image_shape).fit(photos)

    def test_every_channel_has_a_mean_of_zero_and_the_same_deviation(self, photos):
        pixels = photos * np.array([1.0, 0.02]) + [0, 3]
        for X in (photos, photos.astype(np.float32), pixels, pixels.astype(np.float32)):
            found = seen(InputEncoder().fit(X), X)
            np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), 0, atol=1e-6)
            np.testing.assert_allclose(found.std(axis=(0, 1, 2)), PIXEL_DEVIATION, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint16, np.float16])
    def test_other_dtypes_are_scaled_by_transform(self, photos, dtype):
        encoder = InputEncoder().fit(photos.astype(dtype))
        images = encoder.transform(photos.astype(dtype))
        assert encoder.scaling_ == UNSCALED
        assert images.dtype == np.float32
        np.testing.assert_array_equal(
            images, PixelScaling.of([photos]).apply(photos).astype(np.float32)
        )

    def test_the_scaling_does_not_depend_on_the_dtype(self, photos):
        for pixels in (photos, photos // 128, photos // 4):
            as_bytes = seen(InputEncoder().fit(pixels), pixels)
            for dtype in (np.float64, np.float32, np.float16, np.int16):
                as_others = pixels.astype(dtype)
                found = seen(InputEncoder().fit(as_others), as_others)
                np.testing.assert_allclose(found, as_bytes, rtol=1e-6, atol=1e-7)

    def test_a_series_of_images(self, photos):
        images = pd.Series(list(photos))
        clf = quick(5, start="medium_ffnn").fit(images, np.arange(len(photos)) % 2)
        assert clf.image_shape_ == (*photos.shape[1:], 1)[:3]
        np.testing.assert_array_equal(clf.predict_proba(images), clf.predict_proba(photos))
        with pytest.raises(ValueError, match="X must hold rows or images of one shape"):
            quick().fit(pd.Series([photos[0], photos[1, :3]]), [0, 1])

    @pytest.mark.parametrize(
        ("factor", "offset", "dtype"),
        [
            (0.1, 0, np.float64),  # low contrast
            (0.1, 0.9, np.float64),  # pale
            (0.1, 0.9, np.float32),
            (1e-3, 0, np.float32),  # dark
            (-1, 1, np.float32),  # a negative
            (1e12, 0, np.float64),
            (1e-150, 0, np.float64),
            (3e38, 0, np.float32),
            (6e38, -3e38, np.float32),
            (1e-35, 0, np.float32),
            (1, 1e6, np.float64),
        ],
    )
    def test_contrast_and_brightness_do_not_matter(self, factor, offset, dtype):
        X = np.random.default_rng(0).random((40, 5, 5, 3)) ** 2
        expected = seen(InputEncoder().fit(X), X)
        other = (X * factor + offset).astype(dtype)
        found = seen(InputEncoder().fit(other), other) * np.sign(factor)
        # What of the pixels is lost when they are rounded.
        lost = np.finfo(dtype).eps * max(abs(offset / factor), 1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=20 * lost + 1e-6)

    @pytest.mark.parametrize(
        ("shown", "within"),
        [
            (lambda X: X // 4, 0.04),  # dark
            (lambda X: 192 + X // 4, 0.04),  # pale
            (lambda X: 100 + X // 4, 0.04),  # of low contrast
            (lambda X: X // 16, 0.15),
            (lambda X: X // 2 + 60, 0.02),
        ],
    )
    def test_dark_and_pale_8_bit_images(self, shown, within):
        X = np.random.default_rng(0).integers(0, 256, (40, 5, 5, 3), dtype=np.uint8)
        other = shown(X).astype(np.uint8)
        encoder = InputEncoder().fit(other)
        assert encoder.transform(other).dtype == np.uint8
        expected = seen(InputEncoder().fit(X), X)
        # A grey level of sixteen that are left is a ninth of a deviation.
        np.testing.assert_allclose(seen(encoder, other), expected, atol=within)

    def test_other_dtype_later(self, photos):
        for pixels in (photos, photos // 4):
            for first, later in [(np.uint8, np.float64), (np.float64, np.uint8)]:
                encoder = InputEncoder().fit(pixels.astype(first))
                same = seen(encoder, pixels.astype(first))
                other = seen(encoder, pixels.astype(later))
                np.testing.assert_allclose(same, other, rtol=1e-6)

    @pytest.mark.parametrize("offset", [0, -9, 1e4])
    def test_float32_is_not_copied(self, offset):
        X = np.random.default_rng(0).random((3, 4, 4, 1)).astype(np.float32) + offset
        X = X.astype(np.float32)
        encoder = InputEncoder().fit(X)
        assert encoder.scaling_ == PixelScaling.of([X])
        assert np.shares_memory(encoder.transform(X), X)

    @pytest.mark.parametrize(
        ("offset", "dtype"),
        [(0.0, np.float32), (0.0, np.float64), (1e9, np.float64), (-1e150, np.float64)],
    )
    def test_values_far_from_zero(self, offset, dtype):
        steps = np.linspace(-1, 1, 12).reshape(3, 2, 2) * max(abs(offset) / 1e3, 1)
        X = (steps + offset).astype(dtype)
        encoder = InputEncoder().fit(X)
        np.testing.assert_allclose(seen(encoder, X), standardised(steps), atol=1e-4)

    @pytest.mark.parametrize("value", [0, 3, 255, 0.1, -1e150])
    def test_constant_pixels_become_zero(self, value):
        X = np.full((3, 2, 2, 1), value)
        lost = 1e-15 * abs(value)
        found = seen(InputEncoder().fit(X), X)
        np.testing.assert_allclose(found, np.zeros(X.shape), atol=lost)
        one = np.concatenate([X, np.arange(12.0).reshape(X.shape)], axis=3)
        found = seen(InputEncoder().fit(one), one)
        np.testing.assert_allclose(found[..., 0], 0, atol=lost)
        assert found[..., 1].std() == pytest.approx(PIXEL_DEVIATION)

    def test_many_images_are_scaled_alike(self):
        X = np.random.default_rng(0).normal(size=(2500, 2, 2))
        np.testing.assert_allclose(
            InputEncoder().fit(X).transform(X), standardised(X), rtol=1e-5, atol=1e-6
        )

    @pytest.mark.parametrize("X", [np.float32, np.float64])
    def test_pixels_must_not_be_missing(self, X):
        pixels = np.arange(12, dtype=X).reshape(3, 2, 2)
        pixels[1, 0, 1] = np.nan
        with pytest.raises(ValueError, match="images must have no missing values, got NaN"):
            InputEncoder().fit(pixels)
        with pytest.raises(ValueError, match="images must have no missing values, got NaN"):
            InputEncoder(image_shape=(2, 2)).fit(pixels.reshape(3, 4))
        assert InputEncoder().fit(pixels, np.array([0, 2])).image_shape_ == (2, 2, 1)

    @pytest.mark.parametrize("fitted", [1.0, 255.0, -1.0])
    def test_too_large_for_float32_later(self, fitted):
        X = np.array([0.0, fitted]).reshape(2, 1, 1)
        encoder = InputEncoder().fit(X)
        with pytest.raises(ValueError, match="X: expected pixels that are finite in float32"):
            encoder.transform(X * 1e300)

    def test_too_large_to_be_squared(self):
        X = np.array([-1e200, 1e200]).reshape(2, 1, 1)
        with pytest.raises(ValueError, match="X: expected pixels whose squares are finite"):
            InputEncoder().fit(X)

    @pytest.mark.parametrize("view", ["reversed", "transposed", "sliced", "fortran"])
    def test_output_is_contiguous(self, photos, view):
        X = {
            "reversed": photos[:, ::-1],
            "transposed": photos.transpose(0, 2, 1, 3),
            "sliced": photos[::2, :, :, :1],
            "fortran": np.asfortranarray(photos),
        }[view]
        for pixels in (X, X / 255, X.astype(np.float32), X.astype(np.float64) - 300):
            encoder = InputEncoder().fit(pixels)
            images = encoder.transform(pixels)
            assert images.flags.c_contiguous
            np.testing.assert_allclose(
                seen(encoder, pixels), standardised(pixels), rtol=1e-5, atol=1e-6
            )

    def test_read_only_input(self, photos):
        for pixels in (photos, photos.astype(np.float64) - 7):
            pixels.flags.writeable = False
            InputEncoder().fit(pixels).transform(pixels)

    def test_another_shape_later(self, photos):
        encoder = InputEncoder().fit(photos)
        message = r"images of shape \(4, 3, 2\), got "
        with pytest.raises(ValueError, match=message + r"images of shape \(3, 4, 2\)"):
            encoder.transform(photos.transpose(0, 2, 1, 3))
        with pytest.raises(ValueError, match=message + r"images of shape \(4, 3\)"):
            encoder.transform(photos[..., 0])
        with pytest.raises(ValueError, match=message + "24 columns"):
            encoder.transform(photos.reshape(5, 24))
        with pytest.raises(ValueError, match=message + "24 columns"):
            encoder.transform(pd.DataFrame(photos.reshape(5, 24)))

    @pytest.mark.parametrize("shape", [(3,), (), (2, 2, 2, 2, 2)])
    def test_other_numbers_of_dimensions(self, shape):
        with pytest.raises(ValueError, match="X: expected an array of 2, 3 or 4 dimensions"):
            InputEncoder().fit(np.ones(shape))


class TestFlattenedImages:
    def test_same_as_images(self, photos):
        flat = photos.reshape(5, 24)
        for pixels in (flat, flat.astype(np.float64), flat / 255, flat.astype(np.float32) - 9):
            encoder = InputEncoder(image_shape=(4, 3, 2)).fit(pixels)
            whole = InputEncoder().fit(pixels.reshape(photos.shape))
            assert encoder.image_shape_ == whole.image_shape_
            assert encoder.scaling_ == whole.scaling_
            assert encoder.feature_names_out_ is None
            images = encoder.transform(pixels)
            expected = whole.transform(pixels.reshape(photos.shape))
            assert images.dtype == expected.dtype
            np.testing.assert_array_equal(images, expected)

    def test_bytes_are_not_copied(self, photos):
        flat = photos.reshape(5, 24)
        images = InputEncoder(image_shape=(6, 4)).fit(flat).transform(flat)
        assert images.shape == (5, 6, 4, 1)
        assert np.shares_memory(images, flat)

    def test_frame_later(self, photos):
        flat = photos.reshape(5, 24)
        encoder = InputEncoder(image_shape=(6, 4)).fit(flat)
        images = encoder.transform(pd.DataFrame(flat))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, encoder.transform(flat))

    def test_another_shape_later(self, photos):
        encoder = InputEncoder(image_shape=(6, 4)).fit(photos.reshape(5, 24))
        with pytest.raises(ValueError, match="24 columns, got 12 columns"):
            encoder.transform(photos.reshape(10, 12))
        with pytest.raises(ValueError, match=r"24 columns, got images of shape \(4, 3, 2\)"):
            encoder.transform(photos)


@pytest.mark.parametrize("image_shape", [(3,), (0, 2), "12", 4, (1.5, 2)])
def test_no_image_shape(image_shape, frame, photos):
    for X in (frame, photos, photos.reshape(5, 24)):
        with pytest.raises(ValueError, match="image_shape: expected two or three positive"):
            InputEncoder(image_shape=image_shape).fit(X)


def test_pickle(frame, photos):
    for X in (frame, photos, photos - 300.0, photos.reshape(5, 24)):
        encoder = InputEncoder(column_order="correlation").fit(X)
        again = pickle.loads(pickle.dumps(encoder))
        np.testing.assert_array_equal(encoder.transform(X), again.transform(X))
        assert again.scaling_ == encoder.scaling_


@pytest.mark.parametrize("order", ["given", "shuffled", "correlation"])
def test_plain_data_tell_all(order, frame, photos):
    flat = photos.reshape(5, 24)
    gaps = np.where(photos < 100, np.nan, photos).reshape(5, 24)
    dates = frame.assign(when=pd.date_range("2020-01-01", periods=3), gone=[None] * 3)
    texts = pd.DataFrame({"text": [f"a note on {i} and {i * i}" for i in range(150)]})
    for X, shape in (
        (gaps, None),
        (texts, None),
        (dates.drop(columns="gone"), None),
        (frame, None),
        (frame, (2, 2, 2)),
        (flat, None),
        (flat, (6, 4)),
        (flat, (6, 5)),
        (photos, None),
        (photos / 255, None),
        (photos - 300.0, None),
        (photos[:, :, :, 0], None),
    ):
        encoder = InputEncoder(shape, order, random_state=1).fit(X)
        again = InputEncoder.from_dict(encoder.to_dict())
        assert set(vars(again)) == set(vars(encoder))
        for name in (
            *("image_shape", "column_order", "column_scaling", "random_state"),
            *("image_shape_", "scaling_"),
        ):
            assert getattr(again, name) == getattr(encoder, name)
        np.testing.assert_array_equal(again.feature_names_out_, encoder.feature_names_out_)
        images = again.transform(X)
        assert images.dtype == encoder.transform(X).dtype
        np.testing.assert_array_equal(images, encoder.transform(X))
        with pytest.raises(ValueError, match=r"X: expected"):
            again.transform(photos[:, 1:])


def test_refit_forgets(frame, photos):
    encoder = InputEncoder().fit(photos - 300.0).fit(frame).fit(photos)
    assert encoder.feature_names_out_ is None
    assert encoder.transform(photos).dtype == np.uint8
    encoder.fit(photos - 300.0).fit(np.arange(6.0).reshape(2, 3))
    assert encoder.image_shape_ == (2, 2, 1)


@RELAXED
@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=3),
    ).filter(lambda X: np.isfinite(X).all() and float(np.abs(X).max()) <= 1e150),
    st.sampled_from(["given", "shuffled", "correlation"]),
    st.sampled_from(SCALINGS),
    st.booleans(),
)
def test_any_array_is_of_one_size(X, column_order, column_scaling, flat):
    # There would be no room for pieces.
    is_shaped = flat and X.ndim == 2 and column_scaling != "piecewise"
    image_shape = (1, math.prod(X.shape[1:])) if is_shaped else None
    before = X.copy()
    encoder = InputEncoder(image_shape, column_order, column_scaling, random_state=0).fit(X)
    images = encoder.transform(X)
    assert images.shape == (len(X), *encoder.image_shape_)
    assert images.flags.c_contiguous
    assert images.dtype in (np.uint8, np.float32)
    scaled = encoder.scaling_.apply(images)
    if encoder.feature_names_out_ is None:
        np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-4)
        deviations = scaled.std(axis=(0, 1, 2))
        assert ((np.abs(deviations - PIXEL_DEVIATION) < 1e-4) | (deviations < 1e-4)).all()
    elif column_scaling == "minmax":
        assert (scaled >= 0).all()
        assert (scaled <= 1 + 1e-6).all()
    else:
        assert (np.abs(scaled) <= 3).all()
        # Ranks in the middle of equal values are one half on average.
        assert (np.sign(scaled).sum(axis=0) <= len(X) - 1).all()
    np.testing.assert_array_equal(X, before)

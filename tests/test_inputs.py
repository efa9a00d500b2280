"""Tests of skectonas.inputs."""

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

from skectonas.images import PixelRange, pixel_range
from skectonas.inputs import InputEncoder
from skectonas.tables import TableEncoder

# Other programs may keep a small machine busy.
RELAXED = examples(60)
UNCHANGED = PixelRange(offset=0.0, scale=1.0)
EIGHT_BIT = PixelRange(offset=0.0, scale=1 / 255)


def unit(encoder, X):
    """Images as a network sees them."""
    return encoder.range_.apply(encoder.transform(X).astype(np.float64))


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
        encoder = InputEncoder().fit(frame)
        tables = TableEncoder().fit(frame)
        assert encoder.image_shape_ == (3, 3, 1)
        assert encoder.range_ == UNCHANGED
        assert list(encoder.feature_names_out_) == list(tables.get_feature_names_out())
        images = encoder.transform(frame)
        assert images.dtype == np.float32
        flat = images.reshape(3, 9)
        np.testing.assert_array_equal(flat[:, :6], tables.transform(frame))
        assert not flat[:, 6:].any()

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
        assert encoded(0).sum() == pytest.approx(given.sum())

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
    def test_columns_are_scaled(self):
        X = np.array([[0, 5, -1], [2, 5, 0], [4, 5, 3]])
        encoder = InputEncoder().fit(X)
        assert encoder.image_shape_ == (2, 2, 1)
        assert encoder.range_ == UNCHANGED
        assert list(encoder.feature_names_out_) == ["x0", "x1", "x2"]
        images = encoder.transform(X)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(
            images.reshape(3, 4), [[0, 0, 0, 0], [0.5, 0, 0.25, 0], [1, 0, 1, 0]]
        )

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64, np.float32])
    def test_any_dtype(self, dtype):
        X = np.array([[0, 1], [1, 0]], dtype=dtype)
        images = InputEncoder().fit(X).transform(X)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images.reshape(2, 4)[:, :2], X)

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
        encoder = InputEncoder(image_shape=(2, 2), column_order="correlation").fit(X)
        assert encoder.feature_names_out_ is not None
        np.testing.assert_array_equal(encoder.transform(X).ravel(), [0] * 4 + [1] * 4)

    @pytest.mark.parametrize("magnitude", [1e-300, 1e300])
    def test_extreme_values(self, magnitude):
        X = np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.5]]) * magnitude
        images = InputEncoder().fit(X).transform(X)
        np.testing.assert_allclose(images.reshape(3, 4)[:, 0], [0, 0.5, 1])

    def test_extreme_values_later(self):
        X = np.array([[0.0], [1.0]])
        images = InputEncoder().fit(X).transform(X * 1e300)
        np.testing.assert_array_equal(images.ravel(), [0, 1])

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
        with pytest.raises(ValueError, match="finite"):
            encoder.transform(pd.DataFrame({"a": [1.0, None], "b": [1, 2]}))
        with pytest.raises(ValueError, match="finite"):
            encoder.transform(pd.DataFrame({"a": [1, 2], "b": pd.array([1, None], "Int64")}))
        with pytest.raises(ValueError, match="2 columns, got 1 columns"):
            encoder.transform(pd.DataFrame({"a": [1.0, 2.0]}))


class TestImages:
    def test_bytes_stay_bytes_without_a_copy(self, photos):
        encoder = InputEncoder().fit(photos)
        assert encoder.image_shape_ == (4, 3, 2)
        assert encoder.range_ == EIGHT_BIT
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

    @pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64, np.uint16])
    def test_eight_bit_values_of_any_dtype(self, photos, dtype):
        encoder = InputEncoder().fit(photos.astype(dtype))
        images = encoder.transform(photos.astype(dtype))
        assert encoder.range_ == EIGHT_BIT
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, photos)

    def test_the_range_does_not_depend_on_the_dtype(self, photos):
        for pixels in (photos, photos // 128, photos // 4):
            as_bytes = unit(InputEncoder().fit(pixels), pixels)
            as_floats = pixels.astype(np.float64)
            np.testing.assert_allclose(
                unit(InputEncoder().fit(as_floats), as_floats), as_bytes, rtol=1e-6
            )

    def test_other_dtype_later(self, photos):
        for pixels in (photos, photos // 4):
            for first, later in [(np.uint8, np.float64), (np.float64, np.uint8)]:
                encoder = InputEncoder().fit(pixels.astype(first))
                same = unit(encoder, pixels.astype(first))
                other = unit(encoder, pixels.astype(later))
                np.testing.assert_allclose(same, other, rtol=1e-6)

    def test_float32_in_the_unit_interval_is_not_copied(self):
        X = np.random.default_rng(0).random((3, 4, 4, 1)).astype(np.float32)
        encoder = InputEncoder().fit(X)
        assert encoder.range_ == UNCHANGED
        assert np.shares_memory(encoder.transform(X), X)

    @pytest.mark.parametrize(
        ("offset", "dtype"),
        [(0.0, np.float32), (0.0, np.float64), (1e9, np.float64), (-1e300, np.float64)],
    )
    def test_other_values_are_scaled_in_float64(self, offset, dtype):
        steps = np.linspace(-1, 1, 12).reshape(3, 2, 2) * max(abs(offset) / 1e3, 1)
        X = (steps + offset).astype(dtype)
        encoder = InputEncoder().fit(X)
        assert encoder.range_ == UNCHANGED
        np.testing.assert_allclose(
            encoder.transform(X).ravel(), np.linspace(0, 1, 12), atol=1e-4
        )

    def test_many_images_are_scaled_alike(self):
        X = np.random.default_rng(0).normal(size=(2500, 2, 2))
        np.testing.assert_allclose(
            InputEncoder().fit(X).transform(X)[..., 0], pixel_range(X).apply(X), rtol=1e-5
        )

    @pytest.mark.parametrize("fitted", [1.0, 255.0, -1.0])
    def test_too_large_for_float32_later(self, fitted):
        X = np.array([0.0, fitted]).reshape(2, 1, 1)
        encoder = InputEncoder().fit(X)
        with pytest.raises(ValueError, match="X: expected pixels within the range of float32"):
            encoder.transform(X * 1e300)

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
                unit(encoder, pixels), pixel_range(pixels).apply(pixels), rtol=1e-5, atol=1e-6
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
            assert encoder.range_ == whole.range_
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
        assert again.range_ == encoder.range_


@pytest.mark.parametrize("order", ["given", "shuffled", "correlation"])
def test_plain_data_tell_all(order, frame, photos):
    flat = photos.reshape(5, 24)
    for X, shape in (
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
        for name in ("image_shape", "column_order", "random_state", "image_shape_", "range_"):
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
    ).filter(lambda X: np.isfinite(X).all() and float(np.abs(X).max()) <= 1e300),
    st.sampled_from(["given", "shuffled", "correlation"]),
    st.booleans(),
)
def test_any_array_ends_up_in_the_unit_interval(X, column_order, flat):
    image_shape = (1, math.prod(X.shape[1:])) if flat and X.ndim == 2 else None
    before = X.copy()
    encoder = InputEncoder(image_shape, column_order, random_state=0).fit(X)
    images = encoder.transform(X)
    assert images.shape == (len(X), *encoder.image_shape_)
    assert images.flags.c_contiguous
    assert images.dtype in (np.uint8, np.float32)
    scaled = encoder.range_.apply(images)
    assert (scaled >= 0).all()
    assert (scaled <= 1 + 1e-6).all()
    np.testing.assert_array_equal(X, before)

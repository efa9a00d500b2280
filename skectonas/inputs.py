"""Whatever a classifier is given, as images.

:class:`InputEncoder` turns data frames, numeric tables, flattened images and images into
arrays of shape (n, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import gen_batches

from skectonas.images import (
    PixelRange,
    PseudoImageTransformer,
    check_image_shape,
    pixel_range,
)
from skectonas.tables import ColumnRange, TableEncoder

__all__ = ["InputEncoder"]

_UNCHANGED = PixelRange(offset=0.0, scale=1.0)
_EIGHT_BIT = PixelRange(offset=0.0, scale=1 / 255)
_ROWS_AT_ONCE = 1024


class InputEncoder:
    """Turn frames, tables, flattened images or images into images.

    - A data frame is encoded by :class:`~skectonas.tables.TableEncoder` and laid out by
      :class:`~skectonas.images.PseudoImageTransformer`.
    - Arrays of three or four dimensions are images.
    - An array of two dimensions holds flattened images if `image_shape` has exactly as many
      pixels as there are columns and `column_order` is ``"given"``. Otherwise it is a table:
      every column is scaled to [0, 1], and the columns are laid out as for a frame.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of the images.
    column_order : {"given", "shuffled", "correlation"}, default="given"
        How the columns of a table are laid out.
    random_state : int, default=None
        Seeds the order of ``"shuffled"``.

    Attributes
    ----------
    image_shape_ : tuple of int
        ``(height, width, channels)`` of the images that `transform` gives.
    range_ : PixelRange
        What takes these images to [0, 1]. It changes nothing where `transform` has scaled
        them already: for tables, and for images that are neither in [0, 1] nor of 8 bits.
    feature_names_out_ : ndarray of str or None
        Names of the encoded columns of a table in their given order; None for images.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skectonas.inputs import InputEncoder
    >>> frame = pd.DataFrame({"age": [20, 30], "work": ["office", "farm"]})
    >>> encoder = InputEncoder().fit(frame)
    >>> encoder.transform(frame)[:, :, :, 0]
    array([[[0., 0.],
            [1., 0.]],
           [[1., 1.],
            [0., 0.]]], dtype=float32)
    >>> flattened = np.array([[0, 51, 102, 255]], dtype=np.uint8)
    >>> encoder = InputEncoder(image_shape=(2, 2)).fit(flattened)
    >>> encoder.transform(flattened).shape
    (1, 2, 2, 1)
    >>> encoder.range_ == PixelRange(offset=0.0, scale=1 / 255)
    True
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] | None = None,
        column_order: str = "given",
        random_state: int | None = None,
    ) -> None:
        self.image_shape = image_shape
        self.column_order = column_order
        self.random_state = random_state

    def fit(self, X: pd.DataFrame | npt.NDArray[Any]) -> Self:
        """Learn how to turn data like `X` into images.

        Parameters
        ----------
        X : DataFrame or ndarray
            A frame or table of shape (n_samples, n_features), flattened images of shape
            (n_samples, height * width * channels), or images of shape (n_samples, height,
            width) or (n_samples, height, width, channels). Arrays must be finite.

        Returns
        -------
        InputEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If `image_shape` is no shape of an image, is not that of the images, or has fewer
            pixels than the table has columns once encoded; if `column_order` is unknown; if a
            column of a frame cannot be encoded; or if an array has another number of
            dimensions.
        """
        if self.image_shape is not None:
            check_image_shape(self.image_shape)
        self._frame = isinstance(X, pd.DataFrame)
        self._shape = X.shape[1:]
        self._dtype = None if isinstance(X, pd.DataFrame) else X.dtype.name
        self._tables: TableEncoder | None = None
        self._columns: ColumnRange | None = None
        self._pixels: PseudoImageTransformer | None = None
        self._early: PixelRange | None = None
        if isinstance(X, pd.DataFrame):
            return self._fit_frame(X)
        if X.ndim == 2 and not self._is_flattened(X):
            return self._fit_table(X)
        return self._fit_images(X)

    def transform(self, X: pd.DataFrame | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn data into images.

        Parameters
        ----------
        X : DataFrame or ndarray
            Data of the kind and shape seen in `fit`. A frame of numbers is accepted where
            `fit` saw a two-dimensional array.

        Returns
        -------
        ndarray of shape (n_samples, height, width, channels)
            C-contiguous images, to be scaled by `range_`: uint8 if `X` holds images of that
            dtype, otherwise float32. They may share memory with `X`.

        Raises
        ------
        ValueError
            If `X` is of another kind or shape than in `fit`, or holds values that cannot be
            encoded.
        """
        if self._frame:
            return self._frame_images(X)
        array = _numeric_array(X) if isinstance(X, pd.DataFrame) else X
        if _with_channels(array.shape[1:]) != _with_channels(self._shape):
            raise ValueError(
                f"X: expected the shape seen in fit, {_described(self._shape)}, got "
                f"{_described(array.shape[1:])}"
            )
        if self._columns is not None:
            return self._laid_out(self._columns.scale(array).astype(np.float32))
        return self._images(array)

    def to_dict(self) -> dict[str, Any]:
        """Return what the fitted encoder knows: plain data that `json` can write, and arrays.

        Returns
        -------
        dict
            The parameters; ``input_shape`` and ``input_dtype`` of a row of X in `fit` (the
            latter None for a frame); ``image_shape_``; ``range``, the offset and scale of
            `range_`, and ``early``, those that `transform` itself applies to images, or None;
            ``columns``, the low and high ends that `transform` scales the columns of an array
            by, or None; ``tables``, the plain `TableEncoder` of a frame, or None; and
            ``pixel_index``, the pixel of each column, or None for images.
        """
        early, columns, tables, pixels = self._early, self._columns, self._tables, self._pixels
        return {
            "image_shape": self.image_shape,
            "column_order": self.column_order,
            "random_state": self.random_state,
            "input_shape": self._shape,
            "input_dtype": self._dtype,
            "image_shape_": self.image_shape_,
            "range": astuple(self.range_),
            "early": None if early is None else astuple(early),
            "columns": None if columns is None else {"low": columns.low, "high": columns.high},
            "tables": None if tables is None else tables.to_dict(),
            "pixel_index": None if pixels is None else pixels.pixel_index_,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build a fitted encoder from what `to_dict` gave.

        Examples
        --------
        >>> import numpy as np
        >>> from skectonas.inputs import InputEncoder
        >>> X = np.array([[1.0, 20.0], [2.0, 60.0], [3.0, 40.0]])
        >>> encoder = InputEncoder().fit(X)
        >>> again = InputEncoder.from_dict(encoder.to_dict())
        >>> np.array_equal(again.transform(X), encoder.transform(X))
        True
        """
        encoder = cls(plain["image_shape"], plain["column_order"], plain["random_state"])
        early, columns, tables = plain["early"], plain["columns"], plain["tables"]
        encoder._shape = tuple(plain["input_shape"])
        encoder._dtype = plain["input_dtype"]
        encoder._frame = tables is not None
        encoder._early = None if early is None else PixelRange(*early)
        encoder._columns = None if columns is None else ColumnRange(**columns)
        encoder._tables = None
        if tables is not None:
            encoder._tables = TableEncoder.from_dict(tables).set_output(transform="default")
        encoder.image_shape_ = check_image_shape(plain["image_shape_"])
        encoder.range_ = PixelRange(*plain["range"])
        encoder._pixels = None
        if plain["pixel_index"] is not None:
            encoder._pixels = encoder._layout()
            encoder._pixels.image_shape_ = encoder.image_shape_
            encoder._pixels.pixel_index_ = plain["pixel_index"]
            encoder._pixels.column_order_ = np.argsort(plain["pixel_index"])
            encoder._pixels.n_features_in_ = len(plain["pixel_index"])
        encoder.feature_names_out_ = encoder._names()
        return encoder

    def _is_flattened(self, X: npt.NDArray[Any]) -> bool:
        # Another order of the pixels would destroy an image, so it was meant for a table.
        if self.image_shape is None or self.column_order != "given":
            return False
        return bool(X.shape[1] == math.prod(check_image_shape(self.image_shape)))

    def _fit_frame(self, X: pd.DataFrame) -> Self:
        # The global configuration of scikit-learn may ask for frames.
        self._tables = TableEncoder().set_output(transform="default")
        table = self._tables.fit(X).transform(X)
        return self._fit_layout(table)

    def _fit_table(self, X: npt.NDArray[Any]) -> Self:
        self._columns = ColumnRange.of(X)
        table = self._columns.scale(X).astype(np.float32)
        return self._fit_layout(table)

    def _fit_layout(self, table: npt.NDArray[np.float32]) -> Self:
        if self.image_shape is not None:
            pixels = math.prod(check_image_shape(self.image_shape))
            if pixels < table.shape[1]:
                raise ValueError(
                    f"image_shape: expected room for the {table.shape[1]} columns that X has "
                    f"once encoded, got {self.image_shape!r} with {pixels} pixels"
                )
        self._pixels = self._layout().fit(table)
        self.image_shape_: tuple[int, int, int] = self._pixels.image_shape_
        self.range_ = _UNCHANGED
        self.feature_names_out_ = self._names()
        return self

    def _layout(self) -> PseudoImageTransformer:
        layout: PseudoImageTransformer = PseudoImageTransformer(
            order=self.column_order,
            image_shape=self.image_shape,
            random_state=self.random_state,
        ).set_output(transform="default")
        return layout

    def _names(self) -> npt.NDArray[np.object_] | None:
        if self._tables is not None:
            return self._tables.get_feature_names_out()
        if self._columns is not None:
            return np.array([f"x{i}" for i in range(self._shape[0])], dtype=object)
        return None

    def _fit_images(self, X: npt.NDArray[Any]) -> Self:
        if X.ndim not in (2, 3, 4):
            raise ValueError(
                f"X: expected an array of 2, 3 or 4 dimensions, got shape {X.shape}"
            )
        own = self.image_shape if X.ndim == 2 else X.shape[1:]
        self.image_shape_ = check_image_shape(own)
        asked = check_image_shape(own if self.image_shape is None else self.image_shape)
        if asked != self.image_shape_:
            raise ValueError(
                f"image_shape: expected the shape of the images in X, {X.shape[1:]}, got "
                f"{self.image_shape!r}"
            )
        self.feature_names_out_ = self._names()
        self.range_ = pixel_range(X)
        # float32 may not tell apart, or not hold, what float64 does.
        if X.dtype != np.uint8 and self.range_ not in (_UNCHANGED, _EIGHT_BIT):
            self._early, self.range_ = self.range_, _UNCHANGED
        return self

    def _frame_images(self, X: pd.DataFrame | npt.NDArray[Any]) -> npt.NDArray[Any]:
        assert self._tables is not None
        if not isinstance(X, pd.DataFrame):
            raise ValueError(
                f"X: expected a data frame with {self._shape[0]} columns as in fit, got "
                f"{type(X).__name__} of shape {np.shape(X)}"
            )
        return self._laid_out(self._tables.transform(X))

    def _laid_out(self, table: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        assert self._pixels is not None
        images: npt.NDArray[Any] = self._pixels.transform(table)
        return images

    def _images(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        images = X.reshape(len(X), *self.image_shape_)
        if self._early is None and images.dtype in (np.uint8, np.float32):
            return np.ascontiguousarray(images)
        single = np.empty(images.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            # By batches, to hold no float64 copy of all images.
            for rows in gen_batches(len(images), _ROWS_AT_ONCE):
                batch = images[rows]
                if self._early is not None:
                    batch = self._early.apply(batch.astype(np.float64))
                single[rows] = batch
        if not np.isfinite(single).all():
            raise ValueError(
                "X: expected pixels within the range of float32, got values from "
                f"{float(X.min())} to {float(X.max())}"
            )
        return single


def _numeric_array(X: pd.DataFrame) -> npt.NDArray[Any]:
    others = [name for name, dtype in X.dtypes.items() if dtype.kind not in "biuf"]
    if others:
        raise ValueError(
            "X: expected a frame with only numeric columns, because fit saw an array; these "
            f"are not numeric: {others}"
        )
    array = X.to_numpy()
    if array.dtype == object:
        array = X.to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(array).all():
        raise ValueError(
            "X: expected finite values, because fit saw an array; got missing or infinite ones"
        )
    return array


def _with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 2 else shape


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} columns" if len(shape) == 1 else f"images of shape {shape}"

"""Whatever a classifier is given, as images.

:class:`InputEncoder` turns data frames, numeric tables, flattened images and images into
arrays of shape (n, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.utils import gen_batches

from skectonas.given import admit
from skectonas.images import (
    PixelRange,
    check_image_shape,
    places_of_columns,
    range_between,
    room_for,
)
from skectonas.tables import ColumnRange, TableEncoder

__all__ = ["Data", "InputEncoder", "batches_of", "some_rows"]

_UNCHANGED = PixelRange(offset=0.0, scale=1.0)
_EIGHT_BIT = PixelRange(offset=0.0, scale=1 / 255)
_VALUES_AT_ONCE = 2**20

Data: TypeAlias = pd.DataFrame | npt.NDArray[Any] | sparse.csr_array
"""A frame, an array, or a sparse one, whose rows become dense when they are taken."""

RowNumbers: TypeAlias = npt.NDArray[np.intp]


class InputEncoder:
    """Turn frames, tables, flattened images or images into images.

    - A data frame is encoded by :class:`~skectonas.tables.TableEncoder` and laid out by
      :class:`~skectonas.images.PseudoImageTransformer`.
    - Arrays of three or four dimensions are images.
    - An array of two dimensions holds flattened images if `image_shape` has exactly as many
      pixels as there are columns and `column_order` is ``"given"``. Otherwise it is a table:
      every column is scaled to [0, 1], and the columns are laid out as for a frame. If it is
      sparse, it is made dense a few rows at a time.

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

    def fit(self, X: Data, rows: RowNumbers | None = None) -> Self:
        """Learn how to turn data like `X` into images.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            A frame or table of shape (n_samples, n_features), flattened images of shape
            (n_samples, height * width * channels), or images of shape (n_samples, height,
            width) or (n_samples, height, width, channels). Arrays must be finite.
        rows : ndarray of int, default=None
            Numbers of the rows to learn from; None stands for all.

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
        X = _with_rows(X)
        self._frame = isinstance(X, pd.DataFrame)
        self._shape = X.shape[1:]
        self._dtype = None if isinstance(X, pd.DataFrame) else X.dtype.name
        self._tables: TableEncoder | None = None
        self._columns: ColumnRange | None = None
        self._places: npt.NDArray[np.intp] | None = None
        self._early: PixelRange | None = None
        if isinstance(X, pd.DataFrame):
            return self._fit_frame(X if rows is None else some_rows(X, rows))
        if X.ndim not in (2, 3, 4):
            raise ValueError(
                f"X: expected an array of 2, 3 or 4 dimensions, got shape {X.shape}"
            )
        if X.ndim == 2 and not self._is_flattened(X):
            return self._fit_table(X, rows)
        return self._fit_images(X, rows)

    def transform(self, X: Data, rows: RowNumbers | None = None) -> npt.NDArray[Any]:
        """Turn data into images.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            Data of the kind and shape seen in `fit`. A frame of numbers is accepted where
            `fit` saw a two-dimensional array.
        rows : ndarray of int, default=None
            Numbers of the rows that are meant; None stands for all.

        Returns
        -------
        ndarray of shape (n_samples, height, width, channels)
            C-contiguous images, to be scaled by `range_`: uint8 if `X` holds images of that
            dtype, otherwise float32. They share memory with `X` where they can. Each depends
            on its own row alone.

        Raises
        ------
        ValueError
            If `X` is of another kind or shape than in `fit`, or holds values that cannot be
            encoded.
        """
        X = self._checked(X)
        if isinstance(X, np.ndarray) and self._is_stored(X):
            whole = X if rows is None else X[rows]
            images = whole.reshape(len(whole), *self.image_shape_)
            return np.require(images, requirements=["C_CONTIGUOUS", "ALIGNED"])
        n_rows = X.shape[0] if rows is None else len(rows)
        # Pixels without a column stay zero.
        images = np.zeros((n_rows, *self.image_shape_), dtype=np.float32)
        first = 0
        for batch in batches_of(X, rows, math.prod(self.image_shape_)):
            part = images[first : first + len(batch)]
            if self._places is None:
                self._convert(batch.reshape(part.shape), part)
            else:
                part.reshape(len(part), -1)[:, self._places] = self._numbers(batch)
            first += len(batch)
        return images

    def _checked(self, X: Data) -> Data:
        """Return X as a frame or an array, whatever `fit` saw, if it is like that."""
        X = _with_rows(X)
        if self._frame:
            if isinstance(X, pd.DataFrame):
                return X
            raise ValueError(
                f"X: expected a data frame with {self._shape[0]} columns as in fit, got "
                f"{type(X).__name__} of shape {np.shape(X)}"
            )
        array = _numeric_array(X) if isinstance(X, pd.DataFrame) else X
        if _with_channels(array.shape[1:]) != _with_channels(self._shape):
            raise ValueError(
                f"X: expected the shape seen in fit, {_described(self._shape)}, got "
                f"{_described(array.shape[1:])}"
            )
        return array

    def _is_stored(self, X: npt.NDArray[Any]) -> bool:
        """Whether X holds the very images."""
        if self._places is not None or self._early is not None:
            return False
        return X.dtype in (np.uint8, np.float32)

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
        early, columns, tables = self._early, self._columns, self._tables
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
            "pixel_index": self._places,
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
        encoder._places = plain["pixel_index"]
        encoder.feature_names_out_ = encoder._names()
        return encoder

    def _is_flattened(self, X: Data) -> bool:
        # Another order of the pixels would destroy an image, so it was meant for a table.
        if self.image_shape is None or self.column_order != "given":
            return False
        return bool(X.shape[1] == math.prod(check_image_shape(self.image_shape)))

    def _fit_frame(self, X: pd.DataFrame) -> Self:
        # The global configuration of scikit-learn may ask for frames.
        self._tables = TableEncoder().set_output(transform="default").fit(X)
        return self._fit_layout(X, None)

    def _fit_table(self, X: Data, rows: RowNumbers | None) -> Self:
        low, high = _extremes(X, rows)
        self._columns = ColumnRange(low.astype(np.float64), high.astype(np.float64))
        return self._fit_layout(X, rows)

    def _fit_layout(self, X: Data, rows: RowNumbers | None) -> Self:
        self.feature_names_out_ = self._names()
        assert self.feature_names_out_ is not None
        columns = len(self.feature_names_out_)
        if self.image_shape is not None:
            pixels = math.prod(check_image_shape(self.image_shape))
            if pixels < columns:
                raise ValueError(
                    f"image_shape: expected room for the {columns} columns that X has "
                    f"once encoded, got {self.image_shape!r} with {pixels} pixels"
                )

        def encoded() -> Iterator[npt.NDArray[Any]]:
            for batch in batches_of(X, rows, columns):
                yield self._numbers(batch).astype(np.float32)

        self.image_shape_: tuple[int, int, int] = room_for(columns, self.image_shape)
        self._places = places_of_columns(
            columns, self.image_shape_, self.column_order, self.random_state, encoded
        )
        self.range_ = _UNCHANGED
        return self

    def _names(self) -> npt.NDArray[np.object_] | None:
        if self._tables is not None:
            return self._tables.get_feature_names_out()
        if self._columns is not None:
            return np.array([f"x{i}" for i in range(self._shape[0])], dtype=object)
        return None

    def _fit_images(self, X: Data, rows: RowNumbers | None) -> Self:
        own = self.image_shape if X.ndim == 2 else X.shape[1:]
        self.image_shape_ = check_image_shape(own)
        asked = check_image_shape(own if self.image_shape is None else self.image_shape)
        if asked != self.image_shape_:
            raise ValueError(
                f"image_shape: expected the shape of the images in X, {X.shape[1:]}, got "
                f"{self.image_shape!r}"
            )
        self.feature_names_out_ = self._names()
        low, high = _extremes(X, rows)
        self.range_ = range_between(float(low.min()), float(high.max()))
        # float32 may not tell apart, or not hold, what float64 does.
        if X.dtype != np.uint8 and self.range_ not in (_UNCHANGED, _EIGHT_BIT):
            self._early, self.range_ = self.range_, _UNCHANGED
        return self

    def _numbers(self, batch: Any) -> npt.NDArray[Any]:
        """Return the columns of some rows as numbers in [0, 1]."""
        if self._tables is not None:
            return self._tables.transform(batch)
        assert self._columns is not None
        return self._columns.scale(batch)

    def _convert(self, batch: npt.NDArray[Any], images: npt.NDArray[np.float32]) -> None:
        """Turn some images into float32."""
        with np.errstate(over="ignore"):
            if self._early is None:
                images[:] = batch
            else:
                images[:] = self._early.apply(batch.astype(np.float64))
        if not np.isfinite(images).all():
            raise ValueError(
                "X: expected pixels within the range of float32, got values from "
                f"{float(batch.min())} to {float(batch.max())}"
            )


def some_rows(X: Data, rows: RowNumbers | slice) -> Any:
    """Return some rows of a frame or an array, dense."""
    some: Any = X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
    return some.toarray() if sparse.issparse(some) else some


def batches_of(X: Data, rows: RowNumbers | None = None, width: int = 1) -> Iterator[Any]:
    """Yield the rows of a frame or an array, as many at a time as bound the memory for them.

    Those of a sparse array are dense.

    Parameters
    ----------
    X : DataFrame, ndarray or sparse array in the CSR format
        The data.
    rows : ndarray of int, default=None
        Which rows; None stands for all.
    width : int, default=1
        Values that are made of a row, if they are more than it has.
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    size = max(_VALUES_AT_ONCE // max(width, math.prod(X.shape[1:])), 1)
    for part in gen_batches(n_rows, size):
        yield some_rows(X, part if rows is None else rows[part])


def _with_rows(X: Any) -> Data:
    """Return frames as those of pandas, and sparse arrays in the format that has rows."""
    X = admit(X, "X")
    return X.tocsr() if sparse.issparse(X) else X


def _extremes(X: Data, rows: RowNumbers | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the smallest and the largest value in each place of a row."""
    batches = batches_of(X, rows)
    first = next(batches)
    low, high = first.min(axis=0), first.max(axis=0)
    for batch in batches:
        np.minimum(low, batch.min(axis=0), out=low)
        np.maximum(high, batch.max(axis=0), out=high)
    return low, high


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

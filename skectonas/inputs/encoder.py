"""X of any kind as images.

:class:`InputEncoder` turns data frames, numeric tables, flattened images and images into
arrays of shape (n, height, width, channels).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import asdict
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from skectonas.callers import level_of_user
from skectonas.inputs.column_kinds import Dropped, Numbers
from skectonas.inputs.frames import to_pandas
from skectonas.inputs.layout import check_image_shape, image_shape_for, pixels_of_columns
from skectonas.inputs.rows import Data, RowNumbers, batches_of, take_rows
from skectonas.inputs.scaling import (
    METHODS,
    UNSCALED,
    ColumnRanges,
    ColumnScaling,
    Method,
    PixelScaling,
)
from skectonas.inputs.tables import Noticed, TableEncoder

_SAMPLE_VALUES = 2**22
_SAMPLE_ROWS = 10_000
_FEW_ROWS = 20

EXTREME = 1e30
"""Larger pixels, and larger factors of them, are scaled in float64, whatever their type."""

MISSING_PIXELS = "X: images must have no missing values, got NaN among the pixels"

Found: TypeAlias = tuple[str, float, float, float, float]
"""What lies elsewhere than in `fit`: its name, its range, and that in `fit`."""


class InputEncoder:
    """Turn frames, tables, flattened images or images into images.

    - A data frame becomes a table of numbers by :class:`~skectonas.inputs.tables.TableEncoder`.
    - Arrays of three or four dimensions are images.
    - An array of two dimensions holds flattened images if `image_shape` has exactly as many
      pixels as there are columns and `column_order` is ``"given"``. Otherwise it is a table. If
      it is sparse, it is made dense a few rows at a time.

    The columns of a table are scaled by :class:`~skectonas.inputs.ColumnScaling`, with an
    indicator for missing values where there are any, and laid out as pixels. The pixels of
    images get a mean of zero and a standard deviation of one half in every channel.

    Parameters
    ----------
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` of the images.
    column_order : {"given", "shuffled", "correlation"}, default="given"
        How the columns of a table are laid out.
    column_scaling : {"quantile", "piecewise", "minmax"}, default="quantile"
        How the columns of a table are scaled.
    random_state : int, default=None
        Seed of the order ``"shuffled"``, and of the choice of the rows that the quantiles of a
        large table are computed from.

    Attributes
    ----------
    image_shape_ : tuple of int
        ``(height, width, channels)`` of the images that `transform` gives.
    scaling_ : PixelScaling
        What a network sees of these images. It changes nothing where `transform` has scaled
        them already: for tables, and for images that are neither of 8 bits nor of float32.
    feature_names_out_ : ndarray of str or None
        Names of the encoded columns of a table in their given order; None for images.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skectonas.inputs.encoder import InputEncoder
    >>> frame = pd.DataFrame({"age": [20, 30], "work": ["office", "farm"]})
    >>> encoder = InputEncoder(column_scaling="minmax").fit(frame)
    >>> encoder.transform(frame)[:, :, :, 0]
    array([[[0., 0.],
            [1., 0.]],
           [[1., 1.],
            [0., 0.]]], dtype=float32)
    >>> flattened = np.array([[0, 50, 100, 250]], dtype=np.uint8)
    >>> encoder = InputEncoder(image_shape=(2, 2)).fit(flattened)
    >>> encoder.transform(flattened).shape
    (1, 2, 2, 1)
    >>> encoder.scaling_.offset
    (100.0,)
    """

    def __init__(
        self,
        image_shape: tuple[int, ...] | None = None,
        column_order: str = "given",
        column_scaling: Method = "quantile",
        random_state: int | None = None,
    ) -> None:
        self.image_shape = image_shape
        self.column_order = column_order
        self.column_scaling = column_scaling
        self.random_state = random_state

    def fit(self, X: Data, rows: RowNumbers | None = None) -> Self:
        """Learn how to turn data like `X` into images.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            A frame or table of shape (n_samples, n_features), flattened images of shape
            (n_samples, height * width * channels), or images of shape (n_samples, height,
            width) or (n_samples, height, width, channels). Images must be finite; in a table
            NaN stands for a missing value.
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
            pixels than the table has columns once encoded; if `column_order` or
            `column_scaling` is unknown; if a column of a frame cannot be encoded; if images
            have missing values; or if an array has another number of dimensions.

        Warns
        -----
        UserWarning
            If columns of a frame are dropped, or read as something else than their dtype says.
        """
        if self.image_shape is not None:
            check_image_shape(self.image_shape)
        if self.column_scaling not in METHODS:
            raise ValueError(
                f"column_scaling: expected one of {METHODS}, got {self.column_scaling!r}"
            )
        X = _as_data(X)
        self._shape = X.shape[1:]
        self._dtype = None if isinstance(X, pd.DataFrame) else X.dtype.name
        self._tables: TableEncoder | None = None
        self._columns: ColumnScaling | None = None
        self._pixel_index: npt.NDArray[np.intp] | None = None
        self._early_scaling: PixelScaling | None = None
        self._pixel_range: tuple[float, float] | None = None
        if isinstance(X, pd.DataFrame):
            self._tables = TableEncoder().fit(X if rows is None else take_rows(X, rows))
        elif X.ndim not in (2, 3, 4):
            raise ValueError(
                f"X: expected an array of 2, 3 or 4 dimensions, got shape {X.shape}"
            )
        elif are_flattened_images(X, self.image_shape, self.column_order) or X.ndim > 2:
            return self._fit_images(X, rows)
        return self._fit_table(X, rows)

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
            C-contiguous images, to be scaled by `scaling_`: uint8 if `X` holds images of that
            dtype, otherwise float32. They share memory with `X` where they can. Each depends
            on its own row alone.

        Raises
        ------
        ValueError
            If `X` is of another kind or shape than in `fit`, or holds values that cannot be
            encoded.

        Warns
        -----
        UserWarning
            If a column of a frame is unlike that in `fit`: see `TableEncoder.transform`.
        """
        noticed = Noticed()
        images = self._images(X, rows, noticed)
        noticed.warn()
        return images

    def in_batches(self, X: Data) -> Iterator[npt.NDArray[Any]]:
        """Yield what `transform` returns, a few rows at a time.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            Data as for `transform`.

        Yields
        ------
        ndarray of shape (n_rows, height, width, channels)
            Images of the next rows.

        Warns
        -----
        UserWarning
            As `transform`, after the last rows: warnings are about all of X.
        """
        X, noticed = _as_data(X), Noticed()
        for batch in batches_of(X, width=math.prod(self.image_shape_)):
            yield self._images(batch, None, noticed)
        noticed.warn()

    def _images(self, X: Data, rows: RowNumbers | None, noticed: Noticed) -> npt.NDArray[Any]:
        """Turn data into images, and take note of what is unlike that in `fit`."""
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
            if self._columns is None:
                self._convert(batch.reshape(part.shape), part)
            else:
                scaled = self._columns.scale(self._table_of(batch, noticed))
                part.reshape(len(part), -1)[:, self._pixel_index] = scaled
            first += len(batch)
        return images

    def in_pieces(
        self, X: Data, rows: RowNumbers | None = None, most_columns: int | None = None
    ) -> Self | None:
        """Return a fitted encoder that also cuts the columns of a table into pieces.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            The table that this encoder was fitted on, with ``column_scaling="quantile"``.
        rows : ndarray of int, default=None
            Numbers of the rows to learn from; None stands for all.
        most_columns : int, default=None
            How many columns there may be, pieces included.

        Returns
        -------
        InputEncoder or None
            An encoder with ``column_scaling="piecewise"`` that agrees with this one in
            everything else, or None if it would have too many columns.

        Raises
        ------
        ValueError
            If `image_shape` has fewer pixels than there are columns and pieces.
        """
        assert self._columns is not None
        X, other = _as_data(X), copy(self)
        other.column_scaling = "piecewise"
        other._columns = self._columns.in_pieces(self._sample(X, rows), self._is_measured())
        if most_columns is not None and len(other._columns.origin) > most_columns:
            return None
        return other._fit_layout(X, rows)

    @property
    def takes_images(self) -> bool:
        """Whether `fit` saw images, and not a table that is laid out as pixels."""
        return self._pixel_index is None

    @property
    def takes_numbers(self) -> bool:
        """Whether all columns that count hold numbers."""
        kinds = [] if self._tables is None else self._tables.columns_
        return all(isinstance(kind, Numbers | Dropped) for kind in kinds)

    @property
    def takes_frames(self) -> bool:
        """Whether `fit` saw a data frame, and not an array of numbers."""
        return self._tables is not None

    def warn_if_scaled_differently(self, X: Data) -> None:
        """Warn if the values of X look as if they were scaled in another way than in `fit`.

        Parameters
        ----------
        X : data frame, ndarray or sparse matrix
            Data as for `transform`. Its first rows are looked at; those of a frame are not.

        Warns
        -----
        UserWarning
            If the pixels of images span a far larger or a far smaller range than in `fit`; or,
            of at least 20 rows of a table, most values of most columns do, or lie beyond it.
            It does not count if all values of a column span about the same range as in `fit`.
        """
        X = self._checked(X)
        if isinstance(X, pd.DataFrame) or not X.shape[0]:
            return
        first = next(batches_of(X))
        if self._pixel_range is not None:
            found = self._of_another_span(first)
        else:
            found = self._of_another_scale(first)
        if found is not None:
            what, low, high, lowest, highest = found
            warnings.warn(
                f"X has {what} from {low:g} to {high:g}, while those in fit went from "
                f"{lowest:g} to {highest:g}: are they scaled in another way?",
                stacklevel=level_of_user(),
            )

    def _of_another_span(self, images: npt.NDArray[Any]) -> Found | None:
        assert self._pixel_range is not None
        low, high = float(images.min()), float(images.max())
        span, seen = high - low, self._pixel_range[1] - self._pixel_range[0]
        # A single image may have little contrast.
        least = seen / (10 if len(images) >= _FEW_ROWS else 50)
        if span > 10 * seen > 0 or 0 < span < least:
            return "pixels", low, high, *self._pixel_range
        return None

    def _of_another_scale(self, table: npt.NDArray[Any]) -> Found | None:
        assert self._columns is not None
        if len(table) < _FEW_ROWS:
            return None
        ordered = np.sort(table.astype(np.float64), axis=0)  # missing values come last
        last = np.maximum((~np.isnan(ordered)).sum(axis=0) - 1, 0)
        places = np.rint(np.multiply.outer([0, 0.05, 0.5, 0.95, 1], last)).astype(np.intp)
        smallest, low, middle, high, largest = np.take_along_axis(ordered, places, axis=0)
        lowest, highest = self._columns.knots[:, 0], self._columns.knots[:, -1]
        # Extreme values say little about a range, but minmax has no others.
        by_ends = self.column_scaling == "minmax"
        begin, end = (lowest, highest) if by_ends else self._columns.bulk
        # Halves, because differences of extreme values would overflow.
        span, seen = high / 2 - low / 2, end / 2 - begin / 2
        strange = (span < seen / (100 if by_ends else 8)) | (span / 8 > seen)
        # A grid over the range of heavy tails has the same ends, but a far wider bulk.
        whole = highest / 2 - lowest / 2
        strange &= (
            (lowest / 2 - smallest / 2 > whole / 8)
            | (largest / 2 - highest / 2 > whole / 8)
            | (largest / 2 - smallest / 2 < whole / 8)
        )
        strange |= (middle < lowest) | (middle > highest)
        compared = (low < high) & (begin < end)
        strange &= compared
        if strange.sum() <= compared.sum() / 2:
            return None
        i = int(np.flatnonzero(strange)[0])
        own = float(low[i]), float(high[i])
        return f"values in column {i}, most of them", *own, float(begin[i]), float(end[i])

    def _checked(self, X: Data) -> Data:
        """Return X as a frame or an array, whatever `fit` saw, if it is like that."""
        X = _as_data(X)
        if self._tables is not None:
            if isinstance(X, pd.DataFrame):
                return X
            labels = self._tables.labels_
            if isinstance(X, np.ndarray) and X.shape[1:] == (len(labels),):
                if labels == [*range(len(labels))]:
                    return pd.DataFrame(X)  # as for the array in fit
                if X.dtype.kind in "biuf" and self.takes_numbers:
                    return pd.DataFrame(X, columns=pd.Index(labels, dtype=object))
            raise ValueError(
                f"X: expected a data frame with {self._shape[0]} columns as in fit, got "
                f"{type(X).__name__} of shape {np.shape(X)}"
            )
        array = self._numeric_array(X) if isinstance(X, pd.DataFrame) else X
        if _with_channels(array.shape[1:]) != _with_channels(self._shape):
            raise ValueError(
                f"X: expected the shape seen in fit, {_described(self._shape)}, got "
                f"{_described(array.shape[1:])}"
            )
        return array

    def _numeric_array(self, X: pd.DataFrame) -> npt.NDArray[Any]:
        """Return a frame as the array that `fit` saw; what arrays may not hold is refused."""
        others = [
            name
            for i, (name, dtype) in enumerate(X.dtypes.items())
            if dtype.kind not in "biuf" and X.iloc[:, i].notna().any()
        ]
        if others:
            raise ValueError(
                "X: expected a frame with only numeric columns, because fit saw an array; "
                f"these are not numeric: {others}"
            )
        array = X.to_numpy()
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            with np.errstate(over="ignore"):  # what float64 cannot hold becomes infinite
                array = X.astype(object).where(X.notna(), np.nan).to_numpy(np.float64)
        infinite = X.columns[np.isinf(array).any(axis=0)].tolist()
        if infinite:
            raise ValueError(f"X: expected finite values, got infinite ones in {infinite}")
        if self.takes_images and np.isnan(array).any():
            raise ValueError(MISSING_PIXELS)
        return array

    def _is_stored(self, X: npt.NDArray[Any]) -> bool:
        """Whether X holds the very images."""
        if self._pixel_index is not None or self._early_scaling is not None:
            return False
        return X.dtype in (np.uint8, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the state of the fitted encoder: plain data that `json` can write, and arrays.

        Returns
        -------
        dict
            The parameters; ``input_shape`` and ``input_dtype`` of a row of X in `fit` (the
            latter None for a frame); ``image_shape_``; ``scaling``, the offset and scale of
            `scaling_`, and ``early``, those that `transform` itself applies to images, or None;
            ``seen``, the smallest and the largest pixel in `fit`, or None for a table;
            ``columns``, the plain `ColumnScaling` of a table, or None; ``tables``, the plain
            `TableEncoder` of a frame, or None; and ``pixel_index``, the pixel of each column,
            or None for images.
        """
        early, columns, tables = self._early_scaling, self._columns, self._tables
        return {
            "image_shape": self.image_shape,
            "column_order": self.column_order,
            "column_scaling": self.column_scaling,
            "random_state": self.random_state,
            "input_shape": self._shape,
            "input_dtype": self._dtype,
            "image_shape_": self.image_shape_,
            "scaling": asdict(self.scaling_),
            "early": None if early is None else asdict(early),
            "seen": self._pixel_range,
            "columns": None if columns is None else columns.to_dict(),
            "tables": None if tables is None else tables.to_dict(),
            "pixel_index": self._pixel_index,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build a fitted encoder from what `to_dict` gave.

        Examples
        --------
        >>> import numpy as np
        >>> from skectonas.inputs.encoder import InputEncoder
        >>> X = np.array([[1.0, 20.0], [2.0, 60.0], [3.0, 40.0]])
        >>> encoder = InputEncoder().fit(X)
        >>> again = InputEncoder.from_dict(encoder.to_dict())
        >>> np.array_equal(again.transform(X), encoder.transform(X))
        True
        """
        parameters = ("image_shape", "column_order", "column_scaling", "random_state")
        encoder = cls(**{name: plain[name] for name in parameters})
        early, columns, tables = plain["early"], plain["columns"], plain["tables"]
        encoder._shape = tuple(plain["input_shape"])
        encoder._dtype = plain["input_dtype"]
        encoder._early_scaling = None if early is None else PixelScaling(**early)
        encoder._pixel_range = plain["seen"]
        encoder._columns = None if columns is None else ColumnScaling.from_dict(columns)
        encoder._tables = None if tables is None else TableEncoder.from_dict(tables)
        if encoder._columns is not None:
            given = encoder._columns.missing if tables is None else tables["labels"]
            if encoder._shape != (len(given),):  # there would be as many names
                raise ValueError(
                    f"input_shape: expected ({len(given)},), as many as there are columns, got "
                    f"{encoder._shape}"
                )
        encoder.image_shape_ = check_image_shape(plain["image_shape_"])
        encoder.scaling_ = PixelScaling(**plain["scaling"])
        encoder._pixel_index = plain["pixel_index"]
        encoder.feature_names_out_ = encoder._names()
        return encoder

    def _fit_table(self, X: Data, rows: RowNumbers | None) -> Self:
        width = X.shape[1] if self._tables is None else len(self._tables.origin_)
        ranges = ColumnRanges.of(self._table_of(b) for b in batches_of(X, rows, width))
        if self._tables is not None:
            ranges = ranges.with_one_indicator(self._tables.origin_)
        self._columns = ColumnScaling.fit(
            self._sample(X, rows), self.column_scaling, ranges, self._is_measured()
        )
        return self._fit_layout(X, rows)

    def _is_measured(self) -> npt.NDArray[np.bool_] | None:
        """Return which columns of a frame are more than a code; None means all."""
        return None if self._tables is None else self._tables.is_measured

    def _sample(self, X: Data, rows: RowNumbers | None) -> Callable[[slice], npt.NDArray[Any]]:
        """Return what gives columns of a sample of the rows."""
        width = X.shape[1] if self._tables is None else len(self._tables.origin_)
        chosen = self._sample_of(X, rows, width)
        if isinstance(X, pd.DataFrame):
            encoded = self._table_of(take_rows(X, chosen))
            return lambda columns: encoded[:, columns]
        table: Any = X
        by_column = table[chosen].tocsc() if sparse.issparse(X) else None

        def sample(columns: slice) -> npt.NDArray[Any]:
            if by_column is not None:
                return np.asarray(by_column[:, columns].toarray())
            return np.asarray(table[chosen, columns])

        return sample

    def _sample_of(self, X: Data, rows: RowNumbers | None, width: int) -> RowNumbers:
        """Return which rows quantiles are taken of: all, or enough of them."""
        every = np.arange(X.shape[0]) if rows is None else rows
        size = max(_SAMPLE_VALUES // width, _SAMPLE_ROWS)
        if len(every) <= size:
            return every
        generator = np.random.default_rng(self.random_state)
        return np.sort(generator.choice(every, size, replace=False))

    def _fit_layout(self, X: Data, rows: RowNumbers | None) -> Self:
        self.feature_names_out_ = self._names()
        assert self.feature_names_out_ is not None
        columns = len(self.feature_names_out_)
        if self.image_shape is not None:
            pixels = math.prod(check_image_shape(self.image_shape))
            if pixels < columns:
                pieces = " and pieces" if self.column_scaling == "piecewise" else ""
                raise ValueError(
                    f"image_shape: expected room for the {columns} columns{pieces} that X has "
                    f"once encoded, got {self.image_shape!r} with {pixels} pixels"
                )

        def encoded() -> Iterator[npt.NDArray[Any]]:
            assert self._columns is not None
            for batch in batches_of(X, rows, columns):
                yield self._columns.scale(self._table_of(batch)).astype(np.float32)

        self.image_shape_: tuple[int, int, int] = image_shape_for(columns, self.image_shape)
        self._pixel_index = pixels_of_columns(
            columns, self.image_shape_, self.column_order, self.random_state, encoded
        )
        self.scaling_ = UNSCALED
        return self

    def _names(self) -> npt.NDArray[np.object_] | None:
        """Return the names of the columns that come out of the scaling of a table."""
        if self._columns is None:
            return None
        labels: list[str] = [f"x{i}" for i in range(self._shape[0])]
        names, sources = labels, labels
        if self._tables is not None:
            labels = list(map(str, self._tables.labels_))
            names = list(self._tables.get_feature_names_out())
            sources = [labels[i] for i in self._tables.origin_]
        own, whole = self._columns.origin, self._columns.n_whole
        first = np.searchsorted(own[whole:], own[whole:])  # of the pieces of a column
        return _distinct(
            [
                f"{sources[i]}_missing" if indicates else names[i]
                for i, indicates in zip(own[:whole], self._columns.is_indicator, strict=True)
            ]
            + [f"{names[i]}_piece_{1 + k - first[k]}" for k, i in enumerate(own[whole:])]
        )

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
        ranges = ColumnRanges.of(b.reshape(len(b), -1) for b in batches_of(X, rows))
        if ranges.n_missing.any():
            raise ValueError(MISSING_PIXELS)
        self._pixel_range = float(ranges.low.min()), float(ranges.high.max())
        self.scaling_ = PixelScaling.of(
            batch.reshape(len(batch), *self.image_shape_) for batch in batches_of(X, rows)
        )
        # Values of other dtypes may be equal or infinite in float32, and extreme ones be so on
        # the way.
        is_extreme = max(*map(abs, self._pixel_range), *self.scaling_.scale) > EXTREME
        if X.dtype not in (np.uint8, np.float32) or is_extreme:
            self._early_scaling, self.scaling_ = self.scaling_, UNSCALED
        return self

    def _table_of(self, batch: Any, noticed: Noticed | None = None) -> npt.NDArray[Any]:
        """Return some rows of a frame or an array as a table of numbers."""
        return batch if self._tables is None else self._tables.encode(batch, noticed)

    def _convert(self, batch: npt.NDArray[Any], images: npt.NDArray[np.float32]) -> None:
        """Turn some images into float32."""
        with np.errstate(over="ignore"):
            images[:] = (
                batch if self._early_scaling is None else self._early_scaling.apply(batch)
            )
        if not np.isfinite(images).all():
            raise ValueError(
                "X: expected pixels that are finite in float32 once scaled, got values from "
                f"{float(batch.min())} to {float(batch.max())}"
            )


def are_flattened_images(
    X: Data, image_shape: tuple[int, ...] | None, column_order: str
) -> bool:
    """Return whether the rows of an array are meant as images: see `InputEncoder`."""
    # Another order would destroy images, so X is a table.
    if image_shape is None or column_order != "given" or isinstance(X, pd.DataFrame):
        return False
    return X.ndim == 2 and bool(X.shape[1] == math.prod(check_image_shape(image_shape)))


def _as_data(X: Any) -> Data:
    """Convert X to one of the types of `Data`; what `check_X` returned is not converted."""
    if sparse.issparse(X):
        return X.tocsr()
    if isinstance(X, pd.DataFrame) or type(X) is np.ndarray:
        return X
    return to_pandas(X, "X")


def _with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1) if len(shape) == 2 else shape


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} columns" if len(shape) == 1 else f"images of shape {shape}"


def _distinct(names: Iterable[str]) -> npt.NDArray[np.object_]:
    """Append underscores to names that are taken: column "a_b" and category "b" of "a"."""
    taken: dict[str, None] = {}
    for name in names:
        free = name
        while free in taken:
            free += "_"
        taken[free] = None
    return np.array(list(taken), dtype=object)

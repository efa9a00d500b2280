"""Raw pandas frames as numbers in [0, 1].

:class:`TableEncoder` does for a data frame what a classifier of images needs: every column
becomes one or more numbers between zero and one, in the order of the columns.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

__all__ = ["ColumnRange", "TableEncoder"]

_NUMBERS = (numbers.Real, Decimal, np.bool_)
_NESTED = (list, tuple, set, frozenset, dict, np.ndarray, pd.Series, pd.DataFrame)
_TIMES = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    np.datetime64,
    np.timedelta64,
    pd.Period,
    pd.Interval,
)
_COMPLEX = (complex, np.complexfloating)

_TIME_ADVICE = (
    "turn it into numbers (days since a fixed date, the month) or, with astype(str), "
)
_TIME_ADVICE += "into categories"
_COMPLEX_ADVICE = "give its real and imaginary parts as two columns"
_NESTED_ADVICE = "give each element a column of its own"
_SPARSE_ADVICE = "make it dense with column.sparse.to_dense()"


@dataclass(frozen=True)
class ColumnRange:
    """Smallest and largest value of each column, to scale columns to [0, 1].

    Unlike :class:`~sklearn.preprocessing.MinMaxScaler`, which takes every range below 2e-15
    for constant and overflows on ranges above 1.8e308, it works for columns of any magnitude.

    Parameters
    ----------
    low : ndarray of shape (n_columns,)
        Smallest value of each column.
    high : ndarray of shape (n_columns,)
        Largest value of each column.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.tables import ColumnRange
    >>> X = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    >>> ColumnRange.of(X).scale(X)
    array([[0. , 0. ],
           [0.5, 0. ],
           [1. , 0. ]])
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, X: npt.NDArray[Any]) -> Self:
        """Find the range of each column.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_columns)
            Finite numbers or NaN, which is ignored.

        Returns
        -------
        ColumnRange
            The range of each column of `X`.
        """
        # Unlike nanmin, these give NaN for a column of NaN without a warning.
        low, high = np.fmin.reduce(X, axis=0), np.fmax.reduce(X, axis=0)
        return cls(low=low.astype(np.float64), high=high.astype(np.float64))

    def scale(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Scale columns to [0, 1].

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_columns)
            Finite numbers or NaN. Values outside a column's range count as the nearer end
            of it.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
            Numbers in [0, 1], zeros for constant columns; NaN where `X` has it.
        """
        # Halves, because high - low may be more than the largest float64.
        half = self.high / 2 - self.low / 2
        scaled = np.clip(X.astype(np.float64), self.low, self.high)
        scaled /= 2
        scaled -= self.low / 2
        scaled /= np.where(half > 0, half, 1.0)
        # The halves of subnormal numbers are rounded.
        return np.clip(scaled, 0.0, 1.0, out=scaled)


class TableEncoder(TransformerMixin, BaseEstimator):
    """Encode a raw pandas frame as numbers in [0, 1].

    Numeric and boolean columns have missing values replaced by the median and are scaled to
    [0, 1]; those with missing values in `fit` get a second column that is 1 where a value is
    missing. All other columns (categorical, strings, objects) are one-hot encoded, their
    values compared as text; a missing value is a category of its own. The output keeps the
    order of the columns: all that comes from one column lies together, in its place.

    Parameters
    ----------
    max_categories : int, default=100
        Largest number of output columns for one categorical column. The rarest categories
        of a column that has more of them share one output column.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns seen in `fit`, if all of them are strings.
    numeric_ : list of int
        Positions of the columns taken as numbers.
    categorical_ : list of int
        Positions of the columns taken as categories.
    origin_ : ndarray of shape (n_features_out,)
        For each output column, the position of the column it comes from.

    Notes
    -----
    In `transform`, a number outside the range seen in `fit` counts as the nearer end of that
    range, a category not seen in `fit` gives all zeros, and so does a missing value in a
    categorical column that had none in `fit`. Whole numbers among categories are the same
    category whether they are stored as integers or as floats.

    Examples
    --------
    >>> import pandas as pd
    >>> from skectonas.tables import TableEncoder
    >>> X = pd.DataFrame({"age": [20, 30, None], "work": ["office", "farm", "farm"]})
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.get_feature_names_out()
    array(['age', 'age_missing', 'work_farm', 'work_office'], dtype=object)
    >>> encoder.transform(X)
    array([[0. , 0. , 0. , 1. ],
           [1. , 0. , 1. , 0. ],
           [0.5, 1. , 1. , 0. ]], dtype=float32)
    """

    def __init__(self, *, max_categories: int = 100) -> None:
        self.max_categories = max_categories

    def fit(self, X: pd.DataFrame, y: object = None) -> Self:
        """Learn medians, ranges and categories.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            At least one row and one column.
        y : None
            Ignored.

        Returns
        -------
        TableEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If `X` is no frame, is empty, names columns twice, or has a column that cannot be
            encoded (dates, complex numbers, sparse or nested values, infinities); or if
            `max_categories` is not a positive integer.
        """
        self._check_max_categories()
        _check_frame(X)
        if 0 in X.shape:
            raise ValueError(
                f"X: expected a frame with at least one row and one column, got shape {X.shape}"
            )
        twice = X.columns[X.columns.duplicated()].unique().tolist()
        if twice:
            raise ValueError(
                f"X: expected columns with different names, got more than one {twice}"
            )
        validate_data(self, X, skip_check_array=True)

        self._labels = list(X.columns)
        kinds = [_is_number(column, label) for label, column in X.items()]
        self.numeric_ = [i for i, numeric in enumerate(kinds) if numeric]
        self.categorical_ = [i for i, numeric in enumerate(kinds) if not numeric]
        self._fit_numbers(X)
        self._fit_categories(X)
        self._find_order()
        return self

    def transform(self, X: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Encode a frame.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            A frame with the columns seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Numbers in [0, 1].

        Raises
        ------
        ValueError
            If `X` is no frame, has other columns than in `fit`, or has a column that cannot
            be encoded: text that is no number in a numeric column, infinities, or what `fit`
            refuses.
        """
        check_is_fitted(self)
        _check_frame(X)
        validate_data(self, X, skip_check_array=True, reset=False)
        blocks: list[npt.NDArray[Any]] = []
        if self.numeric_:
            block = self._numbers(X)
            scaled = self._range.scale(block)
            blocks += [
                np.where(np.isnan(scaled), self._medians, scaled),
                np.isnan(block[:, self._gaps]),
            ]
        if self.categorical_:
            blocks.append(self._one_hot.transform(self._texts(X)))
        return self._in_order(blocks)

    def get_feature_names_out(
        self, input_features: Sequence[str] | None = None
    ) -> npt.NDArray[np.object_]:
        """Name the output columns.

        Parameters
        ----------
        input_features : sequence of str, default=None
            Names of the input columns, which must be those seen in `fit`.

        Returns
        -------
        ndarray of shape (n_features_out,)
            The column's own name for a number, ``<name>_missing`` for its indicator and for
            the missing values of a categorical column, and ``<name>_<category>``.

        Raises
        ------
        ValueError
            If `input_features` are not the columns seen in `fit`.
        """
        check_is_fitted(self)
        names_in = _check_feature_names_in(self, input_features)
        names: list[str] = []
        if self.numeric_:
            numeric = names_in[self.numeric_]
            names += [*numeric, *(f"{numeric[i]}_missing" for i in self._gaps)]
        if self.categorical_:
            names += list(self._one_hot.get_feature_names_out(names_in[self.categorical_]))
        return _distinct([names[i] for i in self._order])

    def to_dict(self) -> dict[str, Any]:
        """Return what the fitted encoder knows: plain data that `json` can write, and arrays.

        Returns
        -------
        dict
            The labels of the columns, the positions of the numeric and of the categorical
            ones; of the numeric ones the range, the scaled medians and which have an
            indicator; of the categorical ones the categories and those that share a column,
            None for a missing value.
        """
        check_is_fitted(self)
        plain: dict[str, Any] = {
            "max_categories": self.max_categories,
            "labels": [_plain_label(label) for label in self._labels],
            "named": hasattr(self, "feature_names_in_"),
            "numeric": list(self.numeric_),
            "categorical": list(self.categorical_),
        }
        if self.numeric_:
            plain |= {
                "low": self._range.low,
                "high": self._range.high,
                "medians": self._medians,
                "indicated": self._gaps.tolist(),
            }
        if self.categorical_:
            plain |= {
                "categories": [_plain_texts(t) for t in self._one_hot.categories_],
                "rare": [_plain_texts(t) for t in self._one_hot.infrequent_categories_],
            }
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build a fitted encoder from what `to_dict` gave.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from skectonas.tables import TableEncoder
        >>> X = pd.DataFrame({"age": [20, 30, None], "work": ["office", "farm", "farm"]})
        >>> encoder = TableEncoder().fit(X)
        >>> again = TableEncoder.from_dict(encoder.to_dict())
        >>> np.array_equal(again.transform(X), encoder.transform(X))
        True
        """
        encoder = cls(max_categories=plain["max_categories"])
        encoder._labels = list(plain["labels"])
        encoder.n_features_in_ = len(encoder._labels)
        if plain["named"]:
            encoder.feature_names_in_ = np.asarray(encoder._labels, dtype=object)
        encoder.numeric_ = list(plain["numeric"])
        encoder.categorical_ = list(plain["categorical"])
        if encoder.numeric_:
            encoder._range = ColumnRange(plain["low"], plain["high"])
            encoder._medians = plain["medians"]
            encoder._gaps = np.array(plain["indicated"], dtype=np.intp)
        if encoder.categorical_:
            # scikit-learn's part learns again, from the least that teaches it the same, rather
            # than having its private state set: that differs between its releases.
            texts, categories = _teaching(plain["categories"], plain["rare"])
            encoder._fit_one_hot(texts, categories)
        encoder._find_order()
        return encoder

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _check_max_categories(self) -> None:
        value = self.max_categories
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < 1:
            raise ValueError(f"max_categories: expected a positive integer, got {value!r}")

    def _fit_numbers(self, X: pd.DataFrame) -> None:
        # One by one, to hold no more than one column as float64.
        columns = [
            _Numbers.of(_as_numbers(X.iloc[:, i], self._labels[i])) for i in self.numeric_
        ]
        if columns:
            low, high, self._medians, missing = map(np.array, zip(*columns, strict=True))
            self._range = ColumnRange(low, high)
            self._gaps = np.flatnonzero(missing)

    def _fit_categories(self, X: pd.DataFrame) -> None:
        if self.categorical_:
            self._fit_one_hot(self._texts(X))

    def _fit_one_hot(
        self,
        texts: npt.NDArray[np.object_],
        categories: Literal["auto"] | list[npt.NDArray[np.object_]] = "auto",
    ) -> None:
        self._one_hot = OneHotEncoder(
            categories=categories,
            handle_unknown="ignore",
            max_categories=self.max_categories,
            sparse_output=False,
            dtype=np.float32,
            feature_name_combiner=_category_name,
        ).set_output(transform="default")
        self._one_hot.fit(texts)

    def _find_order(self) -> None:
        """Find where the columns of the parts go in the output, and where those come from."""
        origins: list[int] = []
        if self.numeric_:
            origins += self.numeric_
            origins += [self.numeric_[i] for i in self._gaps]
        if self.categorical_:
            # With placeholder names, each output name tells which column it comes from.
            places = [str(i) for i in self.categorical_]
            names = self._one_hot.get_feature_names_out(places)
            origins += [int(name.split("_")[0]) for name in names]
        # A stable sort keeps a value before its indicator, and categories as they are.
        self._order = np.argsort(origins, kind="stable")
        self.origin_ = np.asarray(origins)[self._order]

    def _numbers(self, X: pd.DataFrame) -> npt.NDArray[np.float64]:
        block = np.empty((len(X), len(self.numeric_)))
        for place, i in enumerate(self.numeric_):
            block[:, place] = _as_numbers(X.iloc[:, i], self._labels[i])
        return block

    def _texts(self, X: pd.DataFrame) -> npt.NDArray[np.object_]:
        block = np.empty((len(X), len(self.categorical_)), dtype=object)
        for place, i in enumerate(self.categorical_):
            block[:, place] = _as_texts(X.iloc[:, i], self._labels[i])
        return block

    def _in_order(self, blocks: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        blocks = list(blocks)
        places = np.argsort(self._order)
        encoded = np.empty((len(blocks[0]), len(places)), dtype=np.float32)
        start = 0
        for block in blocks:
            stop = start + block.shape[1]
            encoded[:, places[start:stop]] = block
            start = stop
        return encoded


class _Numbers(NamedTuple):
    """What is learned of a column of numbers; its range and median NaN and 0 if it has none."""

    low: float
    high: float
    median: float
    missing: bool

    @classmethod
    def of(cls, column: npt.NDArray[np.float64]) -> Self:
        range_ = ColumnRange.of(column[:, None])
        missing = np.isnan(column)
        # Scaled first, because the mean of two middle values may pass the largest float64.
        scaled = range_.scale(column[~missing, None])
        median = float(np.median(scaled)) if len(scaled) else 0.0
        return cls(float(range_.low[0]), float(range_.high[0]), median, bool(missing.any()))


def _check_frame(X: object) -> None:
    if not isinstance(X, pd.DataFrame):
        raise ValueError(f"X: expected a pandas DataFrame, got {type(X).__name__}")


def _is_number(column: pd.Series[Any], label: object) -> bool:
    """Whether a column is taken as numbers; refuse it if it cannot be encoded at all."""
    dtype = column.dtype
    if _has_categories_only(dtype):
        return False
    if _is_numeric_dtype(dtype):
        return True
    kinds = _check_encodable(column, label)
    # Nothing but missing values: as a category it can meet anything later.
    return bool(kinds) and all(issubclass(kind, _NUMBERS) for kind in kinds)


def _has_categories_only(dtype: Any) -> bool:
    return isinstance(dtype, pd.CategoricalDtype | pd.StringDtype)


def _is_numeric_dtype(dtype: Any) -> bool:
    return dtype.kind in "biuf" and not isinstance(dtype, pd.SparseDtype)


def _check_encodable(column: pd.Series[Any], label: object) -> set[type]:
    """Give the types of the cells; refuse what is neither number nor category."""
    dtype: Any = column.dtype
    advice = _dtype_advice(dtype)
    if advice is not None:
        raise ValueError(
            f"Column {label!r} has dtype {dtype}, which is not supported: {advice}"
        )
    kinds = set(map(type, column.dropna().to_numpy(dtype=object)))
    for kind in sorted(kinds, key=str):
        advice = _cell_advice(kind)
        if advice is not None:
            raise ValueError(
                f"Column {label!r} (dtype {dtype}) holds values of type {kind.__name__}, "
                f"which are not supported: {advice}"
            )
    return kinds


def _dtype_advice(dtype: Any) -> str | None:
    if isinstance(dtype, pd.SparseDtype):
        return _SPARSE_ADVICE
    if isinstance(dtype, pd.PeriodDtype | pd.IntervalDtype) or dtype.kind in "mM":
        return _TIME_ADVICE
    return _COMPLEX_ADVICE if dtype.kind == "c" else None


def _cell_advice(kind: type) -> str | None:
    if issubclass(kind, _NESTED):
        return _NESTED_ADVICE
    if issubclass(kind, _TIMES):
        return _TIME_ADVICE
    return _COMPLEX_ADVICE if issubclass(kind, _COMPLEX) else None


def _as_numbers(column: pd.Series[Any], label: object) -> npt.NDArray[np.float64]:
    """Give a column as float64, NaN where a value is missing."""
    if _is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = _parsed(column, label)
    if np.isinf(values).any():
        raise ValueError(
            f"Column {label!r} (dtype {column.dtype}) has infinite values: replace them with "
            "finite or missing values"
        )
    return values


def _parsed(column: pd.Series[Any], label: object) -> npt.NDArray[np.float64]:
    if not _has_categories_only(column.dtype):
        _check_encodable(column, label)
    try:
        return _as_objects(column).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Column {label!r}: expected numbers, got dtype {column.dtype} ({error})"
        ) from error


def _as_texts(column: pd.Series[Any], label: object) -> npt.NDArray[np.object_]:
    """Give a column as text, NaN where a value is missing."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        # One more entry, because the code of a missing value is -1, the last place.
        texts = np.array([*map(_text, dtype.categories), np.nan], dtype=object)
        return texts[column.cat.codes.to_numpy()]
    if isinstance(dtype, pd.StringDtype):
        # Equal strings as one object: they may be stored in less than an object takes.
        codes, strings = pd.factorize(column)
        return np.array([*strings, np.nan], dtype=object)[codes]
    values = _as_objects(column)
    if _check_encodable(column, label) <= {str}:
        return values
    for i in np.flatnonzero(column.notna().to_numpy()):
        values[i] = _text(values[i])
    return values


def _as_objects(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = np.nan
    return values


def _text(value: object) -> str:
    # pandas turns integers into floats as soon as a value is missing.
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _plain_label(label: object) -> Any:
    # They name columns in messages, where the looks of a label do as well.
    return label if isinstance(label, str | int | float) else repr(label)


def _plain_texts(texts: npt.NDArray[np.object_] | None) -> list[str | None]:
    known = [] if texts is None else texts.tolist()
    return [text if isinstance(text, str) else None for text in known]


def _teaching(
    categories: Sequence[Sequence[str | None]], rare: Sequence[Sequence[str | None]]
) -> tuple[npt.NDArray[np.object_], list[npt.NDArray[np.object_]]]:
    """Return rows in which the rare categories are the rarest, and the categories."""
    columns = []
    for known, few in zip(categories, rare, strict=True):
        common = [text for text in known if text not in few]
        columns.append([*(common or few), *known])
    longest = max(map(len, columns))
    # Filled up with what comes first, which is common if anything is.
    rows = [_objects(column + column[:1] * (longest - len(column))) for column in columns]
    return np.stack(rows, axis=1), [_objects(known) for known in categories]


def _objects(texts: Iterable[str | None]) -> npt.NDArray[np.object_]:
    return np.array([np.nan if text is None else text for text in texts], dtype=object)


def _category_name(column: str, category: object) -> str:
    return f"{column}_{category if isinstance(category, str) else 'missing'}"


def _distinct(names: Iterable[str]) -> npt.NDArray[np.object_]:
    """Append underscores to names that are taken: column "a_b" and category "b" of "a"."""
    taken: dict[str, None] = {}
    for name in names:
        free = name
        while free in taken:
            free += "_"
        taken[free] = None
    return np.array(list(taken), dtype=object)

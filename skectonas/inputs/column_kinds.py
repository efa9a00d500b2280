"""What can be learned of one column of a raw frame.

Each kind of column has a `ColumnEncoder`, a frozen dataclass of plain data. `learned_from`
finds the kind, with the help of skrub for text and dates.
"""

from __future__ import annotations

import datetime
import enum
import numbers
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, partial
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from threadpoolctl import threadpool_limits

from skectonas.inputs.likeness import (
    SAMPLE,
    Column,
    are_time_spans,
    dates_among,
    likeness_of,
    strays_among,
)
from skectonas.threads import SharedSetting

Array: TypeAlias = NDArray[Any]

MOST_CATEGORIES = 100
"""Columns with more values than that are taken for text, unless their dtype is categorical."""

FEW_VALUES = 10
"""Columns with no more values than that may well be categories, even if these are numbers."""

TEXT_FEATURES = 1024
TEXT_COMPONENTS = 30
TEXT_ROWS = 10_000
NEGLIGIBLE = 1e-6

# The libraries that numpy and scipy bring along have one number of threads for all threads.
_one_thread_of_blas = SharedSetting(partial(threadpool_limits, 1, user_api="blas"))

_NUMBERS = (numbers.Real, Decimal, np.bool_)
_TIMES = (datetime.date, np.datetime64)
_DURATIONS = (datetime.timedelta, np.timedelta64)
_COMPLEX = (complex, np.complexfloating)
_PLAIN = (str, *_NUMBERS, *_TIMES, *_DURATIONS)
_NESTED = (np.ndarray, pd.Series, pd.DataFrame, sparse.sparray, sparse.spmatrix)
_ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")
_OFFSET = re.compile(r":\d\d(?:[.,]\d+)?\s*(Z|[-+]\d\d(?::?\d\d)?)$")
"""The time zone after a time of day."""

_WITHOUT_SECONDS = re.compile(r"-?\d{1,3}:[0-5]\d")

_COMPLEX_ADVICE = "give its real and imaginary parts as two columns"
_NESTED_ADVICE = "give each element a column of its own"
_SPARSE_ADVICE = "make it dense with column.sparse.to_dense()"
_CLOCK_ADVICE = "turn it into a number, such as hours since midnight"
_OBJECT_ADVICE = (
    "their text says where they are in memory, and not what they are; turn them into numbers, "
    "categories or text"
)
_TENSOR_ADVICE = "turn them into numbers, with column.map(float)"


class ColumnEncoder(Protocol):
    """What has been learned of a column: a frozen dataclass of plain data."""

    kind: ClassVar[str]

    def encode(self, column: Column, label: object) -> Array:
        """Return the column as numbers, (n, n_out), NaN where a value is missing.

        Parameters
        ----------
        column : Series of length n
            Values of the column.
        label : object
            Its name, for messages.
        """
        ...

    def names(self, label: str) -> list[str]:
        """Return the names of the numbers, n_out of them."""
        ...


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Parameters
    ----------
    lenient : bool, default=False
        Whether what is no finite number is a missing value, and not an error: they were text or
        objects in `fit`.
    """

    kind: ClassVar[str] = "numbers"
    lenient: bool = False

    def encode(self, column: Column, label: object) -> Array:
        """Return the numbers: see `ColumnEncoder`."""
        if self.lenient:
            kinds = _kinds_in(column, label)
            objects = _with_texts(column, kinds)
            try:
                if any(map(_is_unknown_to_pandas, kinds)):
                    objects = objects.map(
                        lambda x: float(x) if _is_unknown_to_pandas(type(x)) else x
                    )
                numbers_ = pd.to_numeric(objects, errors="coerce")
            except OverflowError as error:
                raise ValueError(f"Column {label!r}: expected numbers ({error})") from error
            return _finite(numbers_)[:, None]
        values = _numbers_of(column, label)
        _refuse_infinite(values, column, label)
        return values[:, None]

    def names(self, label: str) -> list[str]:
        """Return the names of the numbers: see `ColumnEncoder`."""
        return [label]


@dataclass(frozen=True)
class Durations:
    """A column of time spans, which become seconds."""

    kind: ClassVar[str] = "durations"

    def encode(self, column: Column, label: object) -> Array:
        """Return the seconds: see `ColumnEncoder`."""
        if column.isna().all():
            return np.full((len(column), 1), np.nan)
        if column.dtype.kind in "biufcM":
            raise ValueError(f"Column {label!r}: expected time spans, got dtype {column.dtype}")
        if column.dtype.kind != "m":
            column = _legible(column, label, (str, *_DURATIONS)).map(_with_seconds)
        spans = pd.to_timedelta(column, errors="coerce")
        return spans.dt.total_seconds().to_numpy(np.float64)[:, None]

    def names(self, label: str) -> list[str]:
        """Return the name of the seconds: see `ColumnEncoder`."""
        return [f"{label}_seconds"]


@dataclass(frozen=True)
class Dates:
    """A column of dates or times.

    Parameters
    ----------
    format : str or None
        How they are written in text, as in `datetime.strptime`.
    time_zone : str or None
        In which they are encoded.
    with_time : bool
        Whether there are times of day.
    """

    kind: ClassVar[str] = "dates"
    format: str | None
    time_zone: str | None
    with_time: bool

    def encode(self, column: Column, label: object) -> Array:
        """Return the parts of the dates: see `ColumnEncoder`."""
        times = _times_of(column, label, self.format)
        if times.dt.tz is None and self.time_zone is not None:
            times = times.dt.tz_localize("UTC")
        if times.dt.tz is not None:
            times = times.dt.tz_convert(self.time_zone)
        parts = _parts_of_dates(self.with_time).transform(times.rename("date"))
        # skrub's encoder gives the seconds in float32, in steps of two minutes.
        epoch = pd.Timestamp(0, tz=times.dt.tz).as_unit("us")  # has a wider range than ns
        seconds = (times - epoch).dt.total_seconds()
        return np.column_stack([parts.to_numpy(np.float64), seconds.to_numpy(np.float64)])

    def names(self, label: str) -> list[str]:
        """Return the names of the parts: see `ColumnEncoder`."""
        parts = _parts_of_dates(self.with_time).all_outputs_
        return [*(label + name.removeprefix("date") for name in parts), f"{label}_seconds"]


@dataclass(frozen=True)
class Categories:
    """A column of categories, one-hot encoded.

    Parameters
    ----------
    common : list of str or None
        Categories with a column of their own, None being the missing value.
    rare : list of str or None
        Those that share the last column.
    null_texts : list of str
        Texts that stand for a missing value.
    """

    kind: ClassVar[str] = "categories"
    common: list[str | None]
    rare: list[str | None]
    null_texts: list[str]

    def encode(self, column: Column, label: object) -> Array:
        """Return zeros and ones: see `ColumnEncoder`."""
        known = pd.Index([*self.common, *self.rare], dtype=object)
        _kinds_in(column, label)
        places = known.get_indexer(pd.Index(_texts_of(column, self.null_texts)))
        n_out = len(self.names(""))
        # Unknown values get a last column, which is dropped.
        places = np.where(places < 0, n_out, np.minimum(places, n_out - 1))
        return np.eye(n_out + 1)[places, :-1]

    def names(self, label: str) -> list[str]:
        """Return the names of the categories: see `ColumnEncoder`."""
        names = [f"{label}_{'missing' if text is None else text}" for text in self.common]
        return [*names, f"{label}_rare"] if self.rare else names


@dataclass(frozen=True)
class Texts:
    """A column of texts, as the leading directions of their character n-grams.

    Parameters
    ----------
    components : ndarray of shape (n_features, n_components)
        The directions.
    null_texts : list of str
        Texts that stand for a missing value.
    """

    kind: ClassVar[str] = "texts"
    components: NDArray[np.float32]
    null_texts: list[str]

    @classmethod
    def of(cls, column: Column, null_texts: list[str]) -> Self:
        """Find the directions of the texts, or of every second, third, ... of many."""
        texts = _texts_of(column, null_texts)
        given = texts[texts.notna()]
        some = given.iloc[:: -(-len(given) // TEXT_ROWS)]
        n_grams = _n_grams(some.to_numpy(object))
        # With more threads the sums would have other last bits.
        with _one_thread_of_blas.block():
            directions = TruncatedSVD(TEXT_COMPONENTS, random_state=0).fit(n_grams)
        strengths = directions.singular_values_
        leading = directions.components_[strengths > NEGLIGIBLE * strengths[0]]
        return cls(leading.T.astype(np.float32), null_texts)

    def encode(self, column: Column, label: object) -> Array:
        """Return the components of the texts: see `ColumnEncoder`."""
        _kinds_in(column, label)
        texts = _texts_of(column, self.null_texts)
        encoded = np.full((len(texts), self.components.shape[1]), np.nan)
        given = texts.notna().to_numpy()
        if given.any():
            encoded[given] = _n_grams(texts[given].to_numpy(object)) @ self.components
        return encoded

    def names(self, label: str) -> list[str]:
        """Return the names of the components: see `ColumnEncoder`."""
        return [f"{label}_{i:02}" for i in range(self.components.shape[1])]


@dataclass(frozen=True)
class Dropped:
    """A column that is not used."""

    kind: ClassVar[str] = "dropped"

    def encode(self, column: Column, label: object) -> Array:
        """Return no numbers: see `ColumnEncoder`."""
        return np.empty((len(column), 0))

    def names(self, label: str) -> list[str]:
        """Return no names: see `ColumnEncoder`."""
        return []


KINDS: dict[str, Any] = {
    kind.kind: kind for kind in (Numbers, Durations, Dates, Categories, Texts, Dropped)
}


def learned_from(column: Column, label: object) -> tuple[ColumnEncoder, str | None]:
    """Return the encoder of a column, and what the user should know of it."""
    dtype: Any = column.dtype
    if column.isna().all() and not isinstance(dtype, pd.SparseDtype):
        return Dropped(), "is dropped, because it has no values to learn from"
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories_of(column, []), None
    if dtype.kind in "biuf" and not isinstance(dtype, pd.SparseDtype):
        return Numbers(), None
    if dtype.kind == "m":
        return Durations(), None
    if dtype.kind == "M" or isinstance(dtype, pd.PeriodDtype):
        dates = _dates_of(column, label, None)
        zone = getattr(dtype, "tz", None)
        if zone is not None and _name_of_zone(zone) is None:
            return dates, f"is read in UTC, because its time zone {zone} has no standard name"
        return dates, None
    kinds = _kinds_in(column, label)
    if all(issubclass(kind, _NUMBERS) for kind in kinds):
        return Numbers(lenient=True), None
    encoders: tuple[tuple[tuple[type, ...], Callable[[], ColumnEncoder]], ...] = (
        (_DURATIONS, Durations),
        (_TIMES, lambda: _dates_of(column, label, None)),
    )
    for types, encoder_of in encoders:
        others = {kind for kind in kinds if not issubclass(kind, types)}
        if others == set():
            return encoder_of(), None
        if others == {str} and len(kinds) > 1:
            return (
                encoder_of(),
                "also holds text, which counts as missing if it cannot be read like the rest",
            )
    if any(issubclass(kind, (*_TIMES, *_DURATIONS)) for kind in kinds):
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(
            f"Column {label!r} (dtype {dtype}) holds values of different types, {names}: turn "
            "them into one"
        )
    return _learned_from_text(column, label)


def _learned_from_text(column: Column, label: object) -> tuple[ColumnEncoder, str | None]:
    from skrub import Cleaner

    texts = _texts_of(column, [])
    frame = texts.astype("str").where(texts.notna()).to_frame("column")
    cleaner = Cleaner().fit(frame)
    steps = {type(step).__name__: step for step in cleaner.all_processing_steps_["column"]}
    null_texts: list[str] = list(steps["CleanNullStrings"].null_strings_)
    if not cleaner.all_outputs_:
        return Dropped(), "is dropped, because it has no values to learn from"
    values = _texts_of(column, null_texts).dropna()
    numbers_ = pd.Series(_finite(pd.to_numeric(values, errors="coerce")), values.index)
    strays = strays_among(values, numbers_)
    if strays is not None:
        return Numbers(lenient=True), f"is read as numbers{_listed(strays)}"
    found: str | None = getattr(steps.get("ToDatetime"), "format_", None)
    written, strays = dates_among(values, found)
    if strays is not None:
        remark = f"is read as dates, written {written}{_listed(strays)}"
        return _dates_of(column, label, written), remark
    distinct = pd.Series(values.unique(), dtype=object)
    if len(distinct) > FEW_VALUES and are_time_spans(distinct):
        return Durations(), (
            f"is read as time spans, such as {distinct[0]!r} (give it a categorical dtype if "
            "they are none)"
        )
    return _learned_from_words(column, distinct, len(values), null_texts)


def _learned_from_words(
    column: Column, distinct: Column, n_values: int, null_texts: list[str]
) -> tuple[ColumnEncoder, str | None]:
    """Return the encoder of a column that holds neither numbers nor times."""
    likeness = likeness_of(distinct) if len(distinct) > FEW_VALUES else None
    although = f", although it looks like {likeness}"
    if len(distinct) <= MOST_CATEGORIES:
        remark = f"is taken for categories{although}" if likeness else None
        return _categories_of(column, null_texts), remark
    if likeness:
        return Texts.of(column, null_texts), f"is taken for text{although}"
    if len(distinct) == n_values and not distinct.str.contains(r"\s").any():
        return Dropped(), (
            "is dropped, because its values all differ, as those of an identifier do (give it "
            "a categorical dtype to keep it, or convert it if it holds numbers or dates)"
        )
    return Texts.of(column, null_texts), None


def _dates_of(column: Column, label: object, written: str | None) -> Dates:
    times = _times_of(column, label, written)
    zone = None
    if column.dtype.kind == "M" and times.dt.tz is not None:
        zone = _name_of_zone(times.dt.tz) or "UTC"
        times = times.dt.tz_convert(zone)
    elif zones_of(column, times.notna().to_numpy()) - {None}:
        zone = "UTC"  # which times in text and objects are converted to
    given = times.dropna()
    with_time = bool((given.dt.normalize() != given).any())
    return Dates(written, zone, with_time)


def zones_of(column: Column, legible: NDArray[np.bool_]) -> set[str | None]:
    """Return the time zones of the first dates that can be read; None if they have none."""
    given = column.iloc[np.flatnonzero(legible)[:SAMPLE]]
    if column.dtype.kind == "M":
        given = given.iloc[:1].astype(object)  # all have the same
    return set(map(_zone_of, given))


def _zone_of(time: Any) -> str | None:
    if isinstance(time, str):
        offset = _OFFSET.search(time.strip())
        if offset is None:
            return None
        return offset[1] if re.search("[1-9]", offset[1]) else "UTC"
    zone = getattr(time, "tzinfo", None)
    return None if zone is None else _name_of_zone(zone) or str(zone)


def _name_of_zone(zone: Any) -> str | None:
    """Return a name that pandas reads as the same time zone on every machine, or None."""
    name: str | None = getattr(zone, "key", None) or getattr(zone, "zone", None)
    try:
        if name is not None:  # of zoneinfo and pytz
            is_local = name == "localtime"  # of whichever machine
            return None if is_local or pd.Timestamp(0, tz=name).tz is None else name
        offset = zone.utcoffset(None)
        fixed = str(datetime.timezone(offset))
        return fixed if pd.Timestamp(0, tz=fixed).utcoffset() == offset else None
    except Exception:  # of a zone that is unknown, or that does not know its offset
        return None


def _times_of(column: Column, label: object, written: str | None) -> Any:
    """Return dates, or text that is written like this, as times; what is none is missing."""
    dtype: Any = column.dtype
    if column.isna().all():
        return pd.Series(pd.NaT, index=column.index, dtype="datetime64[us]")
    if isinstance(dtype, pd.PeriodDtype):
        return column.dt.to_timestamp()
    if dtype.kind == "M":
        # Dates of Arrow become those of pandas.
        return pd.Series(pd.DatetimeIndex(column), index=column.index)
    if dtype.kind in "biufcm":
        raise ValueError(f"Column {label!r}: expected dates, got dtype {dtype}")
    legible = _legible(column, label, (str, *_TIMES))
    # Values may have different time zones; a column has one.
    return pd.to_datetime(legible, format=written or "ISO8601", errors="coerce", utc=True)


def _legible(column: Column, label: object, types: tuple[type, ...]) -> Column:
    """Return a column of stripped text and of objects; those of other types are missing."""
    objects = _with_texts(column, _kinds_in(column, label))
    legible = [
        value.strip() if isinstance(value, str) else value if isinstance(value, types) else None
        for value in objects
    ]
    return pd.Series(legible, index=column.index, dtype=object)


def _with_seconds(value: object) -> object:
    is_short = isinstance(value, str) and _WITHOUT_SECONDS.fullmatch(value)
    return f"{value}:00" if is_short else value


@cache
def _parts_of_dates(with_time: bool) -> Any:
    from skrub import DatetimeEncoder

    encoder = DatetimeEncoder(
        resolution="hour" if with_time else "day",
        add_weekday=True,
        add_total_seconds=False,
        periodic_encoding="circular",
    )
    # The encoder only learns whether there are times of day.
    return encoder.fit(pd.Series([pd.Timestamp("2000-01-01 12:00")], name="date"))


def _listed(strays: list[str]) -> str:
    if not strays:
        return ""
    shown = ", ".join(map(repr, strays[:3])) + (", ..." if len(strays) > 3 else "")
    return f", in which {shown} are missing values"


def _categories_of(column: Column, null_texts: list[str]) -> Categories:
    counts = _texts_of(column, null_texts).value_counts(dropna=False)
    texts: list[str | None] = sorted(counts.index.dropna())
    texts += [None] if counts.index.hasnans else []
    if len(texts) <= MOST_CATEGORIES:
        return Categories(texts, [], null_texts)
    frequency = dict(zip(counts.index, counts, strict=True))
    by_frequency = sorted(texts, key=lambda text: -frequency[text])
    kept = set(by_frequency[: MOST_CATEGORIES - 1])
    return Categories(
        [text for text in texts if text in kept],
        [text for text in texts if text not in kept],
        null_texts,
    )


def _n_grams(texts: Array) -> Any:
    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=TEXT_FEATURES, dtype=np.float64
    )
    return vectorizer.transform(texts)


def _kinds_in(column: Column, label: object) -> set[type]:
    """Return the types of the values; refuse what cannot be encoded."""
    dtype: Any = column.dtype
    advice = None
    if isinstance(dtype, pd.SparseDtype):
        advice = _SPARSE_ADVICE
    elif dtype.kind == "c":
        advice = _COMPLEX_ADVICE
    if advice is not None:
        raise ValueError(
            f"Column {label!r} has dtype {dtype}, which is not supported: {advice}"
        )
    if isinstance(dtype, pd.CategoricalDtype | pd.StringDtype):
        return {str} if column.notna().any() else set()
    values = column.dropna().to_numpy(dtype=object)
    examples = dict(zip(map(type, values), values, strict=True))
    for kind in sorted(examples, key=str):
        advice = _why_not(kind, examples[kind])
        if advice is not None:
            raise ValueError(
                f"Column {label!r} (dtype {dtype}) holds values of type {kind.__name__}, "
                f"which are not supported: {advice}"
            )
        if issubclass(kind, float | np.floating | Decimal):
            floats = np.array([v for v in values if type(v) is kind], dtype=np.float64)
            _refuse_infinite(floats, column, label)
    return set(examples)


def _refuse_infinite(numbers_: NDArray[np.float64], column: Column, label: object) -> None:
    if np.isinf(numbers_).any():
        raise ValueError(
            f"Column {label!r} (dtype {column.dtype}) has infinite values: replace them with "
            "finite or missing values"
        )


def _why_not(kind: type, example: object) -> str | None:
    """Return what to do with values of a type that cannot be encoded, or None if they can."""
    for types, advice in (
        (_COMPLEX, _COMPLEX_ADVICE),
        (datetime.time, _CLOCK_ADVICE),
        (torch.Tensor, _TENSOR_ADVICE),
    ):
        if issubclass(kind, types):
            return advice
    if issubclass(kind, (*_PLAIN, bytes, enum.Enum)):
        return None
    if isinstance(example, np.ndarray) and example.ndim > 1:
        return "if they are images, make one array of them with numpy.stack"
    if issubclass(kind, (*_NESTED, Collection)):
        return _NESTED_ADVICE
    # Such a text is another one in every process.
    text = str(example).lower()
    is_of_python = kind.__str__ is object.__str__ and _ADDRESS.search(text)
    return _OBJECT_ADVICE if is_of_python or f"{id(example):x}" in text else None


def _with_texts(column: Column, kinds: set[type]) -> Column:
    """Return a column of objects with the text of what is neither text, number nor time."""
    objects = column.astype(object)
    if all(issubclass(kind, _PLAIN) for kind in kinds):
        return objects
    return objects.map(
        lambda value: value if isinstance(value, _PLAIN) else text_of(value), na_action="ignore"
    )


def _numbers_of(column: Column, label: object) -> NDArray[np.float64]:
    """Return a column as float64, NaN where a value is missing."""
    dtype: Any = column.dtype
    if dtype.kind in "biuf" and not isinstance(dtype, pd.SparseDtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    _kinds_in(column, label)
    values = column.to_numpy(dtype=object, copy=True)
    values[column.isna().to_numpy()] = np.nan
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"Column {label!r}: expected numbers, got dtype {dtype} ({error})"
        ) from error


def _is_unknown_to_pandas(kind: type) -> bool:
    """Whether values of a type are numbers, such as fractions, that pandas does not read."""
    return issubclass(kind, numbers.Real) and not issubclass(kind, int | float | np.generic)


def _finite(values: Any) -> NDArray[np.float64]:
    """Return numbers as float64, NaN where they are not finite."""
    numbers_ = np.array(values, dtype=np.float64)
    numbers_[np.isinf(numbers_)] = np.nan
    return numbers_


def _texts_of(column: Column, null_texts: Sequence[str]) -> Column:
    """Return a column as text without white space around it, None where a value is missing."""
    if column.dtype == object:  # equal values such as 1 and True have different texts
        column = column.map(text_of, na_action="ignore")
    codes, values = pd.factorize(column)
    texts = [text_of(value) for value in values]
    known = np.array([*(None if t in null_texts else t for t in texts), None], dtype=object)
    # Missing values have the code -1, which is the last place.
    return pd.Series(known[codes], dtype=object)


def text_of(value: object) -> str:
    """Return the text of a value, as categories are compared, without white space around."""
    # pandas turns integers into floats as soon as a value is missing.
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value).strip()
    # File names and damaged files may hold what no encoding can.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")

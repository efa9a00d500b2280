"""Raw data frames as tables of numbers.

`TableEncoder` finds out what each column holds, with the help of skrub, and keeps one plain
`ColumnEncoder` for it. What these know is data that JSON and arrays can hold, so that a fitted
encoder depends on no private attribute of another package.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skectonas.callers import level_of_user
from skectonas.inputs.column_kinds import (
    KINDS,
    Categories,
    ColumnEncoder,
    Dates,
    Numbers,
    learned_from,
    text_of,
    zones_of,
)
from skectonas.inputs.likeness import SAMPLE

MEASURED = {"numbers": "numbers", "durations": "time spans", "dates": "dates"}
"""Kinds of columns whose numbers are more than a code, and what they hold."""

MANY = 5
"""So many values that none of them can be read is no chance."""

UTC = frozenset({"UTC", "Etc/UTC", "GMT"})
"""Names of the zone that times without a zone count as."""

MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "none", "null"})
"""Texts that are meant to say that a value is missing, in lower case."""


class TableEncoder:
    """Encode a raw pandas frame as a table of numbers, in which NaN stands for missing values.

    - Numbers and booleans are left as they are. Text is read as numbers if there are many
      different numbers in it and hardly anything else; what is no number is then missing.
    - Dates become the year, the positions of month, day, hour and weekday on circles, and the
      seconds since 1970. Text is read as dates under the same condition as numbers.
    - Time spans, and text that holds only these or times of day, become seconds.
    - Categorical columns, and text of at most 100 different values, are one-hot encoded. A
      missing value is a category of its own if there was one in `fit`. The rarest of more than
      100 categories share a column.
    - Other text becomes the 30 leading directions of its character n-grams.
    - A column without values, and one of texts without spaces that all differ, such as an
      identifier, is dropped.

    A warning names the columns that are dropped or read as something else, and those of text
    that looks like numbers or dates which cannot be read.

    Attributes
    ----------
    labels_ : list
        Names of the columns seen in `fit`.
    columns_ : list of ColumnEncoder
        What was learned of each of them.
    origin_ : ndarray of shape (n_out,)
        For each number that comes out, the position of the column that it comes from.

    Examples
    --------
    >>> import pandas as pd
    >>> from skectonas.inputs.tables import TableEncoder
    >>> X = pd.DataFrame({"age": [20, 30, None], "work": ["office", "farm", "farm"]})
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.get_feature_names_out()
    array(['age', 'work_farm', 'work_office'], dtype=object)
    >>> encoder.transform(X)
    array([[20.,  0.,  1.],
           [30.,  1.,  0.],
           [nan,  1.,  0.]])
    """

    def fit(self, X: pd.DataFrame) -> Self:
        """Learn an encoder for each column.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            At least one row and one column.

        Returns
        -------
        TableEncoder
            The fitted encoder.

        Raises
        ------
        ValueError
            If `X` is empty, names columns twice, has a column that cannot be encoded (complex
            numbers, times of day, nested values, infinities), or none that can be learned from.

        Warns
        -----
        UserWarning
            If columns are dropped, or read as something else than their dtype says.
        """
        if 0 in X.shape:
            raise ValueError(
                f"X: expected a frame with at least one row and one column, got shape {X.shape}"
            )
        twice = X.columns[X.columns.duplicated()].unique().tolist()
        if twice:
            raise ValueError(
                f"X: expected columns with different names, got more than one {twice}"
            )
        self.labels_ = [_plain_label(label) for label in X.columns]
        self.columns_: list[ColumnEncoder] = []
        remarks = []
        for label, column in X.items():
            encoder, remark = learned_from(column, label)
            self.columns_.append(encoder)
            remarks += [f"{label!r} {remark}"] if remark else []
        self._find_origin()
        if remarks:
            warnings.warn(f"Columns of X: {'; '.join(remarks)}.", stacklevel=level_of_user())
        if not len(self.origin_):
            raise ValueError("X: expected a column to learn from, but all of them are dropped")
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Encode a frame.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            A frame with the columns seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_out)
            Finite numbers, NaN where a value is missing. A category that was not seen in `fit`
            is zero in all columns of its kind.

        Raises
        ------
        ValueError
            If `X` has other columns than in `fit`, infinities, or text in a column that held
            numbers.

        Warns
        -----
        UserWarning
            If there are values in a column of numbers, dates or time spans, but none of them
            can be read as one, so that they count as missing; if there are values in a column
            of categories, but none of them is one; or if times have a zone other than UTC, and
            those in `fit` had none, or the other way round.
        """
        noticed = Noticed()
        table = self.encode(X, noticed)
        noticed.warn()
        return table

    def encode(self, X: pd.DataFrame, noticed: Noticed | None) -> NDArray[np.float64]:
        """Encode some rows of a frame as `transform` does, but without its warnings.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            A frame with the columns seen in `fit`.
        noticed : Noticed or None
            Takes note of what is unlike that in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_out)
            The numbers.

        Raises
        ------
        ValueError
            As `transform`.
        """
        labels = [_plain_label(label) for label in X.columns]
        if not _same(labels, self.labels_):
            raise ValueError(
                f"X: expected the columns seen in fit, {self.labels_}, got {labels}"
            )
        table = np.empty((len(X), len(self.origin_)))
        starts = np.searchsorted(self.origin_, np.arange(len(labels) + 1))
        for columns, are_plain in _runs(self.columns_, X):
            first, last = columns[0], columns[-1] + 1
            part = table[:, starts[first] : starts[last]]
            if are_plain:
                part[:] = X.iloc[:, first:last].to_numpy(np.float64)
                columns = first + np.flatnonzero(np.isinf(part).any(axis=0))  # are refused
            for i in columns:
                column = X.iloc[:, i]
                values = self.columns_[i].encode(column, labels[i])
                table[:, starts[i] : starts[i + 1]] = values
                if noticed is not None:
                    noticed.look_at(i, labels[i], self.columns_[i], column, values)
        return table

    @property
    def is_measured(self) -> NDArray[np.bool_]:
        """For each number that comes out, whether its column holds numbers or times."""
        kinds = np.array([encoder.kind for encoder in self.columns_])
        return np.isin(kinds, list(MEASURED))[self.origin_]

    def get_feature_names_out(self) -> NDArray[np.object_]:
        """Name the numbers.

        Returns
        -------
        ndarray of shape (n_out,)
            The column's own name for a number, ``<name>_<category>``, ``<name>_year`` and so
            on.
        """
        names: list[str] = []
        for label, encoder in zip(self.labels_, self.columns_, strict=True):
            names += encoder.names(str(label))
        return np.array(names, dtype=object)

    def to_dict(self) -> dict[str, Any]:
        """Return what the fitted encoder knows: plain data, and arrays."""
        columns: list[Any] = self.columns_
        return {
            "labels": list(self.labels_),
            "columns": [{"kind": c.kind, **asdict(c)} for c in columns],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build a fitted encoder from what `to_dict` gave.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from skectonas.inputs.tables import TableEncoder
        >>> X = pd.DataFrame({"age": [20, 30, None], "work": ["office", "farm", "farm"]})
        >>> encoder = TableEncoder().fit(X)
        >>> again = TableEncoder.from_dict(encoder.to_dict())
        >>> np.array_equal(again.transform(X), encoder.transform(X), equal_nan=True)
        True
        """
        encoder = cls()
        encoder.labels_ = list(plain["labels"])
        encoder.columns_ = [
            KINDS[column["kind"]](**{k: v for k, v in column.items() if k != "kind"})
            for column in plain["columns"]
        ]
        encoder._find_origin()
        return encoder

    def _find_origin(self) -> None:
        widths = [len(encoder.names("")) for encoder in self.columns_]
        self.origin_ = np.repeat(np.arange(len(widths)), widths)


class Noticed:
    """What is unlike `fit` in a frame whose rows come in batches: only the last can tell."""

    def __init__(self) -> None:
        self._columns: dict[int, _Column] = {}

    def look_at(
        self,
        i: int,
        label: object,
        encoder: ColumnEncoder,
        column: pd.Series[Any],
        values: NDArray[np.float64],
    ) -> None:
        """Look at some rows of a column.

        Parameters
        ----------
        i : int
            The position of the column.
        label : object
            Its name, for messages.
        encoder : ColumnEncoder
            What was learned of it.
        column : Series of length n
            The rows.
        values : ndarray of shape (n, n_out)
            The numbers that the encoder makes of them.
        """
        found = self._columns.setdefault(i, _Column(label, encoder))
        if not found.is_known:
            found.look_for_known(column, values)
        if isinstance(encoder, Dates) and encoder.time_zone not in UTC:
            found.look_for_zones(column, ~np.isnan(values[:, 0]))

    def warn(self) -> None:
        """Warn of each column that is unlike that in `fit`."""
        for found in self._columns.values():
            for remark in (found.on_unknown_values(), found.on_zones()):
                if remark is not None:
                    message = f"Column {found.label!r}: expected {remark}"
                    warnings.warn(message, stacklevel=level_of_user())


@dataclass
class _Column:
    """What has been seen of a column so far: values, unless one is known, and time zones."""

    label: object
    encoder: ColumnEncoder
    is_known: bool = False
    n_given: int = 0
    example: Any = None
    n_times: int = 0
    zones: set[str | None] = field(default_factory=set)

    def look_for_known(self, column: pd.Series[Any], values: NDArray[np.float64]) -> None:
        """Look whether a value could be read or is a category of `fit`, or else count them."""
        encoder = self.encoder
        nulls: list[str] = []
        if isinstance(encoder, Categories):
            is_name = [text is not None for text in encoder.common]
            is_name += [True] * bool(encoder.rare)
            self.is_known = not any(is_name) or bool(values[:, is_name].any())
            nulls = encoder.null_texts
        else:
            self.is_known = encoder.kind not in MEASURED or not np.isnan(values).all()
        if self.is_known:
            return
        given = [value for value in _given(column) if not nulls or text_of(value) not in nulls]
        if given and not self.n_given:
            self.example = given[0]
        self.n_given += len(given)

    def look_for_zones(self, column: pd.Series[Any], legible: NDArray[np.bool_]) -> None:
        """Look at the time zones of the first dates that can be read, as in `fit`."""
        legible = legible & (legible.cumsum() <= SAMPLE - self.n_times)
        self.n_times += int(legible.sum())
        self.zones |= zones_of(column, legible)

    def on_unknown_values(self) -> str | None:
        """Return what to say if there are many values, and none of them is known."""
        if self.is_known or self.n_given < MANY:
            return None
        if isinstance(self.encoder, Categories):
            known = (*self.encoder.common, *self.encoder.rare)
            name = next(text for text in known if text is not None)
            return (
                f"categories as in fit, for example {name!r}, got {self.n_given} values none "
                f"of which is among them, for example {text_of(self.example)!r}. They count "
                "as unknown."
            )
        return (
            f"{MEASURED[self.encoder.kind]} as in fit, got {self.n_given} values none of which "
            f"can be read as such, for example {self.example!r}. They count as missing."
        )

    def on_zones(self) -> str | None:
        """Return what to say if only the times in `fit`, or only these, have a zone."""
        zone = getattr(self.encoder, "time_zone", None)
        others = self.zones - {None, *UTC} if zone is None else self.zones & {None}
        if not others:
            return None
        expected, got = (
            "without a time zone" if zone is None else f"in the time zone {zone}"
            for zone in (zone, min(others, key=str))
        )
        return (
            f"times {expected} as in fit, got times {got}. Those without a zone count as UTC: "
            "give both alike."
        )


def _given(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column without those that stand for a missing one."""
    return [
        value
        for value in column.dropna()
        if not (isinstance(value, str) and value.strip().lower() in MISSING)
    ]


def _runs(
    encoders: list[ColumnEncoder], X: pd.DataFrame
) -> Iterator[tuple[Sequence[int] | NDArray[np.intp], bool]]:
    """Yield the positions of neighbouring columns, and whether they are plain numbers."""
    are_plain = [
        isinstance(dtype, np.dtype)
        and dtype.kind in "biuf"
        and isinstance(encoder, Numbers)
        and not encoder.lenient
        for dtype, encoder in zip(X.dtypes, encoders, strict=True)
    ]
    for is_plain, columns in groupby(range(len(are_plain)), are_plain.__getitem__):
        yield list(columns), is_plain


def _same(labels: list[Any], others: list[Any]) -> bool:
    """Return whether labels are the same; NaN is, although it is not equal to itself."""
    index, other = (pd.Index(each, dtype=object) for each in (labels, others))
    return bool(index.equals(other))


def _plain_label(label: object) -> Any:
    # Labels of other types only appear in messages.
    return label if isinstance(label, str | int | float) else repr(label)

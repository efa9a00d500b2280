"""What the texts of a column look like: numbers, dates or time spans."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from skectonas.callers import no_warnings

Column: TypeAlias = "pd.Series[Any]"

MOST = 2 / 3
"""A column looks like numbers or dates if at least this share of its values does."""

SAMPLE = 30
"""How many values are tried where each try is slow."""

_NUMBER = re.compile(
    r"^[<>=≤≥~]{0,2}\s?\(?[-+−]?\s?([$€£¥]?)\s?[-+−]?(?=[.,]?\d)"
    r"(?:\d{1,3}(?:[.,'’\s]\d{3})+|\d*)(?:[.,]\d+)?(?:[eE][-+−]?\d+)?"
    r"\s?((?:[^\W\d_]|[%‰°/$€£¥])\S{0,7})?\)?$"
)
"""A number, its currency and its unit."""

_YEAR = re.compile(r"\d{4}")
_SHORT_DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])([-/. ])(?:0?[1-9]|[12]\d|3[01]|[A-Za-z]{3})\1\d\d(?:[ T]\d.*)?"
)
"""A date whose year has two digits."""

_SPANS = (
    re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00"),
    re.compile(r"(?:-?\d+ days [-+]?)?\d{1,3}:[0-5]\d:[0-5]\d(?:\.\d+)?"),
    re.compile(r"-?\d+ days"),
)
"""Times of day, and what pandas writes of time spans: without seconds, with them, only days.
Ratios and scores such as 3:1 have no zeros in front."""


def strays_among(values: Column, read: Column) -> list[str] | None:
    """Return the texts in a column of numbers or dates that are none; None if most are none.

    Few different texts among many different numbers are limits of detection, units, notes.
    A few numbers among texts, or of a few different values, may be anything.

    Parameters
    ----------
    values : Series of str
        The texts.
    read : Series of the same length
        What they were read as, missing where they are no such thing.
    """
    stray = read.isna()
    others: list[str] = values[stray].unique().tolist()
    if not others:
        return []
    many = stray.mean() <= 0.5 and read.nunique() >= 10 * len(others)
    return others if many else None


def dates_among(values: Column, found: str | None) -> tuple[str | None, list[str] | None]:
    """Return how dates in text are written, and which texts are none; None if most are none.

    Parameters
    ----------
    values : Series of str
        The texts.
    found : str or None
        How all of them are written, as far as skrub knows.
    """
    if found is not None and "%B" not in found:
        return found, []
    guessed = [found] if found else [g for v in _some_of(values) for g in _guesses(v)]
    # May is both the name of a month and its abbreviation.
    formats = list(dict.fromkeys(f for g in guessed for f in (g.replace("%B", "%b"), g)))
    if not formats:
        return None, None
    read = [pd.to_datetime(values, format=f, errors="coerce", utc=True) for f in formats]
    best = int(np.argmax([times.notna().sum() for times in read]))
    return formats[best], strays_among(values, read[best])


def _some_of(texts: Column) -> list[str]:
    """Return some different texts, not all of which are likely to be strays."""
    distinct = texts.unique()
    return list(distinct[:: len(distinct) // SAMPLE + 1])


def _guesses(text: str) -> list[str]:
    """Return how a date may be written, the month before the day if possible."""
    if not _YEAR.search(text):  # which takes far less time than to guess
        return []
    with no_warnings():
        guesses = [guess_datetime_format(text, dayfirst=first) for first in (False, True)]
    return [guess for guess in guesses if isinstance(guess, str)]


def are_time_spans(distinct: Column) -> bool:
    """Return whether all texts are times of day, or all are time spans."""
    return any(distinct.str.fullmatch(pattern).all() for pattern in _SPANS)


def likeness_of(distinct: Column) -> str | None:
    """Return what most texts look like, and how to convert them; None if like nothing else."""
    parts = distinct.str.extract(_NUMBER)
    is_number = distinct.str.match(_NUMBER)
    units = (parts[0].fillna("") + parts[1].fillna(""))[is_number]
    # Codes such as 12A and 7C differ in what follows the number; measurements do not.
    if not units.empty and units.value_counts().iloc[0] >= MOST * len(distinct):
        return (
            "numbers: convert it, for example with str.replace or str.extract, and "
            "pandas.to_numeric"
        )
    are_dates = [bool(_SHORT_DATE.fullmatch(t) or _guesses(t)) for t in _some_of(distinct)]
    if np.mean(are_dates) >= MOST:
        return "dates: convert it with pandas.to_datetime"
    return None

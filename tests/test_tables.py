"""What each column of a raw frame becomes."""

from __future__ import annotations

import datetime
import json
import re
import string
import warnings
import zoneinfo
from collections import deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import dateutil.tz
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st

from skectonas.inputs import column_kinds
from skectonas.inputs.column_kinds import TEXT_COMPONENTS
from skectonas.inputs.tables import TableEncoder

NAN = np.nan
RNG = np.random.default_rng(0)


def fitted(values: Any) -> TableEncoder:
    return TableEncoder().fit(pd.DataFrame({"x": values}))


def encode(values: Any, later: Any = None) -> tuple[np.ndarray, list[str]]:
    """Encode one column "x"; with `later`, transform other values than in fit."""
    encoder = fitted(values)
    other = pd.DataFrame({"x": values if later is None else later})
    return encoder.transform(other), encoder.get_feature_names_out().tolist()


def same(found: np.ndarray, expected: Any) -> None:
    np.testing.assert_array_equal(found, np.array(expected, dtype=float))


class TestNumbers:
    @pytest.mark.parametrize(
        "dtype", ["int64", "uint8", "float32", "float64", "Int64", "Float32", "object"]
    )
    def test_left_as_they_are_whatever_the_dtype(self, dtype: str) -> None:
        encoded, names = encode(pd.Series([1, 2, 5], dtype=dtype))
        same(encoded, [[1], [2], [5]])
        assert encoded.dtype == np.float64
        assert names == ["x"]

    @pytest.mark.parametrize(
        "values",
        [
            [1.0, np.nan, 2.0, 5.0],
            pd.array([1, None, 2, 5], dtype="Int64"),
            pd.array([1, None, 2, 5], dtype="Float64"),
            pd.Series([1, None, 2, 5], dtype=object),
            pd.Series([1, pd.NA, 2.0, np.int8(5)], dtype=object),
            pd.Series([Decimal(1), None, Decimal(2), 5], dtype=object),
        ],
    )
    def test_missing_values_stay_missing(self, values: Any) -> None:
        same(encode(values)[0], [[1], [NAN], [2], [5]])

    def test_what_float32_could_not_tell_apart(self) -> None:
        values = [1e16, 1e16 + 2, 1e300, 5e-324, 2**53]
        same(encode(values)[0], np.array(values)[:, None])

    @pytest.mark.parametrize("dtype", ["bool", "boolean", "object"])
    def test_booleans(self, dtype: str) -> None:
        same(encode(pd.Series([True, False], dtype=dtype))[0], [[1], [0]])

    def test_text_that_parses_later(self) -> None:
        same(encode([0, 4], ["1", " 4.0 "])[0], [[1], [4]])
        later = pd.Series(["1", 4, None], dtype="category")
        same(encode([0, 4], later)[0], [[1], [4], [NAN]])

    @pytest.mark.parametrize("later", [["1", "many"], ["", None], [Path("a"), 1]])
    def test_text_that_does_not_parse_later(self, later: list[Any]) -> None:
        with pytest.raises(ValueError, match="Column 'x': expected numbers, got dtype"):
            encode([0, 4], later)

    @pytest.mark.parametrize(
        "values",
        [[1.0, np.inf], [-np.inf, 1.0], pd.array([np.inf, 1], dtype="Float64")],
    )
    def test_infinities_are_refused(self, values: Any) -> None:
        for first in (values, [0.0, 1.0]):
            with pytest.raises(ValueError, match=r"Column 'x' .*has infinite values"):
                encode(first, values)

    @pytest.mark.filterwarnings("ignore:Columns of X")
    @pytest.mark.parametrize("infinite", [np.inf, -np.inf, np.float32("inf"), Decimal("inf")])
    def test_infinite_objects_are_refused(self, infinite: Any) -> None:
        values = pd.Series([infinite, 1], dtype=object)
        for first in (values, [0.0, 1.0], [*map(str, range(40))]):
            with pytest.raises(ValueError, match=r"Column 'x' .*has infinite values"):
                encode(first, values)

    def test_a_number_too_large_is_refused(self) -> None:
        with pytest.raises(ValueError, match="Column 'x': expected numbers"):
            encode([0.0, 1.0], pd.Series([10**400, 1], dtype=object))

    def test_arrow(self) -> None:
        pytest.importorskip("pyarrow")
        for dtype in ("int32[pyarrow]", "float[pyarrow]"):
            same(encode(pd.Series([1, None, 3], dtype=dtype))[0], [[1], [NAN], [3]])
        same(encode(pd.Series([True, False], dtype="bool[pyarrow]"))[0], [[1], [0]])
        same(encode(pd.Series(["a", None], dtype="string[pyarrow]"))[0], [[1, 0], [0, 1]])


class TestNumbersInText:
    def test_stray_text_is_missing(self) -> None:
        values = [*map(str, range(40)), "<LOD>", " 7.5 ", "n/a", None, "1e3"]
        with pytest.warns(UserWarning, match=r"'x' is read as numbers, in which '<LOD>' are"):
            encoded, names = encode(values)
        same(encoded[-5:], [[NAN], [7.5], [NAN], [NAN], [1000]])
        assert names == ["x"]

    @pytest.mark.filterwarnings("ignore:Columns of X")
    @pytest.mark.parametrize("kind", ["paths", "arrow"])
    def test_objects_are_read_by_their_text(self, kind: str) -> None:
        texts = [str(i % 20) for i in range(40)]
        if kind == "arrow":
            pa = pytest.importorskip("pyarrow")
            objects = list(pa.array(range(20))) * 2
        else:
            objects = [Path(text) for text in texts]
        column = pd.Series(objects, dtype=object)
        same(encode(column)[0], encode(texts)[0])
        same(encode(texts, column)[0], encode(texts)[0])

    @pytest.mark.filterwarnings("ignore:Columns of X")
    def test_bytes(self) -> None:
        column = pd.Series([b"%d" % i for i in range(40)])
        same(encode(column)[0], np.arange(40)[:, None])

    def test_later_other_text_is_missing_too(self) -> None:
        with pytest.warns(UserWarning, match="'x' is read as numbers"):
            encoded, _ = encode([*map(str, range(40))], ["3", "lost", None, 4])
        same(encoded, [[3], [NAN], [NAN], [4]])

    @pytest.mark.filterwarnings("ignore:Columns of X")
    def test_what_is_not_finite_is_missing(self) -> None:
        values = [*map(str, range(40)), "inf", "1e999"]
        same(encode(values)[0][-3:], [[39], [NAN], [NAN]])
        same(encode(values[:40], ["-inf", "2"])[0], [[NAN], [2]])

    @pytest.mark.parametrize("stray", ["n/a", "lost", True])
    def test_a_stray_object_is_no_error_later(self, stray: object) -> None:
        for values in ([*range(40)], [True, False]):
            found = encode(
                pd.Series(values, dtype=object), pd.Series([stray, 1], dtype=object)
            )[0]
            same(found, [[1 if stray is True else NAN], [1]])

    @pytest.mark.parametrize(
        "written",
        [
            *("{:,.2f}", "{:.2f} mg", "{:.1f} mg/dL", "{:.3f}%", "{:.2f} %", "€{:.2f}"),
            *("${:,.0f}", "{:.2f} €", "<{:.2f}", "> {:.2f}", "≤{:.1f}", "({:.2f})", "−{:.2f}"),
            *("-${:.2f}", "$-{:.2f}", "{:.2e} kg/m²", "{:.1f}kg", "~{:.1f}"),
        ],
    )
    @pytest.mark.parametrize(("n", "taken"), [(60, "categories"), (200, "text")])
    def test_what_looks_like_numbers_is_told(self, written: str, n: int, taken: str) -> None:
        values = [written.format(1000 * 1.017**i) for i in range(n)]
        message = f"'x' is taken for {taken}, although it looks like numbers: convert it, for"
        for texts in (values, [text.translate(str.maketrans(",.", ".,")) for text in values]):
            with pytest.warns(UserWarning, match=message):
                encode(texts)

    def test_limits_of_detection_in_every_second_row_are_told(self) -> None:
        values = [f"{'<' * (i % 2)}{i / 7:.2f}" for i in range(200)]
        with pytest.warns(UserWarning, match="'x' is taken for text, although it looks like n"):
            encode(values)

    @pytest.mark.parametrize(
        "values",
        [
            [*"123AB"] * 10,  # codes
            [*map(str, range(30)), *string.ascii_lowercase],  # numbers among names
            [*map(str, range(5)), *["x"] * 30],  # a few numbers
            ["5 mg", "10 mg", "20 mg"] * 20,  # doses
            [f"{i}{letter}" for i in range(5, 11) for letter in "abcd"],  # classes
            [f"{i}-{i + 9}" for i in range(0, 200, 10)],  # groups of ages
            [f"{i}.{j}.0" for i in range(5) for j in range(9)],  # versions
            [f"{i:04} {string.ascii_uppercase[i % 26]}B" for i in range(90)],  # postcodes
        ],
    )
    def test_codes_stay_categories(self, values: list[str]) -> None:
        assert encode(values)[0].shape[1] == len(set(values))

    def test_a_categorical_dtype_is_taken_at_its_word(self) -> None:
        values = pd.Series([*map(str, range(40))], dtype="category")
        assert encode(values)[0].shape == (40, 40)


class TestDates:
    NAMES: tuple[str, ...] = (
        *("x_year", "x_month_circular_0", "x_month_circular_1", "x_day_circular_0"),
        *("x_day_circular_1", "x_weekday_circular_0", "x_weekday_circular_1", "x_seconds"),
    )

    @pytest.mark.parametrize("written", [None, "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y"])
    def test_parts_of_dates(self, written: str | None) -> None:
        dates = pd.Series(pd.date_range("2019-12-20", periods=40))
        expected, names = encode(dates)
        assert names == list(self.NAMES)
        same(expected[:, 0], dates.dt.year)
        same(expected[:, -1], (dates - pd.Timestamp(0)).dt.total_seconds())
        np.testing.assert_allclose((expected[:, 1:-1].reshape(40, 3, 2) ** 2).sum(2), 1, 1e-6)
        if written is not None:
            with pytest.warns(UserWarning, match=f"'x' is read as dates, written {written}"):
                found, _ = encode(dates.dt.strftime(written), dates)
            same(found, expected)

    @pytest.mark.parametrize("n", [58, 3000])
    @pytest.mark.parametrize("written", ["%Y-%m-%d", "%d-%b-%Y", "%d.%m.%Y %H:%M"])
    @pytest.mark.parametrize("strays", [1, 58])
    def test_stray_text_is_missing(self, written: str, strays: int, n: int) -> None:
        dates = pd.Series(pd.date_range("2015-01-01", periods=n))
        texts = [*dates.dt.strftime(written), *["unknown"] * strays]
        message = f"'x' is read as dates, written {written}, in which 'unknown' are missing"
        with pytest.warns(UserWarning, match=message):
            found = encode(texts)[0]
        same(found[:n, 0], dates.dt.year)
        assert np.isnan(found[n:]).all()

    @pytest.mark.parametrize("written", ["%d-%b-%Y", "%b %d, %Y", "%d %b %Y %H:%M"])
    @pytest.mark.parametrize("days", [31, 400])
    def test_may_is_a_short_name_of_a_month_too(self, written: str, days: int) -> None:
        dates = pd.Series(pd.date_range("2015-05-01", periods=days))
        later = pd.Series(pd.date_range("2015-01-01", periods=400)).dt.strftime(written)
        with pytest.warns(UserWarning, match=f"'x' is read as dates, written {written}"):
            found = encode(dates.dt.strftime(written), later)[0]
        same(found[:, 0], [2015] * 365 + [2016] * 35)

    def test_long_names_of_months(self) -> None:
        dates = pd.Series(pd.date_range("2015-05-01", periods=90)).dt.strftime("%B %d, %Y")
        with pytest.warns(UserWarning, match="'x' is read as dates, written %B %d, %Y"):
            assert not np.isnan(encode(dates)[0]).any()

    @pytest.mark.parametrize("written", ["%d-%b-%y", "%m/%d/%y", "%d.%m.%y", "%d.%m.%y %H:%M"])
    @pytest.mark.parametrize(("n", "taken"), [(60, "categories"), (200, "text")])
    def test_years_of_two_digits_are_told(self, written: str, n: int, taken: str) -> None:
        dates = pd.Series(pd.date_range("2015-05-01", periods=n)).dt.strftime(written)
        message = f"'x' is taken for {taken}, although it looks like dates: convert it with pa"
        with pytest.warns(UserWarning, match=message):
            encode(dates)

    def test_dates_of_two_forms_are_told(self) -> None:
        dates = pd.Series(pd.date_range("2015-05-01", periods=80))
        texts = [*dates[:40].dt.strftime("%Y-%m-%d"), *dates[40:].dt.strftime("%d %b %Y")]
        with pytest.warns(UserWarning, match="'x' is taken for categories, .* like dates"):
            encode(texts)

    def test_a_few_dates_among_texts_are_categories(self) -> None:
        assert encode(["2015-01-01", "2016-01-01", "unknown"] * 9)[0].shape[1] == 3

    def test_white_space_around_dates(self) -> None:
        dates = [f"2020-01-{day:02}" for day in range(1, 29)]
        with pytest.warns(UserWarning, match="'x' is read as dates"):
            same(encode([f" {date} " for date in dates])[0], encode(pd.to_datetime(dates))[0])

    def test_missing_and_unreadable_dates_are_missing(self) -> None:
        dates = [f"2020-01-{day:02}" for day in range(1, 29)]
        with pytest.warns(UserWarning, match="'x' is read as dates"):
            encoded, _ = encode([*dates, "NA", None], ["2020-01-05", "soon", None])
        assert np.isnan(encoded).all(axis=1).tolist() == [False, True, True]

    def test_a_batch_without_dates(self) -> None:
        dates = pd.date_range("2020", periods=3, tz="UTC")
        for empty in ([np.nan], [None], [pd.NaT]):
            assert np.isnan(encode(dates, empty)[0]).all()

    def test_seconds_are_told_apart(self) -> None:
        times = pd.date_range("2024-05-06 07:08", periods=50, freq="1s")
        same(np.diff(encode(times)[0][:, -1]), np.ones(49))

    def test_text_of_several_zones(self) -> None:
        texts = ["2020-01-01T00:00:00+01:00", "2020-01-01T00:00:00+02:00"]
        together = encode(pd.date_range("2020", periods=3, freq="h", tz="UTC"), texts)[0]
        same(together[:, -1], [1577833200, 1577829600])

    def test_a_stray_text_among_dates_is_missing(self) -> None:
        dates = [*pd.date_range("2020", periods=9)]
        expected = encode(pd.Series(dates, dtype=object), [dates[0], "unknown"])[0]
        assert np.isnan(expected[1]).all()
        with pytest.warns(UserWarning, match="'x' also holds text"):
            found = encode(pd.Series([*dates, "unknown"], dtype=object), [dates[0], "unknown"])
        same(found[0], expected)

    def test_times_of_day_have_an_hour(self) -> None:
        times = pd.date_range("2020", periods=5, freq="5h")
        assert [name for name in encode(times)[1] if "hour" in name]
        # Columns stay, even if all of what comes later is at midnight.
        assert encode(times, pd.date_range("2020", periods=2))[0].shape[1] == 10

    def test_time_zones_are_brought_to_that_of_fit(self) -> None:
        berlin = pd.date_range("2020", periods=30, freq="11h", tz="Europe/Berlin")
        same(encode(berlin, berlin.tz_convert("UTC"))[0], encode(berlin)[0])
        naive = pd.date_range("2020", periods=30, freq="11h")
        same(encode(naive, naive.tz_localize("UTC"))[0], encode(naive)[0])
        same(encode(naive.tz_localize("UTC"), naive)[0], encode(naive)[0])

    BERLIN: Any = pd.date_range("2020-06", periods=30, freq="11h", tz="Europe/Berlin")
    NAIVE: Any = pd.date_range("2020-06", periods=30, freq="11h")

    @pytest.mark.parametrize(
        ("values", "later", "expected", "got"),
        [
            (BERLIN, NAIVE, "in the time zone Europe/Berlin", "without a time zone"),
            (BERLIN, ["2020-06-01 12:00"], "in the time zone Europe/B", "without a time zone"),
            (NAIVE, BERLIN, "without a time zone", "in the time zone Europe/Berlin"),
            (NAIVE, ["2020-06-01 12:00+02:00"], "without", "in the time zone +02:00"),
            (
                pd.Series(list(NAIVE), dtype=object),
                pd.Series(list(BERLIN), dtype=object),
                *("without a time zone", "in the time zone Europe/Berlin"),
            ),
        ],
    )
    def test_times_of_which_only_some_have_a_zone(
        self, values: Any, later: Any, expected: str, got: str
    ) -> None:
        message = f"Column 'x': expected times {expected}.* as in fit, got times {got}"
        with pytest.warns(UserWarning, match=message.replace("+", r"\+")):
            found = encode(values, later)[0]
        same(found[:, -1], encode(self.NAIVE.tz_localize("UTC"), later)[0][:, -1])

    @pytest.mark.filterwarnings("ignore:Columns of X")
    def test_times_that_all_have_a_zone_or_none(self) -> None:
        texts = [str(time) for time in self.BERLIN]
        objects = pd.Series([*self.BERLIN[:9], *self.BERLIN.tz_convert("UTC")], dtype=object)
        for values in (texts, objects, self.BERLIN):
            for later in (objects, self.BERLIN, self.BERLIN.tz_convert("UTC"), [None]):
                encode(values, later)
        naive = pd.Series([*self.NAIVE], dtype=object)
        for values in (self.NAIVE, naive, [str(time) for time in self.NAIVE]):
            for later in (self.NAIVE, naive, ["2020-01-01 11:00:00Z"], ["2020-01-01"]):
                encode(values, later)

    @pytest.mark.parametrize(
        ("zone", "name"),
        [
            (dateutil.tz.UTC, "UTC"),
            (dateutil.tz.tzoffset(None, 7200), "UTC+02:00"),
            (datetime.timezone(datetime.timedelta(hours=10), "EST"), "UTC+10:00"),
            (datetime.timezone(datetime.timedelta(hours=-5, minutes=-30)), "UTC-05:30"),
            (zoneinfo.ZoneInfo("Asia/Kolkata"), "Asia/Kolkata"),
        ],
        ids=str,
    )
    def test_time_zones_have_names_that_everyone_reads(self, zone: Any, name: str) -> None:
        times = pd.date_range("2020", periods=30, freq="11h", tz=zone)
        encoder = TableEncoder().fit(pd.DataFrame({"x": times}))
        assert encoder.to_dict()["columns"][0]["time_zone"] == name
        expected = encode(times.tz_localize(None))[0]  # the clock of that place
        found = encoder.transform(pd.DataFrame({"x": times.tz_convert("UTC")}))
        same(found[:, :-1], expected[:, :-1])

    def test_a_time_zone_without_a_name_is_read_in_utc(self) -> None:
        class Somewhere(datetime.tzinfo):
            def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta | None:
                return None if when is None else datetime.timedelta(hours=1)

            def dst(self, when: datetime.datetime | None) -> datetime.timedelta:
                return datetime.timedelta()

        times = pd.date_range("2020", periods=30, freq="11h", tz="UTC")
        column = pd.Series(times.tz_convert(Somewhere()))
        with pytest.warns(UserWarning, match="'x' is read in UTC"):
            found = encode(column)[0]
        same(found, encode(times)[0])

    def test_other_kinds_of_dates(self) -> None:
        dates = pd.date_range("2020", periods=3)
        expected = encode(dates)[0]
        same(encode(pd.Series([d.date() for d in dates], dtype=object))[0], expected)
        same(encode(pd.Series([*dates, None], dtype=object))[0][:3], expected)
        same(encode(pd.period_range("2020", periods=3, freq="D"))[0], expected)
        pytest.importorskip("pyarrow")
        same(encode(pd.Series(dates).astype("timestamp[ns][pyarrow]"))[0], expected)

    def test_numbers_where_dates_were(self) -> None:
        with pytest.raises(ValueError, match="Column 'x'"):
            encode(pd.date_range("2020", periods=3), [1.5, 2, 3])

    @pytest.mark.parametrize("n", [30, 200])
    @pytest.mark.parametrize("kind", ["%H:%M", "%H:%M:%S", "csv", "days"])
    def test_times_of_day_and_time_spans_in_text(self, kind: str, n: int) -> None:
        spans = pd.Series(
            pd.to_timedelta(np.arange(n) * 60, unit="D" if kind == "days" else "s")
        )
        if kind in ("csv", "days"):
            texts = spans.to_csv(header=False, index=False).split("\n")[:-1]
        else:
            texts = (pd.Timestamp("2020-01-01") + spans).dt.strftime(kind).tolist()
        message = f"'x' is read as time spans, such as '{texts[0]}'"
        with pytest.warns(UserWarning, match=message):
            found, names = encode([*texts, "NA", None])
        assert names == ["x_seconds"]
        same(found[:, 0], [*spans.dt.total_seconds(), NAN, NAN])

    def test_scores_and_a_few_shifts_are_categories(self) -> None:
        scores = [f"{i}:{j}" for i in range(5) for j in range(10, 15)]
        assert encode(scores * 9)[0].shape[1] == 25
        assert encode(["06:00", "14:00", "22:00"] * 9)[0].shape[1] == 3

    def test_later_times_may_be_longer_than_a_day(self) -> None:
        texts = [f"{i:02}:30" for i in range(24)]
        with pytest.warns(UserWarning, match="give it a categorical dtype if they are none"):
            found = encode(texts, ["25:10", "5:07", "08:30 PM"])[0]
        same(found, [[90_600], [18_420], [NAN]])

    @pytest.mark.parametrize("others", [["1:02:33"], ["12:75"], ["57:01"], ["noon"]])
    def test_what_may_be_no_times_of_day_are_categories(self, others: list[str]) -> None:
        assert encode(["3:45", "0:59", *others] * 9)[0].shape[1] == 3

    def test_time_spans_become_seconds(self) -> None:
        spans = pd.to_timedelta([1, 2, None], unit="min")
        assert encode(spans)[1] == ["x_seconds"]
        same(encode(spans)[0], [[60], [120], [NAN]])
        objects = pd.Series([datetime.timedelta(seconds=5), None], dtype=object)
        same(encode(objects)[0], [[5], [NAN]])
        same(encode(spans, ["long", "00:00:09"])[0], [[NAN], [9]])
        same(encode(spans, [np.nan])[0], [[NAN]])
        with pytest.raises(ValueError, match="Column 'x': expected time spans"):
            encode(spans, [3.0])

    @pytest.mark.parametrize(
        "stray", [3, 2.5, True, datetime.date(2020, 1, 1), Decimal(2), b"x", Path("x")]
    )
    def test_a_stray_object_among_time_spans_is_missing(self, stray: object) -> None:
        spans = pd.to_timedelta([1, 2, 3], unit="min")
        later = pd.Series([stray, datetime.timedelta(seconds=5)], dtype=object)
        same(encode(spans, later)[0], [[NAN], [5]])
        same(encode(spans, pd.Series([stray], dtype=object))[0], [[NAN]])


class TestCategories:
    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    def test_one_hot_whatever_the_dtype(self, dtype: str) -> None:
        encoded, names = encode(pd.Series(["b", "a", "b"], dtype=dtype))
        same(encoded, [[0, 1], [1, 0], [0, 1]])
        assert names == ["x_a", "x_b"]

    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_is_a_category_if_seen(self, dtype: str, missing: Any) -> None:
        encoded, names = encode(pd.Series(["b", missing], dtype=dtype))
        same(encoded, [[1, 0], [0, 1]])
        assert names == ["x_b", "x_missing"]
        same(encode(["b", "a"], pd.Series(["a", missing], dtype=dtype))[0], [[1, 0], [0, 0]])

    @pytest.mark.parametrize("null", ["n/a", "NA", "?", "", "None"])
    def test_texts_for_missing_values_are_missing_values(self, null: str) -> None:
        encoded, names = encode(["a", "b", null], ["a", None, "?"])
        assert names == ["x_a", "x_b", "x_missing"]
        same(encoded, [[1, 0, 0], [0, 0, 1], [0, 0, 1]])

    def test_all_kinds_of_missing_are_one(self) -> None:
        encoded, names = encode(pd.Series([None, np.nan, pd.NA, pd.NaT, "a"], dtype=object))
        same(encoded[:, 1], [1, 1, 1, 1, 0])
        assert names == ["x_a", "x_missing"]

    def test_unknown_gives_zeros(self) -> None:
        same(encode(["b", "a"], ["a", "new"])[0], [[1, 0], [0, 0]])

    def test_mixed_types_are_compared_as_text(self) -> None:
        encoded, names = encode(
            pd.Series([1, "a", None, 1.5], dtype=object),
            pd.Series(["1", "a", 1.0, "1.5"], dtype=object),
        )
        assert names == ["x_1", "x_1.5", "x_a", "x_missing"]
        same(encoded.argmax(axis=1), [0, 2, 0, 1])

    def test_equal_values_with_other_texts(self) -> None:
        fitted_on = pd.Series([1, True, "a"] * 9, dtype=object)
        both = encode(fitted_on, pd.Series([True, 1], dtype=object))[0]
        alone = [encode(fitted_on, pd.Series([v], dtype=object))[0] for v in (True, 1)]
        same(both, np.concatenate(alone))
        same(both.sum(axis=1), [1, 1])

    def test_integers_stored_as_floats_are_the_same_category(self) -> None:
        encoded, names = encode(pd.Series([1, 2, 2], dtype="category"), [1.0, np.nan, 2.0])
        assert names == ["x_1", "x_2"]
        same(encoded, [[1, 0], [0, 0], [0, 1]])

    @pytest.mark.parametrize(
        ("values", "later", "example"),
        [
            (["1.0", "2.0", "unknown"], [2.0, 2.0, 1.0, 2.0, 1.0], "2"),
            (["1.0", "2.0", "a", None], [2.0, 1, 2, 1, 2], "2"),
            (["1.0", "2.0", "unknown"], [True, False, True, True, True], "True"),
            (["Female", "Male"], ["male", "female", "male", "male", "male"], "male"),
            (["Female", "Male", None], ["?", "male", "male", "male", "male", "male"], "male"),
            (pd.cut([1, 2, 9, 9], [0, 5, 10]), pd.cut([1, 2, 9] * 2, [0, 6, 12])[:5], "(0, 6]"),
        ],
    )
    def test_values_none_of_which_is_a_category_are_told(
        self, values: Any, later: Any, example: str
    ) -> None:
        encoder = fitted(pd.Series(values))
        others = pd.Series([*later, None], dtype=object)
        known = next(text for text in encoder.columns_[0].common if text is not None)
        message = (
            f"Column 'x': expected categories as in fit, for example {known!r}, got 5 values "
            f"none of which is among them, for example {example!r}. They count as unknown."
        )
        with pytest.warns(UserWarning, match=re.escape(message)):
            found = encoder.transform(pd.DataFrame({"x": others}))
        assert not found[:, [text is not None for text in encoder.columns_[0].common]].any()
        # One that is known makes the others new, and a few may be chance.
        for few in ([*later, known], later[:4], ["NA", "?", None, " ", "null", "-"]):
            encoder.transform(pd.DataFrame({"x": pd.Series([*few], dtype=object)}))

    def test_rare_categories_are_known(self) -> None:
        values = pd.Series([f"id{i}" for i in range(300)], dtype="category")
        same(encode(values, [f"id{i}" for i in range(280, 290)])[0][:, -1], np.ones(10))

    def test_bytes_are_the_text_they_hold(self) -> None:
        texts = ["a", "é", "b\\xff"] * 9
        column = pd.Series([b"a", "é".encode(), b"b\xff"] * 9)
        found, names = encode(column)
        assert names == ["x_a", "x_b\\xff", "x_é"]
        same(found, encode(texts)[0])
        same(encode(texts, column)[0], found)

    def test_texts_that_no_encoding_can_hold(self) -> None:
        damaged = ["caf\udce9", "tea"] * 9
        found = encode(pd.Series(damaged, dtype=object))[0]
        same(found, encode(["cafe", "tea"] * 9)[0])
        many = [f"{text} number {i}" for i, text in enumerate(damaged * 9)]
        assert np.isfinite(encode(pd.Series(many, dtype=object))[0]).all()

    def test_intervals_as_categories(self) -> None:
        same(encode(pd.cut(pd.Series([1, 2, 9]), 2))[0], [[1, 0], [1, 0], [0, 1]])

    def test_unused_categories_take_no_column(self) -> None:
        values = pd.Categorical(["a", "b"], categories=["c", "b", "a"])
        assert encode(values)[1] == ["x_a", "x_b"]

    def test_the_rarest_of_many_share_a_column(self) -> None:
        values = pd.Series([f"id{i}" for i in range(300)] + [f"id{i}" for i in range(99)])
        encoded, names = encode(values.astype("category"), ["id299", "id98", "new", "id100"])
        assert len(names) == 100
        assert names[-1] == "x_rare"
        same(encoded.sum(axis=1), [1, 1, 0, 1])
        same(encoded[:, -1], [1, 0, 0, 1])


def notes(n: int) -> list[str]:
    words = ["pain", "mild", "severe", "none today", "follow-up", "nausea", "well"]
    return [f"{i}: " + " ".join(RNG.choice(words, 4)) for i in range(n)]


class TestTexts:
    def test_the_same_text_has_the_same_components(self) -> None:
        texts = notes(300)
        encoded, names = encode([*texts, *texts[:5], None])
        assert names == [f"x_{i:02}" for i in range(TEXT_COMPONENTS)]
        np.testing.assert_array_equal(encoded[300:305], encoded[:5])
        assert np.isnan(encoded[305]).all()
        assert np.isfinite(encoded[:305]).all()

    def test_similar_texts_lie_closer(self) -> None:
        base = notes(300)
        later = ["strong pain in the left arm", "strong pains in the left arms", "all is well"]
        a, b, c = encode([*base, *later], later)[0]
        assert np.linalg.norm(a - b) < np.linalg.norm(a - c) / 2

    def test_no_direction_is_made_of_rounding_errors(self) -> None:
        values = [" ".join(RNG.choice(["ab", "cd"], 12)) for _ in range(300)]
        encoded, _ = encode(values)
        assert encoded.std(axis=0).min() > 1e-6

    def test_deterministic(self) -> None:
        texts = notes(200)
        same(encode(texts)[0], encode(texts)[0])

    def test_missing_texts_do_not_count_among_many(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(column_kinds, "TEXT_ROWS", 300)
        texts = notes(300)
        expected = encode(texts)[0]
        some, fewer = [*texts, *[None] * 900], [text for text in texts for _ in range(2)]
        same(encode(some, texts)[0], expected)
        same(encode(fewer, texts)[0], expected)

    def test_an_identifier_is_dropped_with_a_word(self) -> None:
        frame = pd.DataFrame({"id": [f"P{i:04}" for i in range(200)], "x": range(200)})
        message = "'id' is dropped, because its values all differ.* or convert it if it holds"
        with pytest.warns(UserWarning, match=message):
            encoder = TableEncoder().fit(frame)
        assert encoder.get_feature_names_out().tolist() == ["x"]

    def test_it_is_kept_as_a_category(self) -> None:
        values = pd.Series([f"P{i:04}" for i in range(200)], dtype="category")
        assert encode(values)[0].shape == (200, 100)

    def test_many_values_that_recur_are_text(self) -> None:
        assert encode([f"site-{i % 150}" for i in range(300)])[0].shape[1] == TEXT_COMPONENTS


REFUSED = {
    "complex": (np.array([1j, 2]), "imaginary"),
    "sparse": (pd.arrays.SparseArray([0.0, 1.0]), "to_dense"),
    "sparse integers": (pd.arrays.SparseArray([0, 1]), "to_dense"),
    "lists": (pd.Series([[1], [2, 3]]), "each element"),
    "dicts": (pd.Series([{}, {"a": 1}]), "each element"),
    "arrays": (pd.Series([np.ones(2), None]), "each element"),
    "tuples": (pd.Series([(1, 2), "a"], dtype=object), "each element"),
    "times of day": (pd.Series([datetime.time(3), None], dtype=object), "since midnight"),
    "complex objects": (pd.Series([1j, 1], dtype=object), "imaginary"),
    "queues": (pd.Series([deque([1]), None], dtype=object), "each element"),
    "ranges": (pd.Series([range(3), "a"], dtype=object), "each element"),
    "buffers": (pd.Series([bytearray(b"ab"), None], dtype=object), "each element"),
    "objects": (pd.Series([object(), None], dtype=object), "in memory"),
    "functions": (pd.Series([lambda: 0, "a"], dtype=object), "in memory"),
}


class TestRefused:
    @pytest.mark.parametrize(("values", "advice"), REFUSED.values(), ids=REFUSED)
    def test_at_fit(self, values: Any, advice: str) -> None:
        frame = pd.DataFrame({"x": [1, 2], "bad": values})
        with pytest.raises(ValueError, match="Column 'bad'") as error:
            TableEncoder().fit(frame)
        assert f"dtype {frame['bad'].dtype}" in str(error.value)
        assert advice in str(error.value)

    @pytest.mark.parametrize(("values", "advice"), REFUSED.values(), ids=REFUSED)
    @pytest.mark.parametrize("seen", [[1, 2], ["a", "b"]], ids=["numeric", "categorical"])
    def test_later(self, seen: list[Any], values: Any, advice: str) -> None:
        with pytest.raises(ValueError, match=r"Column 'x'.*dtype") as error:
            encode(seen, values)
        assert advice in str(error.value)

    def test_texts_of_ones_own_may_look_like_addresses(self) -> None:
        class Crash:
            def __init__(self, place: str) -> None:
                self.place = place

            def __str__(self) -> str:
                return f"crash at 0x{self.place}"

        same(encode(pd.Series([Crash("1f"), Crash("2a")] * 9))[0][:2], [[1, 0], [0, 1]])

    def test_infinite_objects_among_texts(self) -> None:
        with pytest.raises(ValueError, match="has infinite values"):
            encode(pd.Series(["a", "b", np.inf], dtype=object))

    def test_dates_among_other_things(self) -> None:
        values = pd.Series([pd.Timestamp("2020"), 1.5], dtype=object)
        with pytest.raises(ValueError, match=r"different types, \['Timestamp', 'float'\]"):
            encode(values)

    def test_arrow_lists(self) -> None:
        pa = pytest.importorskip("pyarrow")
        with pytest.raises(ValueError, match="Column 'x'"):
            encode(pd.Series([[1], [2]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))))

    @pytest.mark.parametrize(
        "X", [pd.DataFrame(), pd.DataFrame({"x": []}), pd.DataFrame(index=[0, 1])]
    )
    def test_empty(self, X: pd.DataFrame) -> None:
        with pytest.raises(ValueError, match="at least one row and one column"):
            TableEncoder().fit(X)

    def test_duplicate_names(self) -> None:
        frame = pd.DataFrame(np.ones((2, 4)), columns=["a", "b", "a", "c"])
        with pytest.raises(ValueError, match=r"different names.*\['a'\]"):
            TableEncoder().fit(frame)

    @pytest.mark.filterwarnings("ignore:Columns of X")
    def test_nothing_to_learn_from(self) -> None:
        with pytest.raises(ValueError, match="all of them are dropped"):
            encode(pd.Series([None, None], dtype=object))

    @pytest.mark.parametrize(
        "dtype", ["float64", "Float64", "datetime64[ns]", "timedelta64[s]", "category", object]
    )
    def test_a_column_without_values_is_dropped_with_a_word(self, dtype: Any) -> None:
        frame = pd.DataFrame({"x": [1.0, 2.0], "empty": pd.Series([None, None], dtype=dtype)})
        with pytest.warns(UserWarning, match="'empty' is dropped, because it has no values"):
            encoder = TableEncoder().fit(frame)
        same(encoder.transform(frame), [[1], [2]])
        same(encoder.transform(frame.assign(empty=3.0)), [[1], [2]])


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "size": [1.0, np.nan, 3.0, 2.0],
            "colour": ["red", None, "blue", "red"],
            "count": pd.array([1, 2, 3, 4], dtype="Int64"),
            "kind": pd.Categorical(["u", "v", "u", "v"]),
            "flag": [True, False, True, True],
        }
    )


class TestFrames:
    def test_output_follows_the_columns(self, frame: pd.DataFrame) -> None:
        encoder = TableEncoder().fit(frame)
        assert encoder.get_feature_names_out().tolist() == [
            *("size", "colour_blue", "colour_red", "colour_missing"),
            *("count", "kind_u", "kind_v", "flag"),
        ]
        same(encoder.origin_, [0, 1, 1, 1, 2, 3, 3, 4])
        same(
            encoder.transform(frame),
            [
                [1, 0, 1, 0, 1, 1, 0, 1],
                [NAN, 0, 0, 1, 2, 0, 1, 0],
                [3, 1, 0, 0, 3, 1, 0, 1],
                [2, 0, 1, 0, 4, 0, 1, 1],
            ],
        )

    def test_one_warning_names_all_columns(self) -> None:
        frame = pd.DataFrame(
            {
                "id": [f"P{i:04}" for i in range(200)],
                "lab": ["<LOD>", *map(str, range(199))],
                "when": pd.date_range("2020", periods=200).strftime("%d.%m.%Y"),
                "empty": None,
                "fine": 1.0,
            }
        )
        with pytest.warns(UserWarning, match="Columns of X: ") as caught:
            TableEncoder().fit(frame)
        assert len(caught) == 1
        message = str(caught[0].message)
        assert all(f"'{name}' is" in message for name in ("id", "lab", "when", "empty"))
        assert "fine" not in message

    def test_frame_is_left_as_it_was(self, frame: pd.DataFrame) -> None:
        before = frame.copy(deep=True)
        TableEncoder().fit(frame).transform(frame)
        pd.testing.assert_frame_equal(frame, before)

    def test_independent_of_the_index(self, frame: pd.DataFrame) -> None:
        encoder = TableEncoder().fit(frame)
        other = frame.set_axis([5, 5, 1, 0])
        same(encoder.transform(other), encoder.transform(frame))
        same(TableEncoder().fit(other).transform(frame), encoder.transform(frame))

    def test_labels_need_not_be_strings(self) -> None:
        for columns in (["a", "b"], [0, 1], [("a", 1), ("b", 2)], [pd.Timestamp(0), NAN]):
            frame = pd.DataFrame([[1.0, "x"], [2.0, "y"]], columns=columns)
            encoder = TableEncoder().fit(frame)
            again = TableEncoder.from_dict(encoder.to_dict())
            same(again.transform(frame), encoder.transform(frame))
            broken = frame.copy()
            broken.isetitem(0, ["no", "number"])
            with pytest.raises(ValueError, match="expected numbers"):
                again.transform(broken)

    def test_other_columns_are_refused(self, frame: pd.DataFrame) -> None:
        encoder = TableEncoder().fit(frame)
        for other in (
            frame.rename(columns={"size": "length"}),
            frame.drop(columns="size"),
            frame[frame.columns[::-1]],
        ):
            with pytest.raises(ValueError, match="expected the columns seen in fit"):
                encoder.transform(other)

    def test_neighbouring_columns_are_read_as_single_ones(self) -> None:
        exact = np.array([2**53 + 1, -(2**62) - 1, 3, 0])
        columns: list[Any] = [
            *(exact, exact / 3, exact == 3, exact.view(np.uint64), [NAN, 0.1, -0.0, 5e-324]),
            *(pd.array([1, None, 2, 5], dtype="Int64"), (exact / 3).astype(np.float32)),
            *(["a", "b", "a", "b"], exact, pd.date_range("2020", periods=4), exact % 7),
        ]
        frame = pd.DataFrame({f"x{i}": values for i, values in enumerate(columns)})
        encoder = TableEncoder().fit(frame)
        alone = [
            column.encode(frame[label], label)
            for label, column in zip(encoder.labels_, encoder.columns_, strict=True)
        ]
        assert encoder.transform(frame).tobytes() == np.hstack(alone).tobytes()
        frame.isetitem(1, [0.0, np.inf, 0.0, 0.0])
        with pytest.raises(ValueError, match=r"Column 'x1' .*has infinite values"):
            encoder.transform(frame)

    def test_refit_forgets(self, frame: pd.DataFrame) -> None:
        encoder = TableEncoder().fit(frame).fit(frame[["flag"]])
        assert encoder.get_feature_names_out().tolist() == ["flag"]


MISSING = st.sampled_from([None, np.nan, pd.NA])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
CELLS = st.one_of(MISSING, FINITE, st.booleans(), st.text(max_size=2), st.integers())
TEXTS = st.one_of(MISSING, st.text(max_size=12), st.integers(0, 99).map(str))
DATES = st.one_of(MISSING, st.datetimes().map(pd.Timestamp), st.dates())
KINDS = [st.one_of(MISSING, FINITE), st.booleans(), st.text(max_size=1), CELLS, TEXTS, DATES]


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    columns = {
        f"c{i}": pd.Series(
            draw(st.lists(draw(st.sampled_from(KINDS)), min_size=rows, max_size=rows)),
            dtype=object,
        )
        for i in range(draw(st.integers(1, 4)))
    }
    return pd.DataFrame(columns)


@pytest.mark.filterwarnings("ignore:Column 'c.*They count as")
@given(frames(), frames())
def test_any_frame_is_encoded_row_by_row_or_refused(
    frame: pd.DataFrame, later: pd.DataFrame
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Columns of X")
        try:
            encoder = TableEncoder().fit(frame)
            encoded = encoder.transform(frame)
        except ValueError as error:
            if "olumn" not in str(error):
                raise
            return
    assert encoded.shape == (len(frame), len(encoder.get_feature_names_out()))
    assert not np.isinf(encoded).any()
    rows = [encoder.transform(frame.iloc[[i]]) for i in range(len(frame))]
    same(np.concatenate(rows), encoded)
    plain = encoder.to_dict()
    arrays = [c.pop("components", None) for c in plain["columns"]]
    again = json.loads(json.dumps(plain))
    for column, array in zip(again["columns"], arrays, strict=True):
        column |= {} if array is None else {"components": array}
    same(TableEncoder.from_dict(again).transform(frame), encoded)
    later = later.reindex(columns=frame.columns)
    try:
        assert not np.isinf(encoder.transform(later)).any()
    except ValueError as error:
        if "Column 'c" not in str(error):
            raise


@pytest.mark.filterwarnings("ignore:The network that was found")
def test_a_column_of_texts_without_any() -> None:
    texts = [f"a text of {i}, {i**2} and {i**3}" for i in range(120)]
    X = pd.DataFrame({"text": texts, "number": np.arange(120.0)})
    clf = quick(2, warmup_epochs=1, validation_fraction=0.1).fit(X, np.arange(120) % 2)
    assert {c["kind"] for c in clf.encoder_.to_dict()["tables"]["columns"]} == {
        "texts",
        "numbers",
    }
    nothing = X.assign(text=pd.Series([None] * 120, dtype=object))
    assert np.isfinite(clf.predict_proba(nothing)).all()


@pytest.mark.parametrize(
    ("values", "later", "what"),
    [
        (["2020-01-02", "2021-03-04", "2022-05-06"] * 4, "02.01.2020", "dates"),
        (pd.to_datetime(["2020-01-02", "2021-03-04"] * 4), "02.01.2020", "dates"),
        (pd.to_timedelta(["1 day", "3 days"] * 4), "two days", "time spans"),
        ([f"{i}.5" for i in range(120)], "1,5", "numbers"),
    ],
)
def test_a_column_that_cannot_be_read_any_more(values: Any, later: str, what: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Column")
        encoder = fitted(values)
    message = f"Column 'x': expected {what} as in fit, got 5 values .* for example '{later}'"
    with pytest.warns(UserWarning, match=message):
        found = encoder.transform(pd.DataFrame({"x": [later] * 5 + [None]}))
    assert np.isnan(found).all()
    # One that can be read makes the others strays, and a few are not enough to say so.
    for few in ([later] * 5 + [values[0]], [later] * 4, [later, "NA", " ", "?", "null"]):
        encoder.transform(pd.DataFrame({"x": few}))


def test_fractions_are_numbers() -> None:
    values = [Fraction(i, 7) for i in range(9)]
    for given_ in ([*values, None], [*values[:5], 0.25, 3, Decimal("0.5"), np.float32(2)]):
        found, _ = encode(pd.Series(given_, dtype=object))
        expected = [np.nan if value is None else float(value) for value in given_]
        same(found, np.array(expected)[:, None])


def test_tensors_are_no_numbers() -> None:
    with pytest.raises(ValueError, match=r"type Tensor, .* column.map\(float\)"):
        fitted(pd.Series([torch.tensor(0.5)] * 3, dtype=object))

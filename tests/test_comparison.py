"""The page that compares tools matches the measured results."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import not_if_brief

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGE = (ROOT / "docs" / "comparison.md").read_text()


@pytest.fixture(scope="module")
def comparison() -> ModuleType:
    before = sys.path[:]
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import comparison
    finally:
        # It adds the tree, from which worker processes of other tests would import the package.
        sys.path[:] = before
    return comparison


def test_the_tables_are_those_of_the_results(comparison: ModuleType) -> None:
    assert comparison.with_tables(PAGE) == PAGE


def test_a_table_that_is_stale_is_noticed(comparison: ModuleType) -> None:
    begin, end = PAGE.index("| string labels"), PAGE.index("| sample_weight")
    stale = PAGE[:begin] + PAGE[end:]
    assert stale != PAGE
    assert comparison.with_tables(stale) == PAGE


def test_a_page_without_a_place_for_a_table_is_an_error(comparison: ModuleType) -> None:
    with pytest.raises(ValueError, match="features"):
        comparison.with_tables(PAGE.replace("<!-- /features -->", ""))


def test_the_results_have_a_row_once_and_say_why_something_fails() -> None:
    with (BENCHMARKS / "results" / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["tool"], row["feature"]) for row in rows]
    assert len(pairs) == len(set(pairs))
    assert all(row["note"] for row in rows if row["outcome"] == "no")


@not_if_brief
@pytest.mark.parametrize(
    ("feature", "outcome"), [("string labels", "yes"), ("partial_fit", "no")]
)
def test_a_probe_in_a_process_of_its_own(
    comparison: ModuleType, feature: str, outcome: str
) -> None:
    rows = list(comparison.try_features(sys.executable, "skectonas", [feature]))
    assert [(row["feature"], row["outcome"]) for row in rows] == [(feature, outcome)]
    assert bool(rows[0]["note"]) == (outcome == "no")


def test_the_memory_that_a_probe_reads_is_that_of_the_process() -> None:
    code = (
        "import numpy as np, time\nfrom comparison_probes import peak_memory\n"
        "with peak_memory() as peak:\n    X = np.ones(5_000_000)\n    time.sleep(0.1)\n"
        "print(peak[0])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert 30 < float(found.stdout) < 60

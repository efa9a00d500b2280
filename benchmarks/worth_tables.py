"""Fill the tables of a page with the means of ``results/worth.csv``.

    python benchmarks/worth_tables.py docs/worth.md

A row is known by its first cell, and the columns of a table by the heading above it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pandas as pd

from skectonas.topology import STARTS

ROWS = {
    "**search**": "search",
    "search, `alpha=.5`": "search, alpha=.5",
    "start, our recipe": "start",
    "the same, half as wide": "start, half as wide",
    "the same, a quarter as wide": "start, a quarter as wide",
    "topology of the search, our recipe": "found, our recipe",
    "topology of the search, ordinary recipe": "from nothing",
    "random topologies": "random",
    "the same, as long as the search": "random, as long",
    "by hand, small": "hand 3K",
    "by hand, medium": "hand 11K",
    "by hand, large": "hand 55K",
    "`MLPClassifier`": "MLPClassifier",
    "`HistGradientBoostingClassifier`": "HistGradientBoosting",
    "search, plain torch": "search, plain torch",
    **{f"`{start}`": f"search from {start}" for start in STARTS},
}
COLUMNS = {
    "All of Fashion-MNIST": [("fashion_60000", 200)],
    "Fashion-MNIST, the first 5,000 training images": [("fashion", 600)],
    "MNIST": [("mnist", 600)],
    "Small data": [
        ("digits", 300), ("digits_1000", 1000), ("breast_cancer", 300), ("wine", 300),
        ("iris", 300),
    ],
    "Tables": [("numbers", 300), ("adult", 300), ("diamonds", 300)],
}  # fmt: skip


def cell(runs: pd.DataFrame) -> str:
    """Return test accuracy (seeds), parameters and CPU seconds of some runs."""
    if runs.empty:
        return "–"
    accuracy, size, seconds = runs[["test_accuracy", "n_parameters", "cpu_seconds"]].mean()
    shown = f"{accuracy:.3f}".removeprefix("0")
    return f"{shown} ({len(runs)}), {size:,.0f}, {seconds:.{int(seconds < 15)}f} s"


def filled(page: str, table: pd.DataFrame) -> str:
    """Return a page whose tables have the means of a table."""
    lines, columns = [], []
    for line in page.splitlines():
        if line.startswith("## "):
            columns = COLUMNS.get(line.removeprefix("## "), [])
        known = re.match(r"\| (.+?) \|", line)
        if columns and known and known[1] in ROWS:
            own = table[table["what"] == ROWS[known[1]]]
            cells = [
                cell(own[(own["data"] == data) & (own["budget"] == budget)])
                for data, budget in columns
            ]
            line = f"| {' | '.join([known[1], *cells])} |"
        lines.append(line)
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    table = pd.read_csv(Path(__file__).parent / "results" / "worth.csv")
    page.write_text(filled(page.read_text(), table))


if __name__ == "__main__":
    main()

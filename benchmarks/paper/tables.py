"""Make the tables and figures of the paper from the rows of `run.py` and `pooling.py`.

    python benchmarks/paper/tables.py [--results FOLDER] [--page docs/paper.md] [--check]

The tables are printed, or put into a page between its marks, ``<!-- begin NAME -->`` and
``<!-- end NAME -->``. The figures are drawn into ``images`` beside the page. With ``--check``,
nothing is written, and the exit status is 1 if the tables of the page are others.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
from published import (
    BASELINE,
    CROSSINGS,
    POOLING,
    POOLING_BEFORE,
    RANDOM,
    SEARCH,
    TITLES,
    Published,
)
from run import RESULTS, STARTS

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = {
    "paper": "paper's settings",
    "narrow_cells": "with narrow new cells",
    "averaged": "with averaged weights",
    "defaults": "our defaults",
    "short": "our defaults, a fifth of the budget",
}
COMPARED, CELLS = ("paper", "defaults", "short"), ("paper", "narrow_cells", "defaults")
ALPHAS = (1.0, 0.5, 0.0)
LEARNED = 0.5
"""Accuracy of a network that has learned anything; the others name one of ten classes."""


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(published: Published) -> tuple[str, str]:
    """Return accuracy and size as the paper has them."""
    accuracy = f"{published.accuracy:.1f} ± {published.deviation:.1f}"
    return accuracy, f"{published.thousands:g} K"


def found(rows: pd.DataFrame) -> tuple[str, str]:
    """Return accuracy and size of some runs."""
    if rows.empty:
        return "–", "–"
    accuracies = 100 * rows["test_accuracy"]
    deviation = f" ± {accuracies.std():.1f}" if len(rows) > 1 else ""
    size = f"{rows['n_parameters'].mean() / 1000:.1f} K"
    return f"{accuracies.mean():.1f}{deviation}", size


def by_mode(runs: pd.DataFrame) -> str:
    """Tables 1, 2 and 5: accuracy and size of each mode and alpha."""
    head = ["data", "mode", "paper", "size"]
    lines = []
    for name in present(runs, "data", TITLES):
        kinds = [("search", alpha, SEARCH[name, alpha]) for alpha in ALPHAS]
        kinds += [("random", 1.0, RANDOM[name]), ("baseline", 1.0, BASELINE[name])]
        for mode, alpha, published in kinds:
            label = f"search, alpha {alpha:g}" if mode == "search" else mode
            line = [TITLES[name], label, *told(published)]
            for settings in present(runs, "settings", COMPARED):
                asked = {"data": name, "settings": settings, "mode": mode, "alpha": alpha}
                own = chosen(runs, **asked)
                accuracy, size = found(own)
                line += [f"{accuracy} ({len(own)})" if len(own) else accuracy, size]
            if len(chosen(runs, data=name, mode=mode, alpha=alpha)):
                lines.append(line)
    for settings in present(runs, "settings", COMPARED):
        head += [SETTINGS[settings], "size"]
    return markdown(head, lines)


def by_start(runs: pd.DataFrame) -> str:
    """The means of each start, with the paper's settings."""
    runs = chosen(runs, settings="paper")
    columns = [("search", alpha) for alpha in ALPHAS] + [("random", 1.0), ("baseline", 1.0)]
    labels = [f"alpha {a:g}" if mode == "search" else mode for mode, a in columns]
    lines = []
    for name in present(runs, "data", TITLES):
        for start in present(chosen(runs, data=name), "start", STARTS):
            line = [TITLES[name], f"`{start}`"]
            for mode, alpha in columns:
                own = chosen(runs, data=name, start=start, mode=mode, alpha=alpha)
                line.append(", ".join(found(own)) if len(own) else "–")
            lines.append(line)
    return markdown(["data", "start", *labels], lines)


def crossings(runs: pd.DataFrame) -> str:
    """Table 3: how many runs ended with cells, and without."""
    head = ["alpha", "began", "paper: cells / none", "crossed"]
    lines = []
    for alpha in ALPHAS:
        for began in (True, False):
            kind = "with cells" if began else "without"
            line = [f"{alpha:g}", kind, *counted(began, *CROSSINGS[alpha, began])]
            for settings in present(runs, "settings", CELLS):
                asked = {"data": "adult", "settings": settings, "mode": "search"}
                own = chosen(runs, alpha=alpha, began_with_cells=began, **asked)
                n_with = int(own["ended_with_cells"].sum())
                line += counted(began, n_with, len(own) - n_with)
            lines.append(line)
    for settings in present(runs, "settings", CELLS):
        head += [SETTINGS[settings], "crossed"]
    return markdown(head, lines)


def counted(began_with_cells: bool, n_with: int, n_without: int) -> list[str]:
    n, crossed = n_with + n_without, n_without if began_with_cells else n_with
    return [f"{n_with} / {n_without}", f"{100 * crossed / n:.0f}%"] if n else ["–", "–"]


def pooling(trials: pd.DataFrame) -> str:
    """Table 4: the accuracy after a pooling layer was put in."""
    head = ["rate", "pooling", "weights", "paper: right after", "after an epoch"]
    head += ["here: before", "right after", "after an epoch"]
    learned = trials[trials["before"] > LEARNED]
    lines = []
    for (rate, kind, method), own in learned.groupby(["rate", "pooling", "method"], sort=False):
        published = POOLING.get((kind, method))
        line = [f"{rate:g}", kind, method]
        line += [f"{value:.1f}" for value in published] if published else ["–", "–"]
        columns = [100 * own[name] for name in ("before", "right_after", "after_an_epoch")]
        line += [f"{values.mean():.1f} ± {values.std():.1f}" for values in columns]
        lines.append(line)
    notes = []
    for rate, own in trials.groupby("rate", sort=False):
        n_learned = chosen(learned, rate=rate)["seed"].nunique()
        notes.append(f"{n_learned} of {own['seed'].nunique()} with a rate of {rate:g}")
    return markdown(head, lines) + (
        f"\n\nValidation accuracies with the first {trials['rows'].iloc[0]:,} images, as means "
        f"over the networks that learned anything ({', '.join(notes)}). The paper's are of "
        f"MNIST, over 100 seeds; before the change it had {POOLING_BEFORE}."
    )


def resources(runs: pd.DataFrame) -> str:
    """Epochs of the winner, generations, and CPU seconds of a run."""
    lines = []
    for (name, settings, mode, alpha), own in runs.groupby(
        ["data", "settings", "mode", "alpha"], sort=False
    ):
        label = f"search, alpha {alpha:g}" if mode == "search" else mode
        mean, least, most = own["epochs"].agg(["mean", "min", "max"])
        line = [TITLES[name], SETTINGS[settings], label, f"{mean:.0f} ({least:.0f}–{most:.0f})"]
        line += [f"{own['generations'].mean():.1f}", f"{own['cpu_seconds'].mean():.0f}"]
        lines.append(line)
    head = ["data", "settings", "mode", "epochs of the winner", "generations", "CPU seconds"]
    return markdown(head, lines)


def variants(runs: pd.DataFrame) -> str:
    """What a change of the paper's settings gives, on the runs that both settings have."""
    keys = ["data", "mode", "alpha", "start", "seed"]
    plain = chosen(runs, settings="paper")
    lines = []
    for (name, settings, alpha), own in chosen(runs, mode="search").groupby(
        ["data", "settings", "alpha"], sort=False
    ):
        if settings in COMPARED:
            continue
        same = plain.merge(own[keys], on=keys)
        pair = [*found(same), *found(own), str(len(own))]
        lines.append([TITLES[name], SETTINGS[settings], f"{alpha:g}", *pair])
    head = ["data", "change", "alpha", "paper's settings", "size", "changed", "size", "runs"]
    return markdown(head, lines)


def present(runs: pd.DataFrame, column: str, order: Iterable[str]) -> list[str]:
    return [name for name in order if name in set(runs[column])]


def chosen(table: pd.DataFrame, **asked: object) -> pd.DataFrame:
    for column, value in asked.items():
        table = table[table[column] == value]
    return table


TABLES: dict[str, Callable[[pd.DataFrame], str]] = {
    "modes": by_mode,
    "starts": by_start,
    "crossings": crossings,
    "variants": variants,
    "resources": resources,
}


def put(text: str, name: str, table: str) -> str:
    """Return a page with a table between its marks."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no marks {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{table}\n\n{end}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--check", action="store_true", help="only compare with the page")
    arguments = parser.parse_args()
    runs = pd.read_csv(arguments.results / "paper.csv")
    tables = {name: make(runs) for name, make in TABLES.items()}
    if (arguments.results / "paper_pooling.csv").exists():
        tables["pooling"] = pooling(pd.read_csv(arguments.results / "paper_pooling.csv"))
    if arguments.page is None:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables.items()))
        return 0
    before = text = arguments.page.read_text()
    for name, table in tables.items():
        text = put(text, name, table)
    if arguments.check:
        return int(text != before)
    arguments.page.write_text(text)
    from figures import draw  # matplotlib is only needed here

    draw(
        runs,
        pd.read_csv(arguments.results / "paper_curves.csv"),
        arguments.page.parent / "images",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

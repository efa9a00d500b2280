"""Draw the pictures of docs/performance.md and docs/worth.md from benchmarks/results."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs" / "images"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"  # Okabe and Ito


def engine(folder: Path) -> None:
    """Draw the time of each way to train, and the limit of the processor."""
    table = pd.read_csv(RESULTS / "engine.csv")
    table = table[(table["batch"] == 32) & (table["population"] == 16)]
    table = table.sort_values("native", ascending=False)
    names = table["shape"] + ", " + table["input"]
    figure, ax = plt.subplots(figsize=(7.2, 5.2), layout="constrained")
    ways = {
        "limit": ("limit", "|", "black"),
        "native": ("native library", "D", GREEN),
        "avx2": ("the same, AVX2", "d", "#56B4E9"),
        "torch": ("torch, stacks", "s", BLUE),
        "vmap": ("torch, vmap", "^", ORANGE),
        "plain": ("torch, one by one", "o", GREY),
        "skorch": ("skorch", "x", GREY),
    }
    for column, (label, marker, colour) in ways.items():
        size = 120 if marker == "|" else 28
        ax.scatter(
            table[column], names, marker=marker, color=colour, s=size, label=label, zorder=3
        )
    ax.set_xscale("log")
    ax.grid(axis="x", alpha=0.3)
    ax.set_xlabel("ms for 1,000 rows and one of 16 candidates (batches of 32, one thread)")
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    figure.savefig(folder / "engine.svg", metadata={"Date": None})


def scaling(folder: Path) -> None:
    """Draw time and memory against what is changed."""
    table = pd.read_csv(RESULTS / "scaling.csv")
    names = {
        "rows": "rows",
        "side": "pixels a side",
        "classes": "classes",
        "budget": "budget (epochs)",
        "n_parents": "n_parents",
        "n_jobs": "n_jobs",
    }
    figure, axes = plt.subplots(2, 3, figsize=(7.2, 4.4), layout="constrained")
    for (column, label), ax in zip(names.items(), axes.flat, strict=True):
        own = table[table["changed"] == column].sort_values(column)
        ax.plot(own[column], own["seconds"], "o-", color=BLUE, markersize=4)
        ax.set_xlabel(label)
        ax.set_ylabel("seconds", color=BLUE)
        ax.set_ylim(0, own["seconds"].max() * 1.1)
        if column in ("rows", "side", "classes"):
            ax.set_xscale("log")
        ax.set_xticks(own[column], own[column])
        ax.minorticks_off()
        other = ax.twinx()
        other.plot(own[column], own["mb"], "^--", color=ORANGE, markersize=4)
        other.set_ylabel("MB", color=ORANGE)
        other.set_ylim(0, max(400, own["mb"].max() * 1.1))
        if column == "rows":
            ax.tick_params(axis="x", labelsize=7)
    figure.savefig(folder / "scaling.svg", metadata={"Date": None})


def fits(folder: Path) -> None:
    """Draw how long whole fits take."""
    table = pd.read_csv(RESULTS / "fit.csv")
    own = table[table["budget"] == 100].set_index("way")["cpu seconds"]
    own = own[~own.index.str.contains("two")].sort_values()
    figure, ax = plt.subplots(figsize=(7.2, 1.6), layout="constrained")
    bars = ax.barh(own.index, own, color=BLUE)
    ax.bar_label(bars, [f"{seconds:.0f} s" for seconds in own], padding=3)
    ax.set_xlabel("CPU time of a fit on Fashion-MNIST, 54,000 training rows, budget=100")
    ax.invert_yaxis()
    ax.margins(x=0.1)
    figure.savefig(folder / "fit.svg", metadata={"Date": None})


RIVALS = {
    "search": ("D", GREEN),
    "search, alpha=.5": ("d", "#56B4E9"),
    "start": ("s", BLUE),
    "from nothing": ("^", ORANGE),
    "random": ("v", "#CC79A7"),
    "by hand": ("o", GREY),
    "MLPClassifier": ("x", GREY),
    "HistGradientBoosting": ("+", GREY),
}
TITLES = {
    ("digits", 300): "digits",
    ("breast_cancer", 300): "breast cancer",
    ("wine", 300): "wine",
    ("iris", 300): "iris",
    ("numbers", 300): "a table of 10,000 rows",
    ("mnist", 600): "MNIST, 3,750 images",
    ("fashion", 600): "Fashion-MNIST, 5,000 images",
    ("adult", 300): "Adult",
    ("diamonds", 300): "diamonds",
    ("fashion_60000", 200): "Fashion-MNIST, 60,000 images",
}
FRONT = {"label": "front of one search", "linewidth": 0.8, "markersize": 4}
LINES = {"by hand": "hand", "start": "start"}
"""Rivals of several sizes, and what the names of their rows begin with."""


def worth(folder: Path) -> None:
    """Draw the test accuracy against the number of parameters, and against the time."""
    table, fronts = pd.read_csv(RESULTS / "worth.csv"), pd.read_csv(RESULTS / "fronts.csv")
    fronts = fronts[(fronts["seed"] == 0) & ~fronts["is_winner"]].set_index(["data", "budget"])
    values = ["test_accuracy", "n_parameters", "cpu_seconds"]
    means = table.groupby(["data", "budget", "what"])[values].mean()
    shown = [name for name in TITLES if name in means.index]
    for column, label in (("n_parameters", "parameters or nodes"), ("cpu_seconds", "CPU s")):
        n_rows = -(-len(shown) // 2)
        figure, axes = plt.subplots(
            n_rows, 2, figsize=(7.2, 2.3 * n_rows), layout="constrained", squeeze=False
        )
        for ax, name in zip(axes.flat, shown, strict=False):
            if column in fronts:
                front = fronts[fronts.index == name]
                ax.plot(front[column], front["test_accuracy"], ".-", color=GREEN, **FRONT)
            rivals(ax, means.loc[name].sort_values(column), column)
            ax.set_title(TITLES[name], fontsize="medium")
        for ax in axes.flat[len(shown) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy")
        figure.supxlabel(label, fontsize="medium")
        marks = axes.flat[0].get_legend_handles_labels()
        figure.legend(*marks, loc="outside upper center", ncols=4, fontsize="small")
        figure.savefig(folder / f"worth_{column}.svg", metadata={"Date": None})


def rivals(ax: Axes, own: pd.DataFrame, column: str) -> None:
    """Draw the test accuracy of the rivals on one data set."""
    for what, (marker, colour) in RIVALS.items():
        is_line = what in LINES
        rows = own[own.index.str.startswith(LINES[what]) if is_line else own.index == what]
        style = marker + "-" * is_line
        ax.plot(
            rows[column], rows["test_accuracy"], style, color=colour, label=what, linewidth=0.8
        )
    ax.set_xscale("log")
    ax.margins(x=0.15)
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    ax.xaxis.set_major_formatter(EngFormatter(sep="") if column == "n_parameters" else "{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", labelsize="small")
    ax.grid(alpha=0.3)
    # Networks by hand that are far too small would hide the differences.
    best = own["test_accuracy"].max()
    ax.set_ylim(max(own["test_accuracy"].min(), best - 0.06) - 0.004, best + 0.004)


def main() -> None:
    """Draw all pictures for which there are results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS)
    folder = parser.parse_args().folder
    folder.mkdir(exist_ok=True)
    # The same file for the same results.
    mpl.rcParams.update({"svg.hashsalt": "skectonas", "font.size": 9})
    pictures = ((engine, "engine"), (fits, "fit"), (scaling, "scaling"), (worth, "worth"))
    for draw, table in pictures:
        if (RESULTS / f"{table}.csv").exists():
            draw(folder)


if __name__ == "__main__":
    main()

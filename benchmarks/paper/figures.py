"""Figures 5 and 6 of the paper, from the validation curves of `run.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from published import TITLES

from skectonas.displays.style import BLUE, GREY, MARKS, ORANGE, words

MODES = {"search": BLUE, "random": ORANGE, "baseline": GREY}
KEYS = ["data", "settings", "mode", "alpha", "start", "seed"]


def draw(runs: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> None:
    """Draw both figures, with the paper's settings."""
    # A run that was stopped between curve and row has its curve twice.
    curves = curves.drop_duplicates([*KEYS, "epoch", "morphism"], keep="last")
    curves = curves[curves["settings"] == "paper"]
    runs = runs[(runs["settings"] == "paper")]
    with mpl.rc_context({"svg.hashsalt": "skectonas", "svg.fonttype": "none"}):
        figure_5(runs, curves, folder / "paper_curves.svg")
        figure_6(curves, folder / "paper_run.svg")


def figure_5(runs: pd.DataFrame, curves: pd.DataFrame, path: Path) -> None:
    """Draw the mean accuracy on the validation rows against the epochs, for each data set."""
    names = [name for name in TITLES if name in set(runs["data"])]
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.6 * len(names), 3), layout="constrained", squeeze=False
    )
    for ax, name in zip(axes[0], names, strict=True):
        own = runs[(runs["data"] == name) & (runs["alpha"] == 1)]
        searches = own[own["mode"] == "search"]
        ends = searches.groupby("start")["epochs"].mean()
        for mode, colour in MODES.items():
            part = curves[
                (curves["data"] == name) & (curves["mode"] == mode) & (curves["alpha"] == 1)
            ]
            if len(part):
                ax.plot(*mean_curve(part, ends, mode), color=colour, label=mode)
        ax.set(title=TITLES[name], xlabel="epochs", ylabel="validation accuracy")
        ax.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def mean_curve(
    curves: pd.DataFrame, ends: pd.Series, mode: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return epochs and the mean over runs; where a run ends, the mean may jump.

    Random searches and baselines are cut after as many epochs as the winners of the same start
    had on average, as in the paper.
    """
    grid = np.arange(1, 201)
    values = []
    for (start, _), own in curves.groupby(["start", "seed"]):
        last = own["epoch"].max()
        end = last if mode == "search" else min(last, ends.get(start, last))
        line = np.interp(grid, own["epoch"], own["accuracy"], left=np.nan)
        values.append(np.where(grid <= end + 0.5, line, np.nan))
    table = np.array(values)
    some = ~np.isnan(table).all(0)
    return grid[some], np.nanmean(table[:, some], axis=0)


def figure_6(curves: pd.DataFrame, path: Path) -> None:
    """Draw one search with alpha 0.5 from the large start without cells, and its changes."""
    own = curves[(curves["start"] == "large_ffnn") & (curves["seed"] == curves["seed"].min())]
    name = "fashion_mnist" if "fashion_mnist" in set(own["data"]) else own["data"].iloc[0]
    own = own[own["data"] == name]
    search = own[(own["mode"] == "search") & (own["alpha"] == 0.5)]
    baseline = own[(own["mode"] == "baseline") & (own["epoch"] <= search["epoch"].max())]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    left.plot(search["epoch"], search["accuracy"], color=BLUE, label="search, alpha 0.5")
    left.plot(baseline["epoch"], baseline["accuracy"], color=GREY, label="baseline")
    sizes = left.twinx()
    sizes.step(search["epoch"], search["n_parameters"], color=ORANGE, where="post")
    sizes.set_ylim(0)
    sizes.set_ylabel("parameters", color=ORANGE)
    left.set(title=TITLES[name], xlabel="epochs", ylabel="validation accuracy")
    left.legend(loc="lower right")
    annotate(right, search)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def annotate(ax: Axes, search: pd.DataFrame) -> None:
    """Draw the number of parameters, and where which change was made."""
    ax.step(search["epoch"], search["n_parameters"], color=ORANGE, where="post")
    is_new = search["n_parameters"].ne(search["n_parameters"].shift())
    is_new |= search["morphism"].ne(search["morphism"].shift())
    for name, own in search[is_new].groupby("morphism", sort=False):
        mark = MARKS[name]
        ax.plot(
            own["epoch"], own["n_parameters"], mark.shape, color=mark.colour, label=words(name)
        )
    ax.set(xlabel="epochs", ylabel="parameters", yscale="log")
    ax.legend(fontsize="small")

"""The experiments of the paper: a row of a CSV file for each run.

    python benchmarks/paper/run.py adult --folder FOLDER
    python benchmarks/paper/run.py fashion_mnist --folder FOLDER --alphas 1 0.5 --seeds 1

A run is a data set, a start, a mode, an alpha, a seed and the settings. Runs of which there is
a row are not repeated, so that the same command goes on where it was stopped. The rows are in
``paper.csv``, the validation curves in ``paper_curves.csv``. `tables.py` makes the tables and
figures of the paper from them. A search that is stopped leaves a checkpoint in ``unfinished``
beside them, from which the same command continues it.

Modes
-----
search
    The search, for each alpha.
random
    The search in which chance decides all brackets: the paper's ablation.
baseline
    The start alone, trained for 200 epochs.

Settings
--------
paper
    `PAPER_SETTINGS`.
narrow_cells
    The same, but a new cell has as many channels as its input. The paper does not say how many
    it has; `PAPER_SETTINGS` draw one or seven more.
averaged
    Those of the paper, but networks are scored and kept with the mean of 8 snapshots of their
    weights, as in our defaults. It says how much of a result is the noise of a constant rate.
defaults
    Our defaults, with the start of the run.
short
    The same with a fifth of the budget, for data on which a search takes hours. The baselines
    are those of the defaults.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from data import SETS, Data, load
from sklearn.metrics import accuracy_score

sys.path.append(str(Path(__file__).parents[1]))

from resumable import cpu_seconds, exits_when_stopped, forget

from skectonas import PAPER_SETTINGS, ECToNASClassifier
from skectonas.morphisms import PAPER_MORPHISMS, AddCell

STARTS = ("small_ffnn", "medium_ffnn", "large_ffnn", "small_cnn", "medium_cnn", "large_cnn")
MODES = ("search", "random", "baseline")
BUDGET, BASELINE_EPOCHS = 1000, 200
SHORT = 0.2
"""Share of the budget that short searches have."""
RESULTS = Path(__file__).parents[1] / "results"


class Run(NamedTuple):
    """What is asked of a run. An alpha of 1 stands for none where there is no choice."""

    data: str
    settings: str
    mode: str
    alpha: float
    start: str
    seed: int


@exits_when_stopped()
def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(1)
    rows, curves = arguments.out / "paper.csv", arguments.out / "paper_curves.csv"
    for run in wanted(arguments):
        if run in done(rows):
            continue
        data = load(run.data, arguments.folder, run.seed)
        checkpoint = checkpoint_of(run, arguments)
        row, curve = measured(run, data, arguments.budget, checkpoint)
        append(curve, curves)  # first, so that a row has its curve
        append(pd.DataFrame([row]), rows)
        if checkpoint is not None:
            forget(checkpoint)
        print(row, flush=True)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", choices=SETS)
    parser.add_argument("--folder", type=Path, help="where the files are; without it, OpenML")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["paper"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--alphas", nargs="+", type=float, default=[1.0, 0.5, 0.0])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--seeds", type=int, default=3, help="their number")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=BUDGET)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser


def wanted(arguments: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs; an early end leaves the first seeds complete."""
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed, name, settings, mode in product(
        seeds, arguments.data, arguments.settings, arguments.modes
    ):
        if (settings, mode) == ("short", "baseline"):  # that of the defaults
            continue
        alphas = arguments.alphas if mode == "search" else [1.0]
        for alpha, start in product(alphas, arguments.starts):
            yield Run(name, settings, mode, alpha, start, seed)


def done(path: Path) -> set[Run]:
    if not path.exists():
        return set()
    asked = pd.read_csv(path)[list(Run._fields)]
    return {Run(*row) for row in asked.itertuples(index=False)}


def checkpoint_of(run: Run, arguments: argparse.Namespace) -> Path | None:
    """Return the file of an unfinished search. That of a baseline would not have its curve."""
    if run.mode == "baseline":
        return None
    folder = arguments.out / "unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{'-'.join(map(str, run))}-{arguments.budget:g}.ckpt"


def append(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        table = table[pd.read_csv(path, nrows=0).columns]
    table.to_csv(path, mode="a", header=not path.exists(), index=False)


def paper_settings(mode: str) -> dict[str, Any]:
    if mode == "baseline":  # the warm-up is a training with a constant rate
        return {**PAPER_SETTINGS, "warmup_epochs": BASELINE_EPOCHS}
    return dict(PAPER_SETTINGS)


def narrow_cells(mode: str) -> dict[str, Any]:
    morphisms = [AddCell(extra=(0,)) if isinstance(m, AddCell) else m for m in PAPER_MORPHISMS]
    return {**paper_settings(mode), "morphisms": morphisms}


def averaged(mode: str) -> dict[str, Any]:
    return {**paper_settings(mode), "averaging": 8}


def default_settings(mode: str) -> dict[str, Any]:
    return {"final_fraction": 1.0} if mode == "baseline" else {}


SETTINGS = {
    "paper": paper_settings,
    "narrow_cells": narrow_cells,
    "averaged": averaged,
    "defaults": default_settings,
    "short": default_settings,
}


class Recorder:
    """The accuracy as a score that notes its values, one for each epoch of a lone start."""

    __name__ = "accuracy"

    def __init__(self) -> None:
        self.values: list[float] = []

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        self.values.append(float(accuracy_score(y, estimator.predict(X))))
        return self.values[-1]


def shape_of(X: Any) -> tuple[int, int] | None:
    """Return the shape of a table as an image, which has no room for pieces of columns."""
    side = round(np.sqrt(X.shape[1]))
    return (side, side) if X.ndim == 2 else None


def measured(
    run: Run, data: Data, budget: float, checkpoint: Path | None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the row and the validation curve of a run."""
    recorder, extra = Recorder(), dict[str, Any]()
    if run.settings == "short":
        budget *= SHORT
    if run.mode == "baseline":
        budget, extra = BASELINE_EPOCHS, {"scoring": recorder}
    elif run.mode == "random":
        extra = {"selection": "random"}
    clf = ECToNASClassifier(
        **SETTINGS[run.settings](run.mode)
        | {"alpha": run.alpha, "budget": budget, "start": run.start, "random_state": run.seed}
        | {"column_order": "shuffled", "image_shape": shape_of(data.X_train), **extra}
        | {"checkpoint": checkpoint}
    )
    with cpu_seconds(checkpoint) as total:
        clf.fit(data.X_train, data.y_train)
        seconds = total()
    curve = curve_of(clf)
    if run.mode == "baseline":
        values = recorder.values[-BASELINE_EPOCHS:]  # before them, the score is tried
        start = curve.iloc[-1]
        curve = pd.DataFrame({"epoch": np.arange(1, len(values) + 1), "accuracy": values})
        curve = curve.assign(n_parameters=start["n_parameters"], morphism=start["morphism"])
    began_with_cells = "conv" in clf.lineage_["topology"].iloc[0]
    row = {
        **run._asdict(),
        "budget": budget,
        "test_accuracy": round(clf.score(data.X_test, data.y_test), 4),
        "n_parameters": clf.n_parameters_,
        "began_with_cells": began_with_cells,
        "ended_with_cells": bool(clf.best_topology_.cells),
        "crossed": began_with_cells != bool(clf.best_topology_.cells),
        "epochs": round(float(clf.lineage_["epochs_total"].iloc[-1]), 2),
        "generations": int(clf.history_["generation"].max()),
        "cpu_seconds": round(seconds, 1),
        "topology": str(clf.best_topology_),
    }
    curve = curve.assign(**run._asdict())
    return row, curve[[*Run._fields, "epoch", "accuracy", "n_parameters", "morphism"]]


def curve_of(clf: ECToNASClassifier) -> pd.DataFrame:
    """Return the validation accuracy along the way from the start to the winner."""
    last = clf.lineage_.set_index("candidate")["epochs_total"]
    history = clf.history_[clf.history_["candidate"].isin(last.index)]
    # A final training that was rejected is not part of the way.
    history = history[history["epochs_total"] <= history["candidate"].map(last) + 1e-9]
    names = {"epochs_total": "epoch", "validation_score": "accuracy"}
    columns = ["epoch", "accuracy", "n_parameters", "morphism"]
    return history.rename(columns=names)[columns].round(4).reset_index(drop=True)


if __name__ == "__main__":
    main()

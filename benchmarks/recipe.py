"""How the recipe was chosen: its settings on other rows, or other splits, than the results.

    python benchmarks/recipe.py fashion_5000 --what start --settings decay=0.001 decay=0.002
    python benchmarks/recipe.py digits numbers --settings default decay=0.002

Fashion-MNIST and Adult are cut from the training rows of those in `worth.py`. The generated
tables have other seeds, and the small data are split with other seeds.
Each run is a row of ``results/recipe.csv``, written as soon as it is done; runs of which there
are rows are not repeated. "start" trains the first start alone, "search" searches. The settings
are written as ``parameter=value``, joined by commas; "decay" is the weight decay, "shift" and
"flip" are those of `Augmentation`. The table has means, and the mean difference to the first
settings with its standard error.
"""

from __future__ import annotations

import argparse
import ast
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import worth
from datasets import adult, fashion_mnist
from resumable import append, exits_when_stopped, is_known
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier
from skectonas.topology import suitable_starts
from skectonas.training import Augmentation
from skectonas.training.defaults import MOMENTUM

OTHER_SEEDS = 100
FASHION_TEST_ROWS = 10_000


def load(name: str, seed: int, path: Path | None) -> worth.Data:
    """Return rows to train on and to test on, for the seed."""
    kind, _, size = name.partition("_")
    if kind == "fashion":
        X, y, _, _ = fashion_mnist()
        first = min(2 * FASHION_TEST_ROWS, len(X) - int(size))
        rows, held_out = slice(first, first + int(size)), slice(FASHION_TEST_ROWS)
        return X[rows], y[rows], X[held_out], y[held_out]
    if kind == "adult":
        X, y, _, _ = adult(path)
        X, X_test, y, y_test = train_test_split(
            X, y, test_size=10_000, random_state=seed, stratify=y
        )
        return X, y, X_test, y_test
    makers = {
        "digits": worth.digits,
        "numbers": worth.numbers,
        "cancer": worth.embedded(load_breast_cancer),
        "wine": worth.embedded(load_wine),
    }
    return makers[kind](OTHER_SEEDS + seed)


def parameters(settings: str) -> dict[str, Any]:
    """Return the parameters that settings stand for."""
    if settings == "default":
        return {}
    params = {}
    for setting in settings.split(","):
        name, _, value = setting.partition("=")
        params[name] = ast.literal_eval(value)
    if "decay" in params:
        params["optimizer_params"] = {**MOMENTUM, "weight_decay": params.pop("decay")}
    changes = {name: params.pop(name) for name in ("shift", "flip", "erase") if name in params}
    if changes:
        params["augmentation"] = Augmentation(**changes)
    return params


def measured(row: dict[str, Any], data: worth.Data) -> dict[str, Any]:
    """Return what a run gives."""
    X, y, X_test, y_test = data
    params = {key: row[key] for key in ("alpha", "budget")} | {"random_state": row["seed"]}
    if row["what"] == "start":
        encoder = ECToNASClassifier(budget=1).fit(X, y).encoder_
        start = suitable_starts(encoder.image_shape_, len(np.unique(y)), encoder.takes_images)
        params |= {"final_fraction": 1.0, "start": start[0]}
    clf = ECToNASClassifier(**params | parameters(row["settings"]))
    began = time.process_time()
    clf.fit(X, y)
    return {
        **row,
        "n_rows": len(y),
        "accuracy": round(clf.score(X_test, y_test), 4),
        "train_loss": round(float(clf.history_["train_loss"].iloc[-1]), 4),
        "n_parameters": clf.n_parameters_,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def summary(table: pd.DataFrame, first: str) -> str:
    """Return means, and differences to the first settings over the runs that both have."""
    lines = []
    for (data, what, alpha, budget), runs in table.groupby(["data", "what", "alpha", "budget"]):
        accuracy = runs.pivot_table(index="seed", columns="settings", values="accuracy")
        others = runs.groupby("settings")[["n_parameters", "cpu_seconds"]].mean()
        for settings in accuracy:
            difference = ""
            if first in accuracy and settings != first:
                gains = (accuracy[settings] - accuracy[first]).dropna()
                difference = f"{gains.mean():+.4f} ± {gains.sem():.4f}"
            size, seconds = others.loc[settings]
            lines.append(
                f"{data:14} {what:7} {alpha:4g} {budget:6g} {settings:30}"
                f"{accuracy[settings].mean():8.4f} {len(accuracy[settings].dropna()):3} seeds"
                f"{size:9.0f} {seconds:8.1f} s  {difference}"
            )
    return "\n".join(lines)


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "data", nargs="+", help="digits, cancer, wine, numbers, adult, fashion_N"
    )
    parser.add_argument("--settings", nargs="+", default=["default"])
    parser.add_argument("--what", choices=["search", "start"], default="search")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # an epoch is not enough to be better than a guess
    path = arguments.out / "recipe.csv"
    fixed = {name: getattr(arguments, name) for name in ("what", "alpha", "budget")}
    for seed in range(arguments.seeds):
        for data in arguments.data:
            for settings in arguments.settings:
                row = {"data": data, "settings": settings, "seed": seed, **fixed}
                if not is_known(path, row):
                    append(path, measured(row, load(data, seed, arguments.adult)))
    print(summary(pd.read_csv(path), arguments.settings[0]))


if __name__ == "__main__":
    main()

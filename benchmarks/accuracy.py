"""Accuracy and size of what the search finds, next to the unchanged start.

Each run is a row of ``results/accuracy_<data>.csv``, written as soon as it is done. The
unchanged start ("baseline") is trained alone, with the same settings and on the same rows, for
as many epochs as the weights of the winner were.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import adult, fashion_mnist
from resumable import exits_when_stopped
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier


def digits(seed: int, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Return digits as images, or as flat rows, 75 to 25, stratified."""
    bunch = load_digits()
    X, y = bunch.data if arguments.flat else bunch.images, bunch.target
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    return X_train, y_train, X_test, y_test


def fashion(seed: int, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Return Fashion-MNIST with the first training images."""
    train_x, train_y, test_x, test_y = fashion_mnist()
    return train_x[: arguments.rows], train_y[: arguments.rows], test_x, test_y


def census(seed: int, arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Return the raw Adult frame, official split."""
    return adult(arguments.adult)


DATA = {"digits": digits, "fashion": fashion, "adult": census}


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--start", default="auto")
    parser.add_argument("--rows", type=int, default=6_000, help="training images (fashion)")
    parser.add_argument("--flat", action="store_true", help="digits as a table of 64 columns")
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument(
        "--boosting", action="store_true", help="gradient boosting, for reference"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    name = "boosting" if arguments.boosting else "accuracy"
    flat = "_flat" if arguments.flat else ""
    path = arguments.out / f"{name}_{arguments.data}{flat}.csv"
    for seed in range(arguments.seeds):
        measure = boosting if arguments.boosting else runs
        for row in measure(seed, arguments):
            print(row, flush=True)
            pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
    table = pd.read_csv(path)
    keys = [key for key in ("start", "alpha", "budget", "what") if key in table]
    values = [value for value in ("test_accuracy", "n_parameters") if value in table]
    print(table.groupby(keys)[values].agg(["mean", "std"]).round(4).to_string())


def runs(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Search, then train the start alone for as long; yield a row for each."""
    settings: dict[str, Any] = {"start": arguments.start, "random_state": seed}
    X_train, y_train, X_test, y_test = DATA[arguments.data](seed, arguments)
    head = {"alpha": arguments.alpha, "budget": arguments.budget, "start": arguments.start}
    winner = ECToNASClassifier(arguments.alpha, arguments.budget, **settings)
    for what in ("winner", "baseline"):
        began = time.perf_counter()
        clf = winner
        if what == "baseline":
            epochs = winner.lineage_["epochs_total"].iloc[-1]
            clf = ECToNASClassifier(budget=epochs, final_fraction=1.0, **settings)
        clf.fit(X_train, y_train)
        yield head | {
            "what": what,
            "seed": seed,
            "test_accuracy": clf.score(X_test, y_test),
            "validation_score": clf.validation_score_,
            "n_parameters": clf.n_parameters_,
            "epochs_of_weights": clf.lineage_["epochs_total"].iloc[-1],
            "budget_spent": clf.history_["budget_spent"].iloc[-1],
            "seconds": round(time.perf_counter() - began, 1),
            "changes": " ".join(clf.lineage_["morphism"].iloc[1:]),
            "topology": str(clf.best_topology_),
        }


def boosting(seed: int, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for scikit-learn's gradient boosting with its defaults, on the same rows."""
    X_train, y_train, X_test, y_test = DATA[arguments.data](seed, arguments)
    if isinstance(X_train, pd.DataFrame):
        kinds = dict.fromkeys(X_train.select_dtypes(exclude="number"), "category")
        X_train, X_test = X_train.astype(kinds), X_test.astype(kinds)
    else:
        X_train, X_test = (X.reshape(len(X), -1) for X in (X_train, X_test))
    clf = HistGradientBoostingClassifier(random_state=seed).fit(X_train, y_train)
    accuracy = clf.score(X_test, y_test)
    yield {"what": "gradient boosting", "seed": seed, "test_accuracy": accuracy}


if __name__ == "__main__":
    main()

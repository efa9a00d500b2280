"""Which cells a start should have, on other rows, or other splits, than the results.

    python benchmarks/starts.py fashion_5000 --cells 12a-24a-32a 12m-24a-32a --budget 60
    python benchmarks/starts.py digits --cells 12a-24a 12m-24a --budget 300 --seeds 10

Starts are trained alone with our recipe. Their cells are written as numbers of channels, each
with a letter for the pooling: "a" for averages, "m" for maxima, "n" for none. Images of
Fashion-MNIST are others of the training images for each seed, and are tested on 10,000 that are
not among them; digits and MNIST are split with other seeds than those of `worth.py`. Each run
is a row of ``results/starts.csv``, written as soon as it is done; runs of which there are rows
are not repeated. The table has means, and the mean difference to the first start with its
standard error.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import worth
from datasets import fashion_mnist
from resumable import append, exits_when_stopped, is_known
from sklearn.metrics import log_loss

from skectonas import ConvCell, ECToNASClassifier, Topology
from skectonas.topology import Pooling

OTHER_SEEDS, FASHION_TEST_ROWS, FASHION_FIRST_ROW = 500, 10_000, 20_000
LETTERS: dict[str, Pooling | None] = {"a": "average", "m": "max", "n": None}


def load(name: str, seed: int) -> worth.Data:
    """Return rows to train on and to test on, for the seed."""
    kind, _, size = name.partition("_")
    if kind == "fashion":
        X, y, _, _ = fashion_mnist()
        n = int(size)
        first = min(FASHION_FIRST_ROW + n * seed, len(X) - n)
        rows, held_out = slice(first, first + n), slice(FASHION_TEST_ROWS)
        return X[rows], y[rows], X[held_out], y[held_out]
    return worth.DATA[kind][0](OTHER_SEEDS + seed)


def measured(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a run gives."""
    X, y, X_test, y_test = load(row["data"], row["seed"])
    cells = [ConvCell(int(cell[:-1]), LETTERS[cell[-1]]) for cell in row["cells"].split("-")]
    start = Topology((*X.shape[1:], 1), cells, [], len(np.unique(y)))
    began = time.process_time()
    clf = ECToNASClassifier(
        start=start, budget=row["budget"], final_fraction=1.0, random_state=row["seed"]
    ).fit(X, y)
    seconds = time.process_time() - began
    return {
        **row,
        "accuracy": round(clf.score(X_test, y_test), 4),
        "loss": round(log_loss(y_test, clf.predict_proba(X_test)), 4),
        "n_parameters": clf.n_parameters_,
        "cpu_seconds": round(seconds, 1),
    }


def summary(table: pd.DataFrame, first: str) -> pd.DataFrame:
    """Return means, and differences to the first start over the runs that both have."""
    rows = []
    for (data, budget), runs in table.groupby(["data", "budget"]):
        values = runs.pivot_table(["accuracy", "loss"], "seed", "cells")
        for cells, own in runs.groupby("cells"):
            row = {"data": data, "budget": budget, "cells": cells, "seeds": len(own)}
            for name in ("accuracy", "loss"):
                row[name] = own[name].mean()
                reference = values[name].get(first)
                if reference is not None:
                    gains = (values[name][cells] - reference).dropna()
                    row[f"{name}, gain"], row[f"{name}, se"] = gains.mean(), gains.sem()
            rows.append({**row, "cpu_seconds": own["cpu_seconds"].mean()})
    return pd.DataFrame(rows).round(4)


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="+", help="digits, mnist, fashion_N")
    parser.add_argument("--cells", nargs="+", default=["12a-24a-32a", "12m-24a-32a"])
    parser.add_argument("--budget", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = arguments.out / "starts.csv"
    for seed in range(arguments.seeds):
        for data in arguments.data:
            for cells in arguments.cells:
                row = {"data": data, "cells": cells, "budget": arguments.budget, "seed": seed}
                if not is_known(path, row):
                    append(path, measured(row))
    print(summary(pd.read_csv(path), arguments.cells[0]).to_string(index=False))


if __name__ == "__main__":
    main()

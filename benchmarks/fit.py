"""Whole fits: with the fused trainer, with two workers of it, and with the plain loop.

    OMP_NUM_THREADS=1 python benchmarks/fit.py [--budget 100] [--repeat 1] [--csv fit.csv]

Fashion-MNIST, 60,000 images of which 54,000 are trained on, `start="medium_cnn"`. Prints how
long each fit takes, how much of it is spent outside the trainer, and the accuracy; the rows are
written as they come.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import joblib
from datasets import fashion_mnist

import skectonas.fitting
from skectonas import ECToNASClassifier
from skectonas.training.plain import PlainTrainer


@contextmanager
def plain_loop() -> Iterator[None]:
    """Let the classifier train by the plain loop for a while."""
    fused = skectonas.fitting.FusedTrainer
    skectonas.fitting.FusedTrainer = lambda *arguments: PlainTrainer(*arguments[:4])
    try:
        yield
    finally:
        skectonas.fitting.FusedTrainer = fused


WAYS = {
    "fused": (nullcontext, 1),
    "two threads": (nullcontext, 2),
    "two processes": (partial(joblib.parallel_config, "loky"), 2),
    "plain": (plain_loop, 1),
}
"""How to train: a context, and `n_jobs` in it."""


def fit(budget: float, n_jobs: int, seed: int, rows: int) -> dict[str, Any]:
    """Fit once; return what is measured."""
    X, y, X_test, y_test = fashion_mnist()
    clf = ECToNASClassifier(
        budget=budget, start="medium_cnn", n_jobs=n_jobs, random_state=seed, device="cpu"
    )
    began = time.perf_counter()
    clf.fit(X[:rows], y[:rows])
    elapsed = time.perf_counter() - began
    outside = 1 - clf.history_["seconds"].sum() / elapsed
    return {
        "seconds": elapsed,
        "outside the trainer": outside,
        "test accuracy": clf.score(X_test, y_test),
        "parameters": clf.n_parameters_,
        "winner": str(clf.best_topology_),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=100)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--run", type=int, default=1, help="its number in a table of several")
    parser.add_argument("--csv", type=Path, default=Path("fit.csv"))
    arguments = parser.parse_args()
    columns = ["run", "way", "budget", "rows", "seed", "seconds", "outside the trainer"]
    columns += ["test accuracy", "parameters", "winner"]
    with arguments.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for seed in range(arguments.repeat):
            for way in arguments.ways:
                context, n_jobs = WAYS[way]
                with context():
                    found = fit(arguments.budget, n_jobs, seed, arguments.rows)
                row = {"run": arguments.run, "way": way, "budget": arguments.budget}
                row |= {"rows": arguments.rows, "seed": seed, **found}
                writer.writerow(row)
                file.flush()
                print(row, flush=True)


if __name__ == "__main__":
    main()

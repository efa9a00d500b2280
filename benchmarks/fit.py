"""Whole fits: with the native library and with torch, with one worker and with two.

    OMP_NUM_THREADS=1 python benchmarks/fit.py [--budget 100] [--repeat 1] [--csv fit.csv]
    OMP_NUM_THREADS=1 python benchmarks/fit.py --first > fit_first.csv

Fashion-MNIST, 60,000 images of which 54,000 are trained on, `start="medium_cnn"`. Prints how
long each fit takes, how much of it is spent outside the trainer and in its evaluations, and
the accuracy; the rows are written as they come. CPU seconds are those of all threads, and
depend less on what else the machine does. `--first` fits the digits of scikit-learn twice
instead, in a new process for each engine: the first fit imports more.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from datasets import fashion_mnist
from earlier import EARLIER
from sklearn.datasets import load_digits

import skectonas.fitting
from skectonas import ECToNASClassifier
from skectonas.population.native import training
from skectonas.population.native.library import VARIABLE
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


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Let this engine train for a while; an empty name means the best one."""
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


WAYS = {
    "native": ("", 1),
    "native, two threads": ("", 2),
    "native, AVX2": ("x86-64-v3", 1),
    "torch": ("torch", 1),
    "torch, two threads": ("torch", 2),
    "plain": ("", 1),
}
"""How to train: the engine, and `n_jobs`."""


@contextmanager
def time_of_evaluations() -> Iterator[list[float]]:
    """Collect the seconds of the evaluations of the native library."""
    times: list[float] = []
    evaluate = training._Training._evaluate

    def timed(*arguments: Any) -> None:
        began = time.perf_counter()
        evaluate(*arguments)
        times.append(time.perf_counter() - began)

    training._Training._evaluate = timed
    try:
        yield times
    finally:
        training._Training._evaluate = evaluate


def fit(budget: float, way: str, seed: int, rows: int) -> dict[str, Any]:
    """Fit once; return what is measured."""
    X, y, X_test, y_test = fashion_mnist()
    name, n_jobs = WAYS[way]
    clf = ECToNASClassifier(
        **EARLIER | {"start": "medium_cnn"},
        budget=budget,
        n_jobs=n_jobs,
        random_state=seed,
        device="cpu",
    )
    loop = plain_loop() if way == "plain" else nullcontext()
    with engine(name), loop, time_of_evaluations() as evaluations:
        began, cpu = time.perf_counter(), time.process_time()
        clf.fit(X[:rows], y[:rows])
        elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "seconds": elapsed,
        "cpu seconds": cpu,
        "outside the trainer": 1 - clf.history_["seconds"].sum() / elapsed,
        "evaluations": sum(evaluations) / elapsed if way.startswith("native") else None,
        "test accuracy": clf.score(X_test, y_test),
        "parameters": clf.n_parameters_,
        "winner": str(clf.best_topology_),
    }


def first_fits(engine: str) -> None:
    """Print lines of a table: two fits of the digits in this process."""
    X, y = load_digits(return_X_y=True)
    for name in ("first", "further"):
        began, cpu = time.perf_counter(), time.process_time()
        ECToNASClassifier(**EARLIER, budget=300, random_state=0).fit(X, y)
        elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"{engine},{name},{elapsed:.2f},{cpu:.2f}", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=100)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--run", type=int, default=1, help="its number in a table of several")
    parser.add_argument("--csv", type=Path, default=Path("fit.csv"))
    parser.add_argument("--first", action="store_true", help="fit the digits in new processes")
    parser.add_argument("--engine", help="fit the digits in this process, by this engine")
    arguments = parser.parse_args()
    if arguments.first:
        print("engine,fit,seconds,cpu seconds", flush=True)
        for name in ("", "torch"):
            subprocess.run([sys.executable, __file__, "--engine", name], check=True)
        return
    if arguments.engine is not None:
        with engine(arguments.engine):
            first_fits(arguments.engine or "native")
        return
    columns = ["run", "way", "budget", "rows", "seed", "seconds", "cpu seconds"]
    columns += ["outside the trainer", "evaluations", "test accuracy", "parameters", "winner"]
    with arguments.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for seed in range(arguments.repeat):
            for way in arguments.ways:
                found = fit(arguments.budget, way, seed, arguments.rows)
                row = {"run": arguments.run, "way": way, "budget": arguments.budget}
                row |= {"rows": arguments.rows, "seed": seed, **found}
                writer.writerow(row)
                file.flush()
                print(row, flush=True)


if __name__ == "__main__":
    main()

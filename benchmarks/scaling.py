"""Time and memory of a fit against rows, features, classes, budget, population and workers.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py [--csv scaling.csv]

One thing at a time is changed; all else stays as in `BASE`. Each fit runs in a process of its
own, which first fits a small set, so that what libraries keep does not count: the memory is
what the largest resident set grows by.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from earlier import EARLIER

from skectonas import ECToNASClassifier

SETTINGS = EARLIER | {"start": "medium_cnn", "random_state": 0}

BASE = {"rows": 4_000, "side": 28, "classes": 10, "budget": 60, "n_parents": 2, "n_jobs": 1}
CHANGES = {
    "rows": [1_000, 16_000, 64_000],
    "side": [8, 16, 56],
    "classes": [2, 50, 100],
    "budget": [30, 120, 240],
    "n_parents": [1, 4, 8],
    "n_jobs": [2],
}


def data(rows: int, side: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 8-bit images of blurred patterns, one for each class, in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    patterns = rng.integers(0, 128, (classes, side, side), dtype=np.uint8)
    return patterns[y] + rng.integers(0, 128, (rows, side, side), dtype=np.uint8), y


def run(case: dict[str, int]) -> dict[str, float]:
    """Fit once, after a small fit; return seconds and MB."""
    few = data(200, case["side"], 2)
    ECToNASClassifier(**SETTINGS, budget=12).fit(*few)
    X, y = data(case["rows"], case["side"], case["classes"])
    clf = ECToNASClassifier(
        budget=case["budget"],
        n_jobs=case["n_jobs"],
        **SETTINGS | {"n_parents": case["n_parents"], "warmup_epochs": 2, "round_epochs": 1},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    clf.fit(X, y)
    seconds = time.perf_counter() - began
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    most = clf.history_.groupby(["generation", "phase", "round"]).size().max()
    return {"seconds": seconds, "mb": grown / 1e3, "largest population": int(most)}


def cases() -> Iterator[tuple[str, dict[str, int]]]:
    """Yield what is changed, and the whole case."""
    for name, values in CHANGES.items():
        for value in sorted({*values, BASE[name]}):
            yield name, {**BASE, name: value}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", type=Path, default=Path("scaling.csv"))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(json.loads(arguments.run))))
        return
    known: dict[str, dict[str, float]] = {}
    with arguments.csv.open("w", newline="") as file:
        columns: list[Any] = ["changed", *BASE, "seconds", "mb", "largest population"]
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for name, case in cases():
            key = json.dumps(case)
            if key not in known:
                command = [sys.executable, __file__, "--run", key]
                found = subprocess.run(command, check=True, capture_output=True, text=True)
                known[key] = json.loads(found.stdout)
            row = {"changed": name, **case, **known[key]}
            print(row, flush=True)
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()

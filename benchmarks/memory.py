"""Peak memory of `fit` and `predict` next to the size of the data.

    python benchmarks/memory.py [--only uint8] [--scale 0.1] [--csv memory.csv]

Prints a table and writes it as CSV. Each case is a process of its own, which first fits a small
set of the same kind, so that libraries and allocators have what they keep, and then reports
itself ready; from there to the end its anonymous memory (RssAnon, Linux) is read every few
milliseconds from outside. The pages of a mapped file are not in it: the system takes them back
as soon as it needs them. The rows "few images" have next to no data: what they show is what the
population takes.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from earlier import EARLIER

from skectonas import ECToNASClassifier

SIDE, CLASSES = 28, 10
SECONDS = 0.002  # between two readings
BLOCK = 20_000  # rows that are drawn at once
FEW = 50  # rows of the small set

SHORT = {"budget": 12, "warmup_epochs": 1, "round_epochs": 1, "n_rounds": 1}
BRIEF = {"budget": 2, "warmup_epochs": 0.25, "round_epochs": 0.1, "n_rounds": 1}


@dataclass(frozen=True)
class Case:
    """A kind of data, how many rows of it, and what is done with them."""

    name: str
    rows: int
    make: Callable[[int, Path], Any]
    settings: dict[str, Any] = field(default_factory=lambda: SHORT)
    method: str = "fit"


@dataclass(frozen=True)
class Result:
    """One line of the table; sizes in MB, the peak is what comes on top of the data."""

    case: str
    method: str
    start: str
    rows: int
    data_mb: float
    peak_mb: float
    ratio: float
    bytes_per_row: float
    seconds: float


def filled(X: np.ndarray) -> np.ndarray:
    """Fill an array with pixels from 0 to 255, block by block."""
    rng = np.random.default_rng(0)
    for first in range(0, len(X), BLOCK):
        part = X[first : first + BLOCK]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    return X


def images(dtype: str) -> Callable[[int, Path], np.ndarray]:
    return lambda n, path: filled(np.empty((n, SIDE, SIDE), dtype))


def mapped(dtype: str) -> Callable[[int, Path], np.ndarray]:
    def make(n: int, path: Path) -> np.ndarray:
        file = path / f"{n}.dat"
        filled(np.memmap(file, dtype, "w+", shape=(n, SIDE, SIDE))).flush()
        return np.memmap(file, dtype, "r", shape=(n, SIDE, SIDE))

    return make


def table(n: int, path: Path) -> np.ndarray:
    return filled(np.empty((n, 50)))


def mapped_table(n: int, path: Path) -> np.ndarray:
    filled(np.memmap(path / f"{n}.dat", np.float64, "w+", shape=(n, 50))).flush()
    return np.memmap(path / f"{n}.dat", np.float64, "r", shape=(n, 50))


def frame(n: int, path: Path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    words = np.array([f"word {i}" for i in range(20)], dtype=object)
    columns: dict[str, Any] = {f"number {i}": rng.normal(size=n) for i in range(6)}
    columns |= {f"count {i}": rng.integers(0, 99, n) for i in range(4)}
    columns |= {f"word {i}": words[rng.integers(0, 20, n)] for i in range(2)}
    columns |= {f"kind {i}": pd.Categorical(words[rng.integers(0, 9, n)]) for i in range(2)}
    columns["number 0"][::7] = np.nan
    return pd.DataFrame(columns)


CNN = SHORT | {"start": "medium_cnn"}
CASES = [
    Case("few images", 2_000, images("uint8")),
    Case("few images", 2_000, images("uint8"), CNN),
    Case("few images, 2 threads", 2_000, images("uint8"), CNN | {"n_jobs": 2}),
    Case("uint8 images", 200_000, images("uint8")),
    Case("uint8 images", 200_000, images("uint8"), CNN),
    Case("float32 images", 100_000, images("float32")),
    Case("float64 images", 100_000, images("float64")),
    Case("float64 table", 500_000, table),
    Case("raw frame", 500_000, frame),
    Case("uint8 memmap", 5_000_000, mapped("uint8"), BRIEF),
    Case("float32 memmap", 1_300_000, mapped("float32"), BRIEF),
    Case("float64 table memmap", 8_000_000, mapped_table, BRIEF),
    Case("uint8 images", 200_000, images("uint8"), method="predict"),
    Case("float64 images", 100_000, images("float64"), method="predict"),
    Case("raw frame", 500_000, frame, method="predict"),
    Case("uint8 memmap", 1_000_000, mapped("uint8"), method="predict"),
]


def run(case: Case, rows: int, folder: Path) -> None:
    """Be the process of a case: make the data, wait, fit, report."""
    clf = ECToNASClassifier(**EARLIER | case.settings, random_state=0)
    clf.fit(case.make(FEW, folder), np.arange(FEW) % CLASSES)
    X, y = case.make(rows, folder), np.random.default_rng(0).integers(0, CLASSES, rows)
    if case.method == "predict":
        clf.predict_proba(X[:FEW])
    nbytes = int(X.memory_usage(deep=False).sum()) if isinstance(X, pd.DataFrame) else X.nbytes
    print("ready", flush=True)
    input()
    began = time.perf_counter()
    clf.fit(X, y) if case.method == "fit" else clf.predict_proba(X)
    print(json.dumps({"nbytes": nbytes, "seconds": time.perf_counter() - began}), flush=True)


def anonymous(pid: int) -> int:
    """Return the anonymous memory of a process in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0])


def measure(number: int, case: Case, scale: float) -> Result:
    """Run a case in a process of its own and watch its memory."""
    rows = int(case.rows * scale)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--run", str(number), str(rows), folder]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise RuntimeError(f"{case.name}: the process ended too early")
            before = peak = anonymous(child.pid)
            answers: list[str] = []
            reader = threading.Thread(target=lambda: answers.append(child.stdout.readline()))
            reader.start()
            print(file=child.stdin, flush=True)
            while reader.is_alive():
                peak = max(peak, anonymous(child.pid))
                time.sleep(SECONDS)
    answer = json.loads(answers[0])
    extra = peak - before
    return Result(
        case.name,
        case.method,
        case.settings.get("start", "small_ffnn"),
        rows,
        round(answer["nbytes"] / 1e6, 1),
        round(extra / 1e6, 1),
        round(extra / answer["nbytes"], 3),
        round(extra / rows, 1),
        round(answer["seconds"], 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="only cases with this in their name")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--csv", default="memory.csv", help="where the table is written")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        number, rows, folder = arguments.run
        run(CASES[int(number)], int(rows), Path(folder))
        return
    with open(arguments.csv, "w", newline="") as file:
        writer = csv.DictWriter(file, list(Result.__annotations__))
        writer.writeheader()
        names = f"{'data':26}{'method':>8}{'start':>12}{'rows':>10}{'data MB':>9}"
        print(f"{names}{'peak MB':>9}{'ratio':>8}{'B/row':>9}{'seconds':>9}")
        for number, case in enumerate(CASES):
            if arguments.only not in case.name:
                continue
            result = measure(number, case, arguments.scale)
            row = asdict(result)
            print(
                f"{result.case:26}{result.method:>8}{result.start:>12}{result.rows:>10}"
                f"{result.data_mb:>9.1f}{result.peak_mb:>9.1f}{result.ratio:>8.2f}"
                f"{result.bytes_per_row:>9.0f}{result.seconds:>9.1f}",
                flush=True,
            )
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()

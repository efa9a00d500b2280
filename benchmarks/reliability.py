"""Fuzzed calls, damaged and crafted files, interrupts, kills and time limits, in large numbers.

    python benchmarks/reliability.py [--csv reliability.csv] [--minutes 4] [--only KIND ...]

Each try has a number, which is the seed of all that is random in it. To repeat one, say
`--only calls --first 842 --tries 1`. The table has a row for each kind with the number
of tries, what came of them, and the violations of what docs/reliability.md promises. A run that
is given the table of an earlier one goes on where that one ended, and stops when the wanted
number of tries or the time is reached. The exit status is 1 if there is any violation.

The tests do the same with few tries: see tests/fuzzing.py.
"""

from __future__ import annotations

import argparse
import csv
import faulthandler
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fuzzing import (
    Violation,
    a_checkpoint,
    call_fit,
    continue_from_damaged,
    interrupt,
    load_crafted,
    load_damaged,
    saved_files,
)
from killing import KilledFit, Workers, limited_fit

WANTED = {"calls": 6_000, "damaged": 2_000, "crafted": 2_000, "interrupts": 2_000}
WANTED |= {"kills": 200, "kills with processes": 20, "kills with Dask": 20}
WANTED |= {"limits": 60, "damaged checkpoints": 1_000}
LONGEST = 120  # seconds of a try; a longer one hangs, and ends the run with a traceback
FIELDS = ("kind", "tries", "violations", "outcomes")

Try = Callable[[Random], str]


def tries(folder: Path) -> dict[str, Callable[[], Try]]:
    """Return what prepares a try of each kind."""

    def damaged() -> Try:
        files = saved_files(folder)
        return lambda random: load_damaged(random, files, folder)

    def crafted() -> Try:
        files = saved_files(folder)
        return lambda random: load_crafted(random, files, folder)

    def damaged_checkpoints() -> Try:
        whole = a_checkpoint(folder)
        return lambda random: continue_from_damaged(random, whole, folder)

    def interrupts() -> Try:
        _, n_lines = interrupt(Random(0))
        return lambda random: interrupt(random, n_lines)[0]

    def kills(workers: Workers) -> Try:
        fit = KilledFit(folder, workers)
        return lambda random: fit.attempt(random)

    def kills_with_dask() -> Try:
        from distributed import LocalCluster  # only needed here

        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
        return kills(Workers(2, "dask", cluster.scheduler_address))

    return {
        "kills": lambda: kills(Workers(2)),
        "kills with processes": lambda: kills(Workers(2, "loky")),
        "kills with Dask": kills_with_dask,
        "limits": lambda: limited_fit,
        "calls": lambda: call_fit,
        "damaged": damaged,
        "damaged checkpoints": damaged_checkpoints,
        "crafted": crafted,
        "interrupts": interrupts,
    }


def read(path: Path) -> dict[str, tuple[int, int, Counter[str]]]:
    """Return what an earlier run has found: tries, violations and outcomes of each kind."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {
            row["kind"]: (int(row["tries"]), int(row["violations"]), outcomes(row["outcomes"]))
            for row in csv.DictReader(file)
        }


def outcomes(text: str) -> Counter[str]:
    pairs = (part.rpartition(" ") for part in text.split("; ") if part)
    return Counter({name: int(n) for name, _, n in pairs})


def write(path: Path, found: dict[str, tuple[int, int, Counter[str]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for kind, (n, violations, counts) in found.items():
            text = "; ".join(f"{name} {number}" for name, number in counts.most_common())
            writer.writerow([kind, n, violations, text])


def run(one: Try, first: int, last: int, seconds: float) -> tuple[int, int, Counter[str]]:
    """Return the number of tries, that of violations, and the outcomes."""
    counts: Counter[str] = Counter()
    violations, seed, end = 0, first, time.monotonic() + seconds
    while seed < last and time.monotonic() < end:
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        try:
            counts[one(Random(seed))] += 1
        except Violation as violation:
            violations += 1
            print(f"  try {seed}: {violation}")
        except Exception as error:
            violations += 1
            print(f"  try {seed}: {type(error).__name__}: {error}")
        seed += 1
    faulthandler.cancel_dump_traceback_later()
    return seed - first, violations, counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", type=Path, default=ROOT / "benchmarks/results/reliability.csv")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--only", nargs="+", choices=list(WANTED), default=list(WANTED))
    parser.add_argument("--first", type=int, help="repeat from this try, and write nothing")
    parser.add_argument("--tries", type=int, help="of each kind, in place of the usual number")
    options = parser.parse_args()
    found = {} if options.first is not None else read(options.csv)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.only:
            done, violations, counts = found.get(kind, (0, 0, Counter()))
            first = done if options.first is None else options.first
            last = (options.first or 0) + (options.tries or WANTED[kind])
            seconds = 60 * options.minutes / len(options.only)
            n, more, new = run(tries(Path(folder))[kind](), first, last, seconds)
            found[kind] = done + n, violations + more, counts + new
            print(f"{kind}: {found[kind][0]} tries, {found[kind][1]} violations")
            if options.first is None:
                write(options.csv, found)
    return int(any(violations for _, violations, _ in found.values()))


if __name__ == "__main__":
    sys.exit(main())

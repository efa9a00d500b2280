"""What rounds need of the memory, beside what is estimated before they begin.

    OMP_NUM_THREADS=1 python benchmarks/needs.py [--only 0,3] [--csv needs.csv]

Each case is a process of its own, which first trains small candidates of the same kind, so that
libraries have what they keep. Then the system is told to forget the peak of its resident memory
(VmHWM, Linux), and is asked for it after the round.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.population import trainer as trainers
from skectonas.population.memory.needs import bytes_of
from skectonas.training import PLAIN_RECIPE, Rows, TrainingData, resolve_optimizer


@dataclass(frozen=True)
class Case:
    """A round: side and channels of the images, layers as in "32a 64m 64n", units."""

    engine: str
    side: int
    channels: int
    cells: str
    units: str
    n_candidates: int
    n_jobs: int = 1
    optimizer: str = "sgd"
    batch: int = 32


FORMS = [
    (28, 1, "", "1000", 8),
    (28, 1, "", "20000", 4),
    (28, 1, "32a 64a", "100", 8),
    (28, 1, "32m 64m", "100", 8),
    (64, 3, "64m 128m 128a", "500", 4),
    (112, 3, "32a 64m", "10", 2),
    (28, 1, "12m 12n 24a 32a", "", 16),
    (64, 3, "32n 64n", "50", 4),
]
CASES = [
    *(Case(engine, *form) for engine in ("native", "torch") for form in FORMS),
    *(Case(engine, *FORMS[3], n_jobs=2) for engine in ("native", "torch")),
    *(
        Case(engine, *FORMS[1], 1, name)
        for engine in ("native", "torch")
        for name in ("adam", "rmsprop")
    ),
    *(Case(engine, *FORMS[0], 1, "adafactor") for engine in ("native", "torch")),
    *(Case(engine, *FORMS[3], batch=256) for engine in ("native", "torch")),
]


POOLINGS = {"a": "average", "m": "max", "n": None}


def topology(case: Case, *, small: bool = False) -> Topology:
    cells = [
        ConvCell(1 if small else int(cell[:-1]), POOLINGS[cell[-1]])
        for cell in case.cells.split()
    ]
    dense = [Dense(2 if small else int(n)) for n in case.units.split()]
    return Topology((case.side, case.side, case.channels), cells, dense, 10)


def run(case: Case) -> None:
    """Be the process of a case; print the estimate and the memory that the round took."""
    rng = np.random.default_rng(0)

    def rows(n: int) -> Rows:
        images = rng.integers(0, 256, (n, case.side, case.side, case.channels), np.uint8)
        return Rows(torch.from_numpy(images), torch.from_numpy(rng.integers(0, 10, n)))

    data = TrainingData(rows(1500), rows(1200), batch_size=case.batch)
    optimizer = resolve_optimizer(case.optimizer, 0.001)
    trainer = FusedTrainer(data, optimizer, lambda p: float(p[:, 0].mean()), 8, case.n_jobs)

    def train(form: Topology) -> int:
        weights = initial_weights(form, rng)
        given = [Candidate(i, form, weights) for i in range(case.n_candidates)]
        this = trainers._Round(
            given, [4] * len(given), (0,), PLAIN_RECIPE, math.inf, case.batch
        )
        need_of = trainer._need_of(this, case.n_jobs)
        needs = list(map(need_of, trainer._plan(this, range(len(given)))))
        Path("/proc/self/clear_refs").write_text("5")
        trainer.train(given, [4] * len(given), (0,))
        return bytes_of(needs, case.n_jobs)

    train(topology(case, small=True))
    before = resident("VmRSS")
    estimated = train(topology(case))
    print(json.dumps([estimated, resident("VmHWM") - before]))


def resident(name: str) -> int:
    """Return the memory of this process, or its peak, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


def measure(number: int, case: Case) -> dict[str, object]:
    """Run a case in a process of its own."""
    engine = {"SKECTONAS_CPU_ENGINE": "torch"} if case.engine == "torch" else {}
    found = subprocess.run(
        [sys.executable, __file__, "--run", str(number)],
        env=os.environ | engine,
        check=True,
        capture_output=True,
        text=True,
    )
    estimated, taken = json.loads(found.stdout)
    return {
        **asdict(case),
        "estimated_mb": round(estimated / 1e6, 1),
        "taken_mb": round(taken / 1e6, 1),
        "ratio": round(estimated / taken, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="numbers of cases, with commas")
    parser.add_argument("--csv", type=Path, default=Path("needs.csv"))
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run is not None:
        run(CASES[arguments.run])
        return
    wanted = [int(n) for n in arguments.only.split(",") if n] or range(len(CASES))
    with arguments.csv.open("w", newline="") as file:
        writer = None
        for number in wanted:
            row = measure(number, CASES[number])
            print(*row.values(), sep="\t", flush=True)
            writer = writer or csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()

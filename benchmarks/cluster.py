"""What workers gain: one search over a cluster, and many searches over a cluster.

    OMP_NUM_THREADS=1 python benchmarks/cluster.py [--budget 100] [--csv cluster.csv]

First a search is run with one worker, and each candidate of each round is timed on its own, in
CPU time. A simulation replays the rounds for as many workers as no machine here has: the
candidates are divided among them as the trainer divides them, and each round pays the CPU time
that Dask was measured to take in the client for sending candidates and bringing them back. The
same is done with the fits of a grid search, which workers take one by one. Then the same
searches run with threads, with processes and with workers of Dask on this machine, in
alternation; `--workers` without numbers leaves this out.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from datasets import fashion_mnist
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

import skectonas.fitting
from skectonas import ECToNASClassifier
from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer
from skectonas.population.groups.grouping import Group, bundles_of

BATCH = 32
SIMULATED = (1, 2, 4, 8, 16, 32, 64)
N_FITS = 64


@dataclass(frozen=True)
class TimedRound:
    """The candidates of a round, and the CPU seconds that each took."""

    candidates: list[Candidate]
    seconds: list[float]

    def bundles(self, n_workers: int) -> list[list[int]]:
        """Return the indices of the candidates that each worker trains."""
        groups = [Group(c.topology, (i,)) for i, c in enumerate(self.candidates)]
        if n_workers == 1:
            return [list(range(len(groups)))]
        return [
            [group.members[0] for group in bundle]
            for bundle in bundles_of(groups, BATCH, n_workers)
        ]


@dataclass(frozen=True)
class Overhead:
    """What Dask takes for a round: once, and for each of its tasks."""

    of_round: float
    of_task: float


class TimingTrainer(FusedTrainer):
    """Trains candidates one by one, and keeps their times."""

    rounds: list[TimedRound]

    def train(self, candidates: Any, n_steps: Any, *others: Any, **more: Any) -> Any:
        trained, seconds = [], []
        for candidate, steps in zip(candidates, n_steps, strict=True):
            began = time.process_time()
            trained += super().train([candidate], [steps], *others, **more)
            seconds.append(time.process_time() - began)
        self.rounds.append(TimedRound(list(candidates), seconds))
        return trained


def recorded(clf: ECToNASClassifier, X: Any, y: Any) -> tuple[list[TimedRound], float]:
    """Return the rounds of a search, and the CPU seconds outside of them."""
    TimingTrainer.rounds = []
    original = skectonas.fitting.FusedTrainer
    skectonas.fitting.FusedTrainer = TimingTrainer
    began = time.process_time()
    try:
        clone(clf).fit(X, y)
    finally:
        skectonas.fitting.FusedTrainer = original
    total = time.process_time() - began
    rounds = TimingTrainer.rounds
    return rounds, total - sum(sum(r.seconds) for r in rounds)


def fits_of(grid: GridSearchCV, X: Any, y: Any) -> Iterator[Callable[[], Any]]:
    """Yield the fits of a grid search."""
    for parameters in ParameterGrid(grid.param_grid):
        for train, _ in StratifiedKFold(grid.cv).split(X, y):
            clf = clone(grid.estimator).set_params(**parameters)
            yield partial(clf.fit, X[train], y[train])


def cpu_time_of(function: Callable[[], Any]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def simulated(
    rounds: Sequence[TimedRound], rest: float, n_workers: int, overhead: Overhead
) -> float:
    """Return the seconds of a search with so many workers."""
    total = rest
    for own in rounds:
        bundles = own.bundles(n_workers)
        total += max(sum(own.seconds[i] for i in bundle) for bundle in bundles)
        if n_workers > 1:
            total += overhead.of_round + len(bundles) * overhead.of_task
    return total


def simulated_fits(seconds: Sequence[float], n_workers: int, overhead: Overhead) -> float:
    """Return the seconds of some fits, each of which the next free worker takes."""
    if n_workers == 1:
        return sum(seconds)
    free = [0.0] * n_workers
    for own in seconds:
        heapq.heappush(free, heapq.heappop(free) + own + overhead.of_task)
    return max(free) + overhead.of_round


def measured_overhead(rounds: Sequence[TimedRound], repeats: int) -> Overhead:
    """Return what tasks of Dask take that send candidates and bring them back, untrained.

    It is the CPU time of this process, which has the client and the scheduler: workers wait for
    it, while what they do themselves is done side by side.
    """
    largest = max(rounds, key=lambda r: len(r.candidates)).candidates

    def seconds(n_tasks: int) -> float:
        parts = [largest[i::n_tasks] for i in range(n_tasks)]
        calls = [joblib.delayed(returned)(part) for part in parts]
        return cpu_time_of(lambda: joblib.Parallel(n_jobs=2)(calls))

    largest = (largest * 4)[: max(len(largest), 16)]
    few, many = 2, len(largest)
    with dask(2), joblib.parallel_config("dask"):
        seconds(many)
        times = {
            n: statistics.median(seconds(n) for _ in range(4 * repeats)) for n in (few, many)
        }
    of_task = max(times[many] - times[few], 0) / (many - few)
    return Overhead(max(times[few] - few * of_task, 0), of_task)


def returned(candidates: list[Candidate]) -> list[Candidate]:
    return candidates


@contextmanager
def dask(n_workers: int) -> Iterator[None]:
    """Start workers of Dask, each a process with one thread."""
    cluster = LocalCluster(
        n_workers=n_workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    with cluster, Client(cluster):
        yield


def timed(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def ways(n_workers: Sequence[int]) -> Iterator[tuple[str, int]]:
    yield "one thread", 1
    for n in n_workers:
        yield from (("threads", n), ("processes", n), ("Dask", n))


def measured(
    fit: Callable[[int], Any], n_workers: Sequence[int], repeats: int
) -> dict[tuple[str, int], float]:
    """Return the median time of each way, which are tried in alternation."""
    times: dict[tuple[str, int], list[float]] = {way: [] for way in ways(n_workers)}
    for _ in range(repeats):
        for name, n in times:
            if name == "Dask":
                with dask(n), joblib.parallel_config("dask"):
                    joblib.Parallel(n_jobs=n)(joblib.delayed(warm)() for _ in range(2 * n))
                    times[name, n].append(timed(lambda n=n: fit(n)))
                continue
            backend = "loky" if name == "processes" else "threading"
            with joblib.parallel_config(backend):
                if name == "processes":
                    joblib.Parallel(n_jobs=n)(joblib.delayed(warm)() for _ in range(2 * n))
                times[name, n].append(timed(lambda n=n: fit(n)))
    return {way: statistics.median(own) for way, own in times.items()}


def warm() -> None:
    """Import what a worker needs."""
    importlib.import_module("skectonas.population")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=100)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--csv", type=Path, default=Path("cluster.csv"))
    arguments = parser.parse_args()
    X, y, *_ = fashion_mnist()
    X, y = X[: arguments.rows], y[: arguments.rows]
    with arguments.csv.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "way", "workers", "seconds", "speedup"])

        def write(what: str, way: str, n_workers: int, seconds: float, alone: float) -> None:
            row = (what, way, n_workers, round(seconds, 3), round(alone / seconds, 2))
            print(*row, sep="\t", flush=True)
            writer.writerow(row)
            file.flush()

        overhead: Overhead | None = None
        for n_parents in (2, 8):
            what = f"one search, n_parents={n_parents}"
            clf = ECToNASClassifier(
                budget=arguments.budget, n_parents=n_parents, random_state=0
            )
            rounds, rest = recorded(clf, X, y)
            if overhead is None:
                overhead = measured_overhead(rounds, arguments.repeats)
                for name in ("of_round", "of_task"):
                    writer.writerow(["Dask", name, "", round(getattr(overhead, name), 5), ""])
                    print("Dask", name, getattr(overhead, name), flush=True)
            sizes = [len(r.candidates) for r in rounds]
            writer.writerow([what, "candidates of a round", "", " ".join(map(str, sizes)), ""])
            print(what, sizes, "outside of rounds:", rest, flush=True)
            alone = simulated(rounds, rest, 1, overhead)
            for n in SIMULATED:
                write(what, "simulated", n, simulated(rounds, rest, n, overhead), alone)
            if n_parents == 2 and arguments.workers:
                times = measured(
                    lambda n, clf=clf: clone(clf).set_params(n_jobs=n).fit(X, y),
                    arguments.workers,
                    arguments.repeats,
                )
                for (way, n), seconds in times.items():
                    write(what, way, n, seconds, times["one thread", 1])
        assert overhead is not None
        clf = ECToNASClassifier(budget=arguments.budget / 4)
        grid = GridSearchCV(
            clf, {"alpha": [0.5, 1.0], "random_state": [0, 1]}, cv=2, refit=False
        )
        fits = np.resize([cpu_time_of(fit) for fit in fits_of(grid, X, y)], N_FITS)
        for n in SIMULATED:
            seconds = simulated_fits(fits, n, overhead)
            write(f"{N_FITS} searches", "simulated", n, seconds, float(fits.sum()))
        if not arguments.workers:
            return
        times = measured(
            lambda n: clone(grid).set_params(n_jobs=n).fit(X, y),
            arguments.workers,
            arguments.repeats,
        )
        for (way, n), seconds in times.items():
            write("a grid of 8 searches", way, n, seconds, times["one thread", 1])


if __name__ == "__main__":
    main()

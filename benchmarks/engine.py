"""Fused trainer against the plain loop and skorch, in one thread and process, in alternation.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--csv engine.csv]

Prints a table and writes it as CSV. Times are milliseconds per 1,000 samples and candidate;
skorch trains the candidates one by one, as the plain loop does. GFLOP/s counts the operations
of a plain implementation, including those that folding saves, so it may exceed that of `sgemm`.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from skorch import NeuralNetClassifier

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import build, initial_weights
from skectonas.population import FusedTrainer
from skectonas.surroundings import one_thread
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import Key, PlainTrainer, Trainer, resolve_optimizer

CLASSES = 10


@dataclass(frozen=True)
class Shape:
    """A topology to measure, and the ratio that is aimed at with 16 candidates, batch 32."""

    name: str
    topology: Topology
    target: float | None = None


def network(shape: tuple[int, int, int], cells: str, units: tuple[int, ...]) -> Topology:
    """Return a topology; cells as "3a 6m": channels, then average or max."""
    pooling = {"a": "average", "m": "max"}
    return Topology(
        shape,
        [ConvCell(int(cell[:-1]), pooling[cell[-1]]) for cell in cells.split()],
        [Dense(n) for n in units],
        CLASSES,
    )


GREY, COLOUR, TABLE = (28, 28, 1), (32, 32, 3), (10, 10, 1)
SHAPES = [
    Shape("dense 10", network(GREY, "", (10,)), 12),
    Shape("dense 10,10", network(GREY, "", (10, 10)), 12),
    Shape("dense 10,10", network(TABLE, "", (10, 10)), 15),
    Shape("dense 100,50,10", network(GREY, "", (100, 50, 10)), 3),
    Shape("cells 3,6 avg dense 10,10", network(GREY, "3a 6a", (10, 10)), 8),
    Shape("cells 3,6 max dense 10,10", network(GREY, "3m 6m", (10, 10)), 5),
    Shape("cells 3,6,9 avg dense 10", network(COLOUR, "3a 6a 9a", (10,)), 6),
    Shape("cell 3 avg dense 10", network(TABLE, "3a", (10,)), 10),
    Shape("cell 3 avg dense 100,50,10", network(GREY, "3a", (100, 50, 10))),
    Shape("cells 3,6,9 max dense 10", network(COLOUR, "3m 6m 9m", (10,))),
]


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    shape: str
    input: str
    population: int
    batch: int
    skorch_ms: float
    plain_ms: float
    fused_ms: float
    over_skorch: float
    ratio: float
    target: float | None
    gflops: float
    sgemm_gflops: float


def flops(topology: Topology) -> float:
    """Return the operations that a plain training step spends on one row."""
    total = 0.0
    for i, (before, after) in enumerate(
        zip(topology.channels, topology.channels[1:], strict=False)
    ):
        height, width = topology.map_sizes[i]
        total += 2 * 9 * before * after * height * width * (3 if i else 2)
    for i, (before, after) in enumerate(
        zip(topology.widths, topology.widths[1:], strict=False)
    ):
        total += 2 * before * after * (3 if i or topology.cells else 2)
    return total


def synthetic(topology: Topology, batch: int, n_steps: int) -> TrainingData:
    """Return 8-bit images and labels drawn at random, enough for `n_steps` batches."""
    rng = np.random.default_rng(0)
    shape = (batch * n_steps, *topology.input_shape)
    rows = Rows(
        torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)),
        torch.from_numpy(rng.integers(0, CLASSES, shape[0])),
    )
    few = Rows(rows.images[:1], rows.labels[:1])
    return TrainingData(rows, few, PixelScaling(scale=(1 / 255,)), batch_size=batch)


class Timing:
    """The best times of a short and a long training; their difference is that of the steps."""

    def __init__(self, trainer: Trainer, population: list[Candidate]) -> None:
        self.trainer, self.population = trainer, population

    def begin(self, n_steps: int) -> None:
        """Reset the best times, and measure trainings of `n_steps` steps from now on."""
        self.n_steps = n_steps
        self.best = {1: np.inf, n_steps + 1: np.inf}

    def measure(self) -> None:
        """Measure both times again."""
        for steps in self.best:
            start = time.perf_counter()
            self.trainer.train(self.population, [steps] * len(self.population), (0,))
            self.best[steps] = min(self.best[steps], time.perf_counter() - start)

    @property
    def per_step(self) -> float:
        """Return the seconds of one further step."""
        return (self.best[self.n_steps + 1] - self.best[1]) / self.n_steps


class SkorchTrainer:
    """One candidate after the other with skorch: the same module, optimiser and batches."""

    def __init__(self, data: TrainingData) -> None:
        self._images = data.scaled(data.train.images, torch.float32).numpy()
        self._labels, self._batch_size = data.train.labels.numpy(), data.batch_size

    def train(
        self, candidates: Sequence[Candidate], n_steps: Sequence[int], key: Key
    ) -> list[Candidate]:
        """Train for `n_steps` batches; the candidates are not changed."""
        for candidate, steps in zip(candidates, n_steps, strict=True):
            net = NeuralNetClassifier(
                build(candidate.topology, candidate.weights),
                criterion=torch.nn.CrossEntropyLoss,
                lr=0.01,
                batch_size=self._batch_size,
                train_split=None,
                callbacks=None,
                verbose=0,
            )
            rows = steps * self._batch_size
            net.fit(self._images[:rows], self._labels[:rows], epochs=1)
        return list(candidates)


def measure(shape: Shape, population: int, batch: int, budget: float, sgemm: float) -> Result:
    """Time both trainers in alternation and keep the best of each."""
    topology = shape.topology
    rng = np.random.default_rng(1)
    candidates = [
        Candidate(i, topology, initial_weights(topology, rng)) for i in range(population)
    ]
    optimizer = resolve_optimizer("sgd", 0.01)

    def score(probabilities: np.ndarray) -> float:
        return float(probabilities[0, 0])

    data = synthetic(topology, batch, 400)
    trainers = {
        "plain": PlainTrainer(data, optimizer, score),
        "fused": FusedTrainer(data, optimizer, score),
        "skorch": SkorchTrainer(data),
    }
    timings = {name: Timing(trainer, candidates) for name, trainer in trainers.items()}
    for timing in timings.values():
        timing.begin(4)
        timing.measure()
        timing.begin(int(np.clip(budget / 6 / max(timing.per_step, 1e-6), 8, 300)))
    for _ in range(3):
        for timing in timings.values():
            timing.measure()
    best = {name: timing.per_step for name, timing in timings.items()}
    samples = population * batch
    return Result(
        shape.name,
        "x".join(map(str, topology.input_shape)),
        population,
        batch,
        best["skorch"] / samples * 1e6,
        best["plain"] / samples * 1e6,
        best["fused"] / samples * 1e6,
        best["skorch"] / best["fused"],
        best["plain"] / best["fused"],
        shape.target if (population, batch) == (16, 32) else None,
        flops(topology) * samples / best["fused"] / 1e9,
        sgemm,
    )


def rate(call: Callable[[], object], amount: float) -> float:
    """Return the best of several rates of a call, in units of 10^9 a second."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return amount / min(times) / 1e9


def machine_rates() -> tuple[float, float]:
    """Measure matrix product and copy, in GFLOP/s and GB/s."""
    n = 1024
    a, b, c = (torch.ones(n, n) for _ in range(3))
    sgemm = rate(lambda: torch.mm(a, b, out=c), 2 * n**3)
    x = torch.ones(2**25)
    y = torch.empty_like(x)
    copy = rate(lambda: y.copy_(x), 2 * 4 * 2**25)
    return sgemm, copy


def line(result: Result) -> str:
    """Return a result as a line of the table."""
    aim = "" if result.target is None else f"{result.target:g}x"
    return (
        f"{result.shape:28}{result.input:>9}{result.population:>5}{result.batch:>6}"
        f"{result.skorch_ms:>10.2f}"
        f"{result.plain_ms:>10.2f}{result.fused_ms:>10.3f}{result.over_skorch:>8.1f}x"
        f"{result.ratio:>8.1f}x{aim:>6}"
        f"{result.gflops:>8.1f}"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="batch 32; 1 and 16 candidates")
    parser.add_argument("--only", default="", help="only shapes with this in their name")
    parser.add_argument("--csv", default="engine.csv", help="where the table is written")
    arguments = parser.parse_args()
    populations, batches = ([1, 16], [32]) if arguments.quick else ([1, 4, 16, 32], [32, 128])
    shapes = [shape for shape in SHAPES if arguments.only in shape.name]
    budget = 1.5 if arguments.quick else 3.0
    with one_thread(), open(arguments.csv, "w", newline="") as file:
        sgemm, copy = machine_rates()
        print(f"sgemm {sgemm:.0f} GFLOP/s, copy {copy:.1f} GB/s (read and written)")
        print(
            f"{'shape':28}{'input':>9}{'n':>5}{'batch':>6}{'skorch':>10}{'plain':>10}{'fused':>10}"
            f"{'/ skorch':>9}{'/ plain':>9}{'aim':>6}{'GFLOP/s':>8}"
        )
        writer = csv.DictWriter(file, list(Result.__annotations__))
        writer.writeheader()
        for shape in shapes:
            for population in populations:
                for batch in batches:
                    result = measure(shape, population, batch, budget, sgemm)
                    print(line(result), flush=True)
                    writer.writerow(asdict(result))
                    file.flush()


if __name__ == "__main__":
    main()

"""The engines of the fused trainer against other ways to train a population, in one thread.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--csv engine.csv]

Prints a table and writes it as CSV: milliseconds of CPU time for 1,000 rows and one candidate,
measured in alternation. The CPU time of one thread depends less than the time of day on what
else the machine does. The rivals:

- `native`, `avx2`: the native library, by its best variant and by that for AVX2;
- `torch`: the engine without the library, which trains stacks of similar candidates;
- `vmap`: a population in plain torch, `torch.func.vmap` over the candidates of a topology;
- `plain`: one candidate after the other, the oracle of all tests;
- `skorch`: the same with skorch.

`limit` is the time of the multiplications that a step needs, at the rate of a large product of
matrices: a lower bound for all of them.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import Tensor

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import build, initial_weights
from skectonas.population import FusedTrainer
from skectonas.population.native.library import VARIABLE
from skectonas.surroundings import one_thread
from skectonas.topology import Pooling
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import Key, PlainTrainer, Trainer, resolve_optimizer

CLASSES = 10
POOLINGS: dict[str, Pooling | None] = {"a": "average", "m": "max", "n": None}


RATE = 0.01


@dataclass(frozen=True)
class Shape:
    """A population to measure: its topologies take turns."""

    name: str
    topologies: tuple[Topology, ...]


def network(shape: tuple[int, int, int], cells: str, units: tuple[int, ...]) -> Topology:
    """Return a topology; cells as "3a 6m 6n": channels, then average, max or no pooling."""
    return Topology(
        shape,
        [ConvCell(int(cell[:-1]), POOLINGS[cell[-1]]) for cell in cells.split()],
        [Dense(n) for n in units],
        CLASSES,
    )


GREY, COLOUR, TABLE = (28, 28, 1), (32, 32, 3), (10, 10, 1)


def shape(size: tuple[int, int, int], cells: str, units: tuple[int, ...]) -> Shape:
    """Return a population of one topology, named by its layers."""
    parts = []
    if cells:
        channels = ",".join(cell[:-1] for cell in cells.split())
        kinds = [POOLINGS[cell[-1]] or "none" for cell in cells.split()]
        kinds = kinds[:1] if len(set(kinds)) == 1 else kinds
        parts.append(f"cells {channels} {','.join(kinds)}")
    if units:
        parts.append("dense " + ",".join(map(str, units)))
    return Shape(" ".join(parts), (network(size, cells, units),))


MIXED = tuple(
    network(GREY, cells, units)
    for cells, units in (
        ("3a 6a", (10, 10)),
        ("6a 6a", (10,)),
        ("3m 6a", (10, 10)),
        ("6m", (20,)),
        ("", (10, 10)),
        ("3a", (30,)),
        ("12a 6a", (10,)),
        ("4a 8m", (10,)),
    )
)
SHAPES = [
    shape(GREY, "", (10,)),
    shape(GREY, "", (100, 50, 10)),
    shape(GREY, "", (200, 100)),
    shape(GREY, "3a 6a", (10, 10)),
    shape(GREY, "3m 6m", (10, 10)),
    shape(COLOUR, "3a 6a 9a", (10,)),
    shape(COLOUR, "3m 6m 9m", (10,)),
    shape(TABLE, "3a", (10,)),
    shape(GREY, "12a", ()),
    shape(GREY, "24m", ()),
    shape(GREY, "12a 24a", (50,)),
    shape(GREY, "12m 24m", (50,)),
    shape(GREY, "32m 64m", ()),
    shape(GREY, "12m 12n 24a 32a", ()),
    shape(GREY, "12m 24n 24n", ()),
    Shape("mixed", MIXED),
]
RIVALS = ("native", "avx2", "torch", "vmap", "plain", "skorch")
ENGINES = {"native": "", "avx2": "x86-64-v3", "torch": "torch"}


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    shape: str
    input: str
    population: int
    batch: int
    native: float
    avx2: float
    torch: float
    vmap: float
    plain: float
    skorch: float
    limit: float
    sgemm_gflops: float


def multiplications(topology: Topology) -> float:
    """Return how many a step needs for one row.

    Average pooling is folded into the convolution. Max pooling needs all four positions of a
    window in the forward pass and for the gradient of the input, but one for that of the
    kernel. Cells without pooling have a window for each pixel.
    """
    total = 0.0
    for i, cell in enumerate(topology.cells):
        height, width = topology.map_sizes[i + 1]
        kernel = 9 * topology.channels[i] * cell.channels * height * width
        # Four outputs take 16 multiplications by minimal filtering, 36 without it.
        positions = 16 / 9 if min(topology.channels[i], cell.channels) >= 6 else 4
        if cell.pooling == "max":
            total += kernel * (positions + 1 + (positions if i else 0))
        elif cell.pooling is None:
            total += kernel * (positions / 4 + 1 + (positions / 4 if i else 0))
        else:
            total += kernel * (3 if i else 2)
    for i, (before, after) in enumerate(
        zip(topology.widths, topology.widths[1:], strict=False)
    ):
        total += before * after * (3 if i or topology.cells else 2)
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
            start = time.process_time()
            self.trainer.train(self.population, [steps] * len(self.population), (0,))
            self.best[steps] = min(self.best[steps], time.process_time() - start)

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
                lr=RATE,
                batch_size=self._batch_size,
                train_split=None,
                callbacks=None,
                verbose=0,
            )
            rows = steps * self._batch_size
            net.fit(self._images[:rows], self._labels[:rows], epochs=1)
        return list(candidates)


class VmapTrainer:
    """The candidates of each topology as one network in plain torch, `torch.func.vmap`."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def train(
        self, candidates: Sequence[Candidate], n_steps: Sequence[int], key: Key
    ) -> list[Candidate]:
        """Train for `n_steps` batches; the candidates are not changed."""
        order = self._data.batches(max(n_steps), key)[:]
        topologies = {candidate.topology: None for candidate in candidates}
        for topology in topologies:
            own = [candidate for candidate in candidates if candidate.topology == topology]
            self._train(own, order)
        return list(candidates)

    def _train(self, candidates: Sequence[Candidate], order: Tensor) -> None:
        networks = [build(c.topology, c.weights) for c in candidates]
        for net in networks:
            torch.func.replace_all_batch_norm_modules_(net)
        weights, _ = torch.func.stack_module_state(networks)

        def loss_of(own: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            logits = torch.func.functional_call(networks[0], own, (images,))
            return torch.nn.functional.cross_entropy(logits, labels)

        gradients_of = torch.func.vmap(
            torch.func.grad_and_value(loss_of), in_dims=(0, None, None)
        )
        train = self._data.train
        for rows in order:
            images = self._data.scaled(train.take(rows), torch.float32)
            gradients, _ = gradients_of(weights, images, train.labels[rows])
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.sub_(gradients[name], alpha=RATE)


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Let trainers that are made meanwhile use this engine."""
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


def trainer_of(rival: str, data: TrainingData) -> Trainer:
    """Return the trainer of a rival."""

    def score(probabilities: np.ndarray) -> float:
        return float(probabilities[0, 0])

    optimizer = resolve_optimizer("sgd", RATE)
    if rival == "skorch":
        return SkorchTrainer(data)
    if rival == "vmap":
        return VmapTrainer(data)
    if rival == "plain":
        return PlainTrainer(data, optimizer, score)
    with engine(ENGINES[rival]):
        return FusedTrainer(data, optimizer, score)


def measure(shape: Shape, population: int, batch: int, budget: float, sgemm: float) -> Result:
    """Time all trainers in alternation and keep the best of each."""
    rng = np.random.default_rng(1)
    candidates = [
        Candidate(i, topology, initial_weights(topology, rng))
        for i, topology in enumerate(islice(cycle(shape.topologies), population))
    ]
    data = synthetic(shape.topologies[0], batch, 400)
    timings = {rival: Timing(trainer_of(rival, data), candidates) for rival in RIVALS}
    for timing in timings.values():
        timing.begin(4)
        timing.measure()
        timing.begin(int(np.clip(budget / 6 / max(timing.per_step, 1e-6), 4, 300)))
    for _ in range(3):
        for timing in timings.values():
            timing.measure()
    ms = {rival: t.per_step / population / batch * 1e6 for rival, t in timings.items()}
    needed = np.mean([2 * multiplications(c.topology) for c in candidates])
    return Result(
        shape.name,
        "x".join(map(str, shape.topologies[0].input_shape)),
        population,
        batch,
        **ms,
        limit=needed / sgemm * 1e-3,
        sgemm_gflops=sgemm,
    )


def rate(call: Callable[[], object], amount: float) -> float:
    """Return the best of several rates of a call, in units of 10^9 a second."""
    times = []
    for _ in range(7):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return amount / min(times) / 1e9


def sgemm_rate() -> float:
    """Measure the product of large matrices of float32, in GFLOP/s."""
    n = 1024
    a, b, c = (torch.ones(n, n) for _ in range(3))
    return rate(lambda: torch.mm(a, b, out=c), 2 * n**3)


def line(result: Result) -> str:
    """Return a result as a line of the table."""
    values = asdict(result)
    times = "".join(f"{values[name]:>10.3f}" for name in (*RIVALS, "limit"))
    return f"{result.shape:28}{result.input:>9}{result.population:>5}{result.batch:>6}{times}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="short trainings")
    parser.add_argument("--only", default="", help="only shapes with this in their name")
    parser.add_argument("--populations", type=int, nargs="*", default=[16, 1])
    parser.add_argument("--batches", type=int, nargs="*", default=[32])
    parser.add_argument("--csv", default="engine.csv", help="where the table is written")
    arguments = parser.parse_args()
    shapes = [shape for shape in SHAPES if arguments.only in shape.name]
    budget = 0.5 if arguments.quick else 3.0
    with one_thread(), open(arguments.csv, "w", newline="") as file:
        sgemm = sgemm_rate()
        print(f"sgemm {sgemm:.0f} GFLOP/s")
        heads = "".join(f"{name:>10}" for name in (*RIVALS, "limit"))
        print(f"{'shape':28}{'input':>9}{'n':>5}{'batch':>6}{heads}")
        writer = csv.DictWriter(file, list(Result.__annotations__))
        writer.writeheader()
        for shape in shapes:
            for population in arguments.populations:
                for batch in arguments.batches:
                    result = measure(shape, population, batch, budget, sgemm)
                    print(line(result), flush=True)
                    writer.writerow(asdict(result))
                    file.flush()


if __name__ == "__main__":
    main()

"""The fused trainer on a CUDA device: equality with the CPU, then times and memory.

    python benchmarks/gpu.py [--data FOLDER] [--csv gpu.csv] [--quick]

Random populations are trained in double precision on both devices, and their weights compared.
Steps are timed in three ways: by the kernel that trains all candidates in one launch, by stacks
of them as CUDA graphs, and by the same without graphs. The time of a step is the difference
between a longer and a shorter training, so that the setup does not count. At the end, whole
fits on Fashion-MNIST (FOLDER has its four files).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from earlier import EARLIER
from engine import SHAPES, synthetic

import skectonas.population.run.computation as computation
import skectonas.population.trainer as trainer
from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.population.run.graph import directly
from skectonas.training.data import TrainingData
from skectonas.training.plain import resolve_optimizer

CUDA = torch.device("cuda")


def random_topology(rng: np.random.Generator, shape: tuple[int, int, int]) -> Topology:
    """Return a topology as a search may produce it."""
    pooling = ("average", "max", None)
    cells = [
        ConvCell(int(rng.integers(1, 20)), pooling[rng.integers(3)])
        for _ in range(rng.integers(0, 4))
    ]
    dense = [Dense(int(rng.integers(1, 60))) for _ in range(rng.integers(0, 4))]
    return Topology(shape, cells, dense, 10)


def population_of(topologies: list[Topology], dtype: torch.dtype) -> list[Candidate]:
    """Return candidates with random weights."""
    rng = np.random.default_rng(1)
    return [
        Candidate(i, t, {k: v.to(dtype) for k, v in initial_weights(t, rng).items()})
        for i, t in enumerate(topologies)
    ]


def score(probabilities: np.ndarray) -> float:
    """Return any score."""
    return float(probabilities[0, 0])


def train(data: TrainingData, candidates: list[Candidate], n_steps: int) -> list[Candidate]:
    """Train all candidates for `n_steps` steps."""
    optimizer = resolve_optimizer("sgd", 0.01)
    steps = [n_steps] * len(candidates)
    return FusedTrainer(data, optimizer, score, 8).train(candidates, steps, (0,))


def largest_difference(n_populations: int) -> float:
    """Compare the weights that random populations have after training on both devices."""
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(n_populations):
        shape = (int(rng.integers(8, 30)), int(rng.integers(8, 30)), int(rng.integers(1, 4)))
        candidates = population_of(
            [random_topology(rng, shape) for _ in range(12)], torch.float64
        )
        data = synthetic(candidates[0].topology, 32, 20)
        for ours, theirs in zip(
            train(data.to(CUDA), candidates, 20), train(data, candidates, 20), strict=True
        ):
            for name, value in theirs.weights.items():
                differences.append(float((ours.weights[name] - value).abs().max()))
    return float(np.max(differences))  # nan if there is one


@contextmanager
def way(name: str) -> Iterator[None]:
    """Train in one of the ways for a while."""
    saved = trainer.split_for_kernels, trainer.can_compile, computation.runner_on
    if name == "kernel":
        trainer.split_for_kernels = lambda groups, batch: (list(groups), [])
    else:
        trainer.can_compile = lambda device: False
    if name == "stacks, no graphs":
        computation.runner_on = lambda device: directly
    try:
        yield
    finally:
        trainer.split_for_kernels, trainer.can_compile, computation.runner_on = saved


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def microseconds_per_step(data: TrainingData, candidates: list[Candidate], few: int) -> float:
    """Return the time of a step, from trainings of two lengths."""
    many = 6 * few
    seconds(lambda: train(data, candidates, few))
    short = min(seconds(lambda: train(data, candidates, few)) for _ in range(3))
    long = min(seconds(lambda: train(data, candidates, many)) for _ in range(3))
    return (long - short) / (many - few) * 1e6


def populations(*, every: bool) -> Iterator[tuple[str, list[Topology]]]:
    """Yield what steps are timed with."""
    alike = [shape for shape in SHAPES if len(shape.topologies) == 1]
    for shape in alike if every else alike[:8:2]:
        [topology] = shape.topologies
        for size in (1, 16):
            yield f"{size} x {shape.name}, {topology.input_shape}", [topology] * size
    rng = np.random.default_rng(3)
    mixed = [random_topology(rng, (28, 28, 1)) for _ in range(40)]
    yield "40 random topologies, (28, 28, 1)", mixed


def fits(folder: Path, budgets: list[int]) -> Iterator[dict[str, Any]]:
    """Yield what whole fits on Fashion-MNIST take."""
    from fashion_mnist import load  # of the examples

    images, labels = load(folder)
    for budget in budgets:
        torch.cuda.reset_peak_memory_stats()
        clf = ECToNASClassifier(
            **EARLIER | {"start": "medium_cnn"}, budget=budget, random_state=0, device="cuda"
        )
        elapsed = seconds(partial(clf.fit, images[:60_000], labels[:60_000]))
        yield {
            "what": f"fit, budget={budget}",
            "seconds": elapsed,
            "seconds in the trainer": float(clf.history_["seconds"].sum()),
            "candidate-epochs a second": budget / elapsed,
            "test accuracy": clf.score(images[60_000:], labels[60_000:]),
            "parameters": clf.n_parameters_,
            "peak MiB of the device": torch.cuda.max_memory_allocated() / 2**20,
            "MiB left behind": torch.cuda.memory_reserved() / 2**20,
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of Fashion-MNIST")
    parser.add_argument("--csv", type=Path, default=Path("gpu.csv"))
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    parser.add_argument("--budgets", type=int, nargs="*", default=[100, 1000])
    arguments = parser.parse_args()
    device_name = torch.cuda.get_device_name()
    rows: list[dict[str, Any]] = []

    def note(**row: Any) -> None:
        rows.append({"device": device_name, "torch": torch.__version__, **row})
        shown = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
        print(shown, flush=True)

    print(f"{device_name}, torch {torch.__version__}")
    n = 3 if arguments.quick else 12
    note(what="largest difference of weights, float64", difference=largest_difference(n))
    ways = (
        ["kernel", "stacks"] if arguments.quick else ["kernel", "stacks", "stacks, no graphs"]
    )
    for title, topologies in populations(every=not arguments.quick):
        data = synthetic(topologies[0], 32, 400).to(CUDA)
        candidates = population_of(topologies, torch.float32)
        row = {}
        for name_of_way in ways:
            few = 40 if name_of_way != "kernel" and len(topologies) == 40 else 150
            with way(name_of_way):
                row[f"us a step, {name_of_way}"] = microseconds_per_step(data, candidates, few)
        note(what=f"step of {title}", **row)
    if arguments.data:
        for row in fits(arguments.data, arguments.budgets):
            note(**row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with arguments.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()

"""What a second thread gains for a population of different networks.

    OMP_NUM_THREADS=1 python benchmarks/threads.py

Trains the same population with one thread and with two, in alternation, and prints the ratio of
their times. Another process that trains at the same time shows what two cores can do at the
most. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from multiprocessing.synchronize import Event

import numpy as np
from engine import network, synthetic

from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.training.plain import resolve_optimizer

SHAPE = (28, 28, 1)
REPEATS = 5
TOPOLOGIES = [
    network(SHAPE, cells, units)
    for cells, units in (
        *(("3a 6a", (10, 10)), ("6a 6a", (10,)), ("3m 6a", (10, 10)), ("6m", (20,))),
        *(("", (10, 10)), ("3a", (30,)), ("12a 6a", (10,)), ("4a 8m", (10,))),
        *(("3a 3a 6a", (10,)), ("", (50,)), ("12a 24m 24a", ()), ("6a 12m", (20,))),
        *(("12m 16a", ()), ("3a", (10, 10)), ("", (100, 50)), ("8a 8a 8a", (10,))),
    )
]


def population(n: int, n_jobs: int) -> tuple[FusedTrainer, list[Candidate]]:
    topologies = TOPOLOGIES[:n]
    optimizer = resolve_optimizer("sgd", 0.01)
    data, rng = synthetic(topologies[0], 32, 1200), np.random.default_rng(0)
    trainer = FusedTrainer(data, optimizer, lambda p: float(p[0, 0]), 1, n_jobs)
    return trainer, [Candidate(i, t, initial_weights(t, rng)) for i, t in enumerate(topologies)]


def seconds(trainer: FusedTrainer, candidates: list[Candidate], n_steps: int) -> float:
    began = time.perf_counter()
    trainer.train(candidates, [n_steps] * len(candidates), (0,))
    return time.perf_counter() - began


def train_on(n: int, n_steps: int, ready: Event) -> None:
    """Train a population of its own until the process is ended."""
    trainer, candidates = population(n, 1)
    while True:
        seconds(trainer, candidates, n_steps)
        ready.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--populations", type=int, nargs="+", default=[16, 10, 5])
    for n in parser.parse_args().populations:
        n_steps = 600 if n > 5 else 1200
        trainers = [population(n, n_jobs)[0] for n_jobs in (1, 2)]
        candidates = population(n, 1)[1]
        for trainer in trainers:
            seconds(trainer, candidates, 32)
        times = np.array(
            [[seconds(own, candidates, n_steps) for own in trainers] for _ in range(REPEATS)]
        )
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        other = context.Process(target=train_on, args=(n, n_steps, ready), daemon=True)
        other.start()
        ready.wait()
        beside = np.median([seconds(trainers[0], candidates, n_steps) for _ in range(REPEATS)])
        other.kill()
        one, two = np.median(times, axis=0)
        print(
            f"{n} networks: two threads {one / two:.2f} times as fast as one "
            f"({np.sort(times[:, 0] / times[:, 1]).round(2)}), two processes "
            f"{2 * one / beside:.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""How well each morphism keeps what a network has learned, on Fashion-MNIST.

A medium CNN is trained on 6,000 images; then every morphism is applied at every site, and the
test accuracy is measured right after the change, after the recovery training that a search
gives, and after one epoch. Means over sites and seeds are printed and written to a CSV.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import fashion_mnist

from skectonas.candidate import Candidate
from skectonas.inputs.scaling import PixelScaling
from skectonas.morphisms import PAPER_MORPHISMS, Context
from skectonas.network import build, initial_weights
from skectonas.surroundings import one_thread
from skectonas.topology import starting_topology
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import PlainTrainer, resolve_optimizer
from skectonas.training.scoring import make_scorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000, help="training images")
    parser.add_argument("--epochs", type=int, default=10, help="training before the changes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    train_x, train_y, test_x, test_y = fashion_mnist()
    data = TrainingData(
        Rows(*(torch.tensor(a[: arguments.rows]) for a in (train_x[..., None], train_y))),
        Rows(torch.tensor(test_x[..., None]), torch.tensor(test_y)),
        PixelScaling(scale=(1 / 255,)),
    )
    scorer = make_scorer("accuracy", test_x, test_y, np.arange(10), None)
    trainer = PlainTrainer(data, resolve_optimizer("SGD", 0.1), scorer)
    rows = []
    with one_thread():
        for seed in range(arguments.seeds):
            rows += measure(trainer, arguments.epochs, seed)
            print(f"seed {seed} done", flush=True)
    table = pd.DataFrame(rows).groupby(["morphism", "pooling"], sort=False).mean()
    table = table.drop(columns=["seed", "site"])
    print(table.round(3).to_string())
    arguments.out.mkdir(exist_ok=True)
    table.round(4).to_csv(arguments.out / "morphisms.csv")


def measure(trainer: PlainTrainer, epochs: int, seed: int) -> list[dict[str, object]]:
    """Return a row for each change of one trained network."""
    data = trainer.data
    topology = starting_topology("medium_cnn", (28, 28, 1), 10)
    start = Candidate(0, topology, initial_weights(topology, np.random.default_rng(seed)))
    [parent] = trainer.train([start], [epochs * data.steps_per_epoch], (seed, 0))
    images = data.scaled(data.calibration, torch.float32)
    rows = []
    for morphism in PAPER_MORPHISMS:
        for site in morphism.sites(topology):
            rng = np.random.default_rng([seed, site])
            new = morphism.rewrite(topology, site, rng)
            weights = morphism.carry(parent.weights, topology, new, site, Context(rng, images))
            child = replace(parent, topology=new, weights=weights)
            recovery = max(1, round(morphism.recovery_epochs * data.steps_per_epoch))
            accuracy = {
                "before": parent.evaluations[-1].validation_score,
                "right after": accuracy_now(trainer, child),
                "after recovery": trained_for(trainer, child, recovery),
                "after 1 epoch": trained_for(trainer, child, data.steps_per_epoch),
            }
            pooling = new.cells[site].pooling if morphism.name == "add_cell" else ""
            head = {"morphism": morphism.name, "pooling": pooling, "seed": seed, "site": site}
            rows.append(head | accuracy)
    return rows


def accuracy_now(trainer: PlainTrainer, candidate: Candidate) -> float:
    """Return the test accuracy as it is, with the running statistics that it carries."""
    network = build(candidate.topology, candidate.weights).eval()
    rows = trainer.data.validation
    with torch.no_grad():
        logits = network(trainer.data.scaled(rows.images, torch.float32))
    return float((logits.argmax(1) == rows.labels).double().mean())


def trained_for(trainer: PlainTrainer, candidate: Candidate, n_steps: int) -> float:
    """Return the test accuracy after some batches."""
    [trained] = trainer.train([candidate], [n_steps], (1,))
    return trained.evaluations[-1].validation_score


if __name__ == "__main__":
    main()

"""The choices that docs/deviations.md gives figures for, each next to its alternative.

Every experiment prints its table and writes ``results/choices_<name>.csv``, means over seeds
and sites. Accuracies are on test rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import fashion_mnist
from earlier import EARLIER
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from skectonas import Dense, ECToNASClassifier, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.scaling import PixelScaling
from skectonas.morphisms import (
    PAPER_MORPHISMS,
    AddCell,
    AddChannels,
    AddUnits,
    Context,
    Morphism,
    RemoveChannels,
    RemoveUnits,
)
from skectonas.morphisms.base import (
    by_input,
    cell_weights,
    reader_of_cell,
    reader_of_dense,
    restore_shape,
)
from skectonas.network import Weights, build, initial_weights
from skectonas.population import FusedTrainer
from skectonas.surroundings import one_thread
from skectonas.topology import dense_name, linear_name, norm_name, starting_topology
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import resolve_optimizer
from skectonas.training.scoring import make_scorer

Row = dict[str, Any]
Carry = Callable[[Weights, Topology, Topology, int, Context], dict[str, Tensor]]


# --- the data and their trainers ----------------------------------------------------------


def fashion_trainer(averaging: int = 1) -> FusedTrainer:
    """Return a trainer for 6,000 images of Fashion-MNIST, scored on the test images."""
    train_x, train_y, test_x, test_y = fashion_mnist()
    train = Rows(torch.tensor(train_x[:6_000, ..., None]), torch.tensor(train_y[:6_000]))
    return _trainer(train, test_x, test_y, 1 / 255, averaging)


def digits_trainer(seed: int) -> FusedTrainer:
    """Return a trainer for a split of digits."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    images = X_train.reshape(-1, 8, 8, 1).astype(np.float32)
    train = Rows(torch.from_numpy(images), torch.from_numpy(y_train))
    return _trainer(train, X_test.reshape(-1, 8, 8).astype(np.float32), y_test, 1 / 16, 1)


def _trainer(train: Rows, X: Any, y: Any, scale: float, averaging: int) -> FusedTrainer:
    test = Rows(torch.tensor(X[..., None]), torch.tensor(y))
    data = TrainingData(train, test, PixelScaling(scale=(scale,)))
    scorer = make_scorer("accuracy", X, y, np.arange(10), None)
    return FusedTrainer(data, resolve_optimizer("SGD", 0.1), scorer, averaging)


def started(topology: Topology, seed: int) -> Candidate:
    """Return an untrained candidate."""
    weights = initial_weights(topology, np.random.default_rng(seed))
    return Candidate(seed, topology, weights, score_window=3)


def trained(trainer: FusedTrainer, candidate: Candidate, epochs: int, *key: int) -> Candidate:
    """Return a candidate after some epochs; its score is the mean over the last three."""
    [result] = trainer.train([candidate], [epochs * trainer.data.steps_per_epoch], key)
    return result


def accuracy(trainer: FusedTrainer, topology: Topology, weights: Weights) -> float:
    """Return the test accuracy of weights, with running statistics of their own."""
    data = trainer.data
    network = build(topology, weights).eval()
    network.calibrate(data.scaled(data.calibration, torch.float32))
    with torch.no_grad():
        logits = network(data.scaled(data.validation.images, torch.float32))
    return float((logits.argmax(1) == data.validation.labels).double().mean())


# --- narrowing ----------------------------------------------------------------------------


def narrowing(seeds: int) -> Iterator[Row]:
    """Units and channels removed from a medium CNN, by our method and the usual ones."""
    trainer = fashion_trainer()
    images = trainer.data.scaled(trainer.data.calibration, torch.float32)
    topology = starting_topology("medium_cnn", (28, 28, 1), 10)
    units, channels = RemoveUnits(0.1, 2), RemoveChannels(0.0, 3)  # the steps of the paper
    ways: list[tuple[str, str, Morphism, Carry]] = [
        ("units", "ours", units, units.carry),
        ("units", "svd of the incoming weights", units, by_svd),
        ("units", "least norm dropped", units, by_norm),
        ("channels", "ours", channels, channels.carry),
        ("channels", "least gamma, constant carried on", channels, by_gamma),
    ]
    for seed in range(seeds):
        parent = trained(trainer, started(topology, seed), 10, seed)
        for what, variant, morphism, carry in ways:
            for site in morphism.sites(topology):
                rng = np.random.default_rng(seed)
                new = morphism.rewrite(topology, site, rng)
                weights = carry(parent.weights, topology, new, site, Context(rng, images))
                child = replace(parent, topology=new, weights=weights, evaluations=())
                yield {
                    "what": what,
                    "variant": variant,
                    "before": accuracy(trainer, topology, parent.weights),
                    "right after": accuracy(trainer, new, weights),
                    "after 1 epoch": trained(trainer, child, 1, seed, 1).score,
                }


def by_svd(
    weights: Weights, old: Topology, new: Topology, site: int, context: Context
) -> dict[str, Tensor]:
    """Keep the leading directions of the incoming weights, with the better sign for relu."""
    name, reader = dense_name(site), reader_of_dense(old, site)
    w1, b1 = weights[f"{name}.weight"].double(), weights[f"{name}.bias"].double()
    w2, next_bias = weights[reader].double(), reader.replace(".weight", ".bias")
    u, s, vt = torch.linalg.svd(w1, full_matrices=False)
    kept = new.dense[site].units
    u, incoming = u[:, :kept], s[:kept, None] * vt[:kept]
    bias = u.T @ b1
    inputs = context.activations(weights, old).inputs_of(site).double()
    z = inputs @ incoming.T + bias
    flip = z.clamp(min=0).square().sum(0) < (-z).clamp(min=0).square().sum(0)
    sign = torch.where(flip, -1.0, 1.0).double()
    changed = {
        f"{name}.weight": sign[:, None] * incoming,
        f"{name}.bias": sign * bias,
        reader: w2 @ u * sign,
        next_bias: weights[next_bias].double() + w2 @ (b1 - u @ (u.T @ b1)),
    }
    return {**weights, **{key: value.float() for key, value in changed.items()}}


def by_norm(
    weights: Weights, old: Topology, new: Topology, site: int, context: Context
) -> dict[str, Tensor]:
    """Drop the units with the smallest incoming times outgoing norm."""
    name, reader = dense_name(site), reader_of_dense(old, site)
    norms = weights[f"{name}.weight"].norm(dim=1) * weights[reader].norm(dim=0)
    kept = norms.topk(new.dense[site].units).indices.sort().values
    return {
        **weights,
        f"{name}.weight": weights[f"{name}.weight"][kept],
        f"{name}.bias": weights[f"{name}.bias"][kept],
        reader: weights[reader][:, kept],
    }


def by_gamma(
    weights: Weights, old: Topology, new: Topology, site: int, context: Context
) -> dict[str, Tensor]:
    """Drop the channels of the smallest gamma; relu(beta) goes on through the next weights."""
    n_old, reader = old.cells[site].channels, reader_of_cell(old, site)
    gamma = weights[f"{norm_name(site)}.weight"].abs()
    order = gamma.argsort(descending=True)
    kept, cut = (
        order[: new.cells[site].channels].sort().values,
        order[new.cells[site].channels :],
    )
    reading = by_input(weights[reader], n_old)
    child = {**weights, reader: restore_shape(reading[:, kept], weights[reader])}
    child |= {key: weights[key][kept] for key in cell_weights(weights, site)}
    first = f"{linear_name(old, 0)}.bias"
    if reader == first.replace(".bias", ".weight"):
        constant = weights[f"{norm_name(site)}.bias"][cut].clamp(min=0)
        child[first] = weights[first] + torch.einsum("ocr,c->o", reading[:, cut], constant)
    return child


# --- widening -----------------------------------------------------------------------------


def copied(
    weights: Weights, rows: list[str], reader: str, n_old: int, rng: np.random.Generator, k: int
) -> dict[str, Tensor]:
    """Add copies, the outgoing weights split unequally: Net2WiderNet without its symmetry."""
    sources = rng.choice(n_old, k, replace=k > n_old)
    reading = by_input(weights[reader], n_old).clone()
    copies = []
    for source, share in zip(sources.tolist(), rng.uniform(0.2, 0.8, k).tolist(), strict=True):
        copies.append(reading[:, source] * share)
        reading[:, source] -= copies[-1]
    child = {**weights, **{r: torch.cat([weights[r], weights[r][sources]]) for r in rows}}
    child[reader] = restore_shape(
        torch.cat([reading, torch.stack(copies, 1)], 1), weights[reader]
    )
    return child


def copied_units(
    weights: Weights, old: Topology, new: Topology, site: int, context: Context
) -> dict[str, Tensor]:
    """Add copies of units."""
    rows = [f"{dense_name(site)}.weight", f"{dense_name(site)}.bias"]
    n, k = old.dense[site].units, new.dense[site].units - old.dense[site].units
    return copied(weights, rows, reader_of_dense(old, site), n, context.rng, k)


def copied_channels(
    weights: Weights, old: Topology, new: Topology, site: int, context: Context
) -> dict[str, Tensor]:
    """Add copies of channels."""
    rows = cell_weights(weights, site)
    n, k = old.cells[site].channels, new.cells[site].channels - old.cells[site].channels
    return copied(weights, rows, reader_of_cell(old, site), n, context.rng, k)


def widening(seeds: int) -> Iterator[Row]:
    """Networks that are widened while they train, with copies and with fresh units."""
    units, channels = AddUnits(0.1, 2), AddChannels(0.0, 3)  # the steps of the paper
    digits = Topology((8, 8, 1), [], [Dense(10)], 10)
    cnn = starting_topology("medium_cnn", (28, 28, 1), 10)
    plans = {
        "digits, 10 to 20 units": (digits, 40, [[(units, copied_units, 0)]] * 5, 12),
        "fashion, medium_cnn": (
            cnn,
            10,
            [[(channels, copied_channels, 0), (channels, copied_channels, 1),
              (units, copied_units, 0)]] * 2,
            6,
        ),
    }  # fmt: skip
    fashion = fashion_trainer()
    for name, (topology, warm_up, rounds, epochs) in plans.items():
        for seed in range(seeds):
            trainer = fashion if topology is cnn else digits_trainer(seed)
            parent = trained(trainer, started(topology, seed), warm_up, seed)
            row: Row = {"what": name}
            for variant in ("fresh", "copies"):
                current = parent
                for number, changes in enumerate(rounds):
                    rng = np.random.default_rng([seed, number])
                    for morphism, copy, site in changes:
                        new = morphism.rewrite(current.topology, site, rng)
                        carry = morphism.carry if variant == "fresh" else copy
                        context = Context(rng, trainer.data.calibration)
                        weights = carry(current.weights, current.topology, new, site, context)
                        current = replace(current, topology=new, weights=weights)
                    current = trained(trainer, current, epochs, seed, number)
                row[variant] = current.score
            row["unchanged"] = trained(trainer, parent, len(rounds) * epochs, seed, 9).score
            yield row


# --- averaging ----------------------------------------------------------------------------


def averaging(seeds: int) -> Iterator[Row]:
    """Networks with the weights after the last batch, and with the mean of eight snapshots."""
    trainers = {"last batch": fashion_trainer(1), "mean of 8 snapshots": fashion_trainer(8)}
    for start in ("medium_cnn", "small_ffnn"):
        topology = starting_topology(start, (28, 28, 1), 10)
        for seed in range(seeds):
            yield {"what": start} | {
                variant: trained(trainer, started(topology, seed), 16, seed).score
                for variant, trainer in trainers.items()
            }


# --- width of new cells -------------------------------------------------------------------


def cells(seeds: int) -> Iterator[Row]:
    """Whole searches on digits with new cells of different widths."""
    X, y = load_digits(return_X_y=True)
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
        for budget in (300, 1000):
            row: Row = {"what": f"budget {budget}"}
            for extra in (1, 7, 15):
                chosen = [
                    AddCell(extra=(extra,)) if m.name == "add_cell" else m
                    for m in PAPER_MORPHISMS
                ]
                settings = EARLIER | {"morphisms": chosen, "budget": budget}
                clf = ECToNASClassifier(**settings, random_state=seed)
                row[f"{extra} fresh channels"] = clf.fit(X_train, y_train).score(X_test, y_test)
            yield row


EXPERIMENTS = {
    "narrowing": (narrowing, 3),
    "widening": (widening, 6),
    "averaging": (averaging, 4),
    "cells": (cells, 10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", help=f"out of {list(EXPERIMENTS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(exist_ok=True)
    for name in arguments.experiments or EXPERIMENTS:
        experiment, seeds = EXPERIMENTS[name]
        with one_thread():
            rows = pd.DataFrame(experiment(seeds))
        keys = [key for key in ("what", "variant") if key in rows]
        table = rows.groupby(keys, sort=False).mean().round(4)
        print(f"{name}, {seeds} seeds\n{table.to_string()}\n", flush=True)
        table.to_csv(arguments.out / f"choices_{name}.csv")


if __name__ == "__main__":
    main()

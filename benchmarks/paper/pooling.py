"""Table 4 of the paper: what a network keeps when a pooling layer is put into it.

    python benchmarks/paper/pooling.py fashion_mnist --folder FOLDER --seeds 20

A network of two convolutions and two dense layers is trained, a pooling layer is put between
the convolutions, and the weights of the first dense layer are adapted to the smaller maps:

- "structured": each window of weights is pooled like the maps, by its average, or by its weight
  of largest absolute value (the paper's proposal);
- "random": one weight of each window is kept, the others are cut away;
- "sum": the weights of a window are added up;
- "fitted": added up, and the layer is then fitted to its former outputs by ridge regression on
  1,024 training rows, as in `AddCell`.

A row of ``paper_pooling.csv`` has the validation accuracy right after the change and after an
epoch. Seeds of which there are rows are not repeated. The paper says neither how wide the
network is nor how it was trained; here it has 6 and 9 channels and 10 units, no batch
normalisation, and a constant learning rate. A tenth of the training rows is held out for the
validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from data import SETS, load
from run import RESULTS, append
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, pad

from skectonas.morphisms.reconnect import ridge_regression

EPOCHS, BATCH, CHANNELS, UNITS, FITTED_ROWS, RIDGE = 25, 32, (6, 9), 10, 1024, 1e-2
METHODS = ("structured", "random", "sum", "fitted")


class Network(nn.Module):
    """Two convolutions and two dense layers, with an optional pooling between the former."""

    def __init__(self, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        height, width, channels = shape
        self.first = nn.Conv2d(channels, CHANNELS[0], 3, padding=1)
        self.second = nn.Conv2d(*CHANNELS, 3, padding=1)
        self.dense = nn.Linear(CHANNELS[1] * height * width, UNITS)
        self.output = nn.Linear(UNITS, n_classes)
        self.pooling: nn.Module = nn.Identity()

    def maps(self, images: Tensor) -> Tensor:
        return self.second(self.pooling(self.first(images).relu())).relu()

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.dense(self.maps(images).flatten(1)).relu())


class Trial:
    """The rows of one seed, and the random draws of its trainings."""

    def __init__(self, images: Tensor, labels: Tensor, rate: float, seed: int) -> None:
        self.rate = rate
        rows = np.arange(len(labels))
        train, held_out = train_test_split(
            rows, test_size=0.1, stratify=labels.numpy(), random_state=seed
        )
        self.train = images[train], labels[train]
        self.held_out = images[held_out], labels[held_out]
        self.generator = torch.Generator().manual_seed(seed)

    def epoch(self, network: Network) -> Network:
        optimizer = torch.optim.SGD(network.parameters(), self.rate)
        images, labels = self.train
        order = torch.randperm(len(labels), generator=self.generator)
        for rows in order.split(BATCH):
            optimizer.zero_grad()
            cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
        return network

    @torch.no_grad()
    def accuracy(self, network: Network) -> float:
        images, labels = self.held_out
        guesses = torch.cat([network(part).argmax(1) for part in images.split(1024)])
        return float((guesses == labels).double().mean())

    def changed(self, network: Network, pooling: str, method: str) -> Network:
        """Return a copy with a pooling layer, and with the dense layer adapted to it."""
        child = deepcopy(network)
        child.pooling = POOLINGS[pooling]
        images = self.train[0][:FITTED_ROWS]
        with torch.no_grad():
            size = network.maps(images[:1]).shape[2:]
            weight = network.dense.weight.view(UNITS, CHANNELS[1], *size)
            adapted = self.adapted(weight, pooling, method).flatten(1)
            child.dense = nn.Linear(adapted.shape[1], UNITS)
            child.dense.weight.copy_(adapted)
            child.dense.bias.copy_(network.dense.bias)
            if method == "fitted":
                fit(child, network, images)
        return child

    def adapted(self, weight: Tensor, pooling: str, method: str) -> Tensor:
        """Return the weights (units, channels, height, width) for pooled maps."""
        if method in ("sum", "fitted"):
            return window_sums(weight)
        parts = windows(weight)
        if method == "random":
            chosen = torch.randint(4, parts.shape[:-1], generator=self.generator)
        elif pooling == "max":
            chosen = parts.abs().argmax(-1)
        else:
            return parts.mean(-1)
        return parts.gather(-1, chosen[..., None])[..., 0]


def windows(weight: Tensor) -> Tensor:
    """Return the four weights of each window along the last axis; odd sides are padded."""
    height, width = weight.shape[2:]
    padded = pad(weight, (0, width % 2, 0, height % 2))
    return padded.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)


def window_sums(weight: Tensor) -> Tensor:
    height, width = weight.shape[2:]
    return 4 * avg_pool2d(pad(weight, (0, width % 2, 0, height % 2)), 2)


def fit(child: Network, parent: Network, images: Tensor) -> None:
    """Fit the dense layer of the child to its outputs in the parent."""
    inputs = child.maps(images).flatten(1)
    missing = parent.dense(parent.maps(images).flatten(1)) - child.dense(inputs)
    mean, shift = inputs.mean(0), missing.mean(0)
    change = ridge_regression(inputs - mean, missing - shift, RIDGE)
    child.dense.weight += change.T
    child.dense.bias += shift - mean @ change


POOLINGS = {
    "average": nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    "max": nn.MaxPool2d(2, ceil_mode=True),
}


def measured(
    images: Tensor, labels: Tensor, rate: float, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one seed."""
    torch.manual_seed(seed)
    trial = Trial(images, labels, rate, seed)
    _, channels, height, width = images.shape
    network = Network((height, width, channels), int(labels.max()) + 1)
    for _ in range(EPOCHS):
        trial.epoch(network)
    before = trial.accuracy(network)
    for pooling in POOLINGS:
        for method in METHODS:
            child = trial.changed(network, pooling, method)
            right_after = trial.accuracy(child)
            row = {
                "seed": seed,
                "rows": len(labels),
                "rate": rate,
                "pooling": pooling,
                "method": method,
            }
            yield row | {
                "before": before,
                "right_after": right_after,
                "after_an_epoch": trial.accuracy(trial.epoch(child)),
            }


def done(path: Path) -> set[tuple[str, float, int]]:
    if not path.exists():
        return set()
    return set(pd.read_csv(path)[["data", "rate", "seed"]].itertuples(index=False, name=None))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=[name for name in SETS if name != "adult"])
    parser.add_argument("--folder", type=Path, help="where the files are; without it, OpenML")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.03, help="the learning rate")
    parser.add_argument("--rows", type=int, help="the first training rows only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    X, y, *_ = load(arguments.data, arguments.folder)
    X, y = X[: arguments.rows], y[: arguments.rows]
    X = X if X.ndim == 4 else X[..., None]
    images = torch.from_numpy(np.moveaxis(X, -1, 1).astype(np.float32) / 255)
    labels = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    path = arguments.out / "paper_pooling.csv"
    for seed in range(arguments.seeds):
        if (arguments.data, arguments.rate, seed) in done(path):
            continue
        table = pd.DataFrame(list(measured(images, labels, arguments.rate, seed)))
        table.insert(0, "data", arguments.data)
        append(table.round(4), path)
        print(table.to_string(), flush=True)


if __name__ == "__main__":
    main()

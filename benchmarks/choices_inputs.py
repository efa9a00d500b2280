"""How pixels, columns and texts are encoded, each choice next to its alternatives.

Every experiment prints its table and writes ``results/choices_<name>.csv``: test accuracies,
means over seeds. The alternatives for pixels and columns are laid out as images by hand and
given to a search that leaves images as they are; those for texts to a support vector machine.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from datasets import fashion_mnist
from earlier import EARLIER
from inputs import TABLES
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from skrub import MinHashEncoder, SquashingScaler, StringEncoder

from skectonas import ECToNASClassifier
from skectonas.inputs.scaling import ColumnScaling, PixelScaling
from skectonas.inputs.tables import TableEncoder

Array = NDArray[Any]
Row = dict[str, Any]


def searched(X_train: Array, y_train: Array, X_test: Array, y_test: Array, **how: Any) -> float:
    # The classifier sees images as they are given to it.
    with patch.object(PixelScaling, "of", lambda batches: PixelScaling()):
        clf = ECToNASClassifier(**EARLIER | how).fit(X_train.astype(np.float32), y_train)
        return float(clf.score(X_test.astype(np.float32), y_test))


# --- pixels -------------------------------------------------------------------------------


def pixels(seeds: int) -> Iterator[Row]:
    """Whole searches on images that are scaled in several ways."""
    fashion_x, fashion_y, fashion_test, fashion_test_y = fashion_mnist()
    digits = load_digits()
    for seed in range(seeds):
        parts = train_test_split(
            digits.images / 16, digits.target, stratify=digits.target, random_state=seed
        )
        few = np.random.default_rng(seed).permutation(len(fashion_x))[:3_000]
        fashion = (fashion_x[few] / 255, fashion_test / 255, fashion_y[few], fashion_test_y)
        cases = {
            "digits, small_ffnn": (parts, {"budget": 300}),
            "digits, large_ffnn": (parts, {"budget": 100, "start": "large_ffnn"}),
            "Fashion-MNIST, small_ffnn": (fashion, {"budget": 60}),
            "Fashion-MNIST, medium_cnn": (fashion, {"budget": 60, "start": "medium_cnn"}),
        }
        for name, ((X, X_test, y, y_test), how) in cases.items():
            mean, deviation = X.mean(), X.std()
            row: Row = {"what": name}
            for label, offset, scale in (
                ("0 to 1", 0, 1),
                ("deviation 1", mean, 1 / deviation),
                ("deviation 0.5", mean, 0.5 / deviation),
                ("deviation 0.25", mean, 0.25 / deviation),
            ):
                scaled = (scale * (images - offset) for images in (X, X_test))
                row[label] = searched(
                    next(scaled), y, next(scaled), y_test, random_state=seed, **how
                )
            yield row


# --- columns ------------------------------------------------------------------------------


class Scores:
    """`ColumnScaling` as a transformer."""

    def fit(self, X: Array) -> Scores:
        self.scaling = ColumnScaling.fit(X)
        return self

    def transform(self, X: Array) -> Array:
        return self.scaling.scale(X)


SCALERS: dict[str, Callable[[], Any]] = {
    "smallest to largest": MinMaxScaler,
    "mean and deviation": StandardScaler,
    "SquashingScaler": SquashingScaler,
    "normal scores": Scores,
}


def columns(seeds: int) -> Iterator[Row]:
    """Whole searches on tables whose columns are scaled in several ways."""
    for seed in range(seeds):
        tables = {name: data_of(seed) for name, data_of in TABLES.items()}
        for name, load in (
            ("digits, flat", load_digits),
            ("breast cancer", load_breast_cancer),
            ("wine", load_wine),
        ):
            X, y = load(return_X_y=True)
            X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
            tables[name] = X, y, X_test, y_test
        for name, (X, y, X_test, y_test) in tables.items():
            row: Row = {"what": name}
            for label, scaler_of in SCALERS.items():
                scaler = scaler_of().fit(X)
                laid_out = (as_squares(scaler.transform(table)) for table in (X, X_test))
                row[label] = searched(
                    next(laid_out), y, next(laid_out), y_test, budget=100, random_state=seed
                )
            yield row


def as_squares(table: Array) -> Array:
    side = math.isqrt(table.shape[1] - 1) + 1
    images = np.zeros((len(table), side * side))
    images[:, : table.shape[1]] = table
    return images.reshape(-1, side, side)


# --- texts --------------------------------------------------------------------------------


class Hashed:
    """The column of texts as `TableEncoder` encodes it."""

    def fit_transform(self, column: Any) -> Array:
        self.encoder = TableEncoder().fit(column.to_frame())
        return self.transform(column)

    def transform(self, column: Any) -> Array:
        return self.encoder.transform(column.to_frame())


def notes(rng: np.random.Generator, n: int) -> tuple[list[str], Array]:
    """Return notes of eight words, each of which speaks for one class or the other."""
    letters = list("abcdefghijklmnoprstuvwy")
    words = ["".join(rng.choice(letters, rng.integers(3, 9))) for _ in range(60)]
    worth, chosen = rng.normal(size=60), rng.integers(0, 60, (n, 8))
    y = worth[chosen].sum(1) + 0.5 * rng.normal(size=n) > 0
    return [" ".join(words[j] for j in row) for row in chosen], y


def sites(rng: np.random.Generator, n: int) -> tuple[list[str], Array]:
    """Return names of 200 sites, each with an effect of its own."""
    effect, chosen = rng.normal(size=200), rng.integers(0, 200, n)
    return [f"site-{i:03}" for i in chosen], effect[chosen] + 0.3 * rng.normal(size=n) > 0


def texts(seeds: int) -> Iterator[Row]:
    """Text in 30 numbers, by three encoders."""
    encoders: dict[str, Callable[[], Any]] = {
        "StringEncoder": lambda: StringEncoder(n_components=30, random_state=0),
        "MinHashEncoder": lambda: MinHashEncoder(n_components=30),
        "hashed n-grams": Hashed,
    }
    for seed in range(seeds):
        for make in (notes, sites):
            values, y = make(np.random.default_rng(seed), 3_000)
            column = pd.Series(values, name="text")
            train, test = column[:2_000], column[2_000:].reset_index(drop=True)
            row: Row = {"what": make.__name__}
            for label, encoder_of in encoders.items():
                encoder = encoder_of()
                X, X_test = encoder.fit_transform(train), encoder.transform(test)
                scaling = ColumnScaling.fit(np.asarray(X))
                model = SVC().fit(scaling.scale(np.asarray(X)), y[:2_000])
                row[label] = model.score(scaling.scale(np.asarray(X_test)), y[2_000:])
            yield row


EXPERIMENTS = {"pixels": (pixels, 3), "columns": (columns, 3), "texts": (texts, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", help=f"out of {list(EXPERIMENTS)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    for name in arguments.experiments or EXPERIMENTS:
        experiment, seeds = EXPERIMENTS[name]
        rows = []
        for row in experiment(seeds):
            rows.append(row)
            print(row, flush=True)
        table = pd.DataFrame(rows).groupby("what", sort=False).mean().round(4)
        print(f"{name}, {seeds} seeds\n{table.to_string()}\n", flush=True)
        table.to_csv(arguments.out / f"choices_{name}.csv")


if __name__ == "__main__":
    main()

"""Helpers that several test files of the estimator share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from sklearn.metrics import f1_score, make_scorer

from skectonas import Augmentation, ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.fingerprint import text_of
from skectonas.inputs.mapped import MappedImages
from skectonas.morphisms import AddUnits
from skectonas.population import FusedTrainer
from skectonas.search import Search

IS_BRIEF = os.environ.get("SKECTONAS_TESTS") == "brief"
"""Whether another run tests everything with the newest dependencies."""

not_if_brief = pytest.mark.skipif(IS_BRIEF, reason="left to the full run")

USUAL_EXAMPLES = 50
"""Examples that hypothesis tries where a test says nothing else."""


def examples(n: int) -> settings:
    """Return settings with this number of examples, or more if the profile explores."""
    return settings(max_examples=n * settings.default.max_examples // USUAL_EXAMPLES)


def quick(budget: float = 25, **settings: Any) -> ECToNASClassifier:
    return ECToNASClassifier(budget=budget, **{"random_state": 0, **settings})


def as_table(images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return images as flat rows, for which a search has several starts."""
    X, y = images
    return X.reshape(len(X), -1), y


def watch_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that collects the numbers of rows of mapped or sparse batches."""
    taken: list[int] = []
    take = MappedImages.take

    def watched(self: MappedImages, places: torch.Tensor) -> torch.Tensor:
        taken.append(len(places))
        return take(self, places)

    monkeypatch.setattr(MappedImages, "take", watched)
    return taken


def failing_trainer(monkeypatch: pytest.MonkeyPatch, n_trainings: int, error: Any) -> None:
    """Let the trainer raise an error after so many trainings."""
    train, calls = FusedTrainer.train, []

    def counting(self: FusedTrainer, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > n_trainings:
            raise error
        return train(self, *arguments)

    monkeypatch.setattr(FusedTrainer, "train", counting)


def census(n: int = 200) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, n).astype(float)
    job = rng.choice(["clerk", "nurse", "smith"], n).astype(object)
    rich = age + 20 * (job == "nurse") + rng.normal(0, 5, n) > 60
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, age),
            "job": pd.Series(np.where(rng.random(n) < 0.1, None, job)),
            "married": rng.random(n) < 0.5,
            "region": pd.Categorical(rng.choice(list("NSEW"), n)),
            "constant": 1,
        }
    )
    return frame, pd.Series(np.where(rich, ">50K", "<=50K"))


def rows_of_all_kinds() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Return arrays of every kind that the estimator takes: name to X, y and parameters."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    grey = np.clip(rng.normal(100 + 60 * y[:, None, None], 40, (60, 8, 8)), 0, 255).round()
    colours = rng.uniform(0, 1, (60, 6, 5, 3)) * (1 + y[:, None, None, None]) / 3
    table = rng.normal(size=(60, 7)) * 10.0 ** np.arange(-3, 4) + y[:, None]
    gaps = np.where(rng.random(table.shape) < [0, 0.1, 0.9, 0, 0.3, 0, 0], np.nan, table)
    small_cnn = {"start": Topology((8, 8, 1), [ConvCell(3, "max"), ConvCell(2)], [Dense(4)], 3)}
    return {
        "8-bit images": (grey.astype(np.uint8), y, small_cnn),
        "dark 8-bit images": ((grey // 4).astype(np.uint8), y, {}),
        "whole numbers": (grey.astype(np.int64), y, {}),
        "floats of 8 bits": (grey, y, small_cnn),
        "digits": (grey / 16, y, small_cnn),
        "float32": ((grey / 16).astype(np.float32), y, {}),
        "far from zero": (1e9 + grey, y, {}),
        "colours": (colours, y, {"start": "medium_cnn"}),
        "flat images": (grey.reshape(60, 64), y, {"image_shape": (8, 8), **small_cnn}),
        "table": (table, y, {}),
        "shuffled table": (table, y, {"column_order": "shuffled", "image_shape": (3, 4)}),
        "minmax table": (table, y, {"column_scaling": "minmax"}),
        "table with gaps": (gaps, y, {}),
        "minmax table with gaps": (gaps, y, {"column_scaling": "minmax"}),
        "table of float32": (table.astype(np.float32), y, {"column_order": "correlation"}),
    }


def scaled(factor: int) -> Callable[[int], int]:
    """Return a function that has the name of another."""

    @wraps(abs)
    def product(x: int) -> int:
        return factor * abs(x)

    return product


class Slotted:
    """An object without a dictionary."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def method(self) -> int:
        return self.value


def texts() -> list[str]:
    """Return the texts of values of many kinds, of which two are equal."""
    values = [
        None, 1, 1.0, 1.5, "1", True, census, Dense(3), Augmentation(shift=1), AddUnits(),
        {"a": 1, "b": [2, 3.0]}, (8, 8), make_scorer(f1_score, average="micro"), np.float64,
        make_scorer(f1_score, average="macro"), Search, partial(int, base=2),
        partial(int, base=8), lambda x: x, lambda x: -x, {"a", "b", "c"}, np.int64(7),
        Slotted(3), Slotted(4), Slotted(3).method, Slotted(4).method,
        scaled(1), scaled(2), abs,
    ]  # fmt: skip
    return [text_of(value) for value in values]

"""The data sets of the benchmarks: those of the examples, cut for measuring."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1] / "examples"))

import adult as adult_example
import fashion_mnist as fashion_example

Array = NDArray[Any]


def fashion_mnist() -> tuple[Array, Array, Array, Array]:
    """Return Fashion-MNIST: training images, labels, test images, labels."""
    images, labels = fashion_example.load(fashion_example.FOLDER)
    return images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]


def adult(path: Path | None) -> tuple[pd.DataFrame, Array, pd.DataFrame, Array]:
    """Return Adult as raw frames: training rows, labels, test rows, labels."""
    X, y, train = adult_example.load(path)
    labels = np.asarray(y)
    return X[train], labels[train], X[~train], labels[~train]

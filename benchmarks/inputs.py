"""Untidy tables and images of any contrast, next to a scaled dense network and boosting.

Every data set is the same problem in another form: a table whose columns are transformed, or an
image whose grey levels are changed. Writes ``results/inputs.csv``: test accuracies, means over
seeds.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from earlier import EARLIER
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import ECToNASClassifier

Array = NDArray[Any]
Data = tuple[Array, Array, Array, Array]

ROWS, TEST_ROWS, COLUMNS = 2_000, 2_000, 8


def table(seed: int, bend: Callable[[Array], Array] = lambda z: z) -> Data:
    """Return normal columns, bent: X and y to train on, X and y to test on."""
    rng = np.random.default_rng(seed)
    z, weights = rng.normal(size=(ROWS + TEST_ROWS, COLUMNS)), rng.normal(size=COLUMNS)
    noise = 0.3 * rng.normal(size=len(z))
    y = (z @ weights + 1.5 * z[:, 0] * z[:, 1] + noise > 0).astype(int)
    X = bend(z)
    return X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:]


def with_outlier(seed: int) -> Data:
    """Return the table with one row to train on at 1,000."""
    X, y, X_test, y_test = table(seed)
    X = X.copy()
    X[7] = 1_000
    return X, y, X_test, y_test


def images(seed: int, tone: Callable[[Array], Array]) -> Data:
    """Return digits, whose grey levels from 0 to 1 are moved."""
    digits = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(
        digits.images / 16, digits.target, stratify=digits.target, random_state=seed
    )
    return tone(X_train), y_train, tone(X_test), y_test


def eight_bits(most: int) -> Callable[[Array], Array]:
    return lambda X: (most * X).round().astype(np.uint8)


TABLES: dict[str, Callable[[int], Data]] = {
    "normal columns": table,
    "one row at 1,000": with_outlier,
    "skewed, exp(3z)": lambda s: table(s, lambda z: np.exp(3 * z)),
    "heavy tails, Cauchy": lambda s: table(s, lambda z: stats.cauchy.ppf(stats.norm.cdf(z))),
    "cubes": lambda s: table(s, lambda z: z**3),
    "half zeros": lambda s: table(s, lambda z: np.maximum(z, 0)),
    "1e6 + 0.01 z": lambda s: table(s, lambda z: 1e6 + 0.01 * z),
}
IMAGES: dict[str, Callable[[int], Data]] = {
    "8 bits, 0 to 255": lambda s: images(s, eight_bits(255)),
    "8 bits, dark, 0 to 60": lambda s: images(s, eight_bits(60)),
    "floats, 0 to 1": lambda s: images(s, lambda X: X),
    "floats, 0 to 0.01": lambda s: images(s, lambda X: 0.01 * X),
    "floats, pale, 0.9 to 1": lambda s: images(s, lambda X: 0.9 + 0.1 * X),
    "floats, -1 to 1": lambda s: images(s, lambda X: 2 * X - 1),
    "floats, around 1,000": lambda s: images(s, lambda X: 1_000 + X),
}


def models(budget: float, seed: int) -> dict[str, Any]:
    return {
        "skectonas": ECToNASClassifier(**EARLIER, budget=budget, random_state=seed),
        "StandardScaler + MLPClassifier": make_pipeline(
            StandardScaler(), MLPClassifier(random_state=seed)
        ),
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier(random_state=seed),
    }


def score(model: Any, data: Data) -> float:
    X_train, y_train, X_test, y_test = data
    if X_train.ndim > 2 and not isinstance(model, ECToNASClassifier):
        n_pixels = math.prod(X_train.shape[1:])
        X_train, X_test = (X.reshape(-1, n_pixels) for X in (X_train, X_test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(model.fit(X_train, y_train).score(X_test, y_test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows = []
    for kind, cases in (("table", TABLES), ("images", IMAGES)):
        for name, data_of in cases.items():
            scores = [
                {k: score(m, data_of(seed)) for k, m in models(arguments.budget, seed).items()}
                for seed in range(arguments.seeds)
            ]
            rows.append({"kind": kind, "data": name, **pd.DataFrame(scores).mean().round(4)})
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(arguments.out / "inputs.csv", index=False)


if __name__ == "__main__":
    main()

"""What several of the estimator's test files use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skectonas import ECToNASClassifier


def quick(budget: float = 25, **settings: Any) -> ECToNASClassifier:
    return ECToNASClassifier(budget=budget, **{"random_state": 0, **settings})


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

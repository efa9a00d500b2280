"""The settings of the paper, for those who want to repeat its experiments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from skectonas.morphisms import PAPER_MORPHISMS

PAPER_SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "start": "small_ffnn",
        "column_scaling": "minmax",
        "optimizer": "SGD",
        "optimizer_params": {},
        "learning_rate": 0.1,
        "augmentation": None,
        "averaging": 1,
        "morphisms": PAPER_MORPHISMS,
        "warmup_epochs": 10,
        "round_epochs": 5,
        "n_rounds": 3,
        "n_parents": 2,
        "score_window": 3,
        "selection": "score",
        "final_fraction": 0.0,
        "validation_fraction": 0.1,
    }
)
"""Parameters of `ECToNASClassifier` with which it is the algorithm of the paper.

The paper has other starts, too. The page on deviations lists what remains different, such as
the rules for the weights.

Examples
--------
>>> from sklearn.datasets import load_digits
>>> from skectonas import PAPER_SETTINGS, ECToNASClassifier
>>> X, y = load_digits(return_X_y=True)
>>> clf = ECToNASClassifier(**PAPER_SETTINGS, budget=20, random_state=0).fit(X, y)
>>> clf.history_["phase"].iloc[0]
'warm-up'
"""

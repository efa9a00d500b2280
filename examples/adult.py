"""
Adult, a raw data frame
=======================

Census income: the experiment of section 4.1 of the paper, on the raw frame. The estimator
encodes categories, numbers and missing values.

The data come from a local CSV file (the 14 attributes, ``income``, and ``split``, which is
"train" or "test") or from OpenML, so this script was not run when the site was built.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_openml
from story import tell

from skectonas import ECToNASClassifier

N_TRAIN = 32_561  # the rows of the original training file come first


def main() -> None:
    parser = argparse.ArgumentParser(description="ECToNAS on Adult, a raw data frame.")
    parser.add_argument("--data", type=Path, help="adult.csv or adult.csv.gz")
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--start", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    X, y, train = load(arguments.data)
    clf = ECToNASClassifier(
        arguments.alpha,
        arguments.budget,
        arguments.start,
        random_state=arguments.seed,
        verbose=1,
    )
    clf.fit(X[train], y[train])
    tell(clf, X[~train], y[~train])


def load(path: Path | None) -> tuple[pd.DataFrame, pd.Series, np.ndarray]:
    """Return attributes, labels, and which rows belong to the official training file."""
    if path is None:
        frame = fetch_openml("adult", version=2, as_frame=True).frame
        return frame.drop(columns="class"), frame["class"], np.arange(len(frame)) < N_TRAIN
    frame = pd.read_csv(path)
    train = (frame.pop("split") == "train").to_numpy()
    return frame.drop(columns="income"), frame["income"], train


if __name__ == "__main__":
    main()

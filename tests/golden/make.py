"""Write the files of this folder: python tests/golden/make.py

To be run when the format changes on purpose, with `skectonas.export.saving.FORMAT` raised. The
old files stay, because users have written such.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier

FOLDER = Path(__file__).parent


def table() -> pd.DataFrame:
    """Return a frame with a column of every kind but long text."""
    n = 60
    i = np.arange(n)
    return pd.DataFrame(
        {
            "id": [f"P{k:03}" for k in i],
            "age": np.where(i % 7 == 0, np.nan, 20.0 + i),
            "lab": ["<LOD>" if k % 11 == 0 else str(k / 4) for k in i],
            "seen": pd.date_range("2020-01-31", periods=n, freq="9D").strftime("%d.%m.%Y"),
            "stay": pd.to_timedelta(i % 5, unit="h"),
            "site": np.array(["north", "south", None], dtype=object)[i % 3],
            "grade": pd.Categorical.from_codes(i % 4, list("ABCD")),
            "smokes": i % 2 == 0,
        }
    )


def main() -> None:
    digits = load_digits()
    images = digits.images[:200].astype(np.uint8)
    frame = table()
    cases = {
        "images": (images, digits.target[:200], images[:20]),
        "table": (frame, np.where(np.arange(len(frame)) % 3, "well", "ill"), frame),
    }
    for name, (X, y, X_test) in cases.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Columns of X")
            clf = ECToNASClassifier(budget=12, keep_candidates="pareto", random_state=0).fit(
                X, y
            )
        clf.save(FOLDER / f"{name}.safetensors")
        (FOLDER / f"{name}.pickle").write_bytes(pickle.dumps(clf, protocol=4))
        np.save(FOLDER / f"{name}.npy", clf.predict_proba(X_test))


if __name__ == "__main__":
    main()

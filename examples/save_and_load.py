"""
Save and load
=============

This example saves a fitted estimator to one file of JSON and tensors. Loading it runs no code.

It needs safetensors: ``pip install "skectonas[save]"``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier

digits = load_digits()
X_train, X_test, y_train, _ = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ECToNASClassifier(budget=100, random_state=0).fit(X_train, y_train)

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "digits.safetensors"
clf.save(path)
loaded = ECToNASClassifier.load(path)

# %%
# The loaded estimator predicts the same, and has its history.

same = np.array_equal(loaded.predict_proba(X_test), clf.predict_proba(X_test))
print(f"{loaded.best_topology_}: a file of {path.stat().st_size:,} bytes")
print(f"the same probabilities, to the bit: {same}")
print(f"trainings in its history: {len(loaded.history_)}")

# %%
# A damaged file is not loaded: a checksum covers the whole file.

damaged = bytearray(path.read_bytes())
damaged[-10] ^= 1
path.write_bytes(damaged)
try:
    ECToNASClassifier.load(path)
except ValueError as error:
    print(f"with one bit flipped: {str(error).replace(str(path), path.name)}")

folder.cleanup()

"""
Export to ONNX
==============

This example writes a network to a file that runs without Python, torch or this package.

It needs the exporter and, to run the file here, onnxruntime:
``pip install "skectonas[onnx]" onnxruntime``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ECToNASClassifier(budget=100, random_state=0).fit(X_train, y_train)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.onnx"
    clf.to_onnx(path)
    print(f"{clf.best_topology_}: a file of {path.stat().st_size:,} bytes")
    session = onnxruntime.InferenceSession(path)

# %%
# The model takes any number of raw images of the same type and shape as in ``fit``. The
# scaling of the input is part of the model.

[images] = session.get_inputs()
print(f"input: {images.name}, {images.type}, {images.shape}")
probabilities, _ = session.run(["probabilities", "logits"], {"X": X_test})

# %%
# The metadata hold the classes and the topology as JSON.

classes = np.array(json.loads(session.get_modelmeta().custom_metadata_map["classes"]))
accuracy = (classes[probabilities.argmax(1)] == y_test).mean()
difference = np.abs(probabilities - clf.predict_proba(X_test)).max()
print(f"test accuracy: {accuracy:.3f}")
print(f"largest difference to the estimator's probabilities: {difference:.1e}")

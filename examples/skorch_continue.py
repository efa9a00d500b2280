"""
Train on with skorch
====================

This example continues the training of a winner with a learning rate schedule and checkpoints.

It needs skorch and matplotlib: ``pip install "skectonas[skorch,plot]"``.
"""

from __future__ import annotations

import tempfile

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch.callbacks import Checkpoint, LRScheduler

from skectonas import ECToNASClassifier

torch.set_num_threads(1)  # the fastest for networks as small as this
torch.manual_seed(0)  # skorch shuffles by torch's global generator

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ECToNASClassifier(budget=100, random_state=0).fit(X_train, y_train)
print(f"found: {clf.best_topology_}, test accuracy {clf.score(X_test, y_test):.3f}")

# %%
# The digits are their own class indices. For other labels, y would be
# ``np.searchsorted(clf.classes_, y)``.

with tempfile.TemporaryDirectory() as folder:
    net = clf.to_skorch(
        max_epochs=20,
        callbacks=[
            LRScheduler("CosineAnnealingLR", T_max=20, last_epoch=-1),
            Checkpoint(dirname=folder, monitor="valid_loss_best", load_best=True),
        ],
        verbose=0,
    )
    before = len(net.history)
    net.partial_fit(X_train, y_train)

# %%
# We keep the best checkpoint, with the history up to it.

losses = [epoch["valid_loss"] for epoch in net.history]
epochs = range(1, len(losses) + 1)
figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.plot(epochs[:before], losses[:before], "o-", label="search: its rounds")
ax.plot(epochs[before - 1 :], losses[before - 1 :], ".-", label="skorch: its epochs")
ax.set(xlabel="entry of the history", ylabel="validation loss")
ax.legend()
plt.show()
print(f"trained on: test accuracy {(net.predict(X_test) == y_test).mean():.3f}")

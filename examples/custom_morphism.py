"""
A morphism of your own
======================

What the search can change is a list of objects. This one swaps the pooling of a cell, which
none of the built-in morphisms does, and shows the two things that a morphism has to get right:
what the topology becomes, and how the trained weights are carried over.

Needs matplotlib: ``pip install "skectonas[plot]"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from story import tell
from torch import Tensor

from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.morphisms import MORPHISMS, Context
from skectonas.morphisms.reconnect import reconnect_first_dense
from skectonas.network import Weights

# %%
# The morphism
# ------------
# Weights keep their shapes, but the maps after the cell have other values. So the function is
# not preserved, and the first dense layer is fitted to put out on the training images what it
# put out before.


@dataclass(frozen=True)
class SwapPooling:
    """Let a cell pool by the maximum instead of the average, or the other way round."""

    recovery_epochs: float = 0.25
    name = "swap_pooling"
    preserves_function = False

    def sites(self, topology: Topology) -> Sequence[int]:
        """Return the cells."""
        return range(len(topology.cells))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with the other pooling."""
        cells = list(topology.cells)
        other = "max" if cells[site].pooling == "average" else "average"
        cells[site] = ConvCell(cells[site].channels, other)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Keep the weights, and fit the first dense layer to what it put out before."""
        return reconnect_first_dense(weights, new, context.activations(weights, old))


# %%
# The search
# ----------
# Beside the built-in morphisms, from a network with two cells that pool by the average.

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
start = Topology((8, 8, 1), [ConvCell(8), ConvCell(8)], [Dense(10)], n_classes=10)
clf = ECToNASClassifier(
    budget=200, start=start, morphisms=[*MORPHISMS, SwapPooling()], random_state=0
).fit(X_train, y_train)
tell(clf, X_test, y_test)

# %%
# How the children of each morphism did: their scores after the first round of the first
# generation.

first = clf.history_.query("generation == 1 and phase == 'phase 1' and round == 0")
figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.scatter(first["mean_score"], first["morphism"].str.replace("_", " "))
ax.set_xlabel("validation score")
ax.grid(axis="y", alpha=0.3)
plt.show()

"""
A morphism of your own
======================

The changes that a search can make are a list of objects. The morphism in this example swaps the
pooling of a cell, which none of the built-in morphisms does. It shows the two things that a
morphism has to define: what the topology becomes, and how the trained weights are carried over.

This example needs matplotlib: ``pip install "skectonas[plot]"``.
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
# The weights keep their shapes, but the maps after the cell have other values. The function is
# therefore not preserved, and the first dense layer is fitted to its former outputs on the
# training images.


@dataclass(frozen=True)
class SwapPooling:
    """Change the pooling of a cell from average to maximum, or the other way round."""

    recovery_epochs: float = 0.25
    name = "swap_pooling"
    preserves_function = False

    def sites(self, topology: Topology) -> Sequence[int]:
        """Return the cells that pool."""
        return [i for i, cell in enumerate(topology.cells) if cell.pooling is not None]

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with the other pooling."""
        cells = list(topology.cells)
        other = "max" if cells[site].pooling == "average" else "average"
        cells[site] = ConvCell(cells[site].channels, other)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Keep the weights, and fit the first dense layer to its former outputs."""
        return reconnect_first_dense(weights, new, context.activations(weights, old))


# %%
# The search
# ----------
# We add it to the built-in morphisms, and start from a network with two average pooling cells.

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
# The plot shows the scores of the children of each morphism after the first round of the first
# generation.

first = clf.history_.query("generation == 1 and phase == 'phase 1' and round == 0")
figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.scatter(first["mean_score"], first["morphism"].str.replace("_", " "))
ax.set_xlabel("validation score")
ax.grid(axis="y", alpha=0.3)
plt.show()

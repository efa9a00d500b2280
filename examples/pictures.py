"""
Pictures of a search
====================

These plots show what happened in a search. They are drawn from the tables of the fitted
estimator.

This example needs matplotlib: ``pip install "skectonas[plot]"``.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier
from skectonas.displays import EvolutionDisplay, LineageDisplay, TopologyDisplay

digits = load_digits()
clf = ECToNASClassifier(budget=200, random_state=0).fit(digits.images, digits.target)

# %%
# The way to the winner
# ---------------------
# Score and size along the winner's lineage, in front of all other candidates. Dotted lines show
# how far the score fell right after a change.

EvolutionDisplay.from_estimator(clf)
plt.show()

# %%
# All candidates
# --------------
# The tree of descent. Colours and shapes show the change that made a candidate; a filled mark
# means that it survived its generation.

LineageDisplay.from_estimator(clf)
plt.show()

# %%
# The network, to scale
# ---------------------
# The start of the search and the winner.

TopologyDisplay.from_estimator(clf)
plt.show()

# %%
# Displays in your own axes
# -------------------------
# All displays can draw into given axes, and keep what they drew in attributes.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
display = EvolutionDisplay.from_estimator(clf, ax=left)
LineageDisplay.from_estimator(clf, ax=right)
for line in display.lines_:
    line.set_linewidth(3)
figure.suptitle("Handwritten digits")
plt.show()

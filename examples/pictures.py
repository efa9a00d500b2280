"""
Pictures of a search
====================

What happened in a search, drawn from the tables of the fitted estimator.

Needs matplotlib: ``pip install "skectonas[plot]"``.
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
# Score and size along the winner's lineage, in front of all other candidates. A dotted line
# shows how far the score fell right after a change.

EvolutionDisplay.from_estimator(clf)
plt.show()

# %%
# All candidates
# --------------
# Who descends from whom; colours and shapes tell the change that made a candidate, a filled
# mark that it survived its generation.

LineageDisplay.from_estimator(clf)
plt.show()

# %%
# The network, to scale
# ---------------------
# Where the search began, and what it found.

TopologyDisplay.from_estimator(clf)
plt.show()

# %%
# Displays in axes of your own
# ----------------------------
# All displays draw into axes that they are given, and leave what they drew in attributes.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
display = EvolutionDisplay.from_estimator(clf, ax=left)
LineageDisplay.from_estimator(clf, ax=right)
for line in display.lines_:
    line.set_linewidth(3)
figure.suptitle("Handwritten digits")
plt.show()

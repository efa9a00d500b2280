"""
Score against size: the Pareto front
====================================

A search trains many networks. It can keep those that no other network beats in both size and
score, and each of them can be made the model.

This example needs matplotlib: ``pip install "skectonas[plot]"``.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skectonas import ECToNASClassifier
from skectonas.displays import ParetoDisplay, TopologyDisplay

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ECToNASClassifier(budget=250, keep_candidates="pareto", random_state=0)
clf.fit(X_train, y_train)

# %%
# The front
# ---------
# The plot shows validation score against the number of parameters for all candidates.

ParetoDisplay.from_estimator(clf)
plt.show()

# %%
# The same data as a table. The candidates were chosen by their validation scores, so these are
# optimistic. The last column is the accuracy on rows that were not used for any choice.

front = clf.pareto_front_[["candidate", "topology", "n_parameters", "validation_score"]]
models = {number: clf.with_candidate(number) for number in front["candidate"]}
print(
    front.assign(
        test_accuracy=[model.score(X_test, y_test) for model in models.values()]
    ).to_string(index=False, float_format="{:.3f}".format)
)

# %%
# Another model
# -------------
# We take the smallest candidate whose validation score is within two points of the best. The
# result is a new estimator; the first one does not change.

best = front["validation_score"].max()
good = front[front["validation_score"] >= best - 0.02]
smaller = models[good["candidate"].iloc[0]]
print(f"winner:  {clf.best_topology_}, {clf.n_parameters_} parameters")
print(f"smaller: {smaller.best_topology_}, {smaller.n_parameters_} parameters")

TopologyDisplay({"winner": clf.best_topology_, "smaller": smaller.best_topology_}).plot()
plt.show()

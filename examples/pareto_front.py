"""
Score against size: the Pareto front
====================================

A search trains many networks. Those that no other beats, being smaller or better, are kept on
request, and each of them can be made the model.

Needs matplotlib: ``pip install "skectonas[plot]"``.
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
# Validation score against the number of parameters, of all candidates.

ParetoDisplay.from_estimator(clf)
plt.show()

# %%
# The same as a table. The validation score has chosen these candidates among many, so that it
# is optimistic; the accuracy on rows that nothing was chosen by is beside it.

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
# The smallest candidate whose validation score is within two points of the best. It is an
# estimator like the first, which stays as it is.

best = front["validation_score"].max()
good = front[front["validation_score"] >= best - 0.02]
smaller = models[good["candidate"].iloc[0]]
print(f"winner:  {clf.best_topology_}, {clf.n_parameters_} parameters")
print(f"smaller: {smaller.best_topology_}, {smaller.n_parameters_} parameters")

TopologyDisplay({"winner": clf.best_topology_, "smaller": smaller.best_topology_}).plot()
plt.show()

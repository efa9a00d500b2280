"""
Callbacks: progress, scores during the search, and early stopping
==================================================================

The classifier supports the callbacks of scikit-learn 1.9. A search is a tree of tasks: the
warm-up, the generations, their two phases, and the rounds of each phase.

This example needs scikit-learn 1.9 and rich: ``pip install "skectonas[progress]"``.
"""

from __future__ import annotations

from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import ECToNASClassifier

X, y = load_digits(return_X_y=True)

# %%
# A bar for a grid search
# -----------------------
# The grid search passes the bar on to the pipeline and to the classifier, one and two levels
# below. In a terminal or a notebook it is updated live; here is its final state.

pipeline = make_pipeline(
    StandardScaler(), ECToNASClassifier(budget=40, image_shape=(8, 8), random_state=0)
)
grid = GridSearchCV(pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=2)
grid.set_callbacks(ProgressBar(max_propagation_depth=2))
grid.fit(X, y)
print(grid.best_params_, grid.best_estimator_[-1].best_topology_)

# %%
# Scores of each generation, and early stopping
# ---------------------------------------------
# ``ScoringMonitor`` scores the best network on the rows of the fit, at the end of the warm-up,
# of each generation, and of what comes after them. A callback whose ``on_fit_task_end`` returns
# True ends the search and keeps the best network so far.


class Enough:
    """Stops after a generation whose best network has a good enough validation score."""

    def __init__(self, score):
        self.score = score

    def setup(self, estimator, context):
        """Do nothing before a fit."""

    def teardown(self, estimator, context):
        """Do nothing after a fit."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing when a task begins."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Return whether to stop; the subtasks of a fit come with a fitted estimator."""
        is_generation = context.task_name == "generation"
        return is_generation and fitted_estimator.validation_score_ >= self.score


monitor = ScoringMonitor(scoring="accuracy")
clf = ECToNASClassifier(budget=500, image_shape=(8, 8), random_state=0)
clf.set_callbacks(monitor, Enough(0.95)).fit(X, y)
print(f"stopped after {clf.history_['budget_spent'].iloc[-1]:.0f} of 500 epochs")

scores = monitor.get_logs().data_as_pandas
print(scores[["task_name", "task_id", "accuracy"]].to_string(index=False))

# %%
# Continuing the search
# ---------------------
# With ``warm_start=True`` another fit continues from the fitted network, with a fresh budget.

clf.set_callbacks().set_params(warm_start=True, budget=60).fit(X, y)
print(clf.lineage_[["generation", "morphism", "epochs_total", "validation_score"]])

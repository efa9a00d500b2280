"""
Callbacks: progress, scores while it runs, and an end of your own
==================================================================

A search takes the callbacks of scikit-learn 1.9. It is a tree of tasks: the warm-up,
generations, their two phases, and the rounds of these.

Needs scikit-learn 1.9 and rich: ``pip install "skectonas[progress]"``.
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
# Given to the grid, the bar goes down to the pipeline and to the classifier, one and two levels
# below. It is live in a terminal or a notebook; here is how it ends.

pipeline = make_pipeline(
    StandardScaler(), ECToNASClassifier(budget=40, image_shape=(8, 8), random_state=0)
)
grid = GridSearchCV(pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=2)
grid.set_callbacks(ProgressBar(max_propagation_depth=2))
grid.fit(X, y)
print(grid.best_params_, grid.best_estimator_[-1].best_topology_)

# %%
# Scores of each generation, and enough is enough
# -----------------------------------------------
# ``ScoringMonitor`` scores the best network at the end of each generation, on the rows of the
# fit. A callback whose ``on_fit_task_end`` returns True ends the search, with the best so far.


class Enough:
    """Stops at a generation whose best network has a validation score that is good enough."""

    def __init__(self, score):
        self.score = score

    def setup(self, estimator, context):
        """Prepare for a fit: nothing to do."""

    def teardown(self, estimator, context):
        """Put away after a fit: nothing to do."""

    def on_fit_task_begin(self, estimator, context):
        """Take note of a task: nothing to do."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Return whether to stop; only generations come with a fitted estimator."""
        return fitted_estimator is not None and fitted_estimator.validation_score_ >= self.score


monitor = ScoringMonitor(scoring="accuracy")
clf = ECToNASClassifier(budget=500, image_shape=(8, 8), random_state=0)
clf.set_callbacks(monitor, Enough(0.95)).fit(X, y)
print(f"stopped after {clf.history_['budget_spent'].iloc[-1]:.0f} of 500 epochs")

scores = monitor.get_logs().data_as_pandas
print(scores[["task_name", "task_id", "accuracy"]].to_string(index=False))

# %%
# Going on
# --------
# With ``warm_start=True`` another fit continues from the fitted network, with a fresh budget.

clf.set_callbacks().set_params(warm_start=True, budget=60).fit(X, y)
print(clf.lineage_[["generation", "morphism", "epochs_total", "validation_score"]])

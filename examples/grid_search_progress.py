"""A grid search over a pipeline, with one live progress bar for all of it.

Needs scikit-learn 1.9 and rich: ``pip install "skectonas[progress]"``.
"""

from __future__ import annotations

import argparse

from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import ECToNASClassifier


class Enough:
    """A callback of one's own: stops the search at a generation that is good enough."""

    def __init__(self, score: float) -> None:
        self.score = score

    def setup(self, estimator, context) -> None:
        """Begin a fit: there is nothing to prepare."""

    def teardown(self, estimator, context) -> None:
        """End a fit: there is nothing to put away."""

    def on_fit_task_begin(self, estimator, context) -> None:
        """Begin a task."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator) -> bool:
        """Return whether to stop. The models come with generations, not with their parts."""
        return fitted_estimator is not None and fitted_estimator.validation_score_ >= self.score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=60)
    arguments = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(),
        ECToNASClassifier(budget=arguments.budget, image_shape=(8, 8), random_state=0),
    )
    grid = GridSearchCV(pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=2)
    # The pipeline and the classifier are one and two levels below the grid.
    grid.set_callbacks(ProgressBar(max_propagation_depth=2))
    grid.fit(X, y)
    print(f"best alpha: {grid.best_params_['ectonasclassifier__alpha']}")
    print(f"best network: {grid.best_estimator_[-1].best_topology_}")

    monitor = ScoringMonitor(scoring="accuracy")
    clf = ECToNASClassifier(budget=500, image_shape=(8, 8), random_state=0)
    clf.set_callbacks(monitor, Enough(0.97)).fit(X, y)
    print(f"\nStopped after {clf.history_['budget_spent'].iloc[-1]:.0f} of 500 epochs:")
    columns = ["task_name", "task_id", "accuracy"]
    print(monitor.get_logs().data_as_pandas[columns].to_string(index=False))


if __name__ == "__main__":
    main()

"""Prints a search in a few lines; shared by the examples."""

from __future__ import annotations

from typing import Any

from skectonas import ECToNASClassifier


def tell(clf: ECToNASClassifier, X_test: Any, y_test: Any) -> None:
    """Print where the search began, what was changed, what won, and how good it is."""
    start, *changes = clf.lineage_.itertuples()
    print(f"start:   {start.topology} ({start.n_parameters} parameters)")
    for change in changes:
        print(
            f"         generation {change.generation}: {change.morphism.replace('_', ' ')}"
            f" -> {change.topology} ({change.n_parameters} parameters)"
        )
    history = clf.history_
    print(
        f"winner:  {clf.best_topology_} ({clf.n_parameters_} parameters)\n"
        f"         out of {history['candidate'].nunique()} candidates and "
        f"{history['budget_spent'].iloc[-1]:.1f} epochs in {history['seconds'].sum():.0f} s"
    )
    print(f"test accuracy: {clf.score(X_test, y_test):.3f}\n")

"""What the displays that show scores have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import pandas as pd

from skectonas.displays.history import HISTORY, LINEAGE, check_fitted, check_table
from skectonas.displays.style import name_of_score
from skectonas.extras import import_extra


class ScoreDisplay(ABC):
    """Base of the displays of scores, which are drawn from ``history_`` and ``lineage_``."""

    def __init__(
        self,
        *,
        history: pd.DataFrame,
        lineage: pd.DataFrame,
        score_name: str = "validation score",
    ) -> None:
        check_table("history", history, HISTORY)
        check_table("lineage", lineage, LINEAGE)
        self.history = history
        self.lineage = lineage
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, score_name: str | None = None
    ) -> Self:
        """Draw the search of a fitted estimator.

        Parameters
        ----------
        estimator : ECToNASClassifier
            A fitted estimator.
        ax : matplotlib Axes, default=None
            Where to draw, see `plot`.
        score_name : str or None, default=None
            Label of the axis of the score; None takes the name of the scoring.

        Returns
        -------
        Display
            The display, drawn.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        NotFittedError
            If the estimator is not fitted.
        """
        import_extra("matplotlib", "plot")
        check_fitted(estimator, f"{cls.__name__}.from_estimator")
        display = cls(
            history=estimator.history_,
            lineage=estimator.lineage_,
            score_name=name_of_score(estimator) if score_name is None else score_name,
        )
        return display.plot(ax)

    @abstractmethod
    def plot(self, ax: Any = None) -> Self:
        """Draw."""

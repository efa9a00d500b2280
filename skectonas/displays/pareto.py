"""Score against size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from skectonas.displays.scores import ScoreDisplay
from skectonas.displays.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    legend_below,
    limits_of_scores,
    outlined,
    scale_of_sizes,
    tidy,
)
from skectonas.extras import import_extra
from skectonas.search import of_last_fit, standings, unbeaten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ParetoDisplay(ScoreDisplay):
    """Validation score against number of parameters of all candidates, and their front.

    A candidate is shown with the score that selection goes by, the mean over the last
    ``score_window`` evaluations, after its last training. The front joins those that no other
    beats, and gives their numbers. The winner may be missing, because a candidate that lost
    a bracket may beat one whose score fell later. Candidates whose scores are among the worst
    tenth may stand at the lower edge of the frame instead.

    Parameters
    ----------
    history : pandas.DataFrame
        ``history_`` of an estimator.
    lineage : pandas.DataFrame
        Its ``lineage_``.
    score_name : str, default="validation score"
        What the axis of the score says.

    Attributes
    ----------
    candidates : pandas.DataFrame
        ``n_parameters`` and ``mean_score`` of all candidates, by candidate; after a warm start,
        of those of the last fit.
    front : pandas.DataFrame
        Those of them that no other beats, the smallest first.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Where that is.
    points_ : matplotlib Line2D
        The candidates.
    below_ : list of matplotlib Line2D
        Those below the frame, if there are any.
    line_ : matplotlib Line2D
        The front.
    start_, winner_ : matplotlib Line2D
        The marks of the two.
    texts_ : dict of int to matplotlib Text
        Numbers of candidates.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from skectonas import ECToNASClassifier
    >>> from skectonas.displays import ParetoDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ECToNASClassifier(budget=60, random_state=0).fit(X, y)
    >>> display = ParetoDisplay.from_estimator(clf)
    >>> display.front.index.tolist() == clf.pareto_front_["candidate"].tolist()
    True
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        *,
        history: pd.DataFrame,
        lineage: pd.DataFrame,
        score_name: str = "validation score",
    ) -> None:
        super().__init__(history=history, lineage=lineage, score_name=score_name)
        rows = standings(of_last_fit(history), lineage)
        sizes, scores = rows["n_parameters"].tolist(), rows["mean_score"].tolist()
        self.candidates = rows[["n_parameters", "mean_score"]]
        self.front = self.candidates.iloc[unbeaten(sizes, scores, rows["mean_loss"].tolist())]

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. The legend stands below the axes.

        Returns
        -------
        ParetoDisplay
            This display.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        import_extra("matplotlib", "plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        self._set_axes(ax)
        self._draw_candidates(ax)
        self._draw_front(ax)
        self._draw_lineage(ax)
        legend_below(ax, [self.points_, *self.below_, self.line_, self.start_, self.winner_])
        return self

    def _set_axes(self, ax: Axes) -> None:
        ends = self.lineage["validation_score"].iloc[[0, -1]]
        shown = [*self.front["mean_score"], *ends]
        ax.set_xlabel("parameters")
        ax.set_ylabel(self.score_name)
        scale_of_sizes(ax, "x", self.candidates["n_parameters"])
        ax.set_ylim(limits_of_scores(self.candidates["mean_score"], shown))
        tidy(ax)

    def _draw_candidates(self, ax: Axes) -> None:
        sizes, scores = self.candidates.to_numpy(float).T
        light: dict[str, Any] = {"color": GREY, "mfc": "none", "ls": "", "mew": 0.8, "ms": 4.5}
        low, high = ax.get_ylim()
        inside = scores > low + 0.015 * (high - low)  # with its whole mark
        [self.points_] = ax.plot(
            sizes[inside], scores[inside], "o", label="candidate", zorder=2, **light
        )
        worse = sizes[~inside]
        self.below_ = []
        if len(worse):
            self.below_ = ax.plot(
                worse,
                np.full(len(worse), 0.02),
                "v",
                label="worse than shown",
                transform=ax.get_xaxis_transform(),
                zorder=2,
                **light,
            )

    def _draw_front(self, ax: Axes) -> None:
        points = self.front.to_numpy(float)
        [self.line_] = ax.step(
            *points.T,
            "o-",
            where="post",
            color=BLUE,
            lw=1.6,
            ms=5,
            label="Pareto front",
            zorder=3,
        )
        # No candidate lies above and to the left of the front: there is room for numbers.
        self.texts_ = {
            int(candidate): self._number(ax, int(candidate), point, (-4, 4), ha="right")
            for candidate, point in zip(self.front.index, points, strict=True)
        }

    def _draw_lineage(self, ax: Axes) -> None:
        columns = ["n_parameters", "validation_score"]
        start, winner = self.lineage[columns].to_numpy(float)[[0, -1]]
        edge: dict[str, Any] = {"ls": "", "mec": "white", "mew": 0.8}
        [self.start_] = ax.plot(
            *start[:, None], "s", color=BLACK, ms=7, label="start", zorder=4, **edge
        )
        [self.winner_] = ax.plot(
            *winner[:, None], "*", color=VERMILLION, ms=13, label="winner", zorder=5, **edge
        )
        candidate = int(self.lineage["candidate"].iloc[-1])
        if candidate not in self.texts_:
            self.texts_[candidate] = self._number(ax, candidate, winner, (5, -5), va="top")

    @staticmethod
    def _number(
        ax: Axes, candidate: int, point: Any, offset: tuple[float, float], **alignment: Any
    ) -> Any:
        text = ax.annotate(
            str(candidate),
            tuple(point),
            offset,
            textcoords="offset points",
            fontsize="x-small",
            zorder=6,
            **alignment,
        )
        outlined(text)
        return text

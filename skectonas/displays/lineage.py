"""Who descends from whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from skectonas.displays.history import HISTORY, LINEAGE, check_fitted, check_table
from skectonas.displays.style import (
    BLACK,
    INK,
    PALE,
    marks_of,
    outlined,
    words,
)
from skectonas.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LineageDisplay:
    """The tree of all candidates, generation by generation.

    The colour and the shape of a mark show the change that made the candidate. A filled mark
    means that it survived its generation. The winner has a ring. Numbers are shown for the
    winner and its ancestors.

    Parameters
    ----------
    history : pandas.DataFrame
        ``history_`` of an estimator.
    lineage : pandas.DataFrame
        Its ``lineage_``.

    Attributes
    ----------
    tree : pandas.DataFrame
        What is drawn, by candidate: ``generation``, ``parent``, ``morphism``, whether it
        ``survived``, and its ``place`` in the generation.
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Where that is.
    candidates_ : dict of (str, bool) to matplotlib PathCollection
        The candidates, by morphism and by whether they survived.
    edges_ : matplotlib LineCollection
        What joins them to their parents.
    line_ : matplotlib Line2D
        The lineage of the winner.
    winner_ : matplotlib Line2D
        Its ring.
    texts_ : list of matplotlib Text
        Numbers of candidates.

    See Also
    --------
    EvolutionDisplay : Score and size along the winner's lineage.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from skectonas import ECToNASClassifier
    >>> from skectonas.displays import LineageDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ECToNASClassifier(budget=60, random_state=0).fit(X, y)
    >>> display = LineageDisplay.from_estimator(clf)
    >>> len(display.tree) == clf.history_["candidate"].nunique()
    True
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, history: pd.DataFrame, lineage: pd.DataFrame) -> None:
        check_table("history", history, HISTORY)
        check_table("lineage", lineage, LINEAGE)
        self.history = history
        self.lineage = lineage
        self.tree = tree_of(history)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the tree of a fitted estimator.

        Parameters
        ----------
        estimator : ECToNASClassifier
            A fitted estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LineageDisplay

        Raises
        ------
        ImportError
            If there is no matplotlib.
        NotFittedError
            If the estimator is not fitted.
        """
        import_extra("matplotlib", "plot")
        check_fitted(estimator, f"{cls.__name__}.from_estimator")
        return cls(history=estimator.history_, lineage=estimator.lineage_).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure. The legend stands to the right of the axes.

        Returns
        -------
        LineageDisplay
            This display.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        import_extra("matplotlib", "plot")
        import matplotlib.pyplot as plt

        crowd = self.tree["generation"].value_counts().max()
        if ax is None:
            width = np.clip(3.4 + 0.8 * self.tree["generation"].max(), 5, 12)
            height = np.clip(1.2 + 0.14 * crowd, 3, 7)
            _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        room = ax.get_window_extent().height / ax.figure.dpi * 72
        size = float(np.clip(0.75 * room / (crowd + 1), 3, 8))
        self._draw_edges(ax)
        self._draw_candidates(ax, size)
        self._draw_winner(ax, size)
        self._describe(ax)
        return self

    def _draw_edges(self, ax: Axes) -> None:
        from matplotlib.collections import LineCollection

        children = self.tree[self.tree["parent"].notna()]
        parents = self.tree.loc[children["parent"].astype(int)]
        columns = ["generation", "place"]
        ends = np.stack([parents[columns].to_numpy(), children[columns].to_numpy()], 1)
        self.edges_ = LineCollection(list(ends), colors=PALE, linewidths=0.7, zorder=1)
        ax.add_collection(self.edges_)

    def _draw_candidates(self, ax: Axes, size: float) -> None:
        self.candidates_ = {}
        for name, mark in marks_of(self.tree["morphism"]).items():
            for survived in (False, True):
                chosen = (self.tree["morphism"] == name) & (self.tree["survived"] == survived)
                self.candidates_[name, survived] = ax.scatter(
                    self.tree["generation"][chosen],
                    self.tree["place"][chosen],
                    s=(size if survived else 0.7 * size) ** 2,
                    marker=mark.shape,
                    facecolor=mark.colour if survived else "white",
                    edgecolor=mark.colour,
                    linewidth=0.8,
                    zorder=3 + survived,
                )

    def _draw_winner(self, ax: Axes, size: float) -> None:
        line = self.tree.loc[self.lineage["candidate"]]
        x, y = line["generation"].to_numpy(), line["place"].to_numpy()
        [self.line_] = ax.plot(
            x, y, color=BLACK, lw=2, zorder=2, label="winner and its ancestors"
        )
        [self.winner_] = ax.plot(
            x[-1], y[-1], "o", mfc="none", mec=BLACK, mew=1.2, ms=1.8 * size, zorder=5
        )
        distances = [0.5 * size] * (len(line) - 1) + [0.9 * size]
        self.texts_ = []
        for candidate, place, distance in zip(
            line.index, zip(x, y, strict=True), distances, strict=True
        ):
            text = ax.annotate(
                str(candidate),
                place,
                (distance + 2, 1),
                textcoords="offset points",
                fontsize="x-small",
                zorder=6,
            )
            outlined(text)
            self.texts_.append(text)

    def _describe(self, ax: Axes) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import MaxNLocator

        ax.set_xlabel("generation")
        ax.set_xlim(-0.4, self.tree["generation"].max() + 0.4)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
        marks = [
            (words(name), mark.shape, mark.colour, mark.colour)
            for name, mark in marks_of(self.tree["morphism"]).items()
        ]
        marks += [("survived", "o", INK, INK), ("lost", "o", INK, "white")]
        handles = [
            Line2D([], [], ls="", marker=shape, mec=edge, mfc=face, label=label)
            for label, shape, edge, face in marks
        ]
        ax.legend(
            handles=[*handles, self.line_],
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            fontsize="small",
        )


def tree_of(history: pd.DataFrame) -> pd.DataFrame:
    """Return the tree of the candidates, a row for each, by candidate.

    Its ``place`` is the one in its generation, around zero: siblings stand together, in the
    order of their parents, and among them those of one change.
    """
    first = history.drop_duplicates("candidate").set_index("candidate").sort_index()
    tree = first[["generation", "parent", "morphism"]].copy()
    lost = set(history["candidate"][history["won"].isin([False])])
    tree["survived"] = [candidate not in lost for candidate in tree.index]
    order = list(marks_of(tree["morphism"]))
    places: dict[int, float] = {}
    for _, members in tree.groupby("generation"):
        ranked = sorted(
            (places.get(parent, 0.0), order.index(name), candidate)
            for candidate, parent, name in members[["parent", "morphism"]].itertuples()
        )
        middle = (len(ranked) - 1) / 2
        places |= {candidate: i - middle for i, (*_, candidate) in enumerate(ranked)}
    tree["place"] = pd.Series(places, dtype=float)
    return tree

"""The way from the start to the winner: the paper's Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from skectonas.displays.history import (
    births,
    course,
    settled,
)
from skectonas.displays.scores import ScoreDisplay
from skectonas.displays.style import (
    BLUE,
    PALE,
    legend_below,
    limits_of_scores,
    marks_of,
    outlined,
    scale_of_sizes,
    spread,
    tidy,
    words,
)
from skectonas.extras import import_extra
from skectonas.search import standings

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class EvolutionDisplay(ScoreDisplay):
    """Score and size along the winner's lineage, with its changes, in front of all candidates.

    Above is the validation score, the mean over the last ``score_window`` evaluations, at the
    end of each round; a dotted line shows how far it fell right after a change, before the
    first round. Below is the number of parameters. The changes are written above the epoch
    in which they were made, and marked as in `LineageDisplay`. Of the other candidates, in
    the background, those with the worst tenth of the scores may lie below the frame.

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
    axes_ : ndarray of shape (2,) of matplotlib Axes
        Score and size.
    bounding_ax_ : matplotlib Axes or None
        The axes that hold the two, if they were given.
    figure_ : matplotlib Figure
        Where they are.
    lines_ : list of two matplotlib Line2D
        Score and size of the winner and its ancestors.
    dips_ : matplotlib Line2D
        Their scores, with those right after a change.
    candidates_ : list of two matplotlib LineCollection
        Scores and sizes of all other candidates.
    marks_ : list of matplotlib Line2D
        The changes.
    texts_ : list of matplotlib Text
        Their names.

    See Also
    --------
    LineageDisplay : The tree of all candidates.

    References
    ----------
    arXiv:2403.05123, Figure 6.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from skectonas import ECToNASClassifier
    >>> from skectonas.displays import EvolutionDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ECToNASClassifier(budget=60, random_state=0).fit(X, y)
    >>> display = EvolutionDisplay.from_estimator(clf)
    >>> [text.get_text() for text in display.texts_] == [
    ...     name.replace("_", " ") for name in clf.lineage_["morphism"][1:]
    ... ]
    True
    >>> plt.close(display.figure_)
    """

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, default=None
            Axes to be divided, or those for score and size, which should share the epochs. None
            makes a figure.

        Returns
        -------
        EvolutionDisplay
            This display.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        import_extra("matplotlib", "plot")
        upper, lower = self._axes(ax)
        self.axes_ = np.array([upper, lower], dtype=object)
        self.figure_ = upper.figure
        self._draw_others(upper, lower)
        self._draw_course(upper, lower)
        self._set_axes(upper, lower)
        self._name_changes(upper, lower)
        return self

    def _axes(self, ax: Axes | Sequence[Axes] | None) -> tuple[Axes, Axes]:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        self.bounding_ax_ = ax if isinstance(ax, Axes) else None
        if ax is None:
            _, (upper, lower) = plt.subplots(
                2, sharex=True, height_ratios=(3, 2), figsize=(6.4, 4.8), layout="constrained"
            )
        elif isinstance(ax, Axes):
            ax.set_axis_off()
            upper = ax.inset_axes((0, 0.43, 1, 0.57))
            lower = ax.inset_axes((0, 0, 1, 0.39), sharex=upper)
            upper.tick_params(labelbottom=False)
        else:
            upper, lower = ax
        return upper, lower

    def _draw_others(self, upper: Axes, lower: Axes) -> None:
        """Draw the candidates that are not on the lineage, from their birth on."""
        from matplotlib.collections import LineCollection

        born, parents = births(self.history), standings(self.history)
        others = ~self.history["candidate"].isin(self.lineage["candidate"])
        scores, sizes = [], []
        for candidate, rows in settled(self.history[others]).groupby("candidate"):
            first = rows.iloc[0]
            points = rows[["epochs_total", "mean_score"]].to_numpy(float)
            if pd.notna(first["parent"]):  # a start has none
                birth = born[candidate], parents["mean_score"][first["parent"]]
                points = np.vstack([birth, points]).astype(float)
            scores.append(points[np.isfinite(points).all(1)])
            sizes.append([(x, first["n_parameters"]) for x in points[[0, -1], 0]])
        self.candidates_ = [
            LineCollection(
                lines, colors=PALE, linewidths=0.8, zorder=1, label="other candidates"
            )
            for lines in (scores, sizes)
        ]
        upper.add_collection(self.candidates_[0])
        lower.add_collection(self.candidates_[1])

    def _draw_course(self, upper: Axes, lower: Axes) -> None:
        """Draw the scores and the sizes of the lineage, and write the last at their ends."""
        lineage, rows = self.lineage, course(self.history, self.lineage)
        stops = settled(rows)
        [self.dips_] = upper.plot(
            *rows[["epochs_total", "mean_score"]].to_numpy().T,
            ":",
            color=BLUE,
            lw=0.8,
            zorder=2,
            label="right after a change",
        )
        self._path = stops[["epochs_total", "mean_score"]].to_numpy().T
        [line] = upper.plot(
            *self._path,
            "o-",
            color=BLUE,
            lw=1.8,
            ms=3,
            zorder=3,
            label="winner and its ancestors",
        )
        end, score = self._path[:, -1]
        size = int(lineage["n_parameters"].iloc[-1])
        [steps] = lower.step(
            [*births(self.history)[lineage["candidate"]], end],
            [*lineage["n_parameters"], size],
            where="post",
            color=BLUE,
            lw=1.8,
            zorder=3,
        )
        self.lines_ = [line, steps]
        for ax, y, text in ((upper, score, f"{score:.3f}"), (lower, size, f"{size:,}")):
            note = ax.annotate(
                text,
                (end, y),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color=BLUE,
                zorder=5,
            )
            outlined(note)

    def _set_axes(self, upper: Axes, lower: Axes) -> None:
        scores = settled(self.history)["mean_score"]
        upper.set_ylim(limits_of_scores(scores, self._path[1]))
        upper.set_xlim(0, 1.03 * self.history["epochs_total"].max())
        scale_of_sizes(lower, "y", self.history["n_parameters"])
        upper.set_ylabel(self.score_name)
        lower.set_ylabel("parameters")
        lower.set_xlabel("epochs trained, those of the ancestors included")
        for ax in (upper, lower):
            tidy(ax)
        if len(self.candidates_[1].get_segments()) or len(self.lineage) > 1:
            legend_below(lower, [self.lines_[0], self.dips_, self.candidates_[0]])

    def _name_changes(self, upper: Axes, lower: Axes) -> None:
        """Mark the changes, and write them above the frame, none over another."""
        names = self.lineage["morphism"].iloc[1:]
        born = births(self.history)[self.lineage["candidate"].iloc[1:]].tolist()
        marks = marks_of(names)
        low, high = upper.get_xlim()
        places = spread(born, (high - low) / 30, low, high)
        above = upper.get_xaxis_transform()
        self.marks_, self.texts_ = [], []
        for name, x, place in zip(names, born, places, strict=True):
            for ax in (upper, lower):
                ax.axvline(x, color=PALE, lw=0.6, zorder=0)
            upper.plot(
                [x, place], [1, 1.05], color=PALE, lw=0.6, transform=above, clip_on=False
            )
            text = upper.text(
                place,
                1.06,
                words(name),
                transform=above,
                rotation=45,
                rotation_mode="anchor",
                fontsize="small",
            )
            self.texts_.append(text)
            score = float(np.interp(x, *self._path))
            self.marks_ += upper.plot(
                x,
                score,
                marks[name].shape,
                color=marks[name].colour,
                ms=7,
                mec="white",
                mew=0.6,
                zorder=4,
            )

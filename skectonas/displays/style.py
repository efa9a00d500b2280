"""What the pictures share: colours, marks of the changes, figures and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import get_scorer_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

# Colours of Okabe and Ito, which colour-blind people can distinguish.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE, INK = "#8C8C8C", "#D0D0D0", "#333333"


class Mark(NamedTuple):
    """How a change is marked; the shapes tell them apart without colours too."""

    colour: str
    shape: str


# One colour for what is changed, one shape for each way of changing it.
MARKS = {
    "start": Mark(BLACK, "s"),
    "identity": Mark(GREY, "o"),
    "add_units": Mark(SKY, "^"),
    "remove_units": Mark(SKY, "v"),
    "add_dense": Mark(BLUE, ">"),
    "remove_dense": Mark(BLUE, "<"),
    "add_channels": Mark(ORANGE, "D"),
    "remove_channels": Mark(ORANGE, "d"),
    "add_cell": Mark(VERMILLION, "P"),
    "remove_cell": Mark(VERMILLION, "X"),
}
OTHERS = [
    Mark(colour, shape) for shape in ("p", "*", "h", "8", "H") for colour in (GREEN, PURPLE)
]


def marks_of(morphisms: Iterable[str]) -> dict[str, Mark]:
    """Return the marks of some changes, in a fixed order; unknown ones share what is left."""
    present = set(morphisms)
    known = {name: mark for name, mark in MARKS.items() if name in present}
    unknown = sorted(present - set(MARKS))
    return known | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(unknown)}


def words(morphism: str) -> str:
    """Return the name of a change as text."""
    return morphism.replace("_", " ")


def name_of_score(estimator: Any) -> str:
    """Return what the axis of the score says."""
    name = estimator.scoring_
    return f"validation {words(name) if name in get_scorer_names() else 'score'}"


def spread(wanted: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Return positions near the wanted ones, with at least a gap between neighbours.

    Parameters
    ----------
    wanted : array-like of shape (n,)
        Ascending.
    gap : float
        The least distance; where there is no room for it, all get the same share.
    low, high : float
        Where the first and the last may lie at the most.

    Examples
    --------
    >>> from skectonas.displays.style import spread
    >>> spread([0.5, 0.5, 0.9], gap=0.2, low=0, high=1).round(2).tolist()
    [0.4, 0.6, 0.9]
    """
    places = np.asarray(wanted, float)
    if not len(places):
        return places
    # Neighbours that are too close are spread around their mean.
    steps = min(gap, (high - low) / max(len(places) - 1, 1)) * np.arange(len(places))
    nearest = isotonic_regression(places - steps)
    inside: NDArray[np.float64] = np.clip(nearest, low, max(low, high - steps[-1])) + steps
    return inside


def scale_of_sizes(ax: Axes, which: Literal["x", "y"], sizes: pd.Series[int]) -> None:
    """Make an axis logarithmic, with ticks that people read: 500, 1,000, 2,000."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = sizes.min(), sizes.max()
    margin = max(high / low, 1.5) ** 0.08
    ax.set(**{f"{which}scale": "log", f"{which}lim": (low / margin, high * margin)})
    axis = getattr(ax, f"{which}axis")
    subs = (1, 1.5, 2, 3, 5, 7) if high / low < 10 else (1, 2, 5) if high / low < 200 else (1,)
    few = MaxNLocator(4, integer=True)
    axis.set_major_locator(few if high / low < 2 else LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def limits_of_scores(scores: pd.Series[float], shown: Iterable[float]) -> tuple[float, float]:
    """Return the range of an axis that shows the given scores and the best 90 % of all.

    A few candidates that fail would else press all that matters together.
    """
    finite = scores[np.isfinite(scores)]
    values = [score for score in shown if np.isfinite(score)]
    if len(finite):
        values += [float(finite.quantile(0.1)), float(finite.max())]
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def tidy(ax: Axes) -> None:
    """Leave out the frame where nothing is read off it."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize="small")


def outlined(text: Text) -> None:
    """Give a text an outline in the colour of the page, so that it can be read over lines."""
    from matplotlib import rcParams
    from matplotlib.patheffects import withStroke

    page = rcParams["axes.facecolor"]
    text.set_path_effects([withStroke(linewidth=2.5, foreground=page)])


def legend_below(ax: Axes, handles: Sequence[Artist]) -> None:
    """Put a legend below the label of the x axis, in as many columns as there is room for."""
    from matplotlib import rcParams
    from matplotlib.transforms import ScaledTranslation

    size = rcParams["font.size"]
    room = ax.get_window_extent().width / ax.figure.dpi * 72 / (9.5 * size)
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes
        + ScaledTranslation(0, -3.4 * size / 72, ax.figure.dpi_scale_trans),
        borderaxespad=0,
        ncols=int(np.clip(room, 1, len(handles))),
        frameon=False,
        fontsize="small",
    )

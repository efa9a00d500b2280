"""Networks drawn to scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skectonas.displays.blocks import (
    GAP,
    HEADER,
    LABEL,
    MARGIN,
    TITLE,
    Block,
    Point,
    blocks_of,
    largest_scale,
    needed,
    tallest,
)
from skectonas.displays.history import check_fitted
from skectonas.displays.style import GREY, INK, PALE
from skectonas.extras import import_extra
from skectonas.topology import Topology

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Polygon
    from matplotlib.text import Text

WIDE, TALL = 1000.0, 90.0  # points: largest width of a figure, largest height of a network


class TopologyDisplay:
    """Networks drawn to scale, layer by layer, one below the other.

    Each layer is drawn as its output. A feature map is a box: its height shows the rows, its
    depth the columns, and its width the channels, the last two drawn to 35 %. Units are drawn
    one above the other. One scale, shown at the left, holds for all networks.
    Below each layer are its output shape, channels
    last, and its number of parameters.

    Parameters
    ----------
    topologies : Topology or dict of str to Topology
        The networks, with their titles. `Topology.from_string` reads them out of the column
        ``topology`` of ``history_`` and ``lineage_``.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.
    figure_ : matplotlib Figure
        Where that is.
    boxes_ : dict of str to list of matplotlib Polygon
        For each network, the fronts of its layers, the input first.
    texts_ : dict of str to list of matplotlib Text
        For each network, its title, the header of the labels, and the labels.
    ruler_ : matplotlib ErrorbarContainer
        What shows the scale.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from skectonas import ConvCell, Dense, Topology
    >>> from skectonas.displays import TopologyDisplay
    >>> topology = Topology((28, 28, 1), [ConvCell(3), ConvCell(6, "max")], [Dense(10)], 10)
    >>> display = TopologyDisplay({"mine": topology}).plot()
    >>> len(display.boxes_["mine"])
    5
    >>> plt.close(display.figure_)
    """

    def __init__(self, topologies: Topology | Mapping[str, Topology]) -> None:
        if isinstance(topologies, Topology):
            topologies = {"": topologies}
        valid = isinstance(topologies, Mapping) and topologies
        if not valid or not all(isinstance(t, Topology) for t in topologies.values()):
            raise ValueError(
                f"topologies must be a Topology or a dict of them, got {topologies!r}."
            )
        self.topologies = dict(topologies)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Axes | None = None, start: bool = True
    ) -> Self:
        """Draw the network of a fitted estimator.

        Parameters
        ----------
        estimator : ECToNASClassifier
            A fitted estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        start : bool, default=True
            Whether to draw, above it, the network that the search began with.

        Returns
        -------
        TopologyDisplay

        Raises
        ------
        ImportError
            If there is no matplotlib.
        NotFittedError
            If the estimator is not fitted.
        """
        import_extra("matplotlib", "plot")
        check_fitted(estimator, f"{cls.__name__}.from_estimator")
        first = Topology.from_string(estimator.lineage_["topology"].iloc[0])
        topologies = {"start": first} if start else {}
        return cls({**topologies, "winner": estimator.best_topology_}).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, as large as there is room; the writing is made smaller if need be.
            None makes a figure of the size that is needed.

        Returns
        -------
        TopologyDisplay
            This display.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        import_extra("matplotlib", "plot")
        import matplotlib.pyplot as plt
        from matplotlib import rcParams

        rows = [blocks_of(topology) for topology in self.topologies.values()]
        # Lengths are in points for a font of 10 points. The unit adapts them to the font.
        self._unit = rcParams["font.size"] / 10
        if ax is None:
            self._scale = largest_scale(rows, WIDE, needed(rows, 0)[1] + TALL * len(rows))
            width, height = needed(rows, self._scale)
            size = width * self._unit / 72, height * self._unit / 72
            ax = plt.figure(figsize=size).add_axes((0, 0, 1, 1))
        else:
            room = np.array(ax.get_window_extent().size) / ax.figure.dpi * 72
            self._unit = min(self._unit, *(room / needed(rows, 0)))
            width, height = room / self._unit
            self._scale = largest_scale(rows, width, height)
        self.ax_, self.figure_ = ax, ax.figure
        ax.set_axis_off()
        ax.set(xlim=(0, width), ylim=(-height, 0), aspect="equal")
        self.boxes_: dict[str, list[Polygon]] = {}
        self.texts_: dict[str, list[Text]] = {}
        top = 0.0
        for name, blocks in zip(self.topologies, rows, strict=True):
            self._draw(name, blocks, top)
            top -= TITLE + tallest(blocks) * self._scale + LABEL + GAP
        self._draw_ruler(rows[0])
        return self

    def _draw(self, name: str, blocks: Sequence[Block], top: float) -> None:
        """Draw a network below a height on the page."""
        tall = tallest(blocks) * self._scale
        middle, bottom = top - TITLE - tall / 2, top - TITLE - tall - GAP
        title = f"{name}: " if name else ""
        title += f"{self.topologies[name].n_parameters:,} parameters"
        self.boxes_[name] = []
        self.texts_[name] = [
            self._text(MARGIN, top - TITLE / 2, title, 8.5, weight="bold", va="center"),
            self._text(MARGIN, bottom, "layer\noutput\nparameters", 7, color=GREY, va="top"),
        ]
        x = MARGIN + HEADER
        behind: list[Point] = []
        for block in blocks:
            column = block.column(self._scale)
            depth = block.depth * self._scale
            left = x + (column - block.width(self._scale) - depth) / 2
            low = middle - (block.height * self._scale + depth) / 2
            front, roof, side = block.faces(left, low, self._scale)
            if behind:
                self._fill([*behind, front[0], front[3]], PALE, 0.35, lw=0, zorder=1)
            self.boxes_[name].append(self._fill(front, block.colour, 1, zorder=2))
            if depth:
                self._fill(roof, block.colour, 0.55, zorder=2)
                self._fill(side, block.colour, 0.75, zorder=2)
            self.texts_[name].append(
                self._text(x + column / 2, bottom, block.label, 7, ha="center", va="top")
            )
            behind = [front[2], front[1]]
            x += column

    def _draw_ruler(self, blocks: Sequence[Block]) -> None:
        """Draw how high so many pixels or units are, beside the first network."""
        tall = tallest(blocks)
        length = max(n * 10**k for n in (1, 2, 5) for k in range(8) if n * 10**k <= tall)
        middle = -TITLE - tall * self._scale / 2
        self.ruler_ = self.ax_.errorbar(
            MARGIN + 2, middle, length * self._scale / 2, color=GREY, capsize=2, lw=1
        )
        label = f"{length:,}\npixels, units"
        self._text(MARGIN + 8, middle, label, 7, color=GREY, va="center")

    def _fill(self, corners: list[Point], colour: str, shade: float, **style: Any) -> Polygon:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Polygon

        mixed = [1 - shade * (1 - part) for part in to_rgb(colour)]
        line = {"edgecolor": INK, "lw": 0.6 * self._unit, "joinstyle": "round"}
        face = Polygon(corners, facecolor=mixed, **line | style)
        self.ax_.add_patch(face)
        return face

    def _text(self, x: float, y: float, text: str, size: float, **style: Any) -> Text:
        style = {"linespacing": 1.3, **style}
        return self.ax_.text(x, y, text, fontsize=size * self._unit, **style)

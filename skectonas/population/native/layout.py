"""Where the weights of a network are in the flat memory that the native library works on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from skectonas.topology import Topology, ceil_div

VALUES_OF_LINE = 16
"""Alignment of weights and matrix lines, in values: the largest vector, and a cache line."""

PAGE = 256
"""Lines of a multiple of this length would share the sets of a cache."""


def line_of(n: int) -> int:
    """Return the length of a line of a matrix with n columns, in values: see memory.h.

    Examples
    --------
    >>> from skectonas.population.native.layout import line_of
    >>> line_of(10), line_of(16), line_of(256)
    (16, 16, 272)
    """
    line = ceil_div(n, VALUES_OF_LINE) * VALUES_OF_LINE
    return line + VALUES_OF_LINE if line % PAGE == 0 else line


@dataclass(frozen=True)
class Layout:
    """The places of the trained weights of a network, layer after layer.

    The lines of matrices are padded with zeros.

    Parameters
    ----------
    topology : Topology
        The network.
    """

    topology: Topology

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each weight begins, by name."""
        places, end = {}, 0
        for name, shape in self.topology.weight_shapes.items():
            places[name] = end
            end += ceil_div(self._size(shape), VALUES_OF_LINE) * VALUES_OF_LINE
        return places

    @cached_property
    def size(self) -> int:
        """Number of values of the flat memory."""
        *_, (name, shape) = self.topology.weight_shapes.items()
        return self.places[name] + ceil_div(self._size(shape), VALUES_OF_LINE) * VALUES_OF_LINE

    @staticmethod
    def _size(shape: tuple[int, ...]) -> int:
        return shape[0] * line_of(shape[1]) if len(shape) == 2 else math.prod(shape)

    def views_of(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the weights by name as views of flat memory."""
        views = {}
        for name, shape in self.topology.weight_shapes.items():
            own = flat[self.places[name] :][: self._size(shape)]
            is_matrix = len(shape) == 2
            views[name] = (
                own.view(shape[0], -1)[:, : shape[1]] if is_matrix else own.view(shape)
            )
        return views

    def fill(self, flat: Tensor, weights: Mapping[str, Tensor]) -> None:
        """Copy named weights to flat memory, whose padding is left alone."""
        for name, view in self.views_of(flat).items():
            view.copy_(weights[name])

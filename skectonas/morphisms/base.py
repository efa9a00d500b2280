"""What a morphism is, and which weights it has to touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from skectonas.morphisms.activations import Activations
from skectonas.network import Weights
from skectonas.topology import Topology, cell_name, conv_name, linear_name


@dataclass(frozen=True, eq=False)
class Context:
    """What a morphism may look at besides the network.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where its random numbers come from.
    images : Tensor of shape (n, height, width, channels)
        A batch of training images as the network sees them, float.
    parent : Activations or None, default=None
        What the layers of the network that is changed see of them. All its children are made
        with the same one, so that it is computed once.
    """

    rng: np.random.Generator
    images: Tensor
    parent: Activations | None = None

    def activations(self, weights: Weights, topology: Topology) -> Activations:
        """Return what the layers of a network see of the images."""
        if self.parent is not None and self.parent.weights is weights:
            return self.parent
        return Activations(weights, topology, self.images)


class Morphism(Protocol):
    """A change of a topology that carries the trained weights over.

    Attributes
    ----------
    name : str
        What it is called in ``history_``; children compete in phase 1 within a name.
    preserves_function : bool
        Whether the changed network puts out exactly what the network put out before.
    recovery_epochs : float
        Training that its children get before they compete.
    """

    @property
    def name(self) -> str: ...
    @property
    def preserves_function(self) -> bool: ...
    @property
    def recovery_epochs(self) -> float: ...

    def sites(self, topology: Topology) -> Sequence[int]:
        """Return the places where the change can be applied."""
        ...

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the changed topology; no tensor is touched."""
        ...

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Return weights for `new`, made from those of `old`, which are left as they are."""
        ...


def reader_of_cell(topology: Topology, cell: int) -> str:
    """Return the name of the weight that reads the channels of a cell."""
    if cell + 1 < len(topology.cells):
        return f"{conv_name(cell + 1)}.weight"
    return f"{linear_name(topology, 0)}.weight"


def reader_of_dense(topology: Topology, index: int) -> str:
    """Return the name of the weight that reads the units of a dense layer."""
    return f"{linear_name(topology, index + 1)}.weight"


def by_input(weight: Tensor, n_inputs: int) -> Tensor:
    """View a reading weight as (outputs, inputs, weights between the two).

    An input is a unit, or a channel: to a convolution it is joined by nine weights an output,
    to a dense layer behind flatten by one for each pixel.
    """
    return weight.reshape(weight.shape[0], n_inputs, -1)


def like_before(reading: Tensor, weight: Tensor) -> Tensor:
    """Undo `by_input`, for any number of inputs; `weight` is what it was applied to."""
    if weight.ndim == 4:
        return reading.reshape(reading.shape[0], reading.shape[1], *weight.shape[2:])
    return reading.reshape(reading.shape[0], -1)


def cell_weights(weights: Weights, cell: int) -> list[str]:
    """Return the names of a cell's weights that have a row for each of its channels."""
    return [name for name in weights if name.startswith(f"{cell_name(cell)}.")]


def renumbered(weights: Weights, kind: str, start: int, by: int) -> dict[str, Tensor]:
    """Return the weights with ``kind.<i>`` renamed to ``kind.<i + by>`` from `start` on."""
    moved = {}
    for name, value in weights.items():
        head, _, rest = name.partition(".")
        number, _, tail = rest.partition(".")
        if head == kind and int(number) >= start:
            name = f"{kind}.{int(number) + by}.{tail}"
        moved[name] = value
    return moved

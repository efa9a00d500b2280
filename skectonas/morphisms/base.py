"""The interface of a morphism, and the names and shapes of the weights it changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from numbers import Integral, Real
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor

from skectonas.morphisms.activations import Activations
from skectonas.network import Weights
from skectonas.topology import ALL_POOLINGS, Topology, cell_name, conv_name, linear_name


@dataclass(frozen=True, eq=False)
class Context:
    """What a morphism can use besides the network.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the random numbers.
    images : Tensor of shape (n, height, width, channels)
        A batch of training images, scaled, in floating point.
    parent : Activations or None, default=None
        Activations of the network to change on these images. They are shared by all of its
        children, so that they are computed once.
    """

    rng: np.random.Generator
    images: Tensor
    parent: Activations | None = None

    def activations(self, weights: Weights, topology: Topology) -> Activations:
        """Return the activations of a network on the images."""
        if self.parent is not None and self.parent.weights is weights:
            return self.parent
        return Activations(weights, topology, self.images)


class Morphism(Protocol):
    """A change of a topology, with a rule for the trained weights.

    Attributes
    ----------
    name : str
        Its name in ``history_``. In phase 1, children of the same name compete.
    preserves_function : bool
        Whether the outputs of the network do not change.
    recovery_epochs : float
        Epochs of training of its children before they compete.
    """

    @property
    def name(self) -> str: ...
    @property
    def preserves_function(self) -> bool: ...
    @property
    def recovery_epochs(self) -> float: ...

    def sites(self, topology: Topology) -> Sequence[int]:
        """Return the sites where the change can be applied."""
        ...

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the changed topology."""
        ...

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Return weights of `new`, made from those of `old`, which are not modified."""
        ...


class WithSettings:
    """A morphism whose fields are checked when it is made, not in the middle of a search."""

    def __post_init__(self) -> None:
        # Fields that the subclass of somebody else adds may have the same names.
        own = [cls for cls in type(self).__mro__ if cls.__module__.startswith("skectonas.")]
        for name in (field.name for field in fields(cast(Any, own[0]))):
            value, (is_valid, expected) = getattr(self, name), _SETTINGS[name]
            if not is_valid(value):
                raise ValueError(
                    f"{name} of {type(self).__name__} must be {expected}, got {value!r}."
                )
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))  # the morphism can be hashed


def _is_share(value: Any) -> bool:
    return isinstance(value, Real) and bool(0 <= cast(float, value) < math.inf)


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and bool(cast(int, value) >= least)


def _is_choice(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) > 0


_SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "fraction": (_is_share, "a finite number from 0 on"),
    "at_least": (partial(_is_count, least=1), "a whole number from 1 on"),
    "extra": (
        lambda v: _is_choice(v) and all(_is_count(n, 0) for n in v),
        "a tuple of whole numbers from 0 on",
    ),
    "poolings": (
        lambda v: _is_choice(v) and all(p in ALL_POOLINGS for p in v),
        f"a tuple of some of {ALL_POOLINGS}",
    ),
    "recovery_epochs": (_is_share, "a finite number from 0 on"),
}


def share_of(width: int, fraction: float, at_least: int) -> int:
    """Return how many units or channels a change of width adds or removes."""
    return max(at_least, round(fraction * width))


def reader_of_cell(topology: Topology, cell: int) -> str:
    """Return the name of the weight whose inputs are the channels of a cell."""
    if cell + 1 < len(topology.cells):
        return f"{conv_name(cell + 1)}.weight"
    return f"{linear_name(topology, 0)}.weight"


def reader_of_dense(topology: Topology, index: int) -> str:
    """Return the name of the weight whose inputs are the units of a dense layer."""
    return f"{linear_name(topology, index + 1)}.weight"


def by_input(weight: Tensor, n_inputs: int) -> Tensor:
    """View the weight of a reader as (outputs, inputs, weights of each pair).

    An input is a unit or a channel. Each pair of input and output has nine weights in a
    convolution, and one for each pixel in a dense layer after flatten.
    """
    return weight.reshape(weight.shape[0], n_inputs, -1)


def restore_shape(reading: Tensor, weight: Tensor) -> Tensor:
    """Undo `by_input` for any number of inputs; `weight` is its original argument."""
    if weight.ndim == 4:
        return reading.reshape(reading.shape[0], reading.shape[1], *weight.shape[2:])
    return reading.reshape(reading.shape[0], -1)


def cell_weights(weights: Weights, cell: int) -> list[str]:
    """Return the names of the weights of a cell, each with one row per channel."""
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

"""The list of morphisms."""

from __future__ import annotations

from dataclasses import replace

from skectonas.morphisms.base import Morphism
from skectonas.morphisms.cells import AddCell, RemoveCell
from skectonas.morphisms.deepen import AddDense
from skectonas.morphisms.identity import Identity
from skectonas.morphisms.narrow import RemoveChannels, RemoveUnits
from skectonas.morphisms.shallow import RemoveDense
from skectonas.morphisms.widen import AddChannels, AddUnits
from skectonas.topology import ALL_POOLINGS

MORPHISMS: tuple[Morphism, ...] = (
    Identity(),
    AddDense(),
    RemoveDense(),
    AddUnits(),
    RemoveUnits(),
    AddCell(poolings=ALL_POOLINGS),
    RemoveCell(),
    AddChannels(),
    RemoveChannels(),
)

# For a search by score alone. It has no narrow new cells, which only save weights.
GREEDY_MORPHISMS: tuple[Morphism, ...] = tuple(
    replace(morphism, extra=(15,)) if isinstance(morphism, AddCell) else morphism
    for morphism in MORPHISMS
)

# The step sizes of the paper, which has no cells without pooling.
PAPER_MORPHISMS: tuple[Morphism, ...] = (
    Identity(),
    AddDense(),
    RemoveDense(),
    AddUnits(fraction=0.1, at_least=2),
    RemoveUnits(fraction=0.1, at_least=2),
    AddCell(),
    RemoveCell(),
    AddChannels(fraction=0.0, at_least=3),
    RemoveChannels(fraction=0.0, at_least=3),
)

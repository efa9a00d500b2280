"""The changes that a search can make: paper, section 3.2.

To add one, write a class with the members of `Morphism` and add an instance to `MORPHISMS`; the
contract tests then take it up.
"""

from skectonas.morphisms.activations import Activations
from skectonas.morphisms.base import Context, Morphism
from skectonas.morphisms.cells import AddCell, RemoveCell
from skectonas.morphisms.deepen import AddDense
from skectonas.morphisms.identity import Identity
from skectonas.morphisms.narrow import RemoveChannels, RemoveUnits
from skectonas.morphisms.shallow import RemoveDense
from skectonas.morphisms.widen import AddChannels, AddUnits

MORPHISMS: tuple[Morphism, ...] = (
    Identity(),
    AddDense(),
    RemoveDense(),
    AddUnits(),
    RemoveUnits(),
    AddCell(),
    RemoveCell(),
    AddChannels(),
    RemoveChannels(),
)

# What a search by score alone takes: it has no use for narrow cells, which only save weights.
GREEDY_MORPHISMS: tuple[Morphism, ...] = tuple(
    AddCell(extra=(15,)) if isinstance(morphism, AddCell) else morphism
    for morphism in MORPHISMS
)

__all__ = [
    "GREEDY_MORPHISMS",
    "MORPHISMS",
    "Activations",
    "AddCell",
    "AddChannels",
    "AddDense",
    "AddUnits",
    "Context",
    "Identity",
    "Morphism",
    "RemoveCell",
    "RemoveChannels",
    "RemoveDense",
    "RemoveUnits",
]

"""The changes of an architecture that a search can make (paper, section 3.2).

To add one, write a class with the members of `Morphism` and add an instance to `MORPHISMS`. The
contract tests run on every member of `MORPHISMS`.
"""

from skectonas.morphisms.activations import Activations
from skectonas.morphisms.base import Context, Morphism
from skectonas.morphisms.cells import AddCell, RemoveCell
from skectonas.morphisms.deepen import AddDense
from skectonas.morphisms.identity import Identity
from skectonas.morphisms.narrow import RemoveChannels, RemoveUnits
from skectonas.morphisms.registry import GREEDY_MORPHISMS, MORPHISMS, PAPER_MORPHISMS
from skectonas.morphisms.shallow import RemoveDense
from skectonas.morphisms.widen import AddChannels, AddUnits

__all__ = [
    "GREEDY_MORPHISMS",
    "MORPHISMS",
    "PAPER_MORPHISMS",
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

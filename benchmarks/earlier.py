"""The settings that some results were measured with: those of the paper, with averaged weights.

They were the defaults before the search ended with a final training.
"""

from __future__ import annotations

from typing import Any

from skectonas import PAPER_SETTINGS
from skectonas.morphisms import PAPER_MORPHISMS, AddCell, Morphism

MORPHISMS: tuple[Morphism, ...] = tuple(
    AddCell(extra=(15,)) if isinstance(morphism, AddCell) else morphism
    for morphism in PAPER_MORPHISMS
)
EARLIER: dict[str, Any] = {
    **PAPER_SETTINGS,
    "column_scaling": "quantile",
    "averaging": 8,
    "morphisms": MORPHISMS,
}

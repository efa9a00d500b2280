"""The hyperparameters of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from skectonas.morphisms import Morphism
from skectonas.search.fitness import Measure
from skectonas.training import Augmentation


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a search.

    Fields that are not listed here are the parameters of `ECToNASClassifier` of the same names.

    Parameters
    ----------
    morphisms : sequence of Morphism
        The changes to choose from, as objects.
    keep : {"pareto", "all"} or None
        Which candidates keep their weights besides the winner: those that no other beats, or
        all.
    augmentation : Augmentation
        How training images are changed.
    measure : {"score", "loss"}
        What phase 1 is decided by.
    perfect_score : float
        The score above which there is none; inf if none is known.
    max_multiplications : float, default=inf
        Maximum number of multiplications that a child needs for an image.
    """

    warmup_epochs: float
    round_epochs: float
    n_rounds: int
    n_parents: int
    max_growth: float
    max_parameters: int
    score_window: int
    n_iter_no_change: int | None
    morphisms: Sequence[Morphism]
    keep: Literal["pareto", "all"] | None
    final_fraction: float
    augmentation: Augmentation
    measure: Measure
    perfect_score: float
    max_multiplications: float = math.inf


def check_morphisms(morphisms: Any, known: Sequence[Morphism]) -> tuple[Morphism, ...]:
    """Return the morphisms that a parameter names: "all", or a sequence of names and objects.

    Parameters
    ----------
    morphisms : str or sequence
        The parameter.
    known : sequence of Morphism
        What "all" and names refer to.

    Returns
    -------
    tuple of Morphism
        The morphisms as objects.

    Raises
    ------
    ValueError
        If a name is unknown, an object is not a morphism, there is none, or one is there twice.
    """
    if isinstance(morphisms, str) and morphisms == "all":
        return tuple(known)
    by_name = {morphism.name: morphism for morphism in known}
    chosen: list[Morphism] = []
    for entry in [morphisms] if isinstance(morphisms, str) else morphisms:
        morphism: Any = by_name.get(entry) if isinstance(entry, str) else entry
        members = ("name", "recovery_epochs", "sites", "rewrite", "carry")
        if isinstance(morphism, type) or not all(hasattr(morphism, m) for m in members):
            raise ValueError(
                f'morphisms must be "all" or hold names of {list(by_name)} or Morphism '
                f"objects, got {entry!r}."
            )
        chosen.append(morphism)
    names = [morphism.name for morphism in chosen]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"morphisms must hold at least one, and none twice, got {names}.")
    return tuple(chosen)

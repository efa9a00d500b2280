"""What a search is told before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skectonas.morphisms import MORPHISMS, Morphism


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of the search; the defaults are the paper's.

    Parameters
    ----------
    warmup_epochs : float, default=10
        Training of the start before the first generation.
    round_epochs : float, default=5
        Training of each competitor in a round.
    n_rounds : int, default=3
        Rounds of each of the two phases.
    n_parents : int, default=2
        Winners of a generation.
    max_growth : float, default=3.0
        A child may have this many times the parent's parameters more.
    max_parameters : int, default=8_000_000
        And no more than this in all.
    score_window : int, default=3
        The score is the mean of this many last evaluations.
    morphisms : sequence of Morphism
        The changes to choose from.
    keep_front : bool, default=False
        Whether the candidates that no other beats keep their weights.
    """

    warmup_epochs: float = 10
    round_epochs: float = 5
    n_rounds: int = 3
    n_parents: int = 2
    max_growth: float = 3.0
    max_parameters: int = 8_000_000
    score_window: int = 3
    morphisms: Sequence[Morphism] = MORPHISMS
    keep_front: bool = False


def check_morphisms(morphisms: Any, known: Sequence[Morphism]) -> tuple[Morphism, ...]:
    """Return the morphisms that are meant: "all", or a sequence of names and objects.

    Parameters
    ----------
    morphisms : str or sequence
        What the user gave.
    known : sequence of Morphism
        Those that "all" and names stand for.

    Raises
    ------
    ValueError
        If a name is unknown, an object is no morphism, or there is none.
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

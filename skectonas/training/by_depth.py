"""A trainer that divides candidates between two others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from skectonas.candidate import Candidate
from skectonas.training.plain import Key, Trainer
from skectonas.training.recipe import PLAIN_RECIPE, Recipe


@dataclass(frozen=True, eq=False)
class ByDepth:
    """Trains networks with hidden layers with one trainer, and those without with another.

    Both get the same key, and so the same batches.

    Parameters
    ----------
    deep : Trainer
        Trains the networks with hidden layers.
    linear : Trainer
        Trains the others.
    """

    deep: Trainer
    linear: Trainer

    def train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe = PLAIN_RECIPE,
        deadline: float = math.inf,
    ) -> list[Candidate]:
        """Return the candidates, trained: see `Trainer.train`."""
        trained: dict[int, Candidate] = {}
        for trainer, is_linear in ((self.deep, False), (self.linear, True)):
            own = [i for i, c in enumerate(candidates) if c.topology.is_linear is is_linear]
            if own:
                members = [candidates[i] for i in own]
                steps = [n_steps[i] for i in own]
                trained |= zip(
                    own, trainer.train(members, steps, key, recipe, deadline), strict=True
                )
        return [trained[i] for i in range(len(candidates))]

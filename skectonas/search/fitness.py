"""What decides a bracket: from a candidate to a number, higher is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from skectonas.candidate import Ancestor, Candidate

SMALLEST_SCORE = 1e-12
"""What a score of zero counts as where gains are relative to it."""


class Fitness(Protocol):
    """What the search needs to know of a fitness."""

    def __call__(self, candidate: Candidate) -> float:
        """Return what the candidate competes with in its generation."""
        ...

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return what it competes with in the final selection, across generations."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The score alone: Eq. 2 with alpha = 1, and all of phase 1."""

    def __call__(self, candidate: Candidate) -> float:
        """Return the score."""
        return candidate.score

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return the score."""
        return candidate.score


@dataclass(frozen=True)
class Balanced:
    """Eq. 2 with alpha < 1: gain in score against gain in size, both relative to the parent.

    Parameters
    ----------
    alpha : float
        Weight of the score, from 0 to below 1.

    Notes
    -----
    In the final selection all are compared to the trained start, the one ancestor that they
    share: gains over different parents cannot be compared.
    """

    alpha: float

    def __call__(self, candidate: Candidate) -> float:
        """Return alpha * dv - (1 - alpha) * dp."""
        if candidate.parent is None:
            return candidate.score
        return self.final(candidate, candidate.parent)

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return the same, relative to the start."""
        if not np.isfinite(candidate.score):
            return -np.inf
        before = start.score if np.isfinite(start.score) else 0.0
        # The absolute value is for scores that are negative, such as a log likelihood.
        gain = (candidate.score - before) / max(abs(before), SMALLEST_SCORE)
        growth = (candidate.n_parameters - start.n_parameters) / start.n_parameters
        return self.alpha * gain - (1 - self.alpha) * growth


@dataclass(frozen=True)
class Random:
    """A random winner in each bracket: the ablation of the paper, section 4.

    Parameters
    ----------
    seed : int
        What the numbers depend on, besides the candidate and its training.
    """

    seed: int

    def __call__(self, candidate: Candidate) -> float:
        """Return a random number in [0, 1)."""
        if not np.isfinite(candidate.score):
            return -np.inf
        key = [self.seed, candidate.id, candidate.n_steps]
        return float(np.random.default_rng(key).random())

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return a random number among those of the same generation; later ones are higher."""
        return candidate.generation + self(candidate)

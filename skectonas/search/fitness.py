"""The fitness of a candidate: a number that decides brackets, higher is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from skectonas.candidate import Ancestor, Candidate
from skectonas.search.checks import is_trained

SMALLEST_SCORE = 1e-12
"""The divisor of relative gains over a score of zero."""

Measure: TypeAlias = Literal["score", "loss"]
"""What a fitness measures candidates by: the validation score, or the validation loss."""


def value_of(candidate: Candidate, by: Measure) -> float:
    """Return the score of a candidate, or its negative loss; higher is better.

    A candidate without a score, because the scorer failed, is the worst by its loss, too.
    """
    if by == "score" or candidate.score == -np.inf:
        return candidate.score
    return -candidate.loss


class Fitness(Protocol):
    """A fitness, as the search uses it."""

    def __call__(self, candidate: Candidate) -> float:
        """Return the fitness within the generation of the candidate."""
        ...

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return the fitness in the final selection, which compares across generations."""
        ...


@dataclass(frozen=True)
class Greedy:
    """The score or the loss alone: Eq. 2 with alpha = 1. It also decides all of phase 1.

    Parameters
    ----------
    by : {"score", "loss"}, default="score"
        What to measure candidates by. With few validation rows, the loss is less noisy than a
        score that counts rows.
    """

    by: Measure = "score"

    def __call__(self, candidate: Candidate) -> float:
        """Return the score, or the negative loss."""
        return value_of(candidate, self.by)

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return the same."""
        return self(candidate)


@dataclass(frozen=True)
class Balanced:
    """Eq. 2 with alpha < 1: gain in score minus growth in size, both relative to the parent.

    Parameters
    ----------
    alpha : float
        Weight of the score, from 0 to below 1.
    by : {"score", "loss"}, default="score"
        What to measure candidates by. With "score", as in the paper, a network may lose
        a tenth of its accuracy for a tenth of its size, which is most of what it has learned.
        With "loss", the gain is the relative decrease of the loss.

    Notes
    -----
    The final selection compares all candidates with the trained start, the one ancestor that
    they share, since gains over different parents cannot be compared.
    """

    alpha: float
    by: Measure = "score"

    def __call__(self, candidate: Candidate) -> float:
        """Return alpha * dv - (1 - alpha) * dp."""
        if candidate.parent is None:
            return value_of(candidate, self.by)
        return self.final(candidate, candidate.parent)

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return the same, relative to the start."""
        value = value_of(candidate, self.by)
        before = start.score if self.by == "score" else -start.loss
        if not np.isfinite(value):
            return -np.inf
        if not np.isfinite(before):
            before = 0.0
        # Losses and scores such as a log likelihood are negative.
        gain = (value - before) / max(abs(before), SMALLEST_SCORE)
        growth = (candidate.n_parameters - start.n_parameters) / start.n_parameters
        return self.alpha * gain - (1 - self.alpha) * growth


@dataclass(frozen=True)
class Random:
    """A random number: the ablation of the paper, section 4.

    Parameters
    ----------
    seed : int
        The numbers depend on it, on the candidate and on how long it was trained.
    """

    seed: int

    def __call__(self, candidate: Candidate) -> float:
        """Return a random number in [0, 1)."""
        if not np.isfinite(candidate.score):
            return -np.inf
        key = [self.seed, candidate.id, candidate.n_steps]
        return float(np.random.default_rng(key).random())

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        """Return a random number that is higher in later generations."""
        return candidate.generation + self(candidate)


def rank(candidate: Candidate, fitness: float) -> tuple[float, float, int, int]:
    """Return a sort key, higher is better: ties in fitness are broken by loss, then by size.

    The fitness of a candidate that diverged or has no score is the lowest, whatever it is, and
    so is one that is not a number.

    Raises
    ------
    TypeError
        If a fitness of the user's own does not give numbers.
    """
    try:
        fitness = float(fitness)
    except (TypeError, ValueError) as error:
        raise TypeError(f"selection must give a number, got {fitness!r}.") from error
    if np.isnan(fitness) or candidate.score == -np.inf or not is_trained(candidate):
        fitness = -np.inf
    return fitness, -candidate.loss, -candidate.n_parameters, -candidate.id


def check_fitness(fitness: Any) -> Fitness:
    """Return the fitness that a parameter gives as an object.

    Raises
    ------
    ValueError
        If it is a class, or cannot be called as a `Fitness`.
    """
    is_valid = not isinstance(fitness, type) and (
        _takes(fitness, "candidate") and _takes(fitness.final, "candidate", "start")
    )
    if not is_valid:
        raise ValueError(
            "selection must be an object that can be called with a candidate, and whose "
            f"method final takes a candidate and the start, got {fitness!r}."
        )
    valid: Fitness = fitness
    return valid


def _takes(function: Callable[..., Any], *arguments: str) -> bool:
    try:
        signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # some builtins have no signature
        return True
    return True

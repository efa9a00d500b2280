"""The brackets of a round: who competes with whom, and who wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skectonas.candidate import Candidate
from skectonas.search.fitness import Fitness, rank

MOST_HALVINGS = 62
"""More rounds than any pool needs to be halved to one, and few enough for a fast power."""


class Verdict(NamedTuple):
    """How a candidate did in its bracket; the default is for training without brackets."""

    bracket: int | None = None
    fitness: float | None = None
    won: bool | None = None


@dataclass(frozen=True, eq=False)
class Draw:
    """The competitors of a round and their brackets.

    Parameters
    ----------
    competitors : tuple of Candidate
        All competitors, bracket by bracket.
    brackets : tuple of int
        The bracket of each competitor.
    """

    competitors: tuple[Candidate, ...]
    brackets: tuple[int, ...]

    def judge(self, trained: Sequence[Candidate], fitness: Fitness) -> list[Verdict]:
        """Return how each competitor did.

        Parameters
        ----------
        trained : sequence of Candidate
            The competitors after the training of the round, in the same order.
        fitness : Fitness
            Decides each bracket.

        Returns
        -------
        list of Verdict
            One for each competitor. One competitor of each bracket has won.
        """
        values = [fitness(candidate) for candidate in trained]
        ranks = [rank(c, value) for c, value in zip(trained, values, strict=True)]
        winners: dict[int, int] = {}
        for i, bracket in enumerate(self.brackets):
            if bracket not in winners or ranks[i] > ranks[winners[bracket]]:
                winners[bracket] = i
        return [
            Verdict(bracket, float(value), winners[bracket] == i)
            for i, (bracket, value) in enumerate(zip(self.brackets, values, strict=True))
        ]


def draw_round(
    pools: Sequence[Sequence[Candidate]],
    n_winners: int,
    rounds_left: int,
    rng: np.random.Generator,
) -> Draw:
    """Draw the brackets of a round in each pool; see `draw_brackets`.

    Parameters
    ----------
    pools : sequence of sequence of Candidate
        Candidates of different pools do not meet.
    n_winners : int
        How many winners each pool has after the last round.
    rounds_left : int
        Number of rounds left, this one included.
    rng : numpy.random.Generator
        Source of the random draws.

    Returns
    -------
    Draw
        All candidates, each in a bracket.
    """
    competitors: list[Candidate] = []
    brackets: list[int] = []
    for pool in pools:
        for drawn in draw_brackets(len(pool), n_winners, rounds_left, rng):
            number = brackets[-1] + 1 if brackets else 0
            competitors += [pool[i] for i in drawn]
            brackets += [number] * len(drawn)
    return Draw(tuple(competitors), tuple(brackets))


def draw_brackets(
    n_competitors: int, n_winners: int, rounds_left: int, rng: np.random.Generator
) -> list[list[int]]:
    """Draw the brackets of a pool for one round; the best of each bracket stays in.

    Competitors meet in pairs. With an odd number, one of them gets a lucky ticket: a bracket of
    its own. Brackets are larger only where pairs would not reduce the pool to `n_winners` in
    the rounds that are left. There are never fewer brackets than winners (paper, section 3.1).

    Parameters
    ----------
    n_competitors : int
        Size of the pool, at least 1.
    n_winners : int
        How many competitors the pool has after the last round.
    rounds_left : int
        Number of rounds left, this one included.
    rng : numpy.random.Generator
        Source of the random draws.

    Returns
    -------
    list of list of int
        Indices of the competitors, each in exactly one bracket.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.search.tournament import draw_brackets
    >>> brackets = draw_brackets(5, 1, rounds_left=3, rng=np.random.default_rng(0))
    >>> sorted(len(bracket) for bracket in brackets)
    [1, 2, 2]
    """
    n_brackets = max(-(-n_competitors // 2), min(n_winners, n_competitors))
    n_brackets = min(n_brackets, n_winners * 2 ** min(rounds_left - 1, MOST_HALVINGS))
    drawn = rng.permutation(n_competitors).tolist()
    return [drawn[i::n_brackets] for i in range(n_brackets)]

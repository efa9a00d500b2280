"""Who meets whom: brackets, lucky tickets and how many rounds narrow a pool down."""

from __future__ import annotations

import numpy as np


def draw_brackets(
    n_competitors: int, n_winners: int, rounds_left: int, rng: np.random.Generator
) -> list[list[int]]:
    """Draw the brackets of a round; the best of each goes on.

    Competitors meet in pairs, and an odd one out gets a lucky ticket: a bracket of its own.
    Larger brackets are drawn only where pairs would not get down to `n_winners` in the rounds
    that are left, and no fewer brackets than winners are wanted (paper, section 3.1).

    Parameters
    ----------
    n_competitors : int
        Size of the pool, at least 1.
    n_winners : int
        How many are wanted after the last round.
    rounds_left : int
        Rounds to be played, this one included.
    rng : numpy.random.Generator
        Where the draw comes from.

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
    n_brackets = min(n_brackets, n_winners * 2 ** (rounds_left - 1))
    drawn = rng.permutation(n_competitors).tolist()
    return [drawn[i::n_brackets] for i in range(n_brackets)]

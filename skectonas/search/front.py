"""The Pareto front: the candidates that no other beats in score and size."""

from __future__ import annotations

import math
from collections.abc import Sequence


def unbeaten(
    n_parameters: Sequence[int], scores: Sequence[float], losses: Sequence[float]
) -> list[int]:
    """Return the candidates that no other beats.

    A candidate beats another that has no fewer parameters and no higher score. Of candidates
    that are equal in both, the one with the lowest loss stays; if losses are equal, the first.

    Parameters
    ----------
    n_parameters : sequence of int of length n
        Sizes of the candidates, lower is better.
    scores : sequence of float of length n
        Their scores, higher is better. Candidates whose score is not finite are left out.
    losses : sequence of float of length n
        Their losses, which decide between equals.

    Returns
    -------
    list of int
        Indices, the smallest candidate first. Both size and score are strictly increasing.

    Examples
    --------
    >>> from skectonas.search.front import unbeaten
    >>> unbeaten([100, 100, 300, 50, 400], [0.8, 0.9, 0.9, 0.7, 0.95], [1, 1, 1, 1, 1])
    [3, 1, 4]
    """
    order = sorted(
        (i for i, score in enumerate(scores) if math.isfinite(score)),
        key=lambda i: (n_parameters[i], -scores[i], losses[i]),
    )
    front: list[int] = []
    for i in order:
        if not front or scores[i] > scores[front[-1]]:
            front.append(i)
    return front

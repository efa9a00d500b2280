"""Whether what a search found is worth more than a guess."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from skectonas.callers import level_of_user, no_warnings
from skectonas.candidate import Candidate
from skectonas.training import Rows, Scorer

FEWEST_ROWS = 20  # with fewer, a good network may well be unlucky
ROUNDING = 1e-9  # a mean of equal scores may be a little more than these


def warn_if_a_guess_is_as_good(
    winner: Candidate, rows: Rows, scorer: Scorer, has_seen_them: bool = False
) -> None:
    """Warn if naming the commonest class is as good, by score and by loss, as the winner.

    Parameters
    ----------
    winner : Candidate
        The network that was found.
    rows : Rows
        The validation rows.
    scorer : callable
        Maps probabilities of these rows to the score.
    has_seen_them : bool, default=False
        Whether the winner was trained on these rows after it was scored. Then its training
        loss says whether it has learned something since.

    Warns
    -----
    UserWarning
        If there are enough rows to say so, and the probabilities could as well be the same for
        all of them, namely the frequencies of the classes. This happens if the weights grew
        until all outputs are equal.
    """
    if len(rows.labels) < FEWEST_ROWS:
        return
    weights = None if rows.weights is None else rows.weights.cpu().numpy()
    counts = np.bincount(rows.labels.cpu().numpy(), weights, winner.topology.n_classes)
    frequencies = counts / counts.sum()
    present = frequencies[frequencies > 0]
    if len(present) == 1:  # any network that names this class is as good as can be
        return
    entropy = -float(present @ np.log(present))
    # The cheap half first: scorers of users may be slow.
    learned = has_seen_them and winner.evaluations[-1].train_loss < entropy
    if learned or winner.loss < entropy:
        return
    guess = _score_of(frequencies, len(rows.labels), scorer)
    if guess is not None and winner.score <= guess + ROUNDING:
        warnings.warn(
            "The network that was found is no better than always naming the commonest class: "
            f"on the {len(rows.labels)} validation rows its score is {winner.score:.4g} and "
            f"its loss {winner.loss:.3g}, those of the class frequencies are {guess:.4g} and "
            f"{entropy:.3g}. Lower learning_rate, raise budget, or look at the data.",
            stacklevel=level_of_user(),
        )


def _score_of(frequencies: Any, n_rows: int, scorer: Scorer) -> float | None:
    """Return the score of these probabilities in all rows, or None if it has none."""
    with no_warnings():  # metrics warn if a class is never named
        try:
            return scorer(np.tile(frequencies, (n_rows, 1)))
        except ValueError:
            return None

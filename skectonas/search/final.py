"""The final training: who trains the best candidate, on which rows, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skectonas.candidate import Candidate
from skectonas.training import Trainer

BEYOND_DOUBT = 2
"""How many standard errors a gain has to be. The best of dozens is ahead by one by chance."""


@dataclass(frozen=True, eq=False)
class AllRows:
    """A trainer for the final training, on the training rows and those that were held out.

    Nothing is chosen after it, so that no rows have to be held out any more.

    Parameters
    ----------
    trainer : Trainer
        Trains on all rows, and evaluates on those that were held out.
    steps_per_epoch : int
        Batches that cover all rows.
    """

    trainer: Trainer
    steps_per_epoch: int


def scored_as_before(trained: Candidate, before: Candidate) -> Candidate:
    """Return a candidate that was trained on all rows with its scores before that training.

    It has seen the rows that were held out, so that its scores on them say nothing any more.
    """
    *earlier, last = before.evaluations
    evaluation = replace(last, train_loss=trained.evaluations[-1].train_loss)
    return replace(trained, evaluations=(*earlier, evaluation))


def is_ahead(
    losses: NDArray[np.float64],
    control: NDArray[np.float64],
    standard_errors: float = BEYOND_DOUBT,
) -> bool:
    """Return whether losses are lower than those of a control, by default beyond doubt.

    Both are those of the same rows, so that their differences count. A single row leaves doubt.

    Parameters
    ----------
    losses, control : ndarray of shape (n_rows,)
        The losses.
    standard_errors : float, default=BEYOND_DOUBT
        Standard errors of the mean difference by which they have to be lower.
    """
    gains = control - losses
    if len(gains) == 1:
        return False
    return bool(gains.mean() > standard_errors * gains.std(ddof=1) / np.sqrt(len(gains)))

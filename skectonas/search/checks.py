"""Whether a training went well."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from skectonas.callers import level_of_user
from skectonas.candidate import Candidate

DIVERGED = 10
"""The largest training loss after the warm-up, in multiples of the loss of equal probabilities.
A start that is barely trained, or trained on random labels, has about one."""


def is_trained(candidate: Candidate) -> bool:
    """Return whether the training of a candidate did not diverge."""
    return candidate.is_finite and bool(np.isfinite(candidate.loss))


def is_better_trained(candidate: Candidate, before: Candidate, has_seen_all: bool) -> bool:
    """Return whether a training did not raise the training loss of a candidate.

    The loss before it may be lower by chance, if that was on other rows, and it is not known of
    a network from an earlier fit. Then it is enough if the validation loss fell.

    Parameters
    ----------
    candidate, before : Candidate
        The candidate after and before the training.
    has_seen_all : bool
        Whether the training was on all rows, and what came before it was not.
    """
    now, then = (c.evaluations[-1] for c in (candidate, before))
    is_lower = now.train_loss <= then.train_loss
    if math.isnan(then.train_loss) or (has_seen_all and math.isfinite(now.train_loss)):
        is_lower |= now.validation_loss < then.validation_loss
    return is_trained(candidate) and is_lower


def check_memory(starts: Sequence[Candidate], trained: Sequence[Candidate]) -> None:
    """Raise if no start could be trained: see `Candidate.failed`."""
    if all(before.n_steps == now.n_steps for before, now in zip(starts, trained, strict=True)):
        raise MemoryError(
            "There is not enough memory to train the start, which has "
            f"{min(start.n_parameters for start in starts):,} weights. Choose a smaller start, "
            "fewer pixels, or fewer workers."
        )


def check_start(start: Candidate) -> None:
    """Raise if the training of the start diverged, and warn if it ended worse than guessing."""
    if not is_trained(start):
        raise ValueError(
            "The training of the start diverged: its weights or outputs are not "
            "finite. Lower learning_rate, or scale the data."
        )
    loss, guessing = start.evaluations[-1].train_loss, math.log(start.topology.n_classes)
    if loss > DIVERGED * guessing:
        warnings.warn(
            "The warm-up made the start far worse than guessing, to a training loss of "
            f"{loss:.3g} instead of {guessing:.3g}. Lower learning_rate, or scale the data.",
            stacklevel=level_of_user(),
        )

"""The time that a fit has, and how much training fits into what is left of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TIMED_SECONDS = 0.05
"""Length of a timing from which on it tells the time of a batch."""

LEAST_TIMINGS = 10
"""Another timing is made only if this many fit into the time left."""

TIMED_EPOCHS = 10
"""Length of a last timing, for trainings that have more to set up than to do in an epoch."""

SHORTEST = 1e-6
"""A time that is too short to be measured, and longer than none."""


@dataclass(frozen=True)
class Clock:
    """The time of a fit.

    Parameters
    ----------
    limit : float, default=inf
        Seconds that the fit may take.
    began : float, default=now
        When it began, as `time.monotonic` counts.
    """

    limit: float = math.inf
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the fit began."""
        return time.monotonic() - self.began

    def deadline(self, share: float = 1.0) -> float:
        """Return when this share of the limit is over, as `time.monotonic` counts."""
        return self.began + (share * self.limit if math.isfinite(self.limit) else math.inf)

    def left(self, share: float = 1.0) -> float:
        """Return the seconds until this share of the limit is over."""
        return self.deadline(share) - time.monotonic()


def affordable_steps(
    train: Callable[[int], object],
    steps_per_epoch: int,
    most: int,
    seconds_left: Callable[[], float],
    evaluates_epochs: bool = True,
) -> int:
    """Return how many batches of a training can be expected to fit into some seconds.

    Short trainings are timed for this, unless there is no limit.

    Parameters
    ----------
    train : callable
        Trains for so many batches, with an evaluation at the end, and forgets the result.
    steps_per_epoch : int
        Batches between two evaluations.
    most : int
        Batches that are asked for.
    seconds_left : callable
        Returns the time for all of it, evaluations included.
    evaluates_epochs : bool, default=True
        Whether there is an evaluation after each epoch, or only one at the end.

    Returns
    -------
    int
        From 1 to `most`; in whole epochs, if there is time for one.

    Examples
    --------
    >>> import math
    >>> from skectonas.search.clock import affordable_steps
    >>> affordable_steps(lambda n_steps: None, 10, most=25, seconds_left=lambda: math.inf)
    25
    """
    if most == 1 or math.isinf(seconds_left()):
        return most
    first = _seconds_of(train, 1)  # it may have things to set up
    if seconds_left() < LEAST_TIMINGS * first:
        return 1
    alone = _seconds_of(train, 1)  # little more than an evaluation
    n_steps, spent = 1, alone
    while (
        spent < alone + TIMED_SECONDS
        and n_steps < most
        and LEAST_TIMINGS * spent < seconds_left()
    ):
        n_steps = min(4 * n_steps, most)
        spent = _seconds_of(train, n_steps)
    # Without a second measurement, all of the time may be that of the batch.
    apart, n_apart = (spent - alone, n_steps - 1) if n_steps > 1 else (alone, 1)
    of_a_step = max(apart, SHORTEST) / n_apart
    if not evaluates_epochs:
        n_steps = max(1, int((seconds_left() - alone) / of_a_step))
        return min(most, n_steps - n_steps % steps_per_epoch or n_steps)
    of_an_epoch = alone + steps_per_epoch * of_a_step
    # What is set up was counted in every epoch, which can be many times too much.
    several = TIMED_EPOCHS * steps_per_epoch
    if several <= most and LEAST_TIMINGS * TIMED_EPOCHS * of_an_epoch < seconds_left():
        of_an_epoch = min(of_an_epoch, _seconds_of(train, several) / TIMED_EPOCHS)
    seconds = seconds_left()
    if of_an_epoch <= seconds:
        return min(most, int(seconds / of_an_epoch) * steps_per_epoch)
    return min(most, max(1, int((seconds - alone) / of_a_step)))


def _seconds_of(train: Callable[[int], object], n_steps: int) -> float:
    began = time.monotonic()
    train(n_steps)
    return time.monotonic() - began

"""Stopping workers when their round is interrupted or its deadline has come."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from skectonas.training import OutOfTime

SECONDS_BETWEEN_LOOKS = 0.005


class Stopped(Exception):
    """Raised in a worker whose round was interrupted in another thread."""


class Workers:
    """Knows the workers that train a round, and stops those in threads of this process.

    After an exception, joblib abandons its threads: they would continue to train unnoticed, or
    be killed inside torch when the interpreter exits. Worker processes get a copy of their own,
    and joblib terminates them itself.

    Ctrl-C can come between any two lines of the main thread. So there is no lock that it could
    leave locked, and no counter that it could leave too high: adding a thread to a set, and
    discarding it, may be done twice. Each round has an object of its own, because a worker of
    a stopped round may begin late.

    Parameters
    ----------
    deadline : float, default=inf
        The time at which all workers stop, as `time.monotonic` of this process counts it.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.deadline = deadline
        self._running: set[int] = set()
        self._stopped = False

    def __getstate__(self) -> tuple[float]:
        # The clock of another machine begins elsewhere.
        return (self.deadline - time.monotonic(),)

    def __setstate__(self, state: tuple[float]) -> None:
        [seconds_left] = state
        Workers.__init__(self, time.monotonic() + seconds_left)

    @contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Stop all workers, and wait for them, if an exception leaves the block."""
        try:
            yield
        except BaseException:
            self._stopped = True
            # The calling thread, if it was a worker, is none any more.
            while self._running - {get_ident()}:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            raise

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the calling thread as a worker while it runs the block."""
        try:
            self._running.add(get_ident())
            self.check()
            yield
        finally:
            self._running.discard(get_ident())

    def check(self) -> None:
        """Raise `Stopped` if the round was interrupted, and `OutOfTime` after the deadline."""
        if self._stopped:
            raise Stopped
        if time.monotonic() > self.deadline:
            raise OutOfTime

"""Stopping worker threads when their round is interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

SECONDS_BETWEEN_LOOKS = 0.005


class Stopped(Exception):
    """Raised in a worker whose round was interrupted in another thread."""


class Workers:
    """Knows the workers that train a round in threads of this process, and can stop them.

    After an exception, joblib abandons its threads: they would continue to train unnoticed, or
    be killed inside torch when the interpreter exits. Worker processes get a copy of their own,
    and joblib terminates them itself.

    Ctrl-C can come between any two lines of the main thread. So there is no lock that it could
    leave locked, and no counter that it could leave too high: adding a thread to a set, and
    discarding it, may be done twice. Each round has an object of its own, because a worker of
    a stopped round may begin late.
    """

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._stopped = False

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        Workers.__init__(self)

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
        """Raise `Stopped` if the round was interrupted."""
        if self._stopped:
            raise Stopped

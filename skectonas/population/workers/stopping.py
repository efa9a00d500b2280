"""Stopping worker threads when their round is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Stopped(Exception):
    """Raised in a worker whose round was interrupted in another thread."""


class Workers:
    """Counts the workers that train in threads of this process, and can stop them.

    After an exception, joblib abandons its threads: they would continue to train unnoticed, or
    be killed inside torch when the interpreter exits. Worker processes get a copy of their own,
    and joblib terminates them itself.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._n_running = 0
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
            with self._changed:
                self._stopped = True
                self._changed.wait_for(lambda: not self._n_running)
                self._stopped = False
            raise

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the calling worker while it runs the block."""
        with self._changed:
            self._n_running += 1
        try:
            self.check()
            yield
        finally:
            with self._changed:
                self._n_running -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Raise `Stopped` if the round was interrupted."""
        if self._stopped:
            raise Stopped

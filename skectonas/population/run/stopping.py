"""Bringing threads to an end when their round is interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Stopped(Exception):
    """Raised in a worker whose round was interrupted elsewhere."""


class Workers:
    """Counts the workers that train in threads of this process, and can stop them.

    joblib drops its threads when an exception passes it, and they would train on behind the
    back of the caller, or be cut off inside torch when the interpreter ends. Worker processes
    get a copy of their own; those joblib ends itself.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._at_work = 0
        self._stopped = False

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        Workers.__init__(self)

    @contextmanager
    def stopped_at_an_exception(self) -> Iterator[None]:
        """Let no worker outlive the block if an exception leaves it."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._stopped = True
                self._changed.wait_for(lambda: not self._at_work)
                self._stopped = False
            raise

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count the worker that runs the block."""
        with self._changed:
            self._at_work += 1
        try:
            self.check()
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def check(self) -> None:
        """Leave the worker if the round was interrupted."""
        if self._stopped:
            raise Stopped

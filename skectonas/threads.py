"""What the threads of a process share: settings, and Ctrl-C, which only one of them hears."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended.

    Only the main thread is ever interrupted. There is nothing to do in other threads, nor if
    the signal is handled outside Python.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[0])


class RenewedLock:
    """A lock that is new in a forked process, which lacks the thread that held the old one."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.Lock()


class SharedSetting:
    """A setting of all threads: the first block makes it, and the last one restores it.

    Parameters
    ----------
    make : callable
        Returns the context manager that makes the setting and restores what was before.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._made: AbstractContextManager[Any] | None = None
        self._lock = RenewedLock()
        self._inside: list[int] = []
        """The thread of each block."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Run a block with the setting."""
        entered: list[int] = []
        try:
            try:
                self._enter(entered)
                yield
            finally:
                self._leave(entered)
        finally:
            self._leave(entered)  # Ctrl-C may have come before the first could make it wait

    def _enter(self, entered: list[int]) -> None:
        with uninterrupted(), self._lock.lock:
            if self._made is None:
                made = self._make()
                made.__enter__()
                self._made = made
            entered.append(threading.get_ident())
            self._inside += entered

    def _leave(self, entered: list[int]) -> None:
        with uninterrupted(), self._lock.lock:
            if entered:
                self._inside.remove(entered.pop())
                self._restore_after_last()

    def _restore_after_last(self) -> None:
        if self._made is not None and not self._inside:
            made, self._made = self._made, None
            made.__exit__(None, None, None)

    def _forget_other_threads(self) -> None:
        """Leave the blocks of the threads that a forked process lacks."""
        own = threading.get_ident()
        self._inside = [thread for thread in self._inside if thread == own]
        self._restore_after_last()

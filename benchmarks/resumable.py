"""For benchmarks that write their rows one by one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exits_when_stopped() -> Iterator[None]:
    """End the process at Ctrl-C or SIGTERM.

    A search that is told to stop keeps what it has found so far, and would have a row like one
    that is complete.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: sys.exit("stopped"))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

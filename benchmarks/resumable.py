"""For benchmarks that write their rows one by one."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd


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


@contextmanager
def cpu_seconds(checkpoint: Path | None) -> Iterator[Callable[[], float]]:
    """Count the CPU seconds of a fit, also those of processes that were stopped in it.

    They are noted in a file beside the checkpoint. What a stopped process had done since its
    last round is done again, and counts twice.
    """
    noted = None if checkpoint is None else checkpoint.with_suffix(".seconds")
    before = float(noted.read_text()) if noted is not None and noted.exists() else 0.0
    began = time.process_time()

    def total() -> float:
        return before + time.process_time() - began

    try:
        yield total
    finally:
        if noted is not None:
            noted.write_text(str(total()))


def is_known(path: Path, key: Mapping[str, Any]) -> bool:
    """Return whether a table has a row with these values."""
    if not path.exists():
        return False
    known = pd.read_csv(path, dtype=str, keep_default_na=False)[list(key)]
    return bool((known == list(map(str, key.values()))).all(axis=1).any())


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a table, which is made if there is none, and print it."""
    pd.DataFrame([row]).to_csv(path, mode="a", header=not path.exists(), index=False)
    print(row, flush=True)


def forget(checkpoint: Path) -> None:
    """Remove a checkpoint and the seconds beside it."""
    checkpoint.unlink(missing_ok=True)
    checkpoint.with_suffix(".seconds").unlink(missing_ok=True)

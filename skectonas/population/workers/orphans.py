"""Worker processes that end with the process that has started them."""

from __future__ import annotations

import os
import threading
import time

SECONDS_BETWEEN_LOOKS = 1.0

_watched: set[int] = set()


def exit_with(parent: int) -> None:
    """Let this process end soon after its parent, however that ends.

    Workers of joblib notice it only after minutes, and train on until then. Nothing happens if
    the process is no child of the other, or if the system does not tell.

    Parameters
    ----------
    parent : int
        Number of the process that has started this one.
    """
    if os.name != "posix" or os.getppid() != parent or parent in _watched:
        return
    _watched.add(parent)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    # An orphan is given to another process.
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)

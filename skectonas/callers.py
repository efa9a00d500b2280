"""Who called, and what they are warned of."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_setting = threading.Lock()
_blocks: dict[object, warnings.catch_warnings[None]] = {}
"""For each block of `no_warnings`, in any thread, what restores the filters of before."""


def _renew_lock() -> None:
    global _setting
    _setting = threading.Lock()


if hasattr(os, "register_at_fork"):  # another thread may have it, which the child lacks
    os.register_at_fork(after_in_child=_renew_lock)


def inside_another_estimator() -> bool:
    """Return whether scikit-learn or joblib, rather than the user, called `fit`."""
    frame = sys._getframe()
    # A step of a pipeline is fitted only once, so the best so far is as useful there.
    own = ("skectonas", "sklearn.base", "sklearn.pipeline", "sklearn.compose")
    others = ("sklearn", "joblib", "dask", "distributed")
    while frame.f_back is not None:
        frame = frame.f_back
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in others and not module.startswith(own):
            return True
    return False


def level_of_user() -> int:
    """Return the `stacklevel` that makes the caller's warning name the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in (
            "skectonas",
            "sklearn",
        ):
            break
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def no_warnings(message: str = "") -> Iterator[None]:
    """Ignore the warnings of a block.

    The filters belong to all threads. If blocks overlap, the first notes what was there, and
    the last restores it. On its own, each would restore what it has found: the filter of
    another.

    Parameters
    ----------
    message : str, default=""
        Regular expression for the beginning of the warnings that are meant.
    """
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has its filters
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message)
            yield
        return
    block = object()
    try:
        try:
            _begin(block, message)
            yield
        finally:
            _end(block)
    finally:
        _end(block)  # Ctrl-C may have come before the first was done


def _begin(block: object, message: str) -> None:
    with _setting:
        if not _blocks:
            restoring = warnings.catch_warnings()
            restoring.__enter__()
        else:
            restoring = next(iter(_blocks.values()))
        _blocks[block] = restoring
        warnings.filterwarnings("ignore", message)


def _end(block: object) -> None:
    with _setting:
        restoring = _blocks.pop(block, None)
        if restoring is not None and not _blocks:
            restoring.__exit__(None, None, None)

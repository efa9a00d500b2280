"""Who called, and what they are warned of."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from skectonas.threads import SharedSetting

_kept_filters = SharedSetting(warnings.catch_warnings)


def inside_another_estimator() -> bool:
    """Return whether scikit-learn or joblib, rather than the user, called `fit`."""
    frame = sys._getframe()
    # A step of a pipeline is fitted only once, so the best so far is as useful there.
    own = ("sklearn.base", "sklearn.pipeline", "sklearn.compose")
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
            "joblib",
        ):
            break
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def no_warnings(message: str = "") -> Iterator[None]:
    """Ignore the warnings of a block.

    All threads share the filters. Where blocks overlap, all filters are restored when the last
    one ends, so a block should be short.

    Parameters
    ----------
    message : str, default=""
        Regular expression that the beginning of an ignored warning matches.
    """
    # Where each thread has filters of its own, it restores them itself.
    is_own = getattr(sys.flags, "context_aware_warnings", False)
    with warnings.catch_warnings() if is_own else _kept_filters.block():
        warnings.filterwarnings("ignore", message)
        yield

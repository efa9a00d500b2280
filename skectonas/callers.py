"""Which code called: the user's, or that of another estimator."""

from __future__ import annotations

import sys


def inside_another_estimator() -> bool:
    """Return whether fit was called by scikit-learn or joblib, and not by the user."""
    frame = sys._getframe()
    # Steps of a pipeline are fitted once: the best so far is worth as much there.
    own = ("skectonas", "sklearn.base", "sklearn.pipeline", "sklearn.compose")
    others = ("sklearn", "joblib", "dask", "distributed")
    while frame.f_back is not None:
        frame = frame.f_back
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in others and not module.startswith(own):
            return True
    return False


def level_of_user() -> int:
    """Return the `stacklevel` with which a warning of the caller names the line of the user."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in (
            "skectonas",
            "sklearn",
        ):
            break
        frame, level = frame.f_back, level + 1
    return level

"""The version of the package in the state of an estimator."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.exceptions import InconsistentVersionWarning

__version__ = "0.1.0"

KEY = "_skectonas_version"


class VersionedStateMixin:
    """Writes the version into the state for pickles, and warns where another one reads it."""

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written_by = state.pop(KEY, "before 0.1")
        if written_by != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"{__version__} of skectonas",
                    original_sklearn_version=f"{written_by} of skectonas",
                ),
                stacklevel=3,
            )
        parent: Any = super()
        parent.__setstate__(state)

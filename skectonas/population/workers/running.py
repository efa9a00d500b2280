"""Where the tasks of a round run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from joblib import Parallel, effective_n_jobs
from joblib.parallel import get_active_backend

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""What `joblib.delayed` gives."""


def count_workers(n_jobs: int | None) -> int:
    """Return the number of workers that a search may use, as joblib counts them.

    Inside a task of Dask, None means one. joblib would take the whole cluster, which the tasks
    beside this one already use.
    """
    if n_jobs is None and _is_task_of_dask():
        return 1
    return int(effective_n_jobs(n_jobs))


def chosen_backend(n_workers: int) -> Any:
    """Return the backend of joblib for so many workers, None if this thread is the only one."""
    return None if n_workers == 1 else get_active_backend(prefer="threads")[0]


def shares_memory(backend: Any) -> bool:
    """Return whether the workers of a backend are threads of this process."""
    # Backends of processes lack the attribute.
    return backend is None or getattr(backend, "supports_sharedmem", False)


def run(calls: Sequence[Call], n_workers: int) -> list[Any]:
    """Return the results of the calls, in their order."""
    if n_workers == 1:
        return [function(*args, **settings) for function, args, settings in calls]
    results: list[Any] = Parallel(n_jobs=min(n_workers, len(calls)), prefer="threads")(calls)
    return results


def _is_task_of_dask() -> bool:
    # Only loaded if somebody uses it.
    state = getattr(sys.modules.get("distributed.utils"), "thread_state", None)
    return hasattr(state, "execution_state")

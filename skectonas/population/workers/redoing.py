"""Doing again what workers have not finished because they died."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, TypeVar

from skectonas.callers import level_of_user
from skectonas.population.workers.running import chosen_backend, shares_memory
from skectonas.population.workers.sharing import Shared

T = TypeVar("T")
S = TypeVar("S")

DEATHS_OF_DASK = {"KilledWorker", "CommClosedError"}
"""Errors of Dask, by name because it is only imported if somebody uses it. If it has lost the
rows with the last worker that had them, the tasks are cancelled."""


def done_again(attempt: Callable[[Any, int], T], shared: Shared[S], n_workers: int) -> T:
    """Return what an attempt gives, after a second one if workers die, and a third without any.

    Parameters
    ----------
    attempt : callable
        Takes what workers get of `shared`, and the number of workers. With one worker, this
        process does everything.
    shared : Shared
        What the workers need.
    n_workers : int
        The number of workers.

    Returns
    -------
    result : object
        That of the attempt.

    Warns
    -----
    UserWarning
        If workers have died.
    """
    for next_place in ("by new workers", "by this process"):
        backend = chosen_backend(n_workers)
        try:
            return attempt(shared.handle_for(backend), n_workers)
        except Exception as error:
            if shares_memory(backend) or not _is_death(error):
                raise
            shared.send_again()
            [reason] = str(error).splitlines()[:1] or [""]
            warnings.warn(
                f"Workers have died while they trained a round, which is now done again "
                f"{next_place}, with the same results ({type(error).__name__}: {reason})",
                stacklevel=level_of_user(),
            )
    return attempt(shared, 1)


def _is_death(error: Exception) -> bool:
    """Return whether an error says that workers have died.

    A scorer or an optimiser can raise such an error as well. It does so again in this process.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, BrokenExecutor | CancelledError | TimeoutError) or bool(
        names & DEATHS_OF_DASK
    )

"""Processes, and workers of Dask, that have imported the package when they start.

They are forks of a process that has imported it. This is much faster than to import torch in
each of them.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How processes start. Elsewhere forks are missing, or not safe after an import of numpy."""


def processes() -> BaseContext:
    """Return what starts processes that have imported the package."""
    context = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        from multiprocessing.forkserver import ensure_running

        # Not modules beside the tests: older releases of Python would not find them here, and
        # not say so.
        known = ["skectonas", "sklearn.datasets", "pytest", "distributed"]
        context.set_forkserver_preload(known)
        ensure_running()
    return context


@contextmanager
def dask_workers(**settings: Any) -> Iterator[Any]:
    """Yield a client of two workers of Dask; the settings are those of its cluster."""
    import pytest

    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    processes()
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": METHOD}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            silence_logs=50,
            **settings,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client

"""Values that every worker of a backend gets once."""

from __future__ import annotations

import os
import pickle
import secrets
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, Generic, TypeVar, cast

from joblib import wrap_non_picklable_objects
from joblib.externals.loky.backend import resource_tracker

from skectonas.population.workers.orphans import exit_with

T = TypeVar("T")

CHILDREN = ("LokyBackend", "MultiprocessingBackend")
"""Backends of joblib whose workers are processes that this one has started."""

_MAX_RECEIVED = 2  # number of searches whose data a worker keeps
_received: OrderedDict[str, object] = OrderedDict()


def has_children(backend: Any) -> bool:
    """Return whether the workers of a backend are processes that this one has started."""
    return not _kinds_of(backend).isdisjoint(CHILDREN)


def _kinds_of(backend: Any) -> set[str]:
    return {kind.__name__ for kind in type(backend).__mro__}


class Shared(Generic[T]):
    """A value that tasks in other threads, processes or machines need.

    Threads share it. Processes that joblib starts read it once from a file. Workers of Dask get
    it from Dask, once for each search. With any other backend, each task has it.

    Parameters
    ----------
    value : object
        Anything that cloudpickle supports, local functions included.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self._on_file: OnFile[T] | None = None
        self._on_dask: tuple[Any, Any] | None = None

    def handle_for(self, backend: Any) -> Any:
        """Return what tasks of a backend of joblib get: see `value_of`."""
        if has_children(backend):
            if self._on_file is None:
                self._on_file = OnFile(self.value)
            return self._on_file
        if "DaskDistributedBackend" in _kinds_of(backend):
            return self._scattered_by(backend.client)
        return self

    def _scattered_by(self, client: Any) -> Any:
        """Return a future of Dask, which a worker gets as what it stands for."""
        if self._on_dask is None or self._on_dask[0] is not client:
            # With hash=True, a search inside a task of Dask could get a cancelled future.
            future = client.scatter(Shared(self.value), broadcast=True, hash=False)
            self._on_dask = client, future
        return self._on_dask[1]

    def send_again(self) -> None:
        """Let workers of Dask get the value anew, after those that had it have died."""
        self._on_dask = None

    def __getstate__(self) -> Any:
        return wrap_non_picklable_objects(self.value, keep_wrapper=False)

    def __setstate__(self, value: Any) -> None:
        Shared.__init__(self, value)


def value_of(handle: Any) -> Any:
    """Return the value behind the handle that a task received.

    If only one worker of Dask is left, joblib runs tasks in this process. Nobody has turned the
    future into what it stands for then.
    """
    shared = handle if isinstance(handle, Shared | OnFile) else handle.result()
    return shared.value


class OnFile(Generic[T]):
    """A value that child processes read from a file, each of them once.

    Where the system allows it, the file has no name: nothing is left of it if this process is
    killed. Elsewhere the process of joblib that outlives this one deletes it.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self._address: tuple[str, str, int] | None = None

    def __getstate__(self) -> tuple[str, str, int]:
        if self._address is None:
            key = secrets.token_hex(16)
            file, path, delete = nameless_file() or named_file()
            weakref.finalize(self, delete)
            # The key is in the file, because the path may be that of another one later.
            pickle.dump(key, file)
            pickle.dump(wrap_non_picklable_objects(self.value, keep_wrapper=False), file)
            file.flush()
            self._address = key, path, os.getpid()
        return self._address

    def __setstate__(self, address: tuple[str, str, int]) -> None:
        key, path, sender = address
        exit_with(sender)
        if key not in _received:
            _received[key] = _read(path, key)
        _received.move_to_end(key)
        while len(_received) > _MAX_RECEIVED:
            _received.popitem(last=False)
        self.value = cast(T, _received[key])
        self._address = address


def nameless_file() -> tuple[BinaryIO, str, Callable[[], None]] | None:
    """Return a file without a name, a path by which children open it, and how to delete it.

    None if the system has no such paths.
    """
    # The caller closes it.
    file = cast(BinaryIO, tempfile.TemporaryFile(prefix="skectonas-"))  # noqa: SIM115
    path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
    if os.path.exists(path):
        return file, path, file.close
    file.close()
    return None


def named_file() -> tuple[BinaryIO, str, Callable[[], None]]:
    """Return a file, its path, and how to delete it; joblib deletes it if nobody else does."""
    descriptor, path = tempfile.mkstemp(prefix="skectonas-", suffix=".pickle")
    file, owner = os.fdopen(descriptor, "wb"), os.getpid()
    resource_tracker.register(path, "file")

    def delete() -> None:
        file.close()
        if os.getpid() != owner:  # a copy of the process
            return
        os.unlink(path)
        resource_tracker.unregister(path, "file")

    return file, path, delete


def _read(path: str, key: str) -> object:
    with open(path, "rb") as file:
        # It was written by the process that has started this one.
        if pickle.load(file) != key:
            raise FileNotFoundError(f"{path} is another file by now")
        return pickle.load(file)

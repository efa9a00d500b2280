"""Values that reach a worker process once, however often they are sent to it."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Generic, TypeVar, cast

from joblib import wrap_non_picklable_objects

T = TypeVar("T")

_KEPT = 2  # searches whose data a worker keeps
_received: OrderedDict[str, object] = OrderedDict()


class Shared(Generic[T]):
    """A value behind a handle that is small when it is pickled.

    The first time that the handle is pickled, the value is written to a temporary file; a
    process that gets the handle reads the file if it has not done so before. The file goes with
    the handle that wrote it. In the process of origin, threads included, nothing is copied.

    Parameters
    ----------
    value : object
        Anything that cloudpickle can write, which includes local functions.
    """

    def __init__(self, value: T) -> None:
        self.value = value
        self._path: str | None = None

    def __getstate__(self) -> str:
        if self._path is None:
            descriptor, self._path = tempfile.mkstemp(prefix="skectonas-", suffix=".pickle")
            weakref.finalize(self, os.unlink, self._path)
            with os.fdopen(descriptor, "wb") as file:
                pickle.dump(wrap_non_picklable_objects(self.value, keep_wrapper=False), file)
        return self._path

    def __setstate__(self, path: str) -> None:
        if path not in _received:
            # Written by the process that sent this handle.
            _received[path] = pickle.loads(Path(path).read_bytes())
        _received.move_to_end(path)
        while len(_received) > _KEPT:
            _received.popitem(last=False)
        self.value = cast(T, _received[path])
        self._path = path

"""Values that are sent to a worker process only once."""

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

_MAX_RECEIVED = 2  # number of searches whose data a worker keeps
_received: OrderedDict[str, object] = OrderedDict()


class Shared(Generic[T]):
    """A handle of a value; pickling it is cheap.

    When the handle is pickled for the first time, the value is written to a temporary file. A
    process that receives the handle reads the file once. The file is deleted together with the
    handle that wrote it. Threads of the same process share the value without a copy.

    Parameters
    ----------
    value : object
        Anything that cloudpickle supports, local functions included.
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
            # The file was written by the process that sent this handle.
            _received[path] = pickle.loads(Path(path).read_bytes())
        _received.move_to_end(path)
        while len(_received) > _MAX_RECEIVED:
            _received.popitem(last=False)
        self.value = cast(T, _received[path])
        self._path = path

"""Images that are made of X whenever they are asked for, and an X that is in a file."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array: TypeAlias = NDArray[Any]
Encode: TypeAlias = Callable[[Any, Array], Array]
"""An array and the numbers of some of its rows to these rows as images."""

ROWS_AT_ONCE = 1024  # copied to a device at once
COMPARED_ROWS = 100  # by which a file is recognised


class MappedImages:
    """Images of a memory-mapped or sparse array: read and encoded whenever they are taken.

    Parameters
    ----------
    X : ndarray or sparse array
        A view of a `numpy.memmap`, see `mapping_of`; or a sparse array in the CSR format.
    encode : callable
        Turns rows of X into images, each independently of the others.
    rows : ndarray of int or None, default=None
        Which rows of X the images are; None means all of them.

    Attributes
    ----------
    device : torch.device
        The CPU: this is where images are read.
    """

    device = torch.device("cpu")

    def __init__(self, X: Any, encode: Encode, rows: Array | None = None) -> None:
        self._X, self._encode, self._rows = X, encode, rows

    def __len__(self) -> int:
        return self._X.shape[0] if self._rows is None else len(self._rows)

    def take(self, places: Tensor) -> Tensor:
        """Return some of the images.

        Raises
        ------
        OSError
            If this is a copy in another process, which cannot read the file.
        """
        if isinstance(self._X, FileArray):
            self._X = self._X.open()
        rows = places.numpy()
        return torch.from_numpy(
            self._encode(self._X, rows if self._rows is None else self._rows[rows])
        )

    def to(self, device: torch.device) -> MappedImages | Tensor:
        """Return the images on a device: as they are on the CPU, elsewhere all in memory."""
        if device.type == "cpu":
            return self
        like = self.take(torch.arange(1))
        images = torch.empty((len(self), *like.shape[1:]), dtype=like.dtype, device=device)
        for places in torch.arange(len(self)).split(ROWS_AT_ONCE):
            images[places[0] : places[-1] + 1] = self.take(places).to(device)
        return images

    def __getstate__(self) -> dict[str, Any]:
        # numpy would pickle all values. The file is opened when it is needed: an error inside
        # of a pickle would not reach the user from every kind of worker.
        X = self._X
        return self.__dict__ | {
            "_X": X if isinstance(X, FileArray) else FileArray.of(X) or X,
        }


def mapping_of(X: object) -> np.memmap[Any, Any] | None:
    """Return the memory map that an array is a view of, None if it is in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.inputs.mapped import mapping_of
    >>> mapping_of(np.zeros(3)) is None
    True
    """
    base: Any = X
    while isinstance(base, np.ndarray):
        # An array computed from a memory map can have its type, but lies in memory.
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base
        base = base.base
    return None


@contextmanager
def read_at_random(X: Any) -> Iterator[None]:
    """Tell the system that rows of a memory map are read in no order, until the block ends.

    It then reads what is asked for and no more. Where the file is larger than the memory, what
    it would read ahead is dropped before it is of use.
    """
    file: Any = getattr(mapping_of(X), "base", None)
    if file is None or not hasattr(mmap, "MADV_RANDOM"):
        yield
        return
    file.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        file.madvise(mmap.MADV_NORMAL)


@dataclass(frozen=True)
class FileArray:
    """Where in a file an array is.

    Parameters
    ----------
    path : str
        The file.
    offset : int
        Of the first value, in bytes.
    dtype : numpy.dtype
        Of the values.
    shape, strides : tuple of int
        As in numpy.
    digest : bytes
        Of some rows: another file may have the same name later, or on another machine.
    """

    path: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    digest: bytes

    @classmethod
    def of(cls, X: Array) -> Self | None:
        """Return where a view of a memory map is; None if no file has its values."""
        mapping = mapping_of(X)
        if mapping is None or mapping.filename is None or mapping.mode == "c":
            return None
        path = os.fspath(mapping.filename)
        offset = mapping.offset + X.ctypes.data - mapping.ctypes.data
        place = cls(path, offset, X.dtype, X.shape, X.strides, _digest_of(X))
        try:
            place.open()
        except OSError:
            return None
        return place

    def open(self) -> Array:
        """Map the array again.

        Raises
        ------
        OSError
            If the file cannot be read, or is another one.
        """
        try:
            whole = np.memmap(self.path, np.uint8, "r")
            X: Array = np.ndarray(self.shape, self.dtype, whole, self.offset, self.strides)
            problem = "" if _digest_of(X) == self.digest else "it has other values"
        except (OSError, TypeError, ValueError) as error:
            problem = str(error)
        if problem:
            raise OSError(
                f"X is in the file {self.path!r}, which cannot be read here: {problem}. A "
                "worker on another machine needs it at the same place; or give X in memory."
            )
        return X


def _digest_of(X: Array) -> bytes:
    """Return a digest of some rows of an array."""
    some = X[:: max(len(X) // COMPARED_ROWS, 1)]
    return hashlib.sha256(np.ascontiguousarray(some).data).digest()

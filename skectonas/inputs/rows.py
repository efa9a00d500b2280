"""Rows of X, whatever X is, and batches of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.utils import gen_batches

_VALUES_AT_ONCE = 2**20
_MOST_VALUES_AT_ONCE = 2**23
_ROWS_OF_FRAME = 256

Data: TypeAlias = pd.DataFrame | npt.NDArray[Any] | sparse.csr_array
"""A frame, an array, or a sparse one, whose rows become dense when they are taken."""

RowNumbers: TypeAlias = npt.NDArray[np.intp]


def take_rows(X: Data, rows: RowNumbers | slice) -> Any:
    """Return some rows of a frame or an array, dense."""
    some: Any = X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
    return some.toarray() if sparse.issparse(some) else some


def batches_of(X: Data, rows: RowNumbers | None = None, width: int = 1) -> Iterator[Any]:
    """Yield the rows of a frame or an array in batches of bounded memory.

    Rows of a sparse array are made dense.

    Parameters
    ----------
    X : DataFrame, ndarray or sparse array in the CSR format
        The data.
    rows : ndarray of int, default=None
        Which rows; None stands for all.
    width : int, default=1
        Values that each row is turned into, if they are more than it has.
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    values = max(width, math.prod(X.shape[1:]))
    size = max(_VALUES_AT_ONCE // values, 1)
    if isinstance(X, pd.DataFrame):
        # Every column takes its time, however few rows it has.
        size = max(size, min(_MOST_VALUES_AT_ONCE // values, _ROWS_OF_FRAME))
    for part in gen_batches(n_rows, size):
        yield take_rows(X, part if rows is None else rows[part])

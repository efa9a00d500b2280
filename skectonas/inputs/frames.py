"""What is given as X, y or weights, before anything is asked of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skectonas.extras import import_extra

PROTOCOLS = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
"""What frames and columns have, and arrays with a `to_pandas` of their own have not."""


def admit(values: Any, name: str) -> Any:
    """Return frames and columns of other libraries as those of pandas, all else as it is.

    They convert themselves: polars, Arrow, Modin, cuDF and narwhals have a `to_pandas`, which
    knows their types better than code here could, and keeps the dictionaries of categories as
    they are.

    Parameters
    ----------
    values : object
        What the user gave.
    name : str
        What it is given as, for messages.

    Raises
    ------
    ImportError
        If it is of polars, and pyarrow, by which polars converts, is missing.
    TypeError
        If it is a lazy frame.
    ValueError
        If it is an array with masked values, which conversion to a plain array would bring
        back.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from skectonas.inputs.frames import admit
    >>> admit(pa.table({"age": [20, 30], "work": ["office", "farm"]}), "X")
       age    work
    0   20  office
    1   30    farm
    """
    if isinstance(values, pd.DataFrame | pd.Series):
        return values
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} has {values.size - values.count()} masked values: fill them, with "
            "filled(value); in a table, filled(np.nan) says that values of X are missing."
        )
    if hasattr(values, "to_pandas"):
        if not any(hasattr(values, protocol) for protocol in PROTOCOLS):
            return values
        if type(values).__module__.startswith("polars."):
            import_extra("pyarrow", "polars")
        return values.to_pandas()
    if hasattr(values, "collect"):
        kind = type(values)
        raise TypeError(
            f"{name} must hold its values, got a lazy {kind.__module__}.{kind.__name__}: call "
            "its collect() first."
        )
    return values

"""Frames and columns of other libraries, converted to those of pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skectonas.extras import import_extra

PROTOCOLS = ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")
"""Attributes of frames and columns. Arrays that have a `to_pandas` have none of them."""


def to_pandas(values: Any, name: str) -> Any:
    """Convert frames and columns of other libraries to pandas, and return all else as it is.

    The conversion is their own: polars, Arrow, Modin, cuDF and narwhals have a `to_pandas`,
    which knows their types best and keeps the dictionaries of categories.

    Parameters
    ----------
    values : object
        Argument that the user passed.
    name : str
        Name of the argument, for messages.

    Returns
    -------
    object
        A frame or Series of pandas, or `values` itself.

    Raises
    ------
    ImportError
        If `values` come from polars, and pyarrow, which polars needs for this, is missing.
    TypeError
        If `values` are a lazy frame.
    ValueError
        If `values` are an array with masked values. Conversion to a plain array would reveal
        them.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from skectonas.inputs.frames import to_pandas
    >>> to_pandas(pa.table({"age": [20, 30], "work": ["office", "farm"]}), "X")
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
    # Arrays and single columns of Dask can be read as arrays; its frames would lose names.
    # Lazy frames of polars must not be asked for their columns, which may take long.
    of_dask = hasattr(values, "compute") and hasattr(values, "columns")
    method = "compute" if of_dask and getattr(values, "ndim", 2) == 2 else "collect"
    if hasattr(values, method):
        kind = type(values)
        raise TypeError(
            f"{name} must hold its values, got a lazy {kind.__module__}.{kind.__name__}: call "
            f"its {method}() first."
        )
    return values

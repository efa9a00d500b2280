"""What the pictures read off the tables of a search."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skectonas.search import ROUNDING

HISTORY = (
    "generation", "phase", "candidate", "parent", "morphism", "n_parameters", "epochs",
    "epochs_total", "mean_loss", "mean_score", "won",
)  # fmt: skip
LINEAGE = ("candidate", "morphism", "n_parameters", "epochs_total", "validation_score")


def check_table(name: str, table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Check that a table has rows and columns.

    Raises
    ------
    ValueError
        If it is no data frame, is empty, or lacks a column.
    """
    if not isinstance(table, pd.DataFrame) or table.empty:
        raise ValueError(f"{name} must be a data frame of the fitted estimator, got {table!r}.")
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise ValueError(f"{name} lacks the columns {lacking}.")


def check_fitted(estimator: Any, caller: str) -> None:
    """Check that there is something to show.

    Raises
    ------
    TypeError
        If it is no estimator of this package.
    NotFittedError
        If it is not fitted.
    """
    if not hasattr(estimator, "with_candidate"):
        raise TypeError(
            f"{caller} takes an ECToNASClassifier, got {type(estimator).__name__}: of a "
            "pipeline or a search hand over the estimator itself, such as pipeline[-1] or "
            "grid.best_estimator_."
        )
    check_is_fitted(estimator, "lineage_")


def births(history: pd.DataFrame) -> pd.Series[float]:
    """Return by candidate the epochs that its weights had been trained at its birth."""
    first = history.drop_duplicates("candidate").set_index("candidate")
    begin: pd.Series[float] = first["epochs_total"] - first["epochs"]
    return begin


def settled(history: pd.DataFrame) -> pd.DataFrame:
    """Leave out the scores right after a change, by which nothing is decided."""
    rounds = history["phase"] != "recovery"
    competed = history["candidate"].isin(history["candidate"][rounds])
    chosen: pd.DataFrame = history[rounds | ~competed]
    return chosen


def course(history: pd.DataFrame, lineage: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of history along a lineage: each candidate's, until the next is born."""
    born = births(history)[lineage["candidate"]]
    ends = [*born.iloc[1:], lineage["epochs_total"].iloc[-1]]
    parts = [
        history[
            (history["candidate"] == candidate) & (history["epochs_total"] <= end + ROUNDING)
        ]
        for candidate, end in zip(lineage["candidate"], ends, strict=True)
    ]
    rows: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return rows

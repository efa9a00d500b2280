"""The rows of a history that count, one for each candidate."""

from __future__ import annotations

import pandas as pd

from skectonas.search.ledger import ROUNDING


def of_last_fit(history: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last fit. Earlier scores may be those of other data."""
    begun = history["candidate"][history["morphism"] == "warm start"]
    first = 0 if begun.empty else int((history["candidate"] == begun.iloc[-1]).argmax())
    chosen: pd.DataFrame = history.iloc[first:]
    return chosen


def standings(history: pd.DataFrame, lineage: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return, by candidate, the row of its last training.

    Parameters
    ----------
    history : DataFrame
        The trainings.
    lineage : DataFrame or None, default=None
        The way to a candidate. If it ends with the final training, that counts. Otherwise it
        does not: it was rejected, or is not asked for, because descendants come from what was
        before.

    Returns
    -------
    DataFrame
        A row for each candidate, whose number is the index.

    Examples
    --------
    >>> import pandas as pd
    >>> from skectonas.search import standings
    >>> columns = ["candidate", "phase", "epochs_total"]
    >>> rows = [(0, "warm-up", 5.0), (1, "phase 1", 6.0), (1, "final", 9.0)]
    >>> history = pd.DataFrame(rows, columns=columns)
    >>> standings(history)["epochs_total"].tolist()
    [5.0, 6.0]
    >>> standings(history, history.iloc[[0, 2]])["epochs_total"].tolist()
    [5.0, 9.0]
    """
    is_left_out = history["phase"] == "final"
    if lineage is not None:
        end = lineage.iloc[-1]
        is_later = history["epochs_total"] > end["epochs_total"] + ROUNDING
        is_left_out &= is_later | (history["candidate"] != end["candidate"])
    counting = history[~is_left_out].drop_duplicates("candidate", keep="last")
    return counting.set_index("candidate").sort_index()

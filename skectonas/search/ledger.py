"""The account of the budget: every training of every candidate, and its cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

import pandas as pd

ROUNDING = 1e-9
"""Epochs, far below one batch, by which sums of them may differ, and a product such as
0.29 * 100 may be too small."""

UNLIMITED = 2**62
"""Batches of a budget that is infinite."""

# The columns of the table. Releases of pandas differ in the type of text, which they choose.
DTYPES = {
    **dict.fromkeys(("generation", "round", "candidate", "n_parameters"), "int64"),
    **dict.fromkeys(("bracket", "parent"), "Int64"),
    **dict.fromkeys(("epochs", "epochs_total", "budget_spent", "seconds"), "float64"),
    **dict.fromkeys(("train_loss", "validation_loss"), "float64"),
    **dict.fromkeys(("validation_score", "mean_loss", "mean_score", "fitness"), "float64"),
    "won": "boolean",
}


@dataclass(frozen=True)
class Entry:
    """One training of one candidate: a row of ``history_``.

    Parameters
    ----------
    generation : int
        0 for the warm-up. A warm start counts on from the last fit.
    phase : {"warm-up", "recovery", "phase 1", "phase 2", "control", "final"}
        The part of Algorithm 1.
    round : int
        Round of the phase, from 0.
    bracket : int or None
        Bracket of the round; None outside phases 1 and 2.
    candidate : int
        Id of the candidate.
    parent : int or None
        Id of its parent; the first starts have none.
    morphism : str
        The change that made the candidate.
    topology : str
        The architecture in one line.
    n_parameters : int
        Number of trained weights.
    n_steps : int
        Batches of this training. They are counted in epochs of the rows that the search trains
        on, also if the final training is on more. In a data frame, they are the column
        ``epochs``, and ``budget_spent`` is the sum of it so far.
    n_steps_total : int
        Batches that the weights have been trained on, those of the ancestors included. In a
        data frame, they are the column ``epochs_total``.
    train_loss, validation_loss, validation_score : float
        The last evaluation of this training. A final training on all rows has no validation
        rows, so that it keeps the earlier validation loss and score.
    mean_loss, mean_score : float
        Means of the last ``score_window`` validation losses and scores since the candidate was
        born, which decide its selection.
    fitness : float or None
        What the bracket was decided by.
    won : bool or None
        Whether the candidate won its bracket; None outside phases 1 and 2.
    seconds : float
        Wall-clock time of the round's training, divided among its candidates by their batches.
    """

    generation: int
    phase: str
    round: int
    bracket: int | None
    candidate: int
    parent: int | None
    morphism: str
    topology: str
    n_parameters: int
    n_steps: int
    n_steps_total: int
    train_loss: float
    validation_loss: float
    validation_score: float
    mean_loss: float
    mean_score: float
    fitness: float | None
    won: bool | None
    seconds: float


@dataclass(frozen=True)
class Ledger:
    """The account of a budget, in whole batches so that nothing is rounded.

    Parameters
    ----------
    budget : float
        Epochs that may be trained, over all candidates; infinity is no limit.
    steps_per_epoch : int
        Batches of an epoch.
    entries : tuple of Entry, default=()
        All trainings so far, oldest first.

    Raises
    ------
    ValueError
        If the budget does not pay for a single batch.

    Examples
    --------
    >>> from skectonas.search.ledger import Ledger
    >>> ledger = Ledger(budget=3.5, steps_per_epoch=4)
    >>> ledger.left
    14
    """

    budget: float
    steps_per_epoch: int
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if self.total < 1:
            raise ValueError(
                f"budget={self.budget!r} epochs do not pay for a single batch: an epoch of "
                f"these data has {self.steps_per_epoch} batches."
            )

    @property
    def total(self) -> int:
        """Batches that the budget pays for."""
        if math.isinf(self.budget):
            return UNLIMITED
        # The tolerance is for budgets such as 0.1 + 0.2; it is far below one batch.
        return int(self.budget * self.steps_per_epoch + ROUNDING)

    @property
    def spent(self) -> int:
        """Batches trained so far."""
        return sum(entry.n_steps for entry in self.entries)

    @property
    def left(self) -> int:
        """Batches that can still be trained."""
        return self.total - self.spent

    def steps(self, epochs: float) -> int:
        """Return the number of batches in so many epochs, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))

    def expected_seconds(self, n_steps: int) -> float:
        """Return how long so many batches take, if they take as long as the last ones."""
        if not self.entries:
            return 0.0
        last = self.entries[-1]
        return n_steps * last.seconds / last.n_steps

    def charge(self, entries: Iterable[Entry]) -> Ledger:
        """Return the ledger with more entries.

        Parameters
        ----------
        entries : iterable of Entry
            The trainings to add.

        Returns
        -------
        Ledger
            A new ledger; this one is left as it is.

        Raises
        ------
        ValueError
            If the entries cost more than is left.
        """
        entries = tuple(entries)
        cost = sum(entry.n_steps for entry in entries)
        if cost > self.left:
            raise ValueError(f"{cost} batches were trained, but only {self.left} were left.")
        return replace(self, entries=self.entries + entries)

    def to_frame(self) -> pd.DataFrame:
        """Return the account as a table, with a row for each entry and in epochs.

        Returns
        -------
        pandas.DataFrame
            The fields of `Entry`. ``n_steps`` becomes ``epochs``, and ``n_steps_total`` becomes
            ``epochs_total``. ``budget_spent`` is the cumulative sum of ``epochs``.
        """
        columns = [f.name for f in fields(Entry)]
        frame = pd.DataFrame([asdict(entry) for entry in self.entries], columns=columns)
        spent = frame["n_steps"].cumsum() / self.steps_per_epoch
        frame["n_steps"] = frame["n_steps"] / self.steps_per_epoch
        frame["n_steps_total"] = frame["n_steps_total"] / self.steps_per_epoch
        frame = frame.rename(columns={"n_steps": "epochs", "n_steps_total": "epochs_total"})
        frame.insert(list(frame.columns).index("epochs_total") + 1, "budget_spent", spent)
        return frame.astype(DTYPES)

"""What the steps of a search cost, in batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from skectonas.candidate import Candidate
from skectonas.search.ledger import ROUNDING, Ledger
from skectonas.search.settings import Settings
from skectonas.search.state import SearchState

MOST_FOR_THE_END = 0.9
"""Largest share of the final training if a search without a budget ends early."""


@dataclass(frozen=True)
class Costs:
    """What the steps of a search cost.

    Parameters
    ----------
    settings : Settings
        How long the search trains.
    batches_of_all_rows : int or None
        The batches of an epoch of the final training; None means those of the ledger.
    """

    settings: Settings
    batches_of_all_rows: int | None

    def left(self, ledger: Ledger) -> int:
        """Return the batches that are left, without those reserved for the final training."""
        return ledger.left - self.reserved(ledger)

    def reserved(self, ledger: Ledger) -> int:
        """Return the batches that are reserved for the final training, in whole epochs."""
        per_epoch = self.final_epoch(ledger)
        n_epochs = self.settings.final_fraction * ledger.total / per_epoch
        return int(n_epochs + ROUNDING) * per_epoch

    def of_early_end(self, ledger: Ledger) -> int:
        """Return the batches of the final training of a search that has ended early.

        Without a budget, they are in the same proportion to what was spent before.
        """
        if not math.isinf(ledger.budget):
            return self.reserved(ledger)
        share = min(self.settings.final_fraction, MOST_FOR_THE_END)
        return int(share / (1 - share) * ledger.spent)

    def final_epoch(self, ledger: Ledger) -> int:
        """Return the batches of an epoch of the final training."""
        return self.batches_of_all_rows or ledger.steps_per_epoch

    def of_recovery(self, ledger: Ledger, children: Iterable[Candidate]) -> list[int]:
        """Return the batches of the recovery training of each child."""
        epochs = {m.name: m.recovery_epochs for m in self.settings.morphisms}
        return [ledger.steps(epochs[child.morphism]) for child in children]

    def of_shortest_round(self, ledger: Ledger) -> int:
        """Return the batches of the shortest round that is played: those of an epoch."""
        return min(ledger.steps(self.settings.round_epochs), ledger.steps_per_epoch)

    def of_round(self, state: SearchState) -> int:
        """Return the batches of the next round for each survivor, or 0 if there is no round."""
        ledger = state.ledger
        most = self.left(ledger) // len(state.survivors)
        if state.finished or most < self.of_shortest_round(ledger):
            return 0
        return min(ledger.steps(self.settings.round_epochs), most)

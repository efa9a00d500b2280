"""What a search has found, as the fitted attributes of the estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from skectonas.candidate import Ancestor, Candidate
from skectonas.inputs import InputEncoder
from skectonas.network import build
from skectonas.search.ledger import Ledger
from skectonas.topology import Topology


class Start(NamedTuple):
    """What is known before the search begins, and what its outcome is told with."""

    candidate: Topology | Candidate
    encoder: InputEncoder
    classes: NDArray[Any]
    seed: int
    ledger: Ledger
    at_hand: Candidate | None = None
    origin: Ancestor | None = None
    earlier_history: pd.DataFrame | None = None
    earlier_lineage: pd.DataFrame | None = None

    def history(self) -> pd.DataFrame:
        """Return the account of the search, behind that of the fits that it goes on from."""
        history = self.ledger.to_frame()
        if self.earlier_history is None:
            return history
        history["budget_spent"] += self.earlier_history["budget_spent"].iloc[-1]
        return pd.concat([self.earlier_history, history], ignore_index=True)

    def model_of(self, lineage: Sequence[Candidate]) -> dict[str, Any]:
        """Return a candidate as it can be predicted with: its network and its lineage."""
        candidate, table = lineage[-1], self.table_of(lineage)
        if self.earlier_lineage is not None:
            earlier = self.earlier_lineage
            earlier = earlier[~earlier["candidate"].isin(table["candidate"])]
            table = pd.concat([earlier, table], ignore_index=True)
        network = build(candidate.topology, candidate.weights).eval()
        return {"network": network, "lineage": table}

    def table_of(self, candidates: Sequence[Candidate]) -> pd.DataFrame:
        """Return candidates as the rows of a table."""
        columns = ["generation", "candidate", "morphism", "topology", "n_parameters"]
        return pd.DataFrame(
            [
                (
                    candidate.generation,
                    candidate.id,
                    candidate.morphism,
                    str(candidate.topology),
                    candidate.n_parameters,
                    candidate.n_steps / self.ledger.steps_per_epoch,
                    candidate.score,
                )
                for candidate in candidates
            ],
            columns=[*columns, "epochs_total", "validation_score"],
        )


def model_attributes(model: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes that depend on the candidate that is the model."""
    topology = model["network"].topology
    return {
        "network_": model["network"],
        "best_topology_": topology,
        "n_parameters_": topology.n_parameters,
        "lineage_": model["lineage"],
        "validation_score_": float(model["lineage"]["validation_score"].iloc[-1]),
    }

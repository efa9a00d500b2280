"""What a search has found, told as the fitted attributes of the estimator."""

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


class Earlier(NamedTuple):
    """What the fits before a warm start leave to it.

    Parameters
    ----------
    incumbent : Candidate
        The fitted network, scored on the rows that are held out now.
    reference : Ancestor
        The start of the first fit: what the final selection compares with.
    history, lineage : DataFrame
        As the estimator has them.
    """

    incumbent: Candidate
    reference: Ancestor
    history: pd.DataFrame
    lineage: pd.DataFrame


class Start(NamedTuple):
    """What a search begins with, and what its outcome is told with.

    Parameters
    ----------
    candidate : Topology or Candidate
        What is trained first.
    encoder : InputEncoder
        What turns X into images.
    classes : ndarray of shape (n_classes,)
        The classes.
    seed : int
        What all random draws depend on.
    ledger : Ledger
        The account of the search.
    earlier : Earlier or None, default=None
        What a warm start goes on from.
    """

    candidate: Topology | Candidate
    encoder: InputEncoder
    classes: NDArray[Any]
    seed: int
    ledger: Ledger
    earlier: Earlier | None = None

    def history(self) -> pd.DataFrame:
        """Return the account of the search, after that of the fits before it."""
        history = self.ledger.to_frame()
        if self.earlier is None:
            return history
        history["budget_spent"] += self.earlier.history["budget_spent"].iloc[-1]
        return pd.concat([self.earlier.history, history], ignore_index=True)

    def model_of(self, lineage: Sequence[Candidate]) -> dict[str, Any]:
        """Return what a candidate can be predicted with: its network and its lineage."""
        candidate, table = lineage[-1], self.table_of(lineage)
        if self.earlier is not None:
            earlier = self.earlier.lineage
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

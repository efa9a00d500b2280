"""What a search has found, as the fitted attributes of the estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from skectonas.candidate import Candidate
from skectonas.inputs import InputEncoder
from skectonas.network import build
from skectonas.search.state import Outcome


class Basis(NamedTuple):
    """What the fitted attributes need besides the outcome of the search.

    Parameters
    ----------
    encoder : InputEncoder
        What turns X into images.
    weight_decay : float or None
        The weight decay that a rule or a trial has chosen for networks with hidden layers; None
        if there are settings of the user.
    classes : ndarray of shape (n_classes,)
        The classes.
    n_samples : int
        Number of rows of the fit.
    seed : int
        The seed of all random draws.
    scoring : str
        What the scores are called.
    history, lineage : DataFrame or None, default=None
        Of the fits before a warm start, as the estimator has them.
    """

    encoder: InputEncoder
    weight_decay: float | None
    classes: NDArray[Any]
    n_samples: int
    seed: int
    scoring: str
    history: pd.DataFrame | None = None
    lineage: pd.DataFrame | None = None

    def attributes(self, outcome: Outcome) -> dict[str, Any]:
        """Return the fitted attributes of the estimator.

        Parameters
        ----------
        outcome : Outcome
            What the search has found.
        """
        steps_per_epoch = outcome.state.ledger.steps_per_epoch
        return {
            "kept_": {line[-1].id: self._model(line, steps_per_epoch) for line in outcome.kept},
            "classes_": self.classes,
            "scoring_": self.scoring,
            "encoder_": self.encoder,
            "image_shape_": self.encoder.image_shape_,
            "weight_decay_": self.weight_decay,
            "n_samples_fit_": self.n_samples,
            "seed_": self.seed,
            "history_": self._history(outcome),
            "pareto_front_": _table([line[-1] for line in outcome.front], steps_per_epoch),
            **model_attributes(self._model(outcome.lineage, steps_per_epoch)),
        }

    def _history(self, outcome: Outcome) -> pd.DataFrame:
        """Return the account of the search, after that of the fits before it."""
        history = outcome.state.ledger.to_frame()
        if self.history is None:
            return history
        history["budget_spent"] += self.history["budget_spent"].iloc[-1]
        return pd.concat([self.history, history], ignore_index=True)

    def _model(self, lineage: Sequence[Candidate], steps_per_epoch: int) -> dict[str, Any]:
        """Return what a candidate can be predicted with: its network and its lineage."""
        candidate, table = lineage[-1], _table(lineage, steps_per_epoch)
        if self.lineage is not None:
            # Scores of earlier fits stay as they were measured.
            table = table[~table["candidate"].isin(self.lineage["candidate"])]
            table = pd.concat([self.lineage, table], ignore_index=True)
        network = build(candidate.topology, candidate.weights).eval()
        return {"network": network, "lineage": table}


def model_attributes(model: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes that depend on which candidate is the model."""
    topology = model["network"].topology
    return {
        "network_": model["network"],
        "best_topology_": topology,
        "n_parameters_": topology.n_parameters,
        "lineage_": model["lineage"],
        "validation_score_": float(model["lineage"]["validation_score"].iloc[-1]),
    }


def _table(candidates: Sequence[Candidate], steps_per_epoch: int) -> pd.DataFrame:
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
                candidate.n_steps / steps_per_epoch,
                candidate.score,
            )
            for candidate in candidates
        ],
        columns=[*columns, "epochs_total", "validation_score"],
    )

"""A candidate of the search: a topology with its weights and its evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from skectonas.network import Weights
from skectonas.topology import Topology


@dataclass(frozen=True)
class Evaluation:
    """The measurements at the end of an epoch, or of a fraction of one.

    Parameters
    ----------
    train_loss : float
        Mean cross-entropy over the batches of the epoch.
    validation_loss : float
        Mean cross-entropy on the validation rows.
    validation_score : float
        The score on the validation rows, higher is better. It is minus infinity if an output of
        the network is not finite.
    """

    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True)
class Ancestor:
    """The values of a parent that Eq. 2 needs for its child."""

    id: int
    score: float
    n_parameters: int
    loss: float = np.inf


@dataclass(frozen=True, eq=False)
class Candidate:
    """A topology with its weights and evaluations; it is replaced, never changed.

    Parameters
    ----------
    id : int
        Number within the search; the start is 0.
    topology : Topology
        The architecture.
    weights : mapping of str to Tensor
        Named weights, on the CPU. They are never written to.
    generation : int, default=0
        Generation in which it was born.
    morphism : str, default="start"
        Name of the change that made it from its parent.
    parent : Ancestor or None, default=None
        The parent as it was when the change was made.
    n_steps : int, default=0
        Number of batches that the weights have been trained on, including those of ancestors.
    evaluations : tuple of Evaluation, default=()
        All evaluations since it was born, oldest first.
    score_window : int, default=1
        Number of last evaluations over which score and loss are averaged.
    """

    id: int
    topology: Topology
    weights: Weights = field(repr=False)
    generation: int = 0
    morphism: str = "start"
    parent: Ancestor | None = None
    n_steps: int = 0
    evaluations: tuple[Evaluation, ...] = field(default=(), repr=False)
    score_window: int = 1

    @property
    def score(self) -> float:
        """Mean of the last validation scores; minus infinity before the first."""
        recent = [e.validation_score for e in self.evaluations[-self.score_window :]]
        return float(np.mean(recent)) if recent else -np.inf

    @property
    def loss(self) -> float:
        """Mean of the last validation losses; infinity before the first."""
        recent = [e.validation_loss for e in self.evaluations[-self.score_window :]]
        return float(np.mean(recent)) if recent else np.inf

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return self.topology.n_parameters

    @property
    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(value.isfinite().all()) for value in self.weights.values())

    def as_ancestor(self) -> Ancestor:
        """Return the values of this candidate that its children keep."""
        return Ancestor(self.id, self.score, self.n_parameters, self.loss)

    def failed(self) -> Candidate:
        """Return this candidate with the evaluation of one that could not be trained.

        It loses every bracket that has another.
        """
        evaluation = Evaluation(np.nan, np.inf, -np.inf)
        return replace(self, evaluations=(*self.evaluations, evaluation))

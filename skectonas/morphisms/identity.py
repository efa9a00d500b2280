"""The morphism that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from skectonas.morphisms.base import Context, WithSettings
from skectonas.network import Weights
from skectonas.topology import Topology


@dataclass(frozen=True)
class Identity(WithSettings):
    """Keep the network unchanged (paper, section 3.2).

    Parameters
    ----------
    recovery_epochs : float, default=0.1
        Epochs of training before the competition.
    """

    recovery_epochs: float = 0.1
    name = "identity"
    preserves_function = True

    def sites(self, topology: Topology) -> range:
        """Return a single site."""
        return range(1)

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology."""
        return topology

    def carry(
        self,
        weights: Weights,
        old: Topology,
        new: Topology,
        site: int,
        context: Context,
    ) -> dict[str, Tensor]:
        """Return the weights."""
        return dict(weights)

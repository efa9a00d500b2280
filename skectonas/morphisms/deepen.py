"""Add a dense layer, as in Net2DeeperNet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skectonas.morphisms.base import Context, WithSettings, renumbered
from skectonas.network import Weights
from skectonas.topology import OUTPUT, Dense, Topology, dense_name


@dataclass(frozen=True)
class AddDense(WithSettings):
    """Add a dense layer that is the identity; the function is preserved (paper, equation 3).

    The new layer follows a dense layer and has the identity matrix: relu does not change its
    inputs, which are not negative. It never follows flatten, where that matrix would have the
    size of the image. A network without dense layers gets one before its output layer, with
    two units per class: relu(z) and relu(-z), whose difference is z.

    Parameters
    ----------
    recovery_epochs : float, default=0.1
        Epochs of training before the competition.
    """

    recovery_epochs: float = 0.1
    name = "add_dense"
    preserves_function = True

    def sites(self, topology: Topology) -> range:
        """Return the dense layers that the new one can follow; 0 if there is none."""
        return range(max(1, len(topology.dense)))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with one more dense layer."""
        if not topology.dense:
            return replace(topology, dense=(Dense(2 * topology.n_classes),))
        before, after = topology.dense[: site + 1], topology.dense[site + 1 :]
        return replace(topology, dense=(*before, topology.dense[site], *after))

    def carry(
        self,
        weights: Weights,
        old: Topology,
        new: Topology,
        site: int,
        context: Context,
    ) -> dict[str, Tensor]:
        """Insert an identity matrix, or the output layer and its negative."""
        like = weights[f"{OUTPUT}.weight"]
        if not old.dense:
            mirrored = {
                f"{dense_name(0)}.{kind}": torch.cat([old_output, -old_output])
                for kind in ("weight", "bias")
                for old_output in [weights[f"{OUTPUT}.{kind}"]]
            }
            eye = _identity(old.n_classes, like)
            bias = like.new_zeros(old.n_classes)
            output = {f"{OUTPUT}.weight": torch.cat([eye, -eye], 1), f"{OUTPUT}.bias": bias}
            return {**weights, **mirrored, **output}
        child = renumbered(weights, "dense", site + 1, 1)
        name, units = dense_name(site + 1), new.dense[site + 1].units
        child[f"{name}.weight"] = _identity(units, like)
        child[f"{name}.bias"] = like.new_zeros(units)
        return child


def _identity(n: int, like: Tensor) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)

"""Remove a dense layer by merging it into the next."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skectonas.morphisms.base import Context, WithSettings, renumbered
from skectonas.morphisms.reconnect import reconnect
from skectonas.network import Weights
from skectonas.topology import Topology, dense_name, linear_name


@dataclass(frozen=True)
class RemoveDense(WithSettings):
    """Remove a dense layer (paper, appendix A.1).

    Its matrix is multiplied with the next one. The paper ignores the relu between the two.
    Here the relu of each unit is replaced by the straight line that fits it best on the data,
    and the merged layer is then fitted to the previous outputs of the next layer.

    Parameters
    ----------
    recovery_epochs : float, default=0.25
        Epochs of training before the competition.
    """

    recovery_epochs: float = 0.25
    name = "remove_dense"
    preserves_function = False

    def sites(self, topology: Topology) -> range:
        """Return the dense layers, without the output layer."""
        return range(len(topology.dense))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology without that layer."""
        return replace(topology, dense=topology.dense[:site] + topology.dense[site + 1 :])

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Merge the layer into the next."""
        first, second = dense_name(site), linear_name(old, site + 1)
        w1, b1 = weights[f"{first}.weight"].double(), weights[f"{first}.bias"].double()
        w2, b2 = weights[f"{second}.weight"].double(), weights[f"{second}.bias"].double()
        before = context.activations(weights, old)
        z = before.outputs_of(site).double()
        slope, intercept = _line_through_relu(z)
        kept = {k: v for k, v in weights.items() if not k.startswith(f"{first}.")}
        child = renumbered(kept, "dense", site + 1, -1)
        merged = linear_name(new, site)
        like = weights[f"{first}.weight"]
        child[f"{merged}.weight"] = ((w2 * slope) @ w1).to(like)
        child[f"{merged}.bias"] = (w2 @ (slope * b1 + intercept) + b2).to(like)
        return reconnect(child, new, site, before.outputs_of(site + 1), before)


def _line_through_relu(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and intercept of the line closest to relu(z), for each column."""
    h = torch.relu(z)
    z_mean, h_mean = z.mean(0), h.mean(0)
    variance = (z - z_mean).square().mean(0)
    covariance = ((z - z_mean) * (h - h_mean)).mean(0)
    slope = torch.where(variance > 0, covariance / variance, 0.0)
    return slope, h_mean - slope * z_mean

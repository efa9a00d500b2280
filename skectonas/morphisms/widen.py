"""Add units to a dense layer, or channels to a cell, without changing the function."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from skectonas.morphisms.base import (
    Context,
    WithSettings,
    by_input,
    reader_of_cell,
    reader_of_dense,
    restore_shape,
    share_of,
)
from skectonas.network import Weights, glorot, identity_norm
from skectonas.topology import ConvCell, Dense, Topology, conv_name, dense_name, norm_name


@dataclass(frozen=True)
class AddUnits(WithSettings):
    """Add units to a dense layer; the function is preserved (paper, appendix A.1).

    New units have random incoming weights, and outgoing weights of zero. The paper (equation 5)
    copies old units and halves their outgoing weights. Such copies always have equal gradients
    and add no capacity; with unequal shares they add it more slowly than new units.

    Parameters
    ----------
    fraction : float, default=0.5
        Units to add, relative to the units of the layer; 0.1 in the paper.
    at_least : int, default=4
        Minimum number of units to add; 2 in the paper.
    recovery_epochs : float, default=0.1
        Epochs of training before the competition.
    """

    fraction: float = 0.5
    at_least: int = 4
    recovery_epochs: float = 0.1
    name = "add_units"
    preserves_function = True

    def sites(self, topology: Topology) -> range:
        """Return the dense layers, without the output layer."""
        return range(len(topology.dense))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a wider dense layer."""
        dense = list(topology.dense)
        units = dense[site].units
        dense[site] = Dense(units + share_of(units, self.fraction, self.at_least))
        return replace(topology, dense=tuple(dense))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Append new units."""
        name, reader = dense_name(site), reader_of_dense(old, site)
        n_old, extra = old.dense[site].units, new.dense[site].units - old.dense[site].units
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        fresh = glorot((extra, weight.shape[1]), context.rng).to(weight)
        return {
            **weights,
            f"{name}.weight": torch.cat([weight, fresh]),
            f"{name}.bias": pad(bias, (0, extra)),
            reader: _with_zero_inputs(weights[reader], n_old, extra),
        }


@dataclass(frozen=True)
class AddChannels(WithSettings):
    """Add channels to a cell; the function is preserved (paper, section 3.2).

    As in `AddUnits`, new channels have random filters, a new batch normalisation, and outgoing
    weights of zero.

    Parameters
    ----------
    fraction : float, default=0.5
        Channels to add, relative to the channels of the cell; 0 in the paper.
    at_least : int, default=6
        Minimum number of channels to add; 3 in the paper.
    recovery_epochs : float, default=0.1
        Epochs of training before the competition.
    """

    fraction: float = 0.5
    at_least: int = 6
    recovery_epochs: float = 0.1
    name = "add_channels"
    preserves_function = True

    def sites(self, topology: Topology) -> range:
        """Return the cells."""
        return range(len(topology.cells))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a wider cell."""
        cells = list(topology.cells)
        channels = cells[site].channels
        extra = share_of(channels, self.fraction, self.at_least)
        cells[site] = ConvCell(channels + extra, cells[site].pooling)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Append new channels."""
        conv, norm, reader = conv_name(site), norm_name(site), reader_of_cell(old, site)
        n_old, extra = (
            old.cells[site].channels,
            new.cells[site].channels - old.cells[site].channels,
        )
        filters = weights[f"{conv}.weight"]
        fresh = identity_norm(norm, extra)
        fresh[f"{conv}.weight"] = glorot((extra, *filters.shape[1:]), context.rng)
        widened = {
            key: torch.cat([weights[key], value.to(filters)]) for key, value in fresh.items()
        }
        return {
            **weights,
            **widened,
            reader: _with_zero_inputs(weights[reader], n_old, extra),
        }


def _with_zero_inputs(weight: Tensor, n_inputs: int, extra: int) -> Tensor:
    """Return the weight of a reader with `extra` more inputs, whose weights are zero."""
    return restore_shape(pad(by_input(weight, n_inputs), (0, 0, 0, extra)), weight)

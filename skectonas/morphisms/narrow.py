"""Remove units from a dense layer, or channels from a cell, that the others can replace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skectonas.morphisms.base import (
    Context,
    WithSettings,
    by_input,
    cell_weights,
    reader_of_cell,
    reader_of_dense,
    restore_shape,
    share_of,
)
from skectonas.morphisms.reconnect import reconnect_first_dense
from skectonas.network import Weights
from skectonas.topology import ConvCell, Dense, Topology, dense_name, linear_name

RIDGE = 1e-6
"""Penalty on the redistributed weights, relative to the mean square of the outputs."""


@dataclass(frozen=True)
class RemoveUnits(WithSettings):
    """Remove units from a dense layer.

    The removed units are those whose contribution to the next layer the other units can replace
    best on the data. Their outgoing weights are redistributed to the others, so that the
    function is preserved if the outputs of the units are linearly dependent. The paper
    (appendix A.1) uses the singular value decomposition of the incoming weights, which ignores
    the relu.

    Parameters
    ----------
    fraction : float, default=0.25
        Units to remove, relative to the units of the layer; 0.1 in the paper.
    at_least : int, default=2
        Minimum number of units to remove; 2 in the paper. One unit always remains.
    recovery_epochs : float, default=0.25
        Epochs of training before the competition.
    """

    fraction: float = 0.25
    at_least: int = 2
    recovery_epochs: float = 0.25
    name = "remove_units"
    preserves_function = False

    def sites(self, topology: Topology) -> list[int]:
        """Return the dense layers with more than one unit."""
        return [i for i, layer in enumerate(topology.dense) if layer.units > 1]

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a narrower dense layer."""
        dense = list(topology.dense)
        units = dense[site].units
        dense[site] = Dense(max(1, units - share_of(units, self.fraction, self.at_least)))
        return replace(topology, dense=tuple(dense))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Remove units and redistribute their outgoing weights."""
        outputs = context.activations(weights, old).inputs_of(site + 1).double()
        reader = reader_of_dense(old, site)
        rows = [f"{dense_name(site)}.weight", f"{dense_name(site)}.bias"]
        child, constant = _prune(weights, rows, reader, outputs, new.dense[site].units)
        bias = reader.replace(".weight", ".bias")
        child[bias] = weights[bias] + constant.sum(1).to(weights[bias])
        return child


@dataclass(frozen=True)
class RemoveChannels(WithSettings):
    """Remove channels from a cell (paper, section 3.2, after Liu et al. 2020).

    Channels are chosen as in `RemoveUnits`. A channel with a small scale in its batch
    normalisation is nearly constant, equal to relu(beta). A constant is easy to replace, so
    such channels are removed first, as in the paper. So are channels that are redundant.

    Parameters
    ----------
    fraction : float, default=0.25
        Channels to remove, relative to the channels of the cell; 0 in the paper.
    at_least : int, default=3
        Minimum number of channels to remove; 3 in the paper. One channel always remains.
    recovery_epochs : float, default=0.25
        Epochs of training before the competition.
    """

    fraction: float = 0.25
    at_least: int = 3
    recovery_epochs: float = 0.25
    name = "remove_channels"
    preserves_function = False

    def sites(self, topology: Topology) -> list[int]:
        """Return the cells with more than one channel."""
        return [i for i, cell in enumerate(topology.cells) if cell.channels > 1]

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a narrower cell."""
        cells = list(topology.cells)
        channels = cells[site].channels
        kept = max(1, channels - share_of(channels, self.fraction, self.at_least))
        cells[site] = ConvCell(kept, cells[site].pooling)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Remove channels and redistribute their outgoing weights."""
        before = context.activations(weights, old)
        outputs = before.maps_after(site + 1).movedim(1, -1).flatten(0, -2).double()
        reader = reader_of_cell(old, site)
        rows = cell_weights(weights, site)
        child, constant = _prune(weights, rows, reader, outputs, new.cells[site].channels)
        first = linear_name(old, 0)
        if reader == f"{first}.weight":
            bias = f"{first}.bias"
            child[bias] = weights[bias] + constant.sum(1).to(weights[bias])
        # If the reader is a convolution, the running mean takes up the constant.
        return reconnect_first_dense(child, new, before)


def _prune(
    weights: Weights, rows: Iterable[str], reader: str, outputs: Tensor, n_kept: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the weights with `n_kept` of the inputs of `reader`, and the lost constant.

    That constant is the mean by which the outputs of `reader` decrease. It has a row for each
    output, and a column for each weight of a pair, as in `by_input`.
    """
    reading = by_input(weights[reader], outputs.shape[1]).double()
    kept, moved = remove_least_needed(outputs, reading.transpose(0, 1).flatten(1), n_kept)
    moved = moved.reshape(len(moved), *reading.transpose(0, 1).shape[1:]).transpose(0, 1)
    constant = torch.einsum("i,oir->or", outputs.mean(0), reading - moved)
    child = dict(weights)
    for name in rows:
        child[name] = weights[name][kept]
    child[reader] = restore_shape(moved[:, kept], weights[reader]).to(weights[reader])
    return child, constant


def remove_least_needed(
    outputs: Tensor, outgoing: Tensor, n_kept: int
) -> tuple[Tensor, Tensor]:
    """Remove inputs one by one, each time the one that costs least.

    Parameters
    ----------
    outputs : Tensor of shape (n, n_inputs)
        Values of the inputs on the data.
    outgoing : Tensor of shape (n_inputs, m)
        Their outgoing weights.
    n_kept : int
        Number of inputs to keep.

    Returns
    -------
    kept : Tensor of shape (n_kept,)
        Their indices in ascending order.
    outgoing : Tensor of shape (n_inputs, m)
        The new weights: least squares up to a constant for the inputs kept, zero for others.

    Notes
    -----
    This is the optimal brain surgeon (Hassibi and Stork, 1993) for whole units. Let C be the
    inverse of the scatter matrix of the outputs. The removal of input j increases the squared
    error by |w_j|^2 / C_jj, if -C_ij / C_jj w_j is added to each other weight w_i.
    """
    centred = outputs - outputs.mean(0)
    scatter = centred.T @ centred
    penalty = RIDGE * scatter.trace() / len(scatter) + torch.finfo(scatter.dtype).tiny
    eye = torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    inverse = torch.linalg.inv(scatter + penalty * eye)
    outgoing = outgoing.clone()
    kept = torch.ones(len(scatter), dtype=torch.bool, device=scatter.device)
    while int(kept.sum()) > n_kept:
        cost = outgoing.square().sum(1) / inverse.diagonal()
        j = int(torch.where(kept, cost, torch.inf).argmin())
        column = inverse[:, j] / inverse[j, j]
        outgoing -= torch.outer(column, outgoing[j])
        inverse = inverse - torch.outer(column, inverse[j])
        kept[j] = False
        # Set exactly, so that rounding errors do not enter the next removal.
        outgoing[j], inverse[j], inverse[:, j] = 0.0, 0.0, 0.0
        inverse[j, j] = 1.0
    return kept.nonzero().flatten(), outgoing

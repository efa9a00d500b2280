"""Remove units from a dense layer, channels from a cell: what the others can say goes first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skectonas.morphisms.base import (
    Context,
    by_input,
    cell_weights,
    like_before,
    reader_of_cell,
    reader_of_dense,
)
from skectonas.morphisms.reconnect import reconnect_first_dense
from skectonas.network import Weights
from skectonas.topology import ConvCell, Dense, Topology, dense_name, linear_name


@dataclass(frozen=True)
class RemoveUnits:
    """Remove units from a dense layer.

    The units go whose outputs, weighted by what is made of them, the others can express best on
    the data; their outgoing weights are handed to those others. Where units are linearly
    dependent the function is preserved. (The paper, appendix A.1, uses the singular value
    decomposition of the incoming weights, which does not see the relu.)

    Parameters
    ----------
    fraction : float, default=0.1
        Units to remove, relative to those that are there.
    at_least : int, default=2
        Units to remove where that fraction would be less; one unit always stays.
    recovery_epochs : float, default=0.25
        Training before the competition.
    """

    fraction: float = 0.1
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
        dense[site] = Dense(max(1, units - max(self.at_least, round(self.fraction * units))))
        return replace(topology, dense=tuple(dense))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Remove units and hand their outgoing weights to the others."""
        outputs = context.activations(weights, old).inputs_of(site + 1).double()
        reader = reader_of_dense(old, site)
        rows = [f"{dense_name(site)}.weight", f"{dense_name(site)}.bias"]
        child, constant = _pruned(weights, rows, reader, outputs, new.dense[site].units)
        bias = reader.replace(".weight", ".bias")
        child[bias] = weights[bias] + constant.sum(1).to(weights[bias])
        return child


@dataclass(frozen=True)
class RemoveChannels:
    """Remove channels from a cell (paper, section 3.2, after Liu et al. 2020).

    As `RemoveUnits`. A channel with a small scale in its batch normalisation is nearly
    constant: the others express it best, as the constant relu(beta), and so it goes first, as
    in the paper; but a channel that only says what another one says goes as early.

    Parameters
    ----------
    step : int, default=3
        Channels to remove; one always stays.
    recovery_epochs : float, default=0.25
        Training before the competition.
    """

    step: int = 3
    recovery_epochs: float = 0.25
    name = "remove_channels"
    preserves_function = False

    def sites(self, topology: Topology) -> list[int]:
        """Return the cells with more than one channel."""
        return [i for i, cell in enumerate(topology.cells) if cell.channels > 1]

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a narrower cell."""
        cells = list(topology.cells)
        cells[site] = ConvCell(max(1, cells[site].channels - self.step), cells[site].pooling)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Remove channels and hand their outgoing weights to the others."""
        before = context.activations(weights, old)
        outputs = before.maps_behind(site + 1).movedim(1, -1).flatten(0, -2).double()
        reader = reader_of_cell(old, site)
        rows = cell_weights(weights, site)
        child, constant = _pruned(weights, rows, reader, outputs, new.cells[site].channels)
        first = linear_name(old, 0)
        if reader == f"{first}.weight":
            bias = f"{first}.bias"
            child[bias] = weights[bias] + constant.sum(1).to(weights[bias])
        # Behind a convolution the constant goes into the running mean, with the other changes.
        return reconnect_first_dense(child, new, before)


def _pruned(
    weights: Weights, rows: Iterable[str], reader: str, outputs: Tensor, n_kept: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the weights with `n_kept` of the inputs of `reader`, and what is lost on average.

    The latter has a row for each output of `reader`, as `by_input` has.
    """
    reading = by_input(weights[reader], outputs.shape[1]).double()
    kept, moved = least_needed_removed(outputs, reading.transpose(0, 1).flatten(1), n_kept)
    moved = moved.reshape(len(moved), *reading.transpose(0, 1).shape[1:]).transpose(0, 1)
    constant = torch.einsum("i,oir->or", outputs.mean(0), reading - moved)
    child = dict(weights)
    for name in rows:
        child[name] = weights[name][kept]
    child[reader] = like_before(moved[:, kept], weights[reader]).to(weights[reader])
    return child, constant


def least_needed_removed(
    outputs: Tensor, outgoing: Tensor, n_kept: int, ridge: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Remove inputs one by one, each time the one that is missed least.

    Parameters
    ----------
    outputs : Tensor of shape (n, n_inputs)
        What the inputs are on the data.
    outgoing : Tensor of shape (n_inputs, m)
        Their outgoing weights.
    n_kept : int
        Inputs to keep.
    ridge : float, default=1e-6
        Penalty on the weights that are handed over, relative to the mean square of the outputs.

    Returns
    -------
    kept : Tensor of shape (n_kept,)
        Indices, ascending.
    outgoing : Tensor of shape (n_inputs, m)
        The new weights, least squares for those kept up to a constant; zero for the others.

    Notes
    -----
    With C the inverse of the outputs' scatter matrix, removing input j costs |w_j|^2 / C_jj of
    squared error if the others make up for it as well as they can, which is by adding
    -C_ij / C_jj w_j to each w_i: the optimal brain surgeon (Hassibi and Stork, 1993) for whole
    units.
    """
    centred = outputs - outputs.mean(0)
    scatter = centred.T @ centred
    penalty = ridge * scatter.trace() / len(scatter) + torch.finfo(scatter.dtype).tiny
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
        # What rounding leaves there must not come back in the next removal.
        outgoing[j], inverse[j], inverse[:, j] = 0.0, 0.0, 0.0
        inverse[j, j] = 1.0
    return kept.nonzero().flatten(), outgoing

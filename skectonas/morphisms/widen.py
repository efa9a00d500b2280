"""Add units to a dense layer, channels to a cell: Net2WiderNet, with the symmetry broken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

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
from skectonas.network import Weights
from skectonas.topology import ConvCell, Dense, Topology


@dataclass(frozen=True)
class AddUnits:
    """Add units to a dense layer; the function is preserved (paper, appendix A.1, Eq. 5).

    New units are copies of old ones, and the outgoing weights are split between the two,
    unequally: equal halves would get equal gradients for ever and add no capacity.

    Parameters
    ----------
    fraction : float, default=0.1
        Units to add, relative to those that are there.
    at_least : int, default=2
        Units to add where that fraction would be less.
    recovery_epochs : float, default=0.1
        Training before the competition.
    """

    fraction: float = 0.1
    at_least: int = 2
    recovery_epochs: float = 0.1
    name: ClassVar[str] = "add_units"
    preserves_function: ClassVar[bool] = True

    def sites(self, topology: Topology) -> range:
        """Return the dense layers; the output layer has as many units as there are classes."""
        return range(len(topology.dense))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a wider dense layer."""
        dense = list(topology.dense)
        units = dense[site].units
        dense[site] = Dense(units + max(self.at_least, round(self.fraction * units)))
        return replace(topology, dense=tuple(dense))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Copy units and split their outgoing weights."""
        rows = [f"dense.{site}.weight", f"dense.{site}.bias"]
        sizes = old.dense[site].units, new.dense[site].units
        return _copied(weights, rows, reader_of_dense(old, site), sizes, context.rng)


@dataclass(frozen=True)
class AddChannels:
    """Add channels to a cell; the function is preserved (paper, section 3.2).

    As `AddUnits`: a new channel copies the filter of an old one with its batch normalisation,
    and the outgoing weights are split. Scaling the incoming weights instead would be undone by
    the batch normalisation.

    Parameters
    ----------
    step : int, default=3
        Channels to add.
    recovery_epochs : float, default=0.1
        Training before the competition.
    """

    step: int = 3
    recovery_epochs: float = 0.1
    name: ClassVar[str] = "add_channels"
    preserves_function: ClassVar[bool] = True

    def sites(self, topology: Topology) -> range:
        """Return the cells."""
        return range(len(topology.cells))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with a wider cell."""
        cells = list(topology.cells)
        cells[site] = ConvCell(cells[site].channels + self.step, cells[site].pooling)
        return replace(topology, cells=tuple(cells))

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Copy channels and split their outgoing weights."""
        rows = cell_weights(weights, site)
        sizes = old.cells[site].channels, new.cells[site].channels
        return _copied(weights, rows, reader_of_cell(old, site), sizes, context.rng)


def _copied(
    weights: Weights,
    rows: Iterable[str],
    reader: str,
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    before, after = sizes
    extra = after - before
    sources = rng.choice(before, extra, replace=extra > before)
    shares = rng.uniform(0.2, 0.8, extra)
    child = dict(weights)
    for name in rows:
        child[name] = torch.cat([weights[name], weights[name][sources]])
    reading = by_input(weights[reader], before).clone()
    copies = []
    for source, share in zip(sources.tolist(), shares.tolist(), strict=True):
        copies.append(reading[:, source] * share)
        # What is left, rather than (1 - share) times it: the two add up to the old weight.
        reading[:, source] -= copies[-1]
    split = torch.cat([reading, torch.stack(copies, 1)], 1)
    child[reader] = like_before(split, weights[reader])
    return child

"""Add or remove a convolutional cell, which also turns dense networks into CNNs and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from skectonas.morphisms.activations import Activations, fast_pool
from skectonas.morphisms.base import (
    Context,
    WithSettings,
    by_input,
    reader_of_cell,
    renumbered,
    restore_shape,
)
from skectonas.morphisms.reconnect import reconnect_first_dense, ridge_regression
from skectonas.network import BATCH_NORM_EPSILON, Weights, glorot, identity_norm, pool
from skectonas.topology import (
    KERNEL,
    POOLINGS,
    ConvCell,
    Pooling,
    Topology,
    cell_name,
    linear_name,
)


@dataclass(frozen=True)
class AddCell(WithSettings):
    """Add a convolutional cell (paper, sections 3.2 and A.2).

    The first channels of the new cell copy its input channels, and their batch normalisation
    is the identity on the data. Additional channels have outgoing weights of zero. The first
    dense layer compensates for the pooling: its weights are summed over each window, which is
    exact for constant maps, and the layer is then fitted to its previous outputs. A cell
    without pooling after another one keeps what the network computes on the data.

    Parameters
    ----------
    extra : tuple of int, default=(1, 7)
        Numbers of additional channels, of which one is drawn. A narrow cell makes most networks
        smaller; a wide one adds capacity.
    poolings : tuple of {"average", "max", None}, default=("average", "max")
        Poolings of the cell, of which one is drawn. None is a cell without pooling, which is
        not drawn for a network without cells: its first dense layer would become huge.
    recovery_epochs : float, default=0.25
        Epochs of training before the competition.
    """

    extra: tuple[int, ...] = (1, 7)
    poolings: tuple[Pooling | None, ...] = POOLINGS
    recovery_epochs: float = 0.25
    name = "add_cell"
    preserves_function = False

    def sites(self, topology: Topology) -> range:
        """Return the positions before each cell and after the last.

        There is none if a side of the last maps is a single pixel.
        """
        return range(len(topology.cells) + 1 if min(topology.map_sizes[-1]) > 1 else 0)

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology with one more cell; its pooling and its width are drawn."""
        extra = self.extra[rng.integers(len(self.extra))]
        poolings = [p for p in self.poolings if p or topology.cells] or self.poolings
        pooling = poolings[rng.integers(len(poolings))]
        cell = ConvCell(topology.channels[site] + extra, pooling)
        cells = (*topology.cells[:site], cell, *topology.cells[site:])
        return replace(topology, cells=cells)

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Insert a cell that copies its input channels."""
        reader = reader_of_cell(old, site - 1)
        like = weights[reader]
        reading = by_input(like, old.channels[site])
        extra = new.channels[site + 1] - old.channels[site]
        wider = restore_shape(pad(reading, (0, 0, 0, extra)), like)
        child = renumbered({**weights, reader: wider}, "cells", site, 1)
        before = context.activations(weights, old)
        cell = self._cell_weights(before.maps_after(site), new.cells[site], context.rng)
        child |= {f"{cell_name(site)}.{name}": value.to(like) for name, value in cell.items()}
        first = f"{linear_name(new, 0)}.weight"
        if new.cells[site].pooling:
            child[first] = _summed_over_windows(child[first], old.map_sizes[-1])
        return reconnect_first_dense(child, new, before)

    def _cell_weights(
        self, maps: Tensor, cell: ConvCell, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        n_old, n_new = maps.shape[1], cell.channels
        fresh = glorot((n_new - n_old, n_old, KERNEL, KERNEL), rng)
        transparent = fresh.new_zeros(n_old, n_old, KERNEL, KERNEL)
        transparent[range(n_old), range(n_old), KERNEL // 2, KERNEL // 2] = 1.0
        weights = identity_norm("norm", n_new)
        weights["conv.weight"] = torch.cat([transparent, fresh])
        # Scale and shift of the copied channels undo the normalisation, both with running
        # statistics and with those of a batch. The statistics are those of
        # `channel_statistics`, up to rounding.
        copied = fast_pool(maps, cell.pooling)
        mean, variance = copied.mean((0, 2, 3)), copied.var((0, 2, 3), correction=0)
        weights["norm.weight"][:n_old] = (variance + BATCH_NORM_EPSILON).sqrt()
        weights["norm.bias"][:n_old] = mean
        return weights


@dataclass(frozen=True)
class RemoveCell(WithSettings):
    """Remove a convolutional cell (paper, sections 3.2 and A.2).

    The cell is replaced by the linear map of its channels that approximates it best on the
    data, and that map is merged into the next layer. If the cell pools, the maps get larger.
    Then each weight of the first dense layer is distributed over its window. The layer is
    fitted to its previous outputs.

    Parameters
    ----------
    recovery_epochs : float, default=0.25
        Epochs of training before the competition.
    """

    recovery_epochs: float = 0.25
    name = "remove_cell"
    preserves_function = False

    def sites(self, topology: Topology) -> range:
        """Return the cells."""
        return range(len(topology.cells))

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        """Return the topology without that cell."""
        return replace(topology, cells=topology.cells[:site] + topology.cells[site + 1 :])

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        """Merge a linear approximation of the cell into the next layer."""
        before = context.activations(weights, old)
        mixing, constant = _linear_approximation(before, site)
        reader, first = reader_of_cell(old, site), linear_name(old, 0)
        like = weights[reader]
        reading = by_input(like, old.channels[site + 1]).double()
        merged = torch.einsum("iy,oyr->oir", mixing, reading)
        child = {k: v for k, v in weights.items() if not k.startswith(f"{cell_name(site)}.")}
        child[reader] = restore_shape(merged, like).to(like)
        if reader == f"{first}.weight":
            # If the reader is a convolution, the running mean takes up the constant.
            lost = torch.einsum("y,oyr->o", constant, reading)
            child[f"{first}.bias"] = weights[f"{first}.bias"] + lost.to(like)
        if old.cells[site].pooling:
            child[f"{first}.weight"] = _distributed_over_windows(
                child[f"{first}.weight"], old.map_sizes[-1], new.map_sizes[-1]
            )
        child = renumbered(child, "cells", site + 1, -1)
        return reconnect_first_dense(child, new, before)


def _linear_approximation(before: Activations, cell: int) -> tuple[Tensor, Tensor]:
    """Return the matrix (channels in, channels out) and the constant closest to a cell."""
    pooling: Pooling | None = "average" if before.topology.cells[cell].pooling else None
    ins, outs = pool(before.maps_after(cell), pooling), before.maps_after(cell + 1)
    x, y = (maps.movedim(1, -1).flatten(0, -2).double() for maps in (ins, outs))
    x_mean, y_mean = x.mean(0), y.mean(0)
    mixing = ridge_regression(x - x_mean, y - y_mean, 1e-6)
    return mixing, y_mean - x_mean @ mixing


def _summed_over_windows(weight: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Return the weight of the layer after flatten for maps that are pooled once more."""
    return _window_sums(_as_maps(weight, sizes)).flatten(1)


def _distributed_over_windows(
    weight: Tensor, sizes: tuple[int, int], larger: tuple[int, int]
) -> Tensor:
    """Return the weight of the layer after flatten for maps that are pooled once less."""
    pixels = _window_sums(weight.new_ones(1, 1, *larger))
    shares = _as_maps(weight, sizes) / pixels
    repeated = shares.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return repeated[:, :, : larger[0], : larger[1]].flatten(1)


def _as_maps(weight: Tensor, sizes: tuple[int, int]) -> Tensor:
    return weight.reshape(len(weight), -1, *sizes)


def _window_sums(maps: Tensor) -> Tensor:
    height, width = maps.shape[2:]
    means: Tensor = avg_pool2d(pad(maps, (0, width % 2, 0, height % 2)), 2)
    return 4 * means

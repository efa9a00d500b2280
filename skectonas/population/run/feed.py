"""Batches of the training rows, prepared for the first layers of all candidates."""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch
from torch import Tensor

from skectonas.population.run.columns import Inputs
from skectonas.population.run.slots import slots
from skectonas.topology import Topology
from skectonas.training import TrainingData

LOADED_VALUES = 2**19
"""Values of first-layer columns that are prepared at once: they should stay in the cache."""

MAX_BATCHES = 16
"""More would spare no more time, and take longer to capture on a device."""


class Moments:
    """Centred columns of the first layer, a row of ones below them, and their covariance.

    Parameters
    ----------
    columns : Tensor of shape (n_batches, k, n)
        See `Inputs`.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k + 1, n)
        The columns less their means, then ones.
    covariance : Tensor of shape (n_batches, k, k)
        The mean over n.
    """

    def __init__(self, columns: Tensor) -> None:
        n_batches, k, n = columns.shape
        self._source = columns
        self.columns = slots(columns, n_batches, k + 1, n).fill_(1)
        self.covariance = slots(columns, n_batches, k, k)
        self._centred = self.columns[:, :-1]
        # One by one: how many there are must not choose the kernel.
        self._pairs = list(zip(self._centred, self.covariance, strict=True))

    def load(self) -> None:
        """Follow the columns that are loaded now."""
        torch.sub(self._source, self._source.mean(-1, keepdim=True), out=self._centred)
        rate = 1 / self._source.shape[-1]
        for centred, covariance in self._pairs:
            torch.addmm(covariance, centred, centred.mT, beta=0, alpha=rate, out=covariance)


class Feed:
    """Batches of the training rows, several at a time, so that a step has little to prepare.

    What depends on the rows alone is done here, once for all candidates that begin with the
    same kind of layer: gathering, scaling, columns, their covariance, and targets.

    Parameters
    ----------
    topology : Topology
        Any of those candidates' topologies: see `kind_of_input`.
    data : TrainingData
        The rows.
    n_batches, batch : int
        Batches that are loaded at once, and rows of each. The place of batch number t in memory
        stays the same.
    dtype : torch.dtype
        Of the candidates.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k, n)
        See `Inputs`.
    moments : Moments or None
        Of the columns, where average pooling follows them.
    weights : Tensor of shape (n_batches, batch)
        What each loaded row counts in the mean over its batch.
    targets : Tensor of shape (n_batches, classes, batch)
        Minus the weight in the place of the label, zero elsewhere.
    """

    def __init__(
        self,
        topology: Topology,
        data: TrainingData,
        n_batches: int,
        batch: int,
        dtype: torch.dtype,
    ) -> None:
        n = n_batches
        self._inputs = Inputs(topology, data, n, batch, dtype)
        self.columns = self._inputs.columns
        averages = topology.cells and topology.cells[0].pooling == "average"
        self.moments = Moments(self.columns) if averages else None
        self.weights = self.columns.new_full((n, batch), 1 / batch)
        self.targets = self.columns.new_empty(n, topology.n_classes, batch)
        self._rows, self._batch = data.train, batch
        self._raw: Tensor | None = None
        self._labels = data.train.labels.new_empty(n, 1, batch)

    def load(self, rows: Tensor) -> None:
        """Take the batches of these rows, (batches, batch); no more than `n_batches`."""
        missing = len(self.weights) - len(rows)
        if missing:
            # Behind the end the last batch stands again; nobody trains on it.
            rows = torch.cat([rows, rows[-1:].expand(missing, -1)])
        flat = rows.reshape(-1)
        self._raw = self._rows.take(flat, out=self._raw)
        self._inputs.load(self._raw)
        if self.moments is not None:
            self.moments.load()
        torch.index_select(self._rows.labels, 0, flat, out=self._labels.view(-1))
        if self._rows.weights is not None:
            self.weights.copy_(self._rows.weights[rows]).div_(self._batch)
        self.targets.zero_().scatter_(1, self._labels, -self.weights.unsqueeze(1))


def plain(topology: Topology) -> Topology:
    """Return a topology whose columns are the pixels, for a first layer of any kind."""
    return Topology(topology.input_shape, (), (), topology.n_classes)


def kind_of_input(topology: Topology) -> Hashable:
    """Return what topologies must have in common to take the same feed."""
    first = topology.cells[0].pooling if topology.cells else None
    return topology.input_shape, topology.n_classes, first


def batches_at_once(topology: Topology, batch: int, device: torch.device) -> int:
    """Return how many batches to load at once, at the most."""
    if device.type != "cpu":
        return MAX_BATCHES
    # Folded to the columns of a cell, the pixels take two to four times their place.
    values = math.prod(topology.input_shape) * batch * (3 if topology.cells else 1)
    return min(max(LOADED_VALUES // values, 1), MAX_BATCHES)

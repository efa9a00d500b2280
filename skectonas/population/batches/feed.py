"""Batches of the training rows, prepared for the first layers of all candidates."""

from __future__ import annotations

import math
from collections.abc import Hashable

import torch
from torch import Tensor

from skectonas.population.batches.columns import Inputs
from skectonas.population.layers.moments import Moments
from skectonas.topology import Topology
from skectonas.training import TrainingData

LOADED_VALUES = 2**19
"""Maximum number of values of first-layer columns prepared at once, to stay in the cache."""

MAX_BATCHES = 16
"""Maximum number of batches prepared at once. More batches are not faster, and take longer to
capture on a device."""


class Feed:
    """Batches of the training rows, several at a time, prepared for the training steps.

    Everything that only depends on the rows is computed here, once for all candidates with the
    same kind of first layer: scaled pixels, columns, their covariance, and targets.

    Parameters
    ----------
    topology : Topology
        Topology of any of these candidates: see `kind_of_input`.
    data : TrainingData
        The rows.
    n_batches, batch : int
        Number of batches loaded at once, and number of rows of each. A batch number always
        refers to the same memory.
    dtype : torch.dtype
        Type of the weights of the candidates.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k, n)
        See `Inputs`.
    moments : Moments or None
        Moments of the columns, if the first layer is a cell with average pooling.
    weights : Tensor of shape (n_batches, batch)
        Weight of each loaded row in the mean over its batch.
    targets : Tensor of shape (n_batches, classes, batch)
        The negative weight at the label of each row, zero elsewhere.
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
        """Load batches of rows (batches, batch), `n_batches` of them at most."""
        missing = len(self.weights) - len(rows)
        if missing:
            # Repeat the last batch to fill the buffers; it is not trained on again.
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


def without_hidden_layers(topology: Topology) -> Topology:
    """Return the topology with the output layer only, for which a feed's columns are pixels."""
    return Topology(topology.input_shape, (), (), topology.n_classes)


def kind_of_input(topology: Topology) -> Hashable:
    """Return the properties that topologies need to share to use the same feed."""
    first = topology.cells[0].pooling if topology.cells else None
    return topology.input_shape, topology.n_classes, first


def batches_at_once(topology: Topology, batch: int, device: torch.device) -> int:
    """Return the maximum number of batches to load at once."""
    if device.type != "cpu":
        return MAX_BATCHES
    # The columns of a cell take two to four times the memory of the pixels.
    values = math.prod(topology.input_shape) * batch * (3 if topology.cells else 1)
    return min(max(LOADED_VALUES // values, 1), MAX_BATCHES)

"""Mean and covariance of the input of a first cell."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.population.layers.slots import empty_slots


class Moments:
    """Centred columns of the first layer, with a last row of ones, and their covariance.

    Parameters
    ----------
    columns : Tensor of shape (n_batches, k, n)
        See `Inputs`.

    Attributes
    ----------
    columns : Tensor of shape (n_batches, k + 1, n)
        The columns minus their means, and a row of ones.
    covariance : Tensor of shape (n_batches, k, k)
        Covariance of the rows; it divides by n.
    """

    def __init__(self, columns: Tensor) -> None:
        n_batches, k, n = columns.shape
        self._source = columns
        self.columns = empty_slots(columns, n_batches, k + 1, n).fill_(1)
        self.covariance = empty_slots(columns, n_batches, k, k)
        self._centred = self.columns[:, :-1]
        # One product per batch, so that the bits do not depend on the number of batches.
        self._pairs = list(zip(self._centred, self.covariance, strict=True))

    def load(self) -> None:
        """Update from the columns that are loaded now."""
        torch.sub(self._source, self._source.mean(-1, keepdim=True), out=self._centred)
        rate = 1 / self._source.shape[-1]
        for centred, covariance in self._pairs:
            torch.addmm(covariance, centred, centred.mT, beta=0, alpha=rate, out=covariance)

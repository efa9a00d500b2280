"""Cross-entropy of all candidates of a group, with its gradient."""

from __future__ import annotations

import torch
from torch import Tensor


class CrossEntropy:
    """Softmax and cross-entropy; one pass computes the loss and its gradient.

    Parameters
    ----------
    logits, gradient : Tensor of shape (candidates, classes, batch)
        The logits, and where to store their gradient.
    targets, weights : Tensor
        See `Feed`.

    Attributes
    ----------
    total : Tensor of shape (candidates,)
        Sum of the losses since the last reset.
    """

    def __init__(
        self, logits: Tensor, gradient: Tensor, targets: Tensor, weights: Tensor
    ) -> None:
        self._logits, self._gradient = logits, gradient
        self._targets, self._weights = targets.unbind(0), weights.unbind(0)
        self._logarithms, self._probabilities = (torch.empty_like(logits) for _ in range(2))
        self._sums = torch.zeros_like(logits)

    def step(self, step: int) -> None:
        """Set the gradient and add up the losses of one of the loaded batches."""
        target, weight = self._targets[step], self._weights[step]
        torch.ops.aten._log_softmax.out(self._logits, 1, False, out=self._logarithms)
        self._sums.addcmul_(self._logarithms, target)
        torch.exp(self._logarithms, out=self._probabilities)
        torch.addcmul(target, self._probabilities, weight, out=self._gradient)

    @property
    def total(self) -> Tensor:
        """Sum of the losses since the last reset, one for each candidate."""
        return self._sums.sum((1, 2))

    def reset(self) -> None:
        """Set the sum of the losses to zero."""
        self._sums.zero_()

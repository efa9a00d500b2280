"""Buffers of several batches, in which the place of a batch does not show in its results."""

from __future__ import annotations

import math

from torch import Tensor

CACHE_LINE = 64
"""Bytes. Where the rows of a matrix begin within one decides how a library of matrix products
cuts them, and so the last bits of what comes out."""


def slots(like: Tensor, n: int, *shape: int) -> Tensor:
    """Return an empty tensor of `n` slots, each of which begins on a cache line.

    Which slot a batch gets depends on the groups that share the feed, and so on the number of
    workers. Its results must not. On a device only one worker trains, and its kernels take the
    slots as one piece.

    Parameters
    ----------
    like : Tensor
        Gives dtype and device.
    n : int
        Number of slots.
    *shape : int
        Of each of them.

    Returns
    -------
    Tensor of shape (n, *shape)
        Contiguous but for the gaps between the slots.

    Examples
    --------
    >>> import torch
    >>> from skectonas.population.run.slots import slots
    >>> slots(torch.zeros(()), 3, 5, 7).stride()
    (48, 7, 1)
    """
    values = math.prod(shape)
    line = CACHE_LINE // like.element_size() if like.device.type == "cpu" else 1
    return like.new_empty(n, -(-values // line) * line)[:, :values].view(n, *shape)

"""Buffers of several batches, in which the place of a batch does not change its results."""

from __future__ import annotations

import math

from torch import Tensor

from skectonas.topology import ceil_div

CACHE_LINE = 64
"""Bytes of a cache line. The alignment of a matrix to cache lines decides how a library splits
a product, and so the last bits of the result."""


def empty_slots(like: Tensor, n: int, *shape: int) -> Tensor:
    """Return an uninitialised tensor of `n` slots, each of which begins on a cache line.

    The slot of a batch depends on the groups that share the feed, and so on the number of
    workers. The results must not depend on it. On a device there is only one worker, and the
    slots are contiguous, because its kernels take all of them together.

    Parameters
    ----------
    like : Tensor
        Gives dtype and device.
    n : int
        Number of slots.
    *shape : int
        Shape of each slot.

    Returns
    -------
    Tensor of shape (n, *shape)
        Contiguous, except for gaps between the slots.

    Examples
    --------
    >>> import torch
    >>> from skectonas.population.layers.slots import empty_slots
    >>> empty_slots(torch.zeros(()), 3, 5, 7).stride()
    (48, 7, 1)
    """
    values = math.prod(shape)
    line = CACHE_LINE // like.element_size() if like.device.type == "cpu" else 1
    return like.new_empty(n, ceil_div(values, line) * line)[:, :values].view(n, *shape)

"""The parts in which a layer passes its maps to the next one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Piece(NamedTuple):
    """A part of a map, and where the next layer stores its value and its gradient."""

    where: tuple[slice, ...]
    value: Tensor
    gradient: Tensor


def single_piece(value: Tensor, gradient: Tensor) -> list[Piece]:
    """Return the only piece of a layer that keeps its maps undivided."""
    return [Piece((slice(None),) * value.dim(), value, gradient)]


def where_positive(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    """Copy the gradient where a value is positive, else zero: the backward pass of relu."""
    torch.ops.aten.threshold_backward.grad_input(gradient, value, 0.0, grad_input=out)

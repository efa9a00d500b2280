"""How a layer hands its maps on: in the places where the next one wants them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Piece(NamedTuple):
    """A part of a map where the next layer wants it, and where it puts the gradient."""

    where: tuple[slice, ...]
    value: Tensor
    gradient: Tensor


def whole(value: Tensor, gradient: Tensor) -> list[Piece]:
    """Return the one piece of a layer that takes its maps as they are."""
    return [Piece((slice(None),) * value.dim(), value, gradient)]


def where_positive(gradient: Tensor, value: Tensor, out: Tensor) -> None:
    """Let through the gradient where a value is positive: the backward of relu."""
    torch.ops.aten.threshold_backward.grad_input(gradient, value, 0.0, grad_input=out)

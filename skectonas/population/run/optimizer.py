"""Optimisers of stacked weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from skectonas.training import OptimizerSpec

ELEMENTWISE: frozenset[type[torch.optim.Optimizer]] = frozenset(
    {
        torch.optim.ASGD,
        torch.optim.Adadelta,
        torch.optim.Adagrad,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.Adamax,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.Rprop,
        torch.optim.SGD,
    }
)
"""Optimisers that update each weight independently of the others."""

FUSED = frozenset({torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD})
"""Optimisers with a fused kernel on the CPU."""

IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")
"""Settings that choose the implementation; those of the user are kept."""


def fused(spec: OptimizerSpec, device: torch.device) -> OptimizerSpec:
    """Return an optimiser with its fused kernel on a CPU, unless the user chose another."""
    is_free = not any(name in spec.settings for name in IMPLEMENTATIONS)
    if is_free and device.type == "cpu" and spec.cls in FUSED:
        return replace(spec, settings={**spec.settings, "fused": True})
    return spec


def is_stackable(spec: OptimizerSpec) -> bool:
    """Return whether training stacked weights equals training each candidate separately.

    The optimiser has to be elementwise, and has to keep the padding at zero, whose gradient is
    always zero. Adam with ``eps=0``, for example, makes it nan.
    """
    if spec.cls not in ELEMENTWISE:
        return False
    padding = torch.nn.Parameter(torch.zeros(2, dtype=torch.float32))
    optimizer = spec([padding])
    for _ in range(3):
        padding.grad = torch.zeros_like(padding)
        optimizer.step()
    return bool((padding == 0).all())


class StackOptimizer:
    """An optimiser of tensors that hold the weights of many candidates.

    Parameters
    ----------
    spec : OptimizerSpec
        The optimiser.
    weights : Tensor or sequence of Tensor
        The weights; they are updated in place.
    gradient : Tensor or None, default=None
        Gradients of the weights, if these are one tensor. With None, those of `parameters` are
        taken, which autograd can compute.

    Attributes
    ----------
    parameters : list of torch.nn.Parameter
        The weights.
    """

    def __init__(
        self,
        spec: OptimizerSpec,
        weights: Tensor | Sequence[Tensor],
        gradient: Tensor | None = None,
    ) -> None:
        tensors = [weights] if isinstance(weights, Tensor) else weights
        self.parameters = [torch.nn.Parameter(tensor) for tensor in tensors]
        if gradient is not None:
            self.parameters[0].grad = gradient
        self._optimizer = spec(self.parameters)

    def step(self, rate: float) -> None:
        """Update the weights, with this learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = float(rate)
        self._optimizer.step()

    def carry_over(
        self, successor: StackOptimizer, move: Callable[[Tensor, Tensor], object]
    ) -> None:
        """Copy the state to the optimiser of other weights.

        Parameters
        ----------
        successor : StackOptimizer
            The other optimiser, which has not made a step.
        move : callable
            Copies a tensor in the layout of some of these weights to one in that of the others.
        """
        for own, other in zip(self.parameters, successor.parameters, strict=True):
            carried = successor._optimizer.state[other]
            for name, value in self._optimizer.state[own].items():
                if isinstance(value, Tensor) and value.shape == own.shape:
                    carried[name] = value.new_zeros(other.shape)
                    move(value, carried[name])
                else:
                    carried[name] = value.clone() if isinstance(value, Tensor) else value

"""Optimisers on stacked weights: which may be used, and how their state is carried over."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

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
"""Classes that treat every weight by itself, however the weights are stacked."""

FUSED = frozenset({torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD})
"""Classes with a kernel for the whole step on the CPU."""

IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")
"""Settings that choose the kernel: where the user did, they stay."""


def is_stackable(spec: OptimizerSpec) -> bool:
    """Return whether training stacked weights equals training each candidate's by itself.

    Besides being elementwise, an optimiser must leave a weight of zero that never has a
    gradient at zero: the padding. Adam with ``eps=0``, for one, makes it nan.
    """
    if spec.cls not in ELEMENTWISE:
        return False
    padding = torch.nn.Parameter(torch.zeros(2, dtype=torch.float32))
    optimizer = spec([padding])
    for _ in range(3):
        padding.grad = torch.zeros_like(padding)
        optimizer.step()
    return bool((padding == 0).all())


def plain_rate(spec: OptimizerSpec) -> float | None:
    """Return the rate of plain gradient descent, or None if the optimiser is any other."""
    others = {name: value for name, value in spec.settings.items() if name != "lr"}
    is_plain = spec.cls is torch.optim.SGD and not any(others.values())
    return float(spec.settings["lr"]) if is_plain else None


class StackOptimizer:
    """An optimiser of one flat tensor, in which the weights of many candidates lie.

    Parameters
    ----------
    spec : OptimizerSpec
        The optimiser.
    flat : Tensor of shape (n,)
        The weights; they are updated in place.
    gradient : Tensor of shape (n,)
        Laid out as the weights.

    Attributes
    ----------
    is_capturable : bool
        Whether a CUDA graph may hold its steps.
    """

    def __init__(self, spec: OptimizerSpec, flat: Tensor, gradient: Tensor) -> None:
        settings = dict(spec.settings)
        known = signature(spec.cls).parameters
        if not any(name in settings for name in IMPLEMENTATIONS):
            if flat.device.type == "cuda" and "capturable" in known:
                settings["capturable"] = True
            elif flat.device.type == "cpu" and spec.cls in FUSED:
                settings["fused"] = True
        # SGD keeps nothing on the host that a graph would freeze.
        self.is_capturable = settings.get("capturable", spec.cls is torch.optim.SGD)
        self._parameter = torch.nn.Parameter(flat)
        self._parameter.grad = gradient
        self._optimizer = spec.cls([self._parameter], **settings)

    def step(self) -> None:
        """Update the weights by their gradient."""
        self._optimizer.step()

    def carry_over(
        self, successor: StackOptimizer, move: Callable[[Tensor, Tensor], None]
    ) -> None:
        """Hand the state on to the optimiser of other weights.

        Parameters
        ----------
        successor : StackOptimizer
            The other one, which has made no step.
        move : callable
            Copies from a tensor that is laid out as the weights here to one as those there.
        """
        state = self._optimizer.state[self._parameter]
        carried = successor._optimizer.state[successor._parameter]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == self._parameter.shape:
                carried[name] = value.new_zeros(successor._parameter.shape)
                move(value, carried[name])
            else:
                carried[name] = value.clone() if isinstance(value, Tensor) else value

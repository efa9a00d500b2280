"""Optimisers of stacked weights."""

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
"""Optimisers that update each weight independently of the others."""

FUSED = frozenset({torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD})
"""Optimisers with a fused kernel on the CPU."""

IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")
"""Settings that choose the implementation; those of the user are kept."""


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


def sgd_learning_rate(spec: OptimizerSpec) -> float | None:
    """Return the learning rate of SGD without further settings, None for other optimisers."""
    others = {name: value for name, value in spec.settings.items() if name != "lr"}
    is_plain = spec.cls is torch.optim.SGD and not any(others.values())
    return float(spec.settings["lr"]) if is_plain else None


class StackOptimizer:
    """An optimiser of one flat tensor that holds the weights of many candidates.

    Parameters
    ----------
    spec : OptimizerSpec
        The optimiser.
    flat : Tensor of shape (n,)
        The weights; they are updated in place.
    gradient : Tensor of shape (n,)
        Gradients, in the layout of the weights.

    Attributes
    ----------
    is_capturable : bool
        Whether a CUDA graph can capture its steps.
    """

    def __init__(self, spec: OptimizerSpec, flat: Tensor, gradient: Tensor) -> None:
        settings = dict(spec.settings)
        known = signature(spec.cls).parameters
        if not any(name in settings for name in IMPLEMENTATIONS):
            if flat.device.type == "cuda" and "capturable" in known:
                settings["capturable"] = True
            elif flat.device.type == "cpu" and spec.cls in FUSED:
                settings["fused"] = True
        # SGD has no state on the host, which a graph would freeze.
        self.is_capturable = settings.get("capturable", spec.cls is torch.optim.SGD)
        self._parameter = torch.nn.Parameter(flat)
        self._parameter.grad = gradient
        self._optimizer = spec.cls([self._parameter], **settings)

    def step(self) -> None:
        """Update the weights."""
        self._optimizer.step()

    def carry_over(
        self, successor: StackOptimizer, move: Callable[[Tensor, Tensor], None]
    ) -> None:
        """Copy the state to the optimiser of other weights.

        Parameters
        ----------
        successor : StackOptimizer
            The other optimiser, which has not made a step.
        move : callable
            Copies a tensor in the layout of these weights to one in the layout of the others.
        """
        state = self._optimizer.state[self._parameter]
        carried = successor._optimizer.state[successor._parameter]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == self._parameter.shape:
                carried[name] = value.new_zeros(successor._parameter.shape)
                move(value, carried[name])
            else:
                carried[name] = value.clone() if isinstance(value, Tensor) else value

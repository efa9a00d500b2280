"""Optimisers as the native library knows them."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

import torch

from skectonas.population.native.session import ADAM, MOMENTUM, PLAIN, STORE, Rule
from skectonas.training import OptimizerSpec


def rule_of(spec: OptimizerSpec) -> Rule:
    """Return the rule of an optimiser; `STORE` if the library does not have it.

    Examples
    --------
    >>> from skectonas.population.native.rules import rule_of
    >>> from skectonas.training import resolve_optimizer
    >>> rule_of(resolve_optimizer("sgd", 0.1, {"momentum": 0.9})).momentum
    0.9
    """
    if spec.cls not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        return Rule(STORE)
    # Not an instance: torch would import its compiler to make one, which takes a second.
    bound = signature(spec.cls).bind([], **spec.settings)
    bound.apply_defaults()
    settings: dict[str, Any] = bound.arguments
    if settings["maximize"] or settings["differentiable"]:
        return Rule(STORE)
    if spec.cls is torch.optim.SGD:
        return _rule_of_sgd(settings)
    beta1, beta2 = map(float, settings["betas"])
    if settings["amsgrad"] or settings["eps"] < _smallest_epsilon(beta2):
        return Rule(STORE)
    decouples = settings.get("decoupled_weight_decay", False)
    return Rule(
        ADAM,
        decoupled=spec.cls is torch.optim.AdamW or decouples,
        weight_decay=settings["weight_decay"],
        beta1=beta1,
        beta2=beta2,
        epsilon=settings["eps"],
    )


def _smallest_epsilon(beta2: float) -> float:
    """Return the smallest epsilon of Adam with which the library equals torch.

    The library takes denormal numbers for zero, and so the squares of the smallest gradients.
    These gradients are divided by epsilon alone, which has to be much larger than they are.
    """
    largest_lost = math.sqrt(torch.finfo(torch.float32).tiny / (1 - beta2))
    return 100 * largest_lost


def _rule_of_sgd(settings: dict[str, Any]) -> Rule:
    momentum, decay = settings["momentum"], settings["weight_decay"]
    if not momentum and not decay:
        return Rule(PLAIN)
    return Rule(
        MOMENTUM,
        momentum=momentum,
        weight_decay=decay,
        nesterov=settings["nesterov"],
        # torch ignores the dampening if there is no momentum.
        dampening=settings["dampening"] if momentum else 0.0,
    )

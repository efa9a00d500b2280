"""The protocol of trainers, and the plain loop that all others must equal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import chain
from numbers import Real
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from skectonas.candidate import Candidate, Evaluation
from skectonas.network import TopologyNetwork, build, weights_of
from skectonas.threads import uninterrupted
from skectonas.training.data import BatchOrder, Rows, TrainingData
from skectonas.training.recipe import PLAIN_RECIPE, Recipe
from skectonas.training.scoring import Scorer

Key: TypeAlias = tuple[int, ...]
"""What the batch order of a round depends on: run seed, generation, phase, round."""

PLAIN_ROWS_AT_ONCE = 4096
"""Validation rows that the plain loop takes at once."""

OptimizerFactory: TypeAlias = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class OutOfTime(Exception):
    """Raised by a trainer whose deadline has come; it gives back nothing."""


class Trainer(Protocol):
    """Trains the competitors of a round: the interface that the search uses."""

    def train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe = PLAIN_RECIPE,
        deadline: float = math.inf,
    ) -> list[Candidate]:
        """Return the trained candidates.

        Parameters
        ----------
        candidates : sequence of Candidate
            The competitors; they are not changed.
        n_steps : sequence of int
            Number of batches for each of them.
        key : tuple of int
            Key of the batch order, which all competitors share.
        recipe : Recipe, default=PLAIN_RECIPE
            The course of the learning rate, and the changes of the images.
        deadline : float, default=inf
            The time, as `time.monotonic` counts it, at which to give up.

        Returns
        -------
        list of Candidate
            In the same order, with new weights, `n_steps` added up, and an `Evaluation`
            appended for the end of every epoch, unless the recipe does without, and for the
            end of the training.

        Raises
        ------
        OutOfTime
            If the deadline comes before the end of the training.
        """
        ...


@dataclass(frozen=True)
class OptimizerSpec:
    """The class and the settings of an optimiser, which is made anew for every training."""

    cls: type[torch.optim.Optimizer]
    settings: dict[str, Any]

    def __call__(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return a fresh optimiser for these parameters."""
        with uninterrupted():
            # Any optimiser imports it when it is made. If that is interrupted, it fails ever
            # after. It takes a second, so it is not done before.
            import_module("torch._dynamo")
        return self.cls(parameters, **self.settings)


def resolve_optimizer(
    optimizer: str | type[torch.optim.Optimizer],
    learning_rate: float,
    params: dict[str, Any] | None = None,
) -> OptimizerSpec:
    """Return the specification of an optimiser.

    Parameters
    ----------
    optimizer : str or class
        A class of `torch.optim` or its name, in any case; or a class of the same kind.
    learning_rate : float
        Its learning rate.
    params : dict or None
        Its further arguments, such as ``{"momentum": 0.9}``.

    Raises
    ------
    ValueError
        If there is no such optimiser, it does not take the arguments, or it needs more than
        gradients for a step.

    Examples
    --------
    >>> from skectonas.training.plain import resolve_optimizer
    >>> resolve_optimizer("adam", 0.001).cls.__name__
    'Adam'
    """
    offered = {
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
    }
    # The base class; an optimiser that evaluates the loss itself; one for sparse gradients
    # only; one for matrices only.
    for name in ("optimizer", "lbfgs", "sparseadam", "muon"):
        offered.pop(name, None)
    cls = offered.get(optimizer.lower()) if isinstance(optimizer, str) else optimizer
    if not (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)):
        names = sorted(known.__name__ for known in offered.values())
        raise ValueError(
            f"optimizer must be one of {names}, or such a class, got {optimizer!r}."
        )
    if "lr" in (params or {}):
        raise ValueError("optimizer_params holds 'lr': set learning_rate instead.")
    spec = OptimizerSpec(cls, {"lr": learning_rate, **(params or {})})
    try:
        if has_known_settings(spec):
            _check_settings(spec)
        else:
            _take_a_step(spec)
    except Exception as error:
        raise ValueError(
            f"optimizer {cls.__name__} cannot train with learning_rate={learning_rate!r} and "
            f"optimizer_params={params!r}: {error}"
        ) from error
    return spec


KNOWN_SETTINGS: dict[type[torch.optim.Optimizer], frozenset[str]] = {
    torch.optim.SGD: frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov"}),
    torch.optim.Adam: frozenset({"lr", "betas", "eps", "weight_decay"}),
    torch.optim.AdamW: frozenset({"lr", "betas", "eps", "weight_decay"}),
}
"""Optimisers that can take a step if their constructors accept these settings."""


def has_known_settings(spec: OptimizerSpec) -> bool:
    """Return whether an optimiser is one of `KNOWN_SETTINGS`, with numbers for settings."""
    numbers = chain.from_iterable(
        value if isinstance(value, tuple) else (value,) for value in spec.settings.values()
    )
    known = KNOWN_SETTINGS.get(spec.cls, frozenset())
    return spec.settings.keys() <= known and all(isinstance(x, Real) for x in numbers)


def _check_settings(spec: OptimizerSpec) -> None:
    """Let an optimiser check its settings, without the parameters that it would import for."""
    without_parameters = {"add_param_group": lambda self, group: None}
    type(spec.cls.__name__, (spec.cls,), without_parameters)([{}], **spec.settings)


def _take_a_step(optimizer: OptimizerFactory) -> None:
    """Try an optimiser on a matrix and a vector, like those of the networks."""
    parameters = [
        torch.nn.Parameter(torch.zeros(shape, dtype=torch.float32)) for shape in ((2, 2), (2,))
    ]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer(parameters).step()


class PlainTrainer:
    """The plain loop: one candidate after the other, autograd and `torch.optim`.

    Parameters
    ----------
    data : TrainingData
        The rows, on the device to compute on.
    optimizer : callable
        Takes parameters and returns a fresh optimiser, whose state starts anew in every
        training.
    scorer : callable
        Takes the probabilities of the validation rows and returns a score.
    averaging : int, default=1
        Maximum number of snapshots of the weights during the last epoch. Their mean is
        evaluated and returned, see `snapshot_steps`.
    """

    def __init__(
        self,
        data: TrainingData,
        optimizer: OptimizerFactory,
        scorer: Scorer,
        averaging: int = 1,
    ) -> None:
        self.data = data
        self.optimizer = optimizer
        self.scorer = scorer
        self.averaging = averaging

    def train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe = PLAIN_RECIPE,
        deadline: float = math.inf,
        check: Callable[[], None] = lambda: None,
    ) -> list[Candidate]:
        """Return the trained candidates, see `Trainer.train`.

        `check` is called before every batch, and may raise to end the training.
        """
        data = self.data.augmented(recipe.augmentation)

        def check_both() -> None:
            check()
            if time.monotonic() > deadline:
                raise OutOfTime

        return [
            self._train_one(candidate, data, data.batches(steps, key), recipe, check_both)
            if steps
            else candidate
            for candidate, steps in zip(candidates, n_steps, strict=True)
        ]

    def _train_one(
        self,
        candidate: Candidate,
        data: TrainingData,
        order: BatchOrder,
        recipe: Recipe,
        check: Callable[[], None],
    ) -> Candidate:
        device, per_epoch = data.train.labels.device, data.steps_per_epoch
        network = build(candidate.topology, candidate.weights).to(device)
        averaged = build(candidate.topology, candidate.weights).to(device)
        optimizer = self.optimizer(network.parameters())
        factors = recipe.rates(1.0, len(order)).tolist()
        full_rates = [group["lr"] for group in optimizer.param_groups]
        dtype = network.output.weight.dtype
        evaluations = []
        for begin in range(0, len(order), per_epoch):
            rows = order[begin : begin + per_epoch]
            losses = torch.zeros((), dtype=dtype, device=device)
            snapshots = snapshot_steps(len(rows), per_epoch, self.averaging)
            for step, batch in enumerate(rows, 1):
                check()
                optimizer.zero_grad()
                loss = self._loss(network, data.train, batch, dtype)
                loss.backward()
                for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
                    group["lr"] = rate * factors[begin + step - 1]
                optimizer.step()
                losses += loss.detach()
                if step in snapshots:
                    rate = 1 / (1 + snapshots.index(step))
                    move_average(averaged.parameters(), network.parameters(), rate)
            if recipe.evaluates_epochs or begin + len(rows) == len(order):
                train_loss = float(losses) / len(rows)
                evaluations.append(self._evaluate(averaged, train_loss, dtype))
        return replace(
            candidate,
            weights=weights_of(averaged),
            n_steps=candidate.n_steps + len(order),
            evaluations=(*candidate.evaluations, *evaluations),
        )

    def _loss(
        self, network: TopologyNetwork, rows: Rows, batch: Tensor, dtype: torch.dtype
    ) -> Tensor:
        logits = network(self.data.scaled(rows.take(batch), dtype))
        if rows.weights is None:
            return cross_entropy(logits, rows.labels_of(batch))
        losses = cross_entropy(logits, rows.labels_of(batch), reduction="none")
        # The mean over the rows, not over their weights: a batch of small weights counts less.
        return (losses * rows.weights_of(batch)).mean()

    @torch.no_grad()
    def _evaluate(
        self, network: TopologyNetwork, train_loss: float, dtype: torch.dtype
    ) -> Evaluation:
        network.calibrate(self.data.scaled(self.data.calibration, dtype))
        network.eval()
        rows = self.data.validation
        logits = torch.cat(
            [network(self.data.scaled(part, dtype)) for part in rows.chunks(PLAIN_ROWS_AT_ONCE)]
        )
        network.train()
        return evaluate(logits, rows, self.scorer, train_loss)


def snapshot_steps(n_steps: int, steps_per_epoch: int, averaging: int) -> list[int]:
    """Return the batches of an epoch after which the weights are added to the evaluated mean.

    With a constant step size, the weights move around the minimum. Their mean is nearer to it
    than the point where they happen to stop.

    Parameters
    ----------
    n_steps : int
        Number of batches to train: an epoch, or the part of one at the end of a training.
    steps_per_epoch : int
        Number of batches in an epoch.
    averaging : int
        Maximum number of snapshots in an epoch; with 1, the weights at the end are taken.

    Returns
    -------
    list of int
        Ascending; the last is `n_steps`.

    Examples
    --------
    >>> from skectonas.training.plain import snapshot_steps
    >>> snapshot_steps(10, steps_per_epoch=10, averaging=4)
    [3, 6, 9, 10]
    >>> snapshot_steps(4, steps_per_epoch=10, averaging=4)
    [3, 4]
    """
    every = -(-steps_per_epoch // averaging)
    return [*range(every, n_steps, every), n_steps]


@torch.no_grad()
def move_average(averages: Iterable[Tensor], weights: Iterable[Tensor], rate: float) -> None:
    """Move averages towards weights by a rate; a rate of 1 / k for the k-th gives means."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, rate)


def weighted_losses(logits: Tensor, rows: Rows) -> Tensor:
    """Return the losses of a network with these logits, whose mean is its loss on the rows."""
    losses = cross_entropy(logits, rows.labels.to(logits.device), reduction="none")
    if rows.weights is None or not bool(rows.weights.any()):
        return losses
    weights = rows.weights.to(logits.device)
    # `where`, because a row of weight zero may have an infinite loss.
    return torch.where(weights > 0, losses * weights, 0) / weights.mean()


def evaluate(logits: Tensor, rows: Rows, scorer: Scorer, train_loss: float) -> Evaluation:
    """Return the evaluation of a network with these logits on the validation rows."""
    if not bool(logits.isfinite().all()):
        return Evaluation(train_loss, float("inf"), float("-inf"))
    losses = weighted_losses(logits, rows)
    score = scorer(logits.softmax(1).cpu().numpy())
    if not math.isfinite(score):
        score = float("-inf")
    return Evaluation(train_loss, float(losses.mean()), score)

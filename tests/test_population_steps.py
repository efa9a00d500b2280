"""The steps of stacks, and those of the kernel, against loops over single networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers import not_if_brief
from populations import (
    KEY,
    MIXED,
    OPTIMIZERS,
    assert_close,
    networks,
    scorer_for,
    training_data,
)
from program_interpreter import launch_with
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

from skectonas.candidate import Candidate
from skectonas.network import build, pool, weights_of
from skectonas.population import FusedTrainer, trainer
from skectonas.population.groups.grouping import group_candidates
from skectonas.population.groups.stack import Stack, stacked
from skectonas.population.kernels import launches
from skectonas.population.kernels.launches import KernelComputation
from skectonas.population.kernels.program import fits
from skectonas.population.native.library import TORCH, VARIABLE
from skectonas.population.run import computation, graph
from skectonas.population.run.batches import Batch, Loader
from skectonas.population.run.computation import Computation, StackComputation
from skectonas.population.run.graph import Compute
from skectonas.population.run.losses import logits_of, losses, pooled_convolution
from skectonas.population.run.optimizer import is_stackable
from skectonas.training.data import TrainingData
from skectonas.training.plain import OptimizerSpec, PlainTrainer, resolve_optimizer

SIDES = [(2, 2), (2, 3), (3, 2), (5, 4), (7, 7), (8, 6)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pooling", ["average", "max", None])
@pytest.mark.parametrize(("height", "width"), SIDES)
def test_pooled_convolution(pooling: Any, height: int, width: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(height * 10 + width)
    maps, kernel = (
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((3, 4, height, width), (6, 4 // groups, 3, 3))
    )
    found = pooled_convolution(maps, kernel, pooling, groups)
    expected = pool(conv2d(maps, kernel, padding=1, groups=groups), pooling)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    slope = torch.randn(found.shape, dtype=torch.float64, generator=generator)
    for ours, theirs in zip(
        torch.autograd.grad(found, (maps, kernel), slope),
        torch.autograd.grad(expected, (maps, kernel), slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def stacks_of(candidates: Sequence[Candidate]) -> tuple[dict[int, Stack], dict[int, list[int]]]:
    """Return all candidates in stacks, and which of them are in each."""
    groups = group_candidates(candidates, range(len(candidates)), 8)
    stacks = {
        place: stacked(
            group.topology, [candidates[i] for i in group.members], torch.device("cpu")
        )
        for place, group in enumerate(groups)
    }
    return stacks, {place: list(group.members) for place, group in enumerate(groups)}


def first_batches(data: TrainingData, n: int) -> Batch:
    return Loader(data, torch.float64).load(data.batches(n, KEY)[0:n])


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_gradients_are_those_of_each_network(weighted: bool) -> None:
    data = training_data((9, 6, 2), weighted=weighted)
    candidates = networks((9, 6, 2), 3, MIXED)
    batch = first_batches(data, 1).number(0)
    stacks, members = stacks_of(candidates)
    assert max(map(len, members.values())) > 1
    for place, stack in stacks.items():
        weights = {name: view.requires_grad_() for name, view in stack.views.items()}
        found = losses(stack.topology, weights, batch)
        found.sum().backward()
        rest = torch.zeros_like(stack.flat)  # that of the padding has to be exactly zero
        for name, view in stack.views_of(rest).items():
            view.copy_(weights[name].grad)
        for member, i in enumerate(members[place]):
            network = build(candidates[i].topology, candidates[i].weights)
            own = cross_entropy(network(batch.images), batch.labels, reduction="none")
            loss = (own * batch.shares).sum()
            loss.backward()
            torch.testing.assert_close(found[member], loss, rtol=0, atol=1e-13)
            views = stack.weights_of(member, rest)
            for name, value in network.named_parameters():
                torch.testing.assert_close(views[name], value.grad, rtol=0, atol=1e-13)
                views[name].zero_()
        assert not rest.any()


def test_the_layout_of_the_images_does_not_matter() -> None:
    """On a device they are copied to another one."""
    images = first_batches(training_data((8, 7, 3)), 1).images[0]
    copied = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert copied.stride() != images.stride()
    for stack in stacks_of(networks((8, 7, 3), 3, MIXED))[0].values():
        found, expected = (
            logits_of(stack.topology, stack.views, own) for own in (copied, images)
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def trained_by_hand(
    candidate: Candidate, spec: OptimizerSpec, batches: Batch, rates: Sequence[float]
) -> tuple[dict[str, Tensor], float]:
    """Return what a loop in torch makes of a candidate, and the sum of its losses."""
    network = build(candidate.topology, candidate.weights)
    optimizer = spec(network.parameters())
    total = 0.0
    for i, rate in enumerate(rates):
        images, labels, shares = batches.number(i)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = (cross_entropy(network(images), labels, reduction="none") * shares).sum()
        loss.backward()
        optimizer.step()
        total += float(loss.detach())
    return weights_of(network), total


def interpreted_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launches, "threads_for", lambda *_: 256)
    monkeypatch.setattr(launches, "compiled", lambda *_: launch_with(256))


STACKABLE = [
    case for case in OPTIMIZERS if is_stackable(resolve_optimizer(case[0], 0.01, case[1]))
]


@pytest.mark.parametrize(
    "by_kernel", [False, pytest.param(True, marks=not_if_brief)], ids=["stacks", "kernel"]
)
@pytest.mark.parametrize(("name", "params"), STACKABLE)
def test_every_step_has_a_rate(
    name: str, params: dict[str, object], by_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [0.02, 0.01, 0.03, 0.0, 0.005]
    spec = resolve_optimizer(name, 1.0, params)  # never used, except where the state begins
    candidates = networks((7, 6, 1), 3, MIXED)
    if by_kernel:
        candidates = [candidate for candidate in candidates if fits(candidate.topology)]
    batches = first_batches(training_data((7, 6, 1), weighted=True), len(rates))
    stacks, members = stacks_of(candidates)
    made: Computation
    if by_kernel:
        interpreted_kernel(monkeypatch)
        made = KernelComputation(stacks, spec, batches.labels.shape[1])
    else:
        made = StackComputation(stacks, spec)
    # Some leave after two steps; the others go on with the state that they have.
    made.run(batches, rates[:2])
    sums = {place: made.losses(place) for place in members}
    leaving = {place: range(1, len(own)) for place, own in members.items() if len(own) > 1}
    made.keep(leaving)
    rest = Batch(*(tensor[2:] for tensor in batches))
    made.run(rest, rates[2:])
    for place, own in members.items():
        kept = own[1:] if place in leaving else own
        total = sums[place][-len(kept) :] + made.losses(place)
        for member, i in enumerate(kept):
            expected, loss = trained_by_hand(candidates[i], spec, batches, rates)
            assert float(total[member]) == pytest.approx(loss, abs=1e-9)
            stack = made.stacks[place]
            for weight, value in stack.weights_of(member, stack.flat).items():
                torch.testing.assert_close(value, expected[weight], rtol=0, atol=1e-9)


class Replayed:
    """What a CUDA graph does, on the CPU: each run writes to where the capture wrote."""

    def __init__(self, running: Any, compute: Compute, batch: Batch) -> None:
        self._compute, self._batch = compute, batch
        self._parameters, losses = running.optimizer.parameters, running.losses
        before = losses.clone()
        compute(batch)
        losses.copy_(before)  # a capture computes nothing
        self._gradients = [parameter.grad.fill_(torch.nan) for parameter in self._parameters]

    def replay(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for parameter in self._parameters:
                patch.setattr(parameter, "grad", None)
            self._compute(self._batch)
            for own, parameter in zip(self._gradients, self._parameters, strict=True):
                own.copy_(parameter.grad)


def test_gradients_from_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[int] = []

    def captured(compute: Compute, batch: Batch) -> Replayed:
        captures.append(len(batch.labels))
        return Replayed(compute.__self__, compute, batch)

    data = training_data((7, 6, 1), n_rows=64, weighted=True)
    candidates = networks((7, 6, 1), 3, MIXED)
    spec = resolve_optimizer("Adam", 0.01)
    n_steps = [6 + i % 3 for i in range(len(candidates))]
    scorer = scorer_for(data)
    expected = PlainTrainer(data, spec, scorer, 2).train(candidates, n_steps, KEY)
    monkeypatch.setenv(VARIABLE, TORCH)
    monkeypatch.setattr(trainer, "batches_at_once", lambda *_: 3)
    monkeypatch.setattr(computation, "runner_on", lambda device: graph.Captured())
    monkeypatch.setattr(graph, "run_on_side_stream", graph.directly)
    monkeypatch.setattr(graph, "captured", captured)
    found = FusedTrainer(data, spec, scorer, 2).train(candidates, n_steps, KEY)
    assert_close(found, expected)
    # Stacks that lose members are captured again.
    assert len(stacks_of(candidates)[0]) < len(captures) < len(candidates)

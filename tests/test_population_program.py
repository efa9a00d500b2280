"""The program of the CUDA kernel, interpreted, against the plain loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import examples, not_if_brief
from hypothesis import given
from hypothesis import strategies as st
from kernel_launches import assert_kernel_equals_plain_loop
from populations import (
    KEY,
    MIXED,
    candidate,
    networks,
    rounds,
    scorer_for,
    training_data,
)
from program_interpreter import (
    ARGUMENTS,
    AVERAGE,
    NONE,
    Fault,
    Interpreter,
    launch_with,
)

from skectonas import Dense, Topology
from skectonas.candidate import Candidate
from skectonas.population.groups.grouping import group_candidates
from skectonas.population.groups.stack import Stack, stacked
from skectonas.population.kernels.launches import as_read
from skectonas.population.kernels.program import (
    LAYOUT,
    OpKind,
    Program,
    build_program,
)
from skectonas.population.run.batches import Loader
from skectonas.surroundings import one_thread
from skectonas.topology import ALL_POOLINGS
from skectonas.training.data import TrainingData
from skectonas.training.plain import OptimizerSpec, PlainTrainer, resolve_optimizer

pytestmark = not_if_brief  # the interpreter is our own, and so is what it is compared with

TOLERANCE = 1e-9
CPU = torch.device("cpu")
THREADS = st.sampled_from([128, 256, 512])  # with few, small maps have several tiles
RULES: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.8, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
]
WIDE = [
    ("", (40, 17)),
    ("", (150,)),
    ("17m", (3, 33)),
    ("9a 5m", (33,)),
    ("18a 17a", (4,)),
    ("17m 18m", ()),
    ("17n 18n", ()),
]


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield


def assert_equal_to_the_plain_loop(
    data: TrainingData,
    candidates: Sequence[Candidate],
    n_steps: Sequence[int],
    optimizer: OptimizerSpec,
    threads: int = 256,
    n_classes: int = 3,
) -> None:
    launch = launch_with(threads)
    assert_kernel_equals_plain_loop(
        launch, threads, data, candidates, n_steps, optimizer, n_classes, TOLERANCE
    )


@st.composite
def populations(draw: st.DrawFn) -> tuple[TrainingData, list[Candidate], list[int], int]:
    """A population with relatives, which are stacked and padded, and a few steps for each."""
    data, candidates, n_steps, n_classes = draw(rounds())
    kinds = [c.topology for c in candidates[:3]]
    for kind in list(kinds):
        if draw(st.booleans()):
            cells = [replace(cell, channels=draw(st.integers(1, 5))) for cell in kind.cells]
            dense = [Dense(draw(st.integers(1, 5))) for _ in kind.dense]
            kinds.append(Topology(kind.input_shape, cells, dense, n_classes))
    steps = [1 + n_steps[i % len(n_steps)] % 3 for i in range(len(kinds))]
    return data, [candidate(i, kind) for i, kind in enumerate(kinds)], steps, n_classes


@examples(25)
@given(populations(), st.sampled_from(RULES), THREADS)
def test_random_populations_equal_the_plain_loop(population, rule, threads) -> None:
    data, candidates, n_steps, n_classes = population
    optimizer = resolve_optimizer("SGD", 0.02, rule)
    assert_equal_to_the_plain_loop(data, candidates, n_steps, optimizer, threads, n_classes)


@pytest.mark.parametrize("rule", RULES)
def test_gradient_descent_over_several_launches(rule) -> None:
    data = training_data((6, 6, 1), weighted=True)
    n_steps = [7 + i % 3 for i in range(len(MIXED))]
    optimizer = resolve_optimizer("SGD", 0.02, rule)
    assert_equal_to_the_plain_loop(data, networks((6, 6, 1), 3, MIXED), n_steps, optimizer)


@pytest.mark.parametrize("name", ["Adam", "NAdam"])
def test_other_optimizers_take_the_gradients(name) -> None:
    data = training_data((6, 6, 1))
    n_steps = [7 + i % 3 for i in range(len(MIXED))]
    candidates = networks((6, 6, 1), 3, MIXED)
    assert_equal_to_the_plain_loop(data, candidates, n_steps, resolve_optimizer(name, 0.01))


@pytest.mark.parametrize("threads", [256, 512])
def test_layers_of_many_tiles(threads) -> None:
    data = training_data((9, 7, 3), n_classes=35, n_rows=80, batch_size=40, weighted=True)
    candidates = networks((9, 7, 3), 35, WIDE)
    optimizer = resolve_optimizer("SGD", 0.02, {"momentum": 0.9})
    n_steps = [2] * len(WIDE)
    assert_equal_to_the_plain_loop(data, candidates, n_steps, optimizer, threads, 35)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_gradients_in_parts(name) -> None:
    data = training_data((27, 28, 1), n_rows=64, batch_size=16)
    candidates = networks((27, 28, 1), 3, [("3m", ()), ("2a 5m", (4,)), ("1n 2a", ())])
    stacks = [stacked(c.topology, [c], CPU) for c in candidates]
    splits = build_program(stacks, 16, 256, updates=True).ops.view(LAYOUT)["splits"]
    assert len(set(splits)) > 2
    optimizer = resolve_optimizer(name, 0.01)
    assert_equal_to_the_plain_loop(data, candidates, [3, 2, 3], optimizer)


def arguments_of(
    stacks: Sequence[Stack], program: Program, data: TrainingData, n_steps: int, **rule: Any
) -> dict[str, Any]:
    """Return the arguments of a launch on the first batches."""
    batches = Loader(data, torch.float64).load(data.batches(n_steps, KEY)[0:n_steps])
    images, targets, shares = as_read(batches, stacks[0].topology.n_classes)
    flat = torch.cat([stack.flat for stack in stacks]).numpy()
    arguments = {
        "begins": program.begins,
        "ops": program.ops,
        "images": images.numpy(),
        "targets": targets.numpy(),
        "shares": shares.numpy(),
        "rates": np.zeros(n_steps),
        "weights": flat,
        "gradient": np.zeros_like(flat),
        "velocity": np.zeros_like(flat),
        "work": np.empty(program.n_values),
        "codes": np.empty(program.n_codes, np.uint8),
        "losses": np.zeros((program.n_candidates, shares.shape[1])),
        "n_steps": n_steps,
        "n_pixels": images.shape[1],
        "n_classes": targets.shape[1],
        "batch": shares.shape[1],
        **dict.fromkeys(("momentum", "dampening", "decay"), 0.0),
        "nesterov": 0,
        "fresh": 1,
        **rule,
    }
    assert list(arguments) == ARGUMENTS
    return arguments


@examples(25)
@given(populations(), THREADS)
def test_gradients_of_random_populations_equal_those_of_autograd(population, threads) -> None:
    data, candidates, _, n_classes = population
    descent = resolve_optimizer("SGD", 1.0)
    plain = PlainTrainer(data, descent, scorer_for(data, n_classes))
    trained = plain.train(candidates, [1] * len(candidates), KEY)
    batch = data.batches(1, KEY).shape[1]
    groups = group_candidates(candidates, range(len(candidates)), batch)
    before, after = (
        [stacked(group.topology, [c[i] for i in group.members], CPU) for group in groups]
        for c in (candidates, trained)
    )
    program = build_program(before, batch, threads, updates=False)
    arguments = arguments_of(before, program, data, 1)
    Interpreter(arguments, threads).run()
    parts = torch.from_numpy(arguments["gradient"]).split([len(s.flat) for s in before])
    for old, new, gradient in zip(before, after, parts, strict=True):
        for name, found in old.views_of(gradient).items():
            expected = old.views[name] - new.views[name]  # zero in the padding
            torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    losses = [trained[i].evaluations[0].train_loss for group in groups for i in group.members]
    found = arguments["losses"].sum(1)
    np.testing.assert_allclose(found, losses, rtol=0, atol=TOLERANCE)


class Sample:
    """Two small candidates, with every kind of operation, and what training makes of them."""

    def __init__(self, *, updates: bool) -> None:
        self.updates = updates
        self._data = training_data((13, 12, 1))
        layers = [("3m 2a", (4,)), ("2a 3n 2m", ())]
        candidates = networks((13, 12, 1), 3, layers)
        self._stacks = [stacked(c.topology, [c], CPU) for c in candidates]
        self.program = build_program(self._stacks, 8, 128, updates=updates)
        self.ops = self.program.ops.view(LAYOUT)
        self._expected, self.used = self._results(self.program)

    def _results(self, program: Program) -> tuple[list[np.ndarray], set[tuple[int, str]]]:
        n_steps = 2 if self.updates else 1
        rule = {"rates": np.array([0.1, 0.05])[:n_steps], "momentum": 0.9}
        arguments = arguments_of(self._stacks, program, self._data, n_steps, **rule)
        interpreter = Interpreter(arguments, 128)
        interpreter.run()
        names = ("weights", "gradient", "losses")
        return [arguments[name] for name in names], interpreter.used

    def notices(self, ops: np.ndarray, begins: np.ndarray | None = None) -> bool:
        """Return whether other operations are faulty, or have other results."""
        begins = self.program.begins if begins is None else begins
        program = replace(self.program, ops=ops.view(np.uint8), begins=begins)
        try:
            found, _ = self._results(program)
        except Fault:
            return True
        return not all(
            np.allclose(ours, theirs, rtol=0, atol=TOLERANCE, equal_nan=True)
            for ours, theirs in zip(found, self._expected, strict=True)
        )


@pytest.fixture(scope="module", params=[True, False], ids=["updates", "gradients"])
def sample(request: pytest.FixtureRequest) -> Sample:
    return Sample(updates=request.param)


def test_a_sound_program_has_no_faults(sample) -> None:
    assert not sample.notices(sample.ops.copy())


def test_every_number_of_an_operation_matters(sample) -> None:
    tried = set()
    unnoticed = []
    for i, field in sorted(sample.used):
        kind = OpKind(sample.ops[i]["kind"]).name, ALL_POOLINGS[sample.ops[i]["pooling"]]
        if field == "ends" or (kind, field) in tried:
            continue
        tried.add((kind, field))
        ops = sample.ops.copy()
        if field == "relu":
            ops[i][field] ^= 1
        elif field == "pooling":
            # A batch norm only has to know whether the cell pools.
            unlike = NONE if "NORMALISE" in kind[0] else ops[i][field] + 1
            ops[i][field] = AVERAGE if ops[i][field] == NONE else unlike
        else:
            # An odd side and the next even one have as many pooling windows, and there may be
            # room for another output before the next array begins.
            ops[i][field] += {"height": 2, "width": 2, "outputs": -1}.get(field, 1)
        if not sample.notices(ops):
            unnoticed.append((kind, field))
    assert not unnoticed
    assert {field for _, field in tried} | {"ends"} == set(LAYOUT.names)


def test_every_tile_is_needed(sample) -> None:
    for i in range(len(sample.ops)):
        ops = sample.ops.copy()
        ops[i]["n_tiles"] -= 1
        assert sample.notices(ops), OpKind(ops[i]["kind"])


def test_every_operation_is_needed(sample) -> None:
    for i in range(len(sample.ops)):
        ops = np.delete(sample.ops, i)
        if sample.ops[i]["ends"] and not sample.ops[i - 1]["ends"]:
            ops[i - 1]["ends"] = 1
        begins = sample.program.begins - (sample.program.begins > i)
        assert sample.notices(ops, begins.astype(np.int32)), OpKind(sample.ops[i]["kind"])


def test_every_stage_has_to_end(sample) -> None:
    # Gradients are computed one step at a time, so that nothing follows their last stage.
    last = [] if sample.updates else sample.program.begins[1:] - 1
    for i in np.setdiff1d(np.flatnonzero(sample.ops["ends"]), last):
        ops = sample.ops.copy()
        ops[i]["ends"] = 0
        assert sample.notices(ops), OpKind(ops[i]["kind"])

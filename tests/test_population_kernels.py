"""What the CUDA kernel works off, as far as it can be seen without a device."""

from __future__ import annotations

import re
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from populations import topologies
from program_interpreter import SOURCE
from torch.torch_version import TorchVersion

from skectonas import ConvCell, Dense, Topology
from skectonas.population.groups.grouping import Group
from skectonas.population.groups.stack import Stack
from skectonas.population.kernels import compiled, program
from skectonas.population.kernels.launches import is_built_in, split_for_kernels
from skectonas.population.kernels.program import LAYOUT, OpKind, build_program, fits
from skectonas.topology import ALL_POOLINGS
from skectonas.training.plain import resolve_optimizer


def stack_of(topology: Topology, n: int) -> Stack:
    return Stack(topology, [topology] * n, torch.float32, torch.device("cpu"))


def test_the_source_declares_the_same_operation() -> None:
    body = re.sub(r"//.*", "", SOURCE.partition("struct Op {")[2].partition("};")[0])
    declared = [
        (name.strip(), np.dtype(np.int32 if kind == "int" else np.int64))
        for kind, names in re.findall(r"(int|long long) ([\w, ]+);", body)
        for name in names.split(",")
    ]
    assert declared == [(name, LAYOUT[name]) for name in LAYOUT.names]
    assert LAYOUT.isalignedstruct


def test_the_source_has_the_same_kinds_and_sizes() -> None:
    body = re.sub(r"//.*", "", SOURCE.partition("enum Kind {")[2].partition("}")[0])
    assert re.findall(r"\w+", body) == [kind.name for kind in OpKind]
    assert "enum Pooling { AVERAGE, MAXIMUM, NONE };" in SOURCE
    assert ALL_POOLINGS == ("average", "max", None)
    for name in ("WARP", "FEW", "INPUTS", "UNITS", "FEW_UNITS"):
        (value,) = re.findall(rf"^const int {name} = (\d+);", SOURCE, re.MULTILINE)
        assert int(value) == getattr(program, name)


@examples(30)
@given(
    st.lists(
        st.tuples(topologies((9, 12, 2), 3), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 40),
)
def test_every_candidate_has_a_whole_step_and_memory_of_its_own(drawn, batch) -> None:
    stacks = [stack_of(topology, n) for topology, n in drawn]
    made = build_program(stacks, batch, 256, updates=True)
    members = [topology for topology, n in drawn for _ in range(n)]
    ops = made.ops.view(LAYOUT)
    values, codes, weights = [], [], []
    seen = set()
    for begin, end in pairwise(made.begins):
        own = ops[begin:end]
        (candidate,) = set(own["candidate"])
        seen.add(candidate)
        topology = members[candidate]
        kinds = [OpKind(kind) for kind in own["kind"]]
        n_cells, n_layers = len(topology.cells), len(topology.dense) + 1
        assert kinds[: 2 * n_cells + n_layers + 1] == [
            *[OpKind.CONVOLVE, OpKind.NORMALISE] * n_cells,
            *[OpKind.DENSE] * n_layers,
            OpKind.LOSS,
        ]
        # Only the gradient of the batch itself is not wanted.
        n_inputs = kinds.count(OpKind.DENSE_INPUT) + kinds.count(OpKind.CONVOLVE_INPUT)
        assert n_inputs == n_cells + n_layers - 1
        assert own["ends"][-1]
        assert (own["n_tiles"] > 0).all()
        assert fits(topology)
        assert len(own) <= program.MAX_OPS
        for op in own:
            if op["kind"] in (OpKind.CONVOLVE, OpKind.DENSE):
                side = 1 if ALL_POOLINGS[op["pooling"]] is None else 2
                sides = -(-op["height"] // side) * -(-op["width"] // side)
                size = op["outputs"] * (sides if op["kind"] == OpKind.CONVOLVE else 1) * batch
                values += [(op["y"], size), (op["dy"], size)]
                if op["z"] >= 0:
                    values += [(op["z"], size), (op["norms"], 3 * op["outputs"])]
                if op["parts"] >= 0:
                    values.append(
                        (op["parts"], op["splits"] * op["outputs"] * op["inputs"] * 9)
                    )
                if op["codes"] >= 0:
                    codes.append((op["codes"], size))
            if op["kind"] == OpKind.UPDATE:
                weights.append((op["weight"], op["inputs"]))
        n_updated = sum(op["inputs"] for op in own if op["kind"] == OpKind.UPDATE)
        assert n_updated == topology.n_parameters
    assert seen == set(range(len(members)))
    for places, length in (
        (values, made.n_values),
        (codes, made.n_codes),
        (weights, sum(len(stack.flat) for stack in stacks)),
    ):
        places.sort()
        assert all(a + size <= b for (a, size), (b, _) in pairwise(places))
        assert max((a + size for a, size in places), default=0) <= length


def test_without_an_update_gradients_in_parts_are_collected() -> None:
    topology = Topology((28, 28, 1), [ConvCell(3)], [], 10)
    made = build_program([stack_of(topology, 1)], 32, 256, updates=False)
    kinds = made.ops.view(LAYOUT)["kind"].tolist()
    assert kinds.count(OpKind.COLLECT) == 1
    assert OpKind.UPDATE not in kinds


def test_large_candidates_are_left_to_stacks_unless_there_are_many() -> None:
    small = Topology((28, 28, 1), [], [Dense(10)], 10)
    large = [Topology((28, 28, 1), [], [Dense(1000 + i)], 10) for i in range(40)]
    groups = [Group(small, (0, 1)), Group(large[0], (2,))]
    assert split_for_kernels(groups, 32) == ([groups[0]], [groups[1]])
    many = [Group(topology, (i,)) for i, topology in enumerate(large)]
    assert split_for_kernels(many, 32) == (many, [])
    deep = Group(Topology((28, 28, 1), [], [Dense(3)] * 40, 10), (0,))
    assert split_for_kernels([deep], 32) == ([], [deep])


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that should have the kernel, as far as torch tells."""
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.11.0"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    compiled.can_compile.cache_clear()
    compiled.compiled.cache_clear()
    yield torch.device("cuda")
    compiled.can_compile.cache_clear()
    compiled.compiled.cache_clear()


def test_a_kernel_that_does_not_compile_is_done_without(hopper, monkeypatch) -> None:
    sources = []

    def fail(source, name):
        sources.append(source)
        raise RuntimeError("no NVRTC")

    monkeypatch.setattr(torch.cuda, "_compile_kernel", fail, raising=False)
    with pytest.warns(RuntimeWarning, match="trained in stacks, which takes longer: no NVRTC"):
        assert not compiled.can_compile(hopper)
    assert not compiled.can_compile(hopper)  # and is tried, and told of, once only
    assert len(sources) == 1


def test_older_and_other_devices_have_no_kernel(hopper, monkeypatch) -> None:
    assert not compiled.can_compile(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert not compiled.can_compile(hopper)


def test_older_releases_of_torch_have_no_kernel(hopper, monkeypatch) -> None:
    # They pass numbers as floats, and would train with another momentum.
    compiles = []
    monkeypatch.setattr(
        torch.cuda, "_compile_kernel", lambda *given: compiles.append(given), raising=False
    )
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cu128"))
    assert not compiled.can_compile(hopper)
    assert not compiles


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("SGD", {}, True),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, True),
        ("SGD", {"maximize": True}, False),
        ("Adam", {}, False),
    ],
)
def test_which_optimizers_the_kernel_has_built_in(name, params, expected) -> None:
    assert is_built_in(resolve_optimizer(name, 0.1, params)) is expected

"""Populations for the tests of the fused trainer, and how they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from helpers import IS_BRIEF
from hypothesis import strategies as st

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import initial_weights
from skectonas.population.native.library import LIBRARY, TORCH, load
from skectonas.topology import ALL_POOLINGS
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import resolve_optimizer
from skectonas.training.scoring import Scorer, make_scorer

KEY = (3, 1, 4)

ENGINES = (TORCH, *load(LIBRARY).variants)
"""All engines that can train on this machine's CPU."""

KINDS = ENGINES[:2]
"""One of each kind: torch, and the best variant of the library if there is one."""

if IS_BRIEF:  # variants do not depend on other packages
    ENGINES = KINDS


def candidate(index: int, topology: Topology, dtype: torch.dtype = torch.float64) -> Candidate:
    """Return a candidate with every weight drawn, gammas of both signs included."""
    rng = np.random.default_rng(index)
    weights = {name: value.to(dtype) for name, value in initial_weights(topology, rng).items()}
    for name, value in weights.items():
        if name.endswith("norm.weight"):
            weights[name] = torch.from_numpy(rng.uniform(-1, 1.5, value.shape)).to(dtype)
        if name.endswith("bias"):
            weights[name] = torch.from_numpy(rng.uniform(-0.5, 0.5, value.shape)).to(dtype)
    return Candidate(index, topology, weights)


def training_data(
    shape: tuple[int, int, int],
    n_classes: int = 3,
    n_rows: int = 40,
    batch_size: int = 8,
    *,
    weighted: bool = False,
    eight_bit: bool = True,
) -> TrainingData:
    rng = np.random.default_rng(n_rows)

    def rows(n: int) -> Rows:
        pixels = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        images = torch.from_numpy(pixels if eight_bit else rng.random(pixels.shape, np.float32))
        labels = torch.from_numpy(rng.integers(0, n_classes, n))
        return Rows(images, labels, torch.from_numpy(rng.random(n)) if weighted else None)

    offset, scale = (12.0, 1 / 200) if eight_bit else (0.5, 2.0)
    return TrainingData(rows(n_rows), rows(11), PixelScaling((offset,), (scale,)), batch_size)


def scorer_for(data: TrainingData, n_classes: int = 3) -> Scorer:
    rows = data.validation
    weights = None if rows.weights is None else rows.weights.numpy()
    classes = np.arange(n_classes)
    return make_scorer(
        "neg_log_loss", rows.images.numpy(), rows.labels.numpy(), classes, weights
    )


def networks(
    shape: tuple[int, int, int], n_classes: int, layers: Sequence[tuple[str, tuple[int, ...]]]
) -> list[Candidate]:
    """Return candidates from cells like "3a 4m 5n" and units of the dense layers."""
    kinds = {"a": "average", "m": "max", "n": None}
    return [
        candidate(
            i,
            Topology(
                shape,
                [ConvCell(int(cell[:-1]), kinds[cell[-1]]) for cell in cells.split()],
                [Dense(n) for n in units],
                n_classes,
            ),
        )
        for i, (cells, units) in enumerate(layers)
    ]


def assert_close(
    found: Sequence[Candidate], expected: Sequence[Candidate], tolerance: float = 1e-8
) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.weights.keys() == theirs.weights.keys()
        for name, value in theirs.weights.items():
            torch.testing.assert_close(
                ours.weights[name], value, rtol=0, atol=tolerance, equal_nan=True
            )
        assert replace(ours, weights={}, evaluations=()).__dict__ == (
            replace(theirs, weights={}, evaluations=()).__dict__
        )
        measured, wanted = (
            [(e.train_loss, e.validation_loss, e.validation_score) for e in c.evaluations]
            for c in (ours, theirs)
        )
        np.testing.assert_allclose(measured, wanted, rtol=0, atol=tolerance)


def assert_same_bits(found: Sequence[Candidate], expected: Sequence[Candidate]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.evaluations == theirs.evaluations
        for name, value in theirs.weights.items():
            assert torch.equal(ours.weights[name], value), name


SGD = resolve_optimizer("sgd", 0.05, {"momentum": 0.9})
MIXED = [
    ("", ()),
    ("", (4,)),
    ("", (6,)),
    ("3a", (5,)),
    ("2a", (7,)),
    ("3m", (5,)),
    ("1m", (3,)),
    ("2a 3m", (4,)),
    ("2m 3a", (4,)),
    ("3m 2a", (5,)),
    ("3n 2m", (5,)),
    ("3a 2n", ()),
]


@st.composite
def topologies(draw: st.DrawFn, shape: tuple[int, int, int], n_classes: int) -> Topology:
    most = 3 if min(shape[:2]) > 8 else 2
    pooling = st.sampled_from(ALL_POOLINGS)
    cells = draw(st.lists(st.builds(ConvCell, st.integers(1, 4), pooling), max_size=most))
    dense = draw(st.lists(st.builds(Dense, st.integers(1, 6)), max_size=2))
    return Topology(shape, cells, dense, n_classes)


@st.composite
def rounds(
    draw: st.DrawFn,
) -> tuple[TrainingData, list[Candidate], list[int], int]:
    """A population, its data, and how long each is trained: an epoch or more, or less."""
    side, channels = st.integers(5, 13), st.integers(1, 3)
    shape = draw(st.tuples(side, side, channels))
    n_classes = draw(st.integers(2, 5))
    data = training_data(
        shape,
        n_classes,
        draw(st.integers(12, 40)),
        draw(st.integers(4, 9) | st.integers(10, 40)),
        weighted=draw(st.booleans()),
        eight_bit=draw(st.booleans()),
    )
    kinds = draw(st.lists(topologies(shape, n_classes), min_size=1, max_size=6))
    steps = st.integers(1, 2 * data.steps_per_epoch)
    n_steps = draw(st.lists(steps, min_size=len(kinds), max_size=len(kinds)))
    return data, [candidate(i, kind) for i, kind in enumerate(kinds)], n_steps, n_classes


OPTIMIZERS: list[tuple[str, dict[str, object]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.01, "foreach": False}),
    ("AdamW", {}),
    ("Adamax", {}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Rprop", {}),
    ("ASGD", {}),
    ("Adagrad", {}),
    ("Adadelta", {}),
    ("Adafactor", {}),
]

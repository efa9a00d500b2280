"""The fused trainer on a CUDA device against the same on the CPU."""

from __future__ import annotations

import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from populations import (
    KEY,
    MIXED,
    SGD,
    assert_close,
    assert_same_bits,
    networks,
    rounds,
    scorer_for,
    training_data,
)

from skectonas.population import FusedTrainer, trainer
from skectonas.training.plain import resolve_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

WIDE = [
    ("", ()),
    ("", (40, 17)),
    ("9a", (20,)),
    ("17m", (3, 33)),
    ("9a 5m", (33,)),
    ("5m 9a", ()),
    ("18a 17a", (4,)),
    ("17m 18m", (4,)),
]


@pytest.fixture(params=["kernels", "stacks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "stacks":
        monkeypatch.setattr(trainer, "can_compile", lambda device: False)
    return request.param


def both(candidates, n_steps, data, optimizer=SGD, averaging=1, n_classes=3):
    scorer = scorer_for(data, n_classes)
    there = data.to(torch.device("cuda"))
    return (
        FusedTrainer(where, optimizer, scorer, averaging).train(candidates, n_steps, KEY)
        for where in (there, data)
    )


@pytest.mark.parametrize("batch_size", [8, 32, 50])
@pytest.mark.parametrize("layers", [MIXED, WIDE], ids=["narrow", "wide"])
def test_the_device_of_the_data_computes(way, layers, batch_size) -> None:
    data = training_data((9, 7, 2), n_rows=210, batch_size=batch_size, weighted=True)
    candidates = networks((9, 7, 2), 3, layers)
    # Several lengths, so that groups shrink; each length of steps is captured.
    n_steps = [40 + i % 4 for i in range(len(candidates))]
    assert_close(*both(candidates, n_steps, data, averaging=3))


def test_many_classes_and_channels(way) -> None:
    data = training_data((8, 10, 18), n_classes=35, n_rows=64)
    candidates = networks((8, 10, 18), 35, WIDE)
    assert_close(*both(candidates, [9] * len(WIDE), data, n_classes=35))


@given(rounds(), st.integers(1, 3))
@examples(40)
def test_random_populations(population, averaging) -> None:
    data, candidates, n_steps, n_classes = population
    assert_close(*both(candidates, n_steps, data, SGD, averaging, n_classes))


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad", "NAdam", "ASGD", "Rprop"])
def test_optimizers(way, name) -> None:
    data = training_data((6, 6, 1))
    candidates = networks((6, 6, 1), 3, MIXED)
    n_steps = [10 + i % 2 for i in range(len(candidates))]
    # On a device, torch counts the steps of some in single precision.
    assert_close(*both(candidates, n_steps, data, resolve_optimizer(name, 0.01)), 1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"momentum": 0.8, "dampening": 0.3},
        {"momentum": 0.9, "maximize": True},
    ],
)
def test_sgd(way, params) -> None:
    data = training_data((6, 6, 1), n_rows=100)
    candidates = networks((6, 6, 1), 3, MIXED)
    n_steps = [20 + i % 2 for i in range(len(candidates))]
    assert_close(*both(candidates, n_steps, data, resolve_optimizer("SGD", 0.01, params)))


def test_same_bits_again(way) -> None:
    data = training_data((9, 7, 2), n_rows=64).to(torch.device("cuda"))
    candidates = networks((9, 7, 2), 3, [*MIXED, *WIDE])
    scorer = scorer_for(data.to(torch.device("cpu")))
    first, again = (
        FusedTrainer(data, SGD, scorer).train(candidates, [30] * len(candidates), KEY)
        for _ in range(2)
    )
    assert_same_bits(first, again)

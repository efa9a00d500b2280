"""The fused trainer against the plain loop, its oracle.

The plain loop is slow. Where its result is what is expected, it trains once, and all engines
are compared with it in one test.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st
from populations import (
    ENGINES,
    KEY,
    MIXED,
    OPTIMIZERS,
    SGD,
    assert_close,
    assert_same_bits,
    candidate,
    networks,
    rounds,
    scorer_for,
    training_data,
)

from skectonas import Dense, Topology
from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer
from skectonas.population.native.library import VARIABLE
from skectonas.population.run.optimizer import is_stackable
from skectonas.surroundings import one_thread
from skectonas.training import Augmentation, Recipe
from skectonas.training.data import TrainingData
from skectonas.training.plain import OptimizerSpec, PlainTrainer, resolve_optimizer


@pytest.fixture(autouse=True)
def _single_thread():
    with one_thread():
        yield


@contextmanager
def training_with(engine: str) -> Iterator[None]:
    """Train with this engine, and name it where something fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, engine)
        try:
            yield
        except Exception as error:
            error.add_note(f"engine: {engine}")
            raise


def assert_all_find(
    expected: list[Candidate], trainer: tuple[Any, ...], *training: Any, tolerance: float = 1e-8
) -> None:
    """Check what a fused trainer of each engine makes of a round."""
    for engine in ENGINES:
        with training_with(engine):
            assert_close(FusedTrainer(*trainer).train(*training), expected, tolerance)


@examples(40)
@given(rounds(), st.integers(1, 4))
def test_random_populations_equal_the_plain_loop(
    case: tuple[TrainingData, list[Candidate], list[int], int], averaging: int
) -> None:
    data, candidates, n_steps, n_classes = case
    scorer = scorer_for(data, n_classes)
    optimizer = resolve_optimizer("sgd", 0.02, {"momentum": 0.9})
    settings = (data, optimizer, scorer, averaging)
    expected = PlainTrainer(*settings).train(candidates, n_steps, KEY)
    assert_all_find(expected, settings, candidates, n_steps, KEY)


@pytest.mark.parametrize(("name", "params"), OPTIMIZERS)
def test_every_optimizer_equals_the_plain_loop(name: str, params: dict[str, object]) -> None:
    data = training_data((6, 6, 1), weighted=True)
    candidates = networks((6, 6, 1), 3, MIXED)
    # Some stop early: the state of the others is carried over.
    n_steps = [8 if i % 3 else 5 for i in range(len(candidates))]
    settings = (data, resolve_optimizer(name, 0.01, params), scorer_for(data), 2)
    expected = PlainTrainer(*settings).train(candidates, n_steps, KEY)
    assert_all_find(expected, settings, candidates, n_steps, KEY)


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_every_recipe_equals_the_plain_loop(name: str, eight_bit: bool) -> None:
    data = training_data((6, 7, 2), weighted=True, eight_bit=eight_bit)
    candidates = networks((6, 7, 2), 3, MIXED)
    n_steps = [9 if i % 3 else 5 for i in range(len(candidates))]
    params = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    settings = (data, resolve_optimizer(name, 0.01, params), scorer_for(data), 2)
    plain = PlainTrainer(*settings)
    constant = plain.train(candidates, n_steps, KEY)
    for recipe in (Recipe(8), Recipe(20, Augmentation(1, True, erase=2))):
        expected = plain.train(candidates, n_steps, KEY, recipe)
        assert_all_find(expected, settings, candidates, n_steps, KEY, recipe)
        name_of_weight = "output.weight"
        difference = expected[0].weights[name_of_weight] - constant[0].weights[name_of_weight]
        assert difference.abs().max() > 1e-6


@examples(20)
@given(rounds(), st.integers(1, 4), st.sampled_from(["sgd", "radam"]))
def test_evaluations_only_at_the_end(
    case: tuple[TrainingData, list[Candidate], list[int], int], averaging: int, name: str
) -> None:
    data, candidates, n_steps, n_classes = case
    settings = data, resolve_optimizer(name, 0.02), scorer_for(data, n_classes), averaging

    def check(trainer: PlainTrainer | FusedTrainer) -> None:
        often, once = (
            trainer.train(candidates, n_steps, KEY, recipe)
            for recipe in (Recipe(6), Recipe(6, evaluates_epochs=False))
        )
        last = [
            replace(c, evaluations=before.evaluations + c.evaluations[-1:])
            if len(c.evaluations) > len(before.evaluations)
            else c
            for before, c in zip(candidates, often, strict=True)
        ]
        assert_same_bits(once, last)

    check(PlainTrainer(*settings))
    for engine in ENGINES:
        with training_with(engine):
            check(FusedTrainer(*settings))


def test_every_optimizer_that_is_offered_is_tested() -> None:
    with pytest.raises(ValueError, match="must be one of") as error:
        resolve_optimizer("no such", 0.1)
    offered = str(error.value).partition("[")[2].partition("]")[0]
    assert {name.strip("' ") for name in offered.split(",")} == {name for name, _ in OPTIMIZERS}


class OfTheUser(torch.optim.SGD):
    """A class from elsewhere, of which nothing is known."""


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SGD, True),
        (resolve_optimizer("adafactor", 0.01), False),
        (resolve_optimizer("adam", 0.01, {"eps": 0.0}), False),
        (OptimizerSpec(OfTheUser, {"lr": 0.1}), False),
    ],
)
def test_only_elementwise_optimizers_are_stacked(spec: OptimizerSpec, expected: bool) -> None:
    assert is_stackable(spec) is expected


def trained(n_jobs: int | None, dtype: torch.dtype = torch.float32) -> list[Candidate]:
    data = training_data((9, 7, 2), n_rows=64)
    candidates = networks((9, 7, 2), 3, MIXED)
    candidates = [candidate(c.id, c.topology, dtype) for c in candidates]
    n_steps = [8 + i % 4 for i in range(len(candidates))]
    return FusedTrainer(data, SGD, scorer_for(data), 2, n_jobs).train(candidates, n_steps, KEY)


@pytest.mark.usefixtures("engine")
def test_same_bits_for_every_number_of_workers() -> None:
    alone = trained(None)
    for n_jobs in (1, 2, -1):
        assert_same_bits(trained(n_jobs), alone)


def test_float32_stays_near_the_plain_loop() -> None:
    data = training_data((9, 7, 2), n_rows=64)
    candidates = [
        candidate(c.id, c.topology, torch.float32) for c in networks((9, 7, 2), 3, MIXED)
    ]
    settings, n_steps = (data, SGD, scorer_for(data)), [8] * len(candidates)
    expected = PlainTrainer(*settings).train(candidates, n_steps, KEY)
    assert expected[0].weights["output.weight"].dtype == torch.float32
    assert_all_find(expected, settings, candidates, n_steps, KEY, tolerance=1e-3)


@pytest.mark.usefixtures("engine")
def test_candidates_and_threads_are_left_as_they_were() -> None:
    data = training_data((6, 6, 1))
    candidates = networks((6, 6, 1), 3, MIXED)
    before = [{k: v.clone() for k, v in c.weights.items()} for c in candidates]
    threads = torch.get_num_threads()
    n_steps = [3] * len(candidates)
    found = FusedTrainer(data, SGD, scorer_for(data)).train(candidates, n_steps, KEY)
    assert torch.get_num_threads() == threads
    for old, weights in zip(candidates, before, strict=True):
        assert not old.evaluations
        assert all(torch.equal(old.weights[name], weights[name]) for name in weights)
    for new in found:
        assert not any(v.requires_grad or v.is_inference() for v in new.weights.values())


@pytest.mark.usefixtures("engine")
def test_candidates_without_steps_come_back() -> None:
    data = training_data((6, 6, 1))
    candidates = networks((6, 6, 1), 3, [("", (4,)), ("", (5,))])
    trainer = FusedTrainer(data, SGD, scorer_for(data))
    assert trainer.train(candidates, [0, 0], KEY) == candidates
    found = trainer.train(candidates, [0, 2], KEY)
    assert found[0] is candidates[0]
    assert found[1].n_steps == 2
    assert trainer.train([], [], KEY) == []


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e200])
def test_a_broken_candidate_does_not_disturb_its_neighbours(value: float) -> None:
    data = training_data((7, 7, 1))
    layers = [(cells, (4,)) for cells in ("", "3a", "3m", "2a 3a", "2m 3m") for _ in range(3)]
    candidates = networks((7, 7, 1), 3, layers)
    broken = set(range(1, len(candidates), 3))
    for i in broken:
        weights = {name: v.clone() for name, v in candidates[i].weights.items()}
        next(iter(weights.values())).view(-1)[0] = value
        weights["output.weight"].view(-1)[0] = value
        candidates[i] = replace(candidates[i], weights=weights)
    settings, n_steps = (data, SGD, scorer_for(data)), [5] * len(candidates)
    expected = PlainTrainer(*settings).train(candidates, n_steps, KEY)
    whole = [i for i in range(len(candidates)) if i not in broken]
    for engine in ENGINES:
        with training_with(engine):
            found = FusedTrainer(*settings).train(candidates, n_steps, KEY)
            assert_close([found[i] for i in whole], [expected[i] for i in whole])
            if not np.isfinite(value):
                assert all(found[i].score == expected[i].score == -np.inf for i in broken)


def test_a_population_of_sixty() -> None:
    data = training_data((5, 6, 1), n_rows=24)
    layers = [MIXED[i % len(MIXED)] for i in range(60)]
    candidates = networks((5, 6, 1), 3, layers)
    settings, n_steps = (data, SGD, scorer_for(data)), [3] * 60
    expected = PlainTrainer(*settings).train(candidates, n_steps, KEY)
    assert_all_find(expected, settings, candidates, n_steps, KEY)


@pytest.mark.usefixtures("engine")
def test_precisions_do_not_mix() -> None:
    data = training_data((6, 6, 1))
    topology = Topology((6, 6, 1), [], [Dense(4)], 3)
    candidates = [candidate(0, topology), candidate(1, topology, torch.float32)]
    found = FusedTrainer(data, SGD, scorer_for(data)).train(candidates, [2, 2], KEY)
    assert [c.weights["output.bias"].dtype for c in found] == [torch.float64, torch.float32]

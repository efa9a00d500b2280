"""Candidates: values with a record."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skectonas import Topology
from skectonas.candidate import Ancestor, Candidate, Evaluation
from skectonas.network import initial_weights

TOPOLOGY = Topology((2, 2, 1), [], [], 3)  # 4 * 3 + 3 parameters


def a_candidate(scores: list[float] = (), window: int = 3) -> Candidate:
    return Candidate(
        id=7,
        topology=TOPOLOGY,
        weights=initial_weights(TOPOLOGY, np.random.default_rng(0)),
        evaluations=tuple(Evaluation(0.1, 10 - score, score) for score in scores),
        score_window=window,
    )


@pytest.mark.parametrize(
    ("window", "score"), [(1, 0.9), (2, 0.7), (3, 0.6), (4, 0.5), (9, 0.5)]
)
def test_the_score_is_the_mean_of_the_last(window: int, score: float) -> None:
    candidate = a_candidate([0.2, 0.4, 0.5, 0.9], window)
    assert candidate.score == pytest.approx(score, rel=1e-12)
    assert candidate.loss == pytest.approx(10 - score, rel=1e-12)


@given(st.lists(st.floats(-1e3, 1e3), max_size=8), st.integers(1, 5))
def test_windows(scores: list[float], window: int) -> None:
    candidate = a_candidate(scores, window)
    recent = list(reversed(scores))[:window]
    expected = sum(recent) / len(recent) if recent else float("-inf")
    assert candidate.score == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert type(candidate.score) is float


def test_before_the_first_evaluation() -> None:
    assert a_candidate().score == -np.inf
    assert a_candidate().loss == np.inf


def test_one_diverged_epoch_in_the_window_counts() -> None:
    diverged = Evaluation(float("nan"), float("inf"), float("-inf"))
    candidate = replace(
        a_candidate([0.5, 0.5]), evaluations=(diverged, *[Evaluation(1, 1, 1)] * 2)
    )
    assert candidate.score == -np.inf
    assert candidate.loss == np.inf
    assert replace(candidate, score_window=2).score == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["output.weight", "output.bias"])
def test_is_finite(name: str, wrong: float) -> None:
    candidate = a_candidate()
    assert candidate.is_finite
    broken = candidate.weights[name].clone()
    broken.view(-1)[-1] = wrong
    assert not replace(candidate, weights={**candidate.weights, name: broken}).is_finite


def test_ancestor() -> None:
    assert a_candidate([0.5, 0.75]).as_ancestor() == Ancestor(7, 0.625, 15, 9.375)
    assert a_candidate().n_parameters == 15


def test_frozen() -> None:
    candidate = a_candidate([0.5])
    for value, name in (
        (candidate, "weights"),
        (candidate, "score_window"),
        (candidate.evaluations[0], "validation_score"),
        (candidate.as_ancestor(), "score"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)


def test_the_start_has_the_defaults() -> None:
    candidate = Candidate(0, TOPOLOGY, {"output.bias": torch.zeros(3)})
    assert (candidate.generation, candidate.morphism, candidate.parent) == (0, "start", None)
    assert (candidate.n_steps, candidate.evaluations, candidate.score_window) == (0, (), 1)
    assert "tensor" not in repr(candidate)

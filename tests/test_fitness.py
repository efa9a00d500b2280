"""Fitness: Eq. 2 against values computed by hand, and its properties."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import examples, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from skectonas import Topology
from skectonas.candidate import Ancestor, Candidate, Evaluation
from skectonas.search.fitness import Balanced, Fitness, Greedy, Random, rank

SCORES = st.floats(-1e3, 1e3, allow_subnormal=False)
ALPHAS = st.sampled_from([0.0, 0.25, 0.5, 0.99])
ALL = [Greedy(), Balanced(0.0), Balanced(0.5), Random(3)]


def of_size(
    n_parameters: int,
    score: float,
    parent: Ancestor | None = None,
    *,
    id: int = 1,
    generation: int = 1,
    n_steps: int = 10,
) -> Candidate:
    # (inputs + 1) * 2 parameters
    topology = Topology((1, 1, n_parameters // 2 - 1), [], [], 2)
    candidate = Candidate(
        id, topology, {}, generation, parent=parent, n_steps=n_steps,
        evaluations=(Evaluation(0.0, 0.0, score),),
    )  # fmt: skip
    assert candidate.n_parameters == n_parameters
    return candidate


@pytest.mark.parametrize(
    ("alpha", "parent", "child", "expected"),
    [
        # (score, parameters): alpha * dv / |v| - (1 - alpha) * dp / p
        (0.5, (0.5, 100), (0.6, 80), 0.5 * 0.2 + 0.5 * 0.2),
        (0.5, (0.5, 100), (0.4, 80), 0.5 * -0.2 + 0.5 * 0.2),
        (0.5, (0.5, 100), (0.5, 400), -1.5),
        (0.0, (0.5, 100), (0.9, 80), 0.2),
        (0.0, (0.5, 100), (0.1, 150), -0.5),
        (0.25, (0.8, 200), (1.0, 220), 0.25 * 0.25 - 0.75 * 0.1),
        (0.5, (0.5, 100), (0.5, 100), 0.0),
        # Of negative scores the one nearer to 0 is a gain.
        (0.5, (-1.0, 100), (-0.5, 100), 0.25),
        (0.5, (-1.0, 100), (-2.0, 80), -0.5 + 0.1),
        (0.5, (-0.5, 100), (0.5, 100), 1.0),
        # From a score of zero every gain is practically infinite; size alone still counts.
        (0.0, (0.0, 100), (0.7, 80), 0.2),
        (0.5, (0.0, 100), (0.0, 80), 0.1),
    ],
)
def test_equation_2(
    alpha: float, parent: tuple[float, int], child: tuple[float, int], expected: float
) -> None:
    ancestor = Ancestor(0, *parent)
    candidate = of_size(child[1], child[0], ancestor)
    assert Balanced(alpha)(candidate) == pytest.approx(expected, abs=1e-12)
    # The final selection compares with the start, and not with the parent.
    other = of_size(child[1], child[0], Ancestor(3, 0.123, 18))
    assert Balanced(alpha).final(other, ancestor) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("start", [-1.0, 0.0, 0.5])
def test_from_any_start_a_better_score_is_better(start: float) -> None:
    ancestor = Ancestor(0, start, 100)
    values = [
        Balanced(0.5)(of_size(100, start + gain, ancestor)) for gain in (-0.4, 0.0, 0.1, 0.4)
    ]
    assert values == sorted(set(values))


@examples(200)
@given(ALPHAS, SCORES, SCORES | st.just(0.0), SCORES, st.integers(2, 500), st.integers(2, 500))
def test_more_score_and_fewer_parameters_are_never_worse(
    alpha: float, score: float, start: float, worse: float, half: int, other_half: int
) -> None:
    fitness, ancestor = Balanced(alpha), Ancestor(0, start, 100)
    high, low = max(score, worse), min(score, worse)
    small, large = sorted((2 * half, 2 * other_half))
    best = fitness(of_size(small, high, ancestor))
    for candidate in (of_size(small, low, ancestor), of_size(large, high, ancestor)):
        value = fitness(candidate)
        assert not math.isnan(value)
        assert best >= value


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("score", [0.25, -np.inf])
def test_without_a_parent_the_score_counts(alpha: float, score: float) -> None:
    assert Balanced(alpha)(of_size(50, score)) == score


@pytest.mark.parametrize("fitness", ALL)
@pytest.mark.parametrize("parent", [None, Ancestor(0, 0.5, 100), Ancestor(0, 0.0, 100)])
def test_what_has_diverged_is_the_worst(fitness: Fitness, parent: Ancestor | None) -> None:
    candidate = of_size(2 * 2, -np.inf, parent)
    assert fitness(candidate) == -np.inf
    assert fitness.final(candidate, Ancestor(0, 0.5, 100)) == -np.inf


@pytest.mark.parametrize("n_parameters", [2 * 2, 2 * 200])
@pytest.mark.parametrize(("score", "loss"), [(-np.inf, 0.1), (0.9, np.inf), (0.9, np.nan)])
def test_what_has_diverged_is_the_worst_by_any_fitness(
    score: float, loss: float, n_parameters: int
) -> None:
    candidate = replace(
        of_size(n_parameters, score), evaluations=(Evaluation(0.0, loss, score),)
    )
    assert rank(candidate, n_parameters) < rank(of_size(50, 0.1), -1e9)


def test_a_fitness_that_is_no_number() -> None:
    value: Any = None
    with pytest.raises(TypeError, match="selection must give a number, got None"):
        rank(of_size(50, 0.5), value)


class WithoutStart:
    def __call__(self, candidate: Candidate) -> float:
        return candidate.score

    def final(self, candidate: Candidate) -> float:
        return candidate.score


@pytest.mark.parametrize("selection", [Greedy, WithoutStart()])
def test_what_is_no_fitness_is_refused_at_once(digits: Any, selection: Any) -> None:
    with pytest.raises(ValueError, match="selection must be an object that can be called"):
        quick(30, selection=selection).fit(*digits)


@pytest.mark.parametrize("fitness", ALL)
@pytest.mark.parametrize("score", [0.5, -np.inf])
def test_a_diverged_parent_gives_no_nan(fitness: Fitness, score: float) -> None:
    diverged = Ancestor(0, -np.inf, 100)
    candidate = of_size(80, score, diverged)
    assert not math.isnan(fitness(candidate))
    assert not math.isnan(fitness.final(candidate, diverged))


def test_greedy_sees_the_score_alone() -> None:
    for parent in (None, Ancestor(0, 0.9, 4)):
        candidate = of_size(1000, 0.625, parent)
        assert Greedy()(candidate) == 0.625
        assert Greedy().final(candidate, Ancestor(0, 0.1, 2)) == 0.625


def test_random_depends_on_seed_candidate_and_training_alone() -> None:
    fitness = Random(3)
    value = fitness(of_size(10, 0.5))
    assert value == Random(3)(of_size(800, 0.9, Ancestor(0, 0.1, 10), generation=4))
    assert value != Random(4)(of_size(10, 0.5))
    assert value != fitness(of_size(10, 0.5, id=2))
    assert value != fitness(of_size(10, 0.5, n_steps=11))


def test_random_is_uniform() -> None:
    values = [
        Random(0)(of_size(10, 0.5, id=i, n_steps=s)) for i in range(40) for s in range(40)
    ]
    assert len(set(values)) == len(values)
    assert all(0 <= value < 1 for value in values)
    assert kstest(values, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.1


def test_random_prefers_the_later_generation_in_the_end() -> None:
    fitness, start = Random(1), Ancestor(0, 0.5, 100)
    finals = {
        generation: [
            fitness.final(of_size(10, 0.5, id=i, generation=generation), start)
            for i in range(200)
        ]
        for generation in range(4)
    }
    for generation in range(3):
        assert max(finals[generation]) < min(finals[generation + 1])
    assert len(set(finals[2])) == 200  # but within a generation it is a draw


def test_a_fitness_that_is_no_number_is_the_lowest() -> None:
    candidate = of_size(10, 0.5)
    assert rank(candidate, math.nan) < rank(candidate, -1e300)
    assert rank(candidate, math.nan) == rank(candidate, -math.inf)


@pytest.mark.parametrize("fitness", [Greedy("loss"), Balanced(0.5, "loss")])
def test_a_candidate_whose_score_failed_is_the_worst_by_its_loss_too(fitness: Fitness) -> None:
    parent = Ancestor(0, 0.5, 100, 0.9)
    worse, failed = of_size(100, 0.1, parent), of_size(100, -math.inf, parent)
    worse = replace(worse, evaluations=(Evaluation(1.0, 5.0, 0.1),))
    assert fitness(worse) > fitness(failed) == -math.inf
    assert fitness.final(worse, parent) > fitness.final(failed, parent) == -math.inf

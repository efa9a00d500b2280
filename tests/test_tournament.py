"""Brackets: every candidate plays, and the rounds narrow the pool to the winners."""

from __future__ import annotations

from collections import Counter

import numpy as np
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st

from skectonas.candidate import Candidate, Evaluation
from skectonas.search.fitness import Greedy
from skectonas.search.tournament import draw_brackets, draw_round
from skectonas.topology import Topology

RELAXED = examples(300)
GAMES = given(
    n=st.integers(1, 60),
    n_winners=st.integers(1, 5),
    n_rounds=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)


@RELAXED
@GAMES
def test_each_competitor_plays_exactly_once(
    n: int, n_winners: int, n_rounds: int, seed: int
) -> None:
    brackets = draw_brackets(n, n_winners, n_rounds, np.random.default_rng(seed))
    assert sorted(i for bracket in brackets for i in bracket) == list(range(n))
    assert all(brackets)
    assert all(type(i) is int for bracket in brackets for i in bracket)
    sizes = [len(bracket) for bracket in brackets]
    assert max(sizes) - min(sizes) <= 1  # as fair as can be


@RELAXED
@GAMES
def test_the_rounds_narrow_the_pool_to_the_winners(
    n: int, n_winners: int, n_rounds: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    left = n
    for rounds_left in range(n_rounds, 0, -1):
        brackets = draw_brackets(left, n_winners, rounds_left, rng)
        assert min(left, n_winners) <= len(brackets) <= left
        left = len(brackets)
    assert min(n, n_winners) <= left <= n_winners


@RELAXED
@GAMES
def test_pairs_where_pairs_are_enough(n: int, n_winners: int, n_rounds: int, seed: int) -> None:
    sizes = Counter(
        len(bracket)
        for bracket in draw_brackets(n, n_winners, n_rounds, np.random.default_rng(seed))
    )
    if n <= n_winners * 2**n_rounds:
        assert set(sizes) <= {1, 2}
        if n >= 2 * n_winners - 1:
            assert sizes[1] == n % 2  # the one odd one out
        else:
            assert sum(sizes.values()) == min(n, n_winners)  # no more may be lost
    else:
        # Pairs would be too slow; as small as they can be to leave what the rest can halve.
        assert sum(sizes.values()) == n_winners * 2 ** (n_rounds - 1)


def test_the_draw_depends_on_the_generator_alone() -> None:
    first, again, other = (
        draw_brackets(30, 2, 3, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_lucky_ticket_and_the_opponents_are_drawn_uniformly() -> None:
    rng = np.random.default_rng(0)
    lucky: Counter[int] = Counter()
    pairs: Counter[frozenset[int]] = Counter()
    for _ in range(3000):
        for bracket in draw_brackets(5, 1, 3, rng):
            if len(bracket) == 1:
                lucky[bracket[0]] += 1
            else:
                pairs[frozenset(bracket)] += 1
    # Expected 600 each, with a standard deviation of about 22.
    assert len(lucky) == 5
    assert len(pairs) == 10
    assert all(500 < count < 700 for count in [*lucky.values(), *pairs.values()])


def test_each_bracket_is_within_a_pool_and_has_one_winner() -> None:
    topology = Topology((1, 1, 1), [], [], 2)
    pools = [
        [
            Candidate(10 * pool + i, topology, {}, evaluations=(Evaluation(1, 1, i % 3),))
            for i in range(size)
        ]
        for pool, size in enumerate((5, 1, 4))
    ]
    draw = draw_round(pools, 1, 3, np.random.default_rng(0))
    assert sorted(c.id for c in draw.competitors) == [0, 1, 2, 3, 4, 10, 20, 21, 22, 23]
    assert list(draw.brackets) == sorted(draw.brackets)
    verdicts = draw.judge(draw.competitors, Greedy())
    for number in set(draw.brackets):
        members = [
            (candidate, verdict)
            for candidate, verdict in zip(draw.competitors, verdicts, strict=True)
            if verdict.bracket == number
        ]
        assert len({candidate.id // 10 for candidate, _ in members}) == 1
        # Equals are decided by the lower id.
        expected = max(members, key=lambda m: (m[0].score, -m[0].id))
        assert [member for member in members if member[1].won] == [expected]
        assert all(verdict.fitness == candidate.score for candidate, verdict in members)

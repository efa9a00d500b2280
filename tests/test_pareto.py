"""The candidates that no other beats, and the models made of them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import as_table, examples, quick
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from test_classifier_state import Interrupt
from test_search import FakeTrainer, run

from skectonas import ECToNASClassifier
from skectonas.candidate import Candidate, Evaluation
from skectonas.estimators import draw_seed
from skectonas.network import TopologyNetwork, build
from skectonas.search.fitness import Balanced, Greedy, Random
from skectonas.search.front import unbeaten
from skectonas.training.holdout import split

# --- members of the front --------------------------------------------------------------------


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Return whether a is no larger than b, scores no lower, and is not the same in both."""
    return a[0] <= b[0] and a[1] >= b[1] and a[:2] != b[:2]


POINT = st.tuples(
    st.integers(1, 6),
    st.sampled_from([-np.inf, -1.5, 0.0, 0.5, 0.5 + 1e-12, 0.9, 1.0, np.nan]),
    st.sampled_from([0.1, 0.2, np.inf]),
)


@given(st.lists(POINT, max_size=12))
def test_unbeaten_are_those_that_no_other_beats(points: list[tuple[int, float, float]]) -> None:
    columns = [list(column) for column in zip(*points, strict=True)] or [[], [], []]
    front = unbeaten(*columns)
    finite = [point for point in points if np.isfinite(point[1])]
    free = {point[:2] for point in finite if not any(beats(other, point) for other in finite)}
    assert [points[i][:2] for i in front] == sorted(free)
    for i in front:  # of equals the lowest loss, then the first
        equals = [j for j, point in enumerate(points) if point[:2] == points[i][:2]]
        assert i == min(equals, key=lambda j: (points[j][2], j))


def noisy(levels: int, failing: float = 0.1) -> Any:
    """Return a random score, with many ties, and sometimes none."""

    def score(candidate: Candidate) -> float:
        rng = np.random.default_rng([candidate.id, candidate.n_steps])
        lost = candidate.id and rng.random() < failing
        return -np.inf if lost else float(rng.integers(levels)) / levels

    return score


class Lossy(FakeTrainer):
    """Random losses, as whole numbers."""

    def train(self, *arguments: Any) -> list[Candidate]:
        return [
            replace(c, evaluations=(*c.evaluations[:-1], self._with_loss(c)))
            for c in super().train(*arguments)
        ]

    def _with_loss(self, candidate: Candidate) -> Evaluation:
        loss = np.random.default_rng([1, candidate.id, candidate.n_steps]).integers(3)
        return replace(candidate.evaluations[-1], validation_loss=float(loss))


class Interrupted(Lossy):
    """Raises KeyboardInterrupt instead of training for the last time."""

    last = 10**9

    def train(self, *arguments: Any) -> list[Candidate]:
        if len(self.calls) == self.last:
            raise KeyboardInterrupt
        return super().train(*arguments)


COLUMNS = ["n_parameters", "mean_score", "mean_loss"]


def unbeaten_of(history: pd.DataFrame) -> pd.DataFrame:
    """Return the last rows of the candidates that no other beats."""
    states = history.drop_duplicates("candidate", keep="last").sort_values("candidate")
    return states.iloc[unbeaten(*(states[name].tolist() for name in COLUMNS))]


@examples(25)
@given(
    budget=st.sampled_from([8, 12, 45, 60, 100, 170]),
    levels=st.sampled_from([2, 10, 1000]),
    seed=st.integers(0, 5),
    fitness=st.sampled_from([Greedy(), Balanced(0.5), Balanced(0.0), Random(0)]),
    last=st.integers(1, 15),
    keep=st.booleans(),
)
def test_the_front_is_that_of_history(
    budget: float, levels: int, seed: int, fitness: Any, last: int, keep: bool
) -> None:
    trainer = Interrupted(noisy(levels))
    trainer.last = last
    outcome, history, _, _ = run(
        budget, trainer, fitness, seed=seed, keep="pareto" if keep else None
    )
    chosen = unbeaten_of(history)
    found = [line[-1] for line in outcome.front]
    assert [c.id for c in found] == chosen["candidate"].tolist()
    assert [(c.n_parameters, c.score, c.loss) for c in found] == list(
        chosen[COLUMNS].itertuples(index=False, name=None)
    )
    steps = chosen["epochs_total"] * 7
    np.testing.assert_allclose([c.n_steps for c in found], steps)
    for line in outcome.front:
        assert line[0].parent is None
        assert [c.parent.id for c in line[1:]] == [c.id for c in line[:-1]]
        assert not any(c.weights for c in line[:-1])
        if keep:
            build(line[-1].topology, line[-1].weights)
        else:
            assert line[-1].weights == {}


class Spoiling(FakeTrainer):
    """A trainer whose final training of the best lowers its score below all others."""

    def train(self, *arguments: Any) -> list[Candidate]:
        trained = super().train(*arguments)
        if len(arguments[0]) > 1 or len(self.calls) == 1:
            return trained
        return [replace(c, evaluations=(Evaluation(0.1, 1.0, 0.05),)) for c in trained]


@pytest.mark.parametrize("seed", range(20))
def test_a_final_training_that_lowers_the_score_does_not_lose_others(seed: int) -> None:
    def score(candidate: Candidate) -> float:
        return float(np.random.default_rng([seed, candidate.id, candidate.n_steps]).random())

    outcome, history, _, _ = run(103, Spoiling(score), seed=seed, score_window=1)
    assert history["phase"].iloc[-1] == "final"
    assert outcome.winner.score == 0.05
    chosen = unbeaten_of(history)
    assert [line[-1].id for line in outcome.front] == chosen["candidate"].tolist()


def test_only_the_front_is_kept() -> None:
    trainer = FakeTrainer(noisy(1000))
    outcome, history, _, state = run(600, trainer, keep="pareto")
    assert history["candidate"].nunique() > 3 * len(outcome.front)
    held = {id(c.weights["output.weight"]) for c in (*state.front, state.best)}
    assert len(held) == len(outcome.front)
    assert not any(c.weights for c in state.known.values())


# --- the front of an estimator ---------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(digits: Any) -> ECToNASClassifier:
    """Return a classifier that has kept its front; tests do not change it."""
    return quick(
        170,
        start="small_cnn",
        score_window=1,
        validation_fraction=0.3,
        keep_candidates="pareto",
    ).fit(*digits)


def same(one: ECToNASClassifier, other: ECToNASClassifier) -> bool:
    ours, theirs = one.network_.state_dict(), other.network_.state_dict()
    return list(ours) == list(theirs) and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_keeping_changes_nothing_else(kept: ECToNASClassifier, digits: Any) -> None:
    plain = quick(170, start="small_cnn", score_window=1, validation_fraction=0.3).fit(*digits)
    assert same(plain, kept)
    for table in ("lineage_", "pareto_front_"):
        pd.testing.assert_frame_equal(getattr(plain, table), getattr(kept, table))
    pd.testing.assert_frame_equal(
        plain.history_.drop(columns="seconds"), kept.history_.drop(columns="seconds")
    )
    X, _ = digits
    np.testing.assert_array_equal(plain.predict_proba(X), kept.predict_proba(X))


def test_front_of_a_fit(kept: ECToNASClassifier) -> None:
    front = kept.pareto_front_
    assert list(front.columns) == list(kept.lineage_.columns)
    assert len(front) > 1
    assert front["n_parameters"].is_monotonic_increasing
    assert front["n_parameters"].is_unique
    assert front["validation_score"].is_monotonic_increasing
    assert front["validation_score"].is_unique
    assert set(front["candidate"]) <= set(kept.history_["candidate"])


def test_each_of_the_front_can_be_the_model(kept: ECToNASClassifier, digits: Any) -> None:
    X, y = digits
    before = kept.predict_proba(X)
    _, rows = split(y, 0.3, draw_seed(0))
    predictions = []
    for row in kept.pareto_front_.itertuples():
        clf = kept.with_candidate(row.candidate)
        assert type(clf) is ECToNASClassifier
        assert clf.get_params() == kept.get_params()
        assert str(clf.best_topology_) == row.topology
        assert clf.network_.topology == clf.best_topology_
        assert clf.n_parameters_ == row.n_parameters == clf.summary()["n_parameters"].sum()
        assert clf.validation_score_ == row.validation_score
        assert clf.lineage_["candidate"].tolist()[:: len(clf.lineage_) - 1 or 1] == [
            *{clf.lineage_["candidate"].iloc[0]: None, row.candidate: None}
        ]
        assert dict(clf.lineage_.iloc[-1]) == {
            name: getattr(row, name) for name in clf.lineage_.columns
        }
        # With a window of one evaluation, the score is that of the last weights; but the winner
        # has been trained on these rows since.
        if row.candidate != kept.lineage_["candidate"].iloc[-1]:
            assert clf.score(X[rows], y[rows]) == pytest.approx(row.validation_score)
        assert not clf.network_.training
        predictions.append(clf.predict_proba(X))
        clf.network_.output.bias.data += 1
    np.testing.assert_array_equal(kept.predict_proba(X), before)
    for row, expected in zip(kept.pareto_front_.itertuples(), predictions, strict=True):
        again = pickle.loads(pickle.dumps(kept)).with_candidate(row.candidate)
        np.testing.assert_array_equal(again.predict_proba(X), expected)


def test_there_and_back(kept: ECToNASClassifier) -> None:
    winner = kept.lineage_["candidate"].iloc[-1]
    other = next(c for c in kept.pareto_front_["candidate"] if c != winner)
    copy = kept.with_candidate(other)
    assert not same(copy, kept)
    back = copy.with_candidate(winner)
    assert same(back, kept)
    pd.testing.assert_frame_equal(back.lineage_, kept.lineage_)
    assert back.validation_score_ == kept.validation_score_


def test_by_default_only_the_winner_is_kept(digits: Any) -> None:
    fitted = quick(60).fit(*as_table(digits))
    winner = int(fitted.lineage_["candidate"].iloc[-1])
    copy = fitted.with_candidate(winner)
    assert copy is not fitted
    assert same(copy, fitted)
    other = next(c for c in fitted.pareto_front_["candidate"] if c != winner)
    with pytest.raises(ValueError, match=r"not kept: with keep_candidates=None"):
        fitted.with_candidate(other)


@pytest.mark.parametrize("unknown", [-1, 10_000, "4", 0.5, None])
def test_an_unknown_candidate(kept: ECToNASClassifier, unknown: Any) -> None:
    with pytest.raises(ValueError, match="candidate must be one of those in history_, 0 to"):
        kept.with_candidate(unknown)


def test_one_that_was_beaten(kept: ECToNASClassifier) -> None:
    on_front = {*kept.pareto_front_["candidate"], kept.lineage_["candidate"].iloc[-1]}
    beaten = next(c for c in kept.history_["candidate"] if c not in on_front)
    with pytest.raises(ValueError, match=f"candidate {beaten} were not kept"):
        kept.with_candidate(beaten)


def test_nothing_before_fit() -> None:
    for call in (lambda clf: clf.with_candidate(0), lambda clf: clf.summary()):
        with pytest.raises(NotFittedError):
            call(quick())
    with pytest.raises(ValueError, match="keep_candidates"):
        quick(keep_candidates="best").fit(np.zeros((4, 2)), [0, 0, 1, 1])


def test_after_ctrl_c_the_front_is_there_too(digits: Any) -> None:
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick(200, scoring=Interrupt(60), keep_candidates="pareto").fit(*digits)
    for candidate in clf.pareto_front_["candidate"]:
        assert clf.with_candidate(candidate).predict(digits[0]).shape == (300,)


@pytest.mark.parametrize("budget", [6, 11, 45])
def test_small_budgets(digits: Any, budget: float) -> None:
    clf = quick(budget, keep_candidates="pareto").fit(*as_table(digits))
    for candidate in clf.pareto_front_["candidate"]:
        clf.with_candidate(candidate)
    if budget < 45:  # a warm-up of the starts, and what trains one of them on
        assert set(clf.history_["candidate"]) == {0, 1, 2, 3}
        # The winner is in the front unless another is as good by score.
        front = clf.pareto_front_
        no_worse = front["validation_score"] >= clf.validation_score_
        assert (no_worse & (front["n_parameters"] <= clf.n_parameters_)).any()


# --- the table of the layers -----------------------------------------------------------------


@pytest.mark.parametrize("start", ["small_ffnn", "large_ffnn", "medium_cnn"])
def test_summary(digits: Any, start: str) -> None:
    clf = quick(2, start=start, warmup_epochs=1).fit(*digits)
    table = clf.summary()
    assert list(table.columns) == ["layer", "kind", "output_shape", "n_parameters"]
    assert table["n_parameters"].sum() == clf.n_parameters_
    network = TopologyNetwork(clf.best_topology_)
    for row in table.itertuples():
        module = network.get_submodule(row.layer)
        assert row.n_parameters == sum(p.numel() for p in module.parameters())
    assert table["output_shape"].iloc[-1] == (10,)

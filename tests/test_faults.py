"""What fails in the middle of a search does not lose what was found before."""

from __future__ import annotations

import math
import os
import signal
import threading
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import failing_trainer, not_if_brief, quick
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from test_search import SMALL, STEPS_PER_EPOCH, FakeTrainer, a_search

from skectonas.candidate import Candidate
from skectonas.search.fitness import Balanced, Greedy
from skectonas.search.ledger import Ledger


class Score:
    """The accuracy, but some of the calls raise."""

    def __init__(self, failing: set[int]) -> None:
        self.failing, self.n_calls = failing, 0
        self.lock = threading.Lock()

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        with self.lock:
            self.n_calls += 1
            number = self.n_calls
        if number in self.failing:
            raise ZeroDivisionError("no score today")
        return float(accuracy_score(y, estimator.predict(X)))


def test_a_candidate_whose_score_raises_loses(digits: Any) -> None:
    # The first call is the trial before the search.
    score = Score(failing={30})
    with pytest.warns(UserWarning, match="raised ZeroDivisionError: no score today") as caught:
        clf = quick(60, scoring=score).fit(*digits)
    assert len(caught) == 1
    history = clf.history_
    [row] = history[history["validation_score"] == -np.inf].to_dict("records")
    assert row["phase"] == "phase 1"
    bracket = history[["generation", "phase", "round", "bracket"]]
    n_rivals = (bracket == [row[name] for name in bracket]).all(axis=1).sum()
    assert row["won"] is bool(n_rivals == 1)
    assert clf.lineage_["candidate"].iloc[-1] != row["candidate"]
    assert np.isfinite(clf.validation_score_)


def test_a_score_that_always_raises_later_ends_with_a_network(digits: Any) -> None:
    with pytest.warns(UserWarning, match="no score today"):
        clf = quick(60, scoring=Score(failing=set(range(2, 10_000)))).fit(*digits)
    assert clf.validation_score_ == -np.inf
    assert clf.score(*digits) > 0.5


@pytest.mark.parametrize("n_trainings", [1, 2, 4])
def test_an_error_is_raised_and_the_best_so_far_is_kept(
    digits: Any, monkeypatch: pytest.MonkeyPatch, n_trainings: int
) -> None:
    with monkeypatch.context() as patched:
        failing_trainer(patched, n_trainings, KeyboardInterrupt())
        with pytest.warns(UserWarning, match="interrupted"):
            interrupted = quick(110).fit(*digits)
    error = RuntimeError("the machine is on fire")
    failing_trainer(monkeypatch, n_trainings, error)
    clf = quick(110)
    with pytest.raises(RuntimeError, match="on fire") as caught:
        clf.fit(*digits)
    assert caught.value is error
    assert error.__notes__ == ["The estimator is fitted with the best network so far."]
    own, expected = (c.predict_proba(digits[0]) for c in (clf, interrupted))
    np.testing.assert_array_equal(own, expected)
    assert len(clf.history_) == len(interrupted.history_)


def test_an_error_before_the_end_of_the_warm_up_changes_nothing(
    digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf = quick(60).fit(*digits)
    network = clf.network_
    failing_trainer(monkeypatch, 0, RuntimeError("the machine is on fire"))
    with pytest.raises(RuntimeError, match="on fire") as caught:
        clf.fit(*digits)
    assert clf.network_ is network
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("generation", [1, 2])
def test_a_fitness_that_raises_loses_nothing(digits: Any, generation: int) -> None:
    class Broken:
        def __call__(self, candidate: Candidate) -> float:
            return candidate.score

        def final(self, candidate: Candidate, start: Any) -> float:
            if candidate.generation >= generation:
                raise ZeroDivisionError("mine")
            return candidate.score

    clf = quick(60, selection=Broken(), n_parents=1, n_rounds=1, warmup_epochs=2)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        clf.fit(*digits)
    assert caught.value.__notes__ == ["The estimator is fitted with the best network so far."]
    assert clf.score(*digits) > 0.5


def test_a_fitness_that_raises_keeps_the_fitted_network(digits: Any) -> None:
    class Broken:
        def __call__(self, candidate: Candidate) -> float:
            return candidate.score

        def final(self, candidate: Candidate, start: Any) -> float:
            if candidate.generation > last:
                raise ZeroDivisionError("mine")
            return candidate.score

    clf = quick(40, selection=Broken(), n_parents=1, n_rounds=1, warm_start=True)
    last = 10**6
    expected = clf.fit(*digits).predict_proba(digits[0])
    last = clf.history_["generation"].max() + 1
    with pytest.raises(ZeroDivisionError, match="mine"):
        clf.set_params(learning_rate=1.0).fit(*digits)
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)


def test_ctrl_c_counts_more_than_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    search, calls = a_search(FakeTrainer()), []
    state = search.advance(search.initial_state([SMALL], Ledger(170, STEPS_PER_EPOCH)))
    outcome = type(search).outcome

    def interrupted(self: Any, state: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return outcome(self, state)

    def failing(*_: Any) -> None:
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(type(search), "outcome", interrupted)
    monkeypatch.setattr(FakeTrainer, "train", failing)
    found = search.run(state)
    assert found.interrupted
    assert found.error is None
    assert found.state.ledger is state.ledger


def test_a_grid_search_sees_the_error(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_trainer(monkeypatch, 2, RuntimeError("the machine is on fire"))
    with pytest.raises(RuntimeError, match="on fire"):
        GridSearchCV(quick(60), {"alpha": [1.0]}, cv=2, error_score="raise").fit(*digits)


class Terminating(Score):
    """Sends SIGTERM to the process in one of the calls."""

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        value = super().__call__(estimator, X, y)
        if self.n_calls == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return value


def test_sigterm_keeps_the_best_so_far(digits: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert before is signal.SIG_DFL
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick(60, scoring=Terminating(set())).fit(*digits)
    assert signal.getsignal(signal.SIGTERM) is before
    assert clf.score(*digits) > 0.5
    assert clf.history_["budget_spent"].iloc[-1] < 50


def test_a_handler_of_the_user_is_left_alone(digits: Any) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        clf = quick(60, scoring=Terminating(set())).fit(*digits)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert clf.history_["budget_spent"].iloc[-1] > 50


def test_another_thread_does_not_handle_signals(digits: Any) -> None:
    seen: list[Any] = []

    def score(estimator: Any, X: Any, y: Any) -> float:
        seen.append(signal.getsignal(signal.SIGTERM))
        return float(accuracy_score(y, estimator.predict(X)))

    thread = threading.Thread(target=quick(20, scoring=score).fit, args=digits)
    thread.start()
    thread.join()
    assert len(seen) > 3
    assert set(seen) == {signal.SIG_DFL}


@pytest.mark.parametrize("n_iter_no_change", [1, 2, 3])
@pytest.mark.parametrize("final_fraction", [0.0, 0.3])
def test_a_search_that_does_not_improve_ends(
    n_iter_no_change: int, final_fraction: float
) -> None:
    settings = {"final_fraction": final_fraction, "n_iter_no_change": n_iter_no_change}
    best_steps = 400

    def score(candidate: Any) -> float:
        """Return a score that falls after some training."""
        return min(candidate.n_steps, 2 * best_steps - candidate.n_steps) / 1e4

    search = a_search(FakeTrainer(score), max_parameters=400, score_window=1, **settings)
    state = search.initial_state([SMALL], Ledger(5000, STEPS_PER_EPOCH))
    best, n_unimproved = state.best, 0
    while state.step not in ("final", "done"):
        generation, state = state.generation, search.advance(state)
        if state.step in ("mutation", "final", "done"):
            n_unimproved = n_unimproved + 1 if state.best is best and generation else 0
            best = state.best
            assert state.n_unimproved == n_unimproved
            assert (state.step != "mutation") == (n_unimproved == n_iter_no_change)
    outcome = search.run(state)
    last = outcome.state.ledger.entries[-1]
    reserved = int(0.3 * 5000) * STEPS_PER_EPOCH
    assert last.n_steps == reserved if final_fraction else last.phase != "final"
    assert outcome.state.ledger.left > 0


class Improving(FakeTrainer):
    """A trainer whose networks are perfect after some training, and whose loss still falls."""

    def train(self, *arguments: Any, **keywords: Any) -> list[Candidate]:
        def improved(c: Candidate) -> Candidate:
            *before, last = c.evaluations
            return replace(
                c, evaluations=(*before, replace(last, validation_loss=1 / c.n_steps))
            )

        return [improved(c) for c in super().train(*arguments, **keywords)]


@not_if_brief
@pytest.mark.parametrize("n_iter_no_change", [1, 2, 3, None])
@pytest.mark.parametrize("fitness", [Greedy("score"), Greedy("loss"), Balanced(0.5)])
def test_nothing_is_better_than_perfect(
    n_iter_no_change: int | None, fitness: Greedy | Balanced
) -> None:
    def generations(perfect_score: float) -> list[bool]:
        """Return whether the best was perfect, before each generation."""
        trainer = Improving(lambda candidate: min(1.0, candidate.n_steps / 300))
        settings = {"n_iter_no_change": n_iter_no_change, "perfect_score": perfect_score}
        search = a_search(trainer, fitness, max_parameters=400, score_window=1, **settings)
        state = search.initial_state([SMALL], Ledger(3000, STEPS_PER_EPOCH))
        perfect = []
        while state.step not in ("final", "done"):
            if state.step == "mutation":
                perfect.append(state.best.score == 1)
            state = search.advance(state)
        return perfect

    unknown, known = generations(math.inf), generations(1.0)
    assert not unknown[0]
    if isinstance(fitness, Balanced) or n_iter_no_change is None:
        assert known == unknown
    else:
        assert sum(known) == n_iter_no_change < sum(unknown)


def test_without_a_budget_an_early_end_takes_no_more_than_its_share() -> None:
    trainer = FakeTrainer(lambda candidate: 0.5)
    settings = {"final_fraction": 0.3, "n_iter_no_change": 1, "max_parameters": 400}
    search = a_search(trainer, **settings)
    outcome = search.run(search.initial_state([SMALL], Ledger(math.inf, STEPS_PER_EPOCH)))
    *before, final = outcome.state.ledger.entries
    assert final.phase == "final"
    spent = sum(entry.n_steps for entry in before)
    assert 0 <= 0.3 / 0.7 * spent - final.n_steps < STEPS_PER_EPOCH + 1


def test_no_warning_without_a_fault(digits: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(60, scoring=Score(set()), n_iter_no_change=2).fit(*digits)

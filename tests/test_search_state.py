"""The state of a search is plain data, never changes, and is enough to continue from."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from helpers import not_if_brief, quick
from test_search import SMALL, STEPS_PER_EPOCH, FakeTrainer, Log, a_search

from skectonas import ECToNASClassifier
from skectonas.candidate import Candidate, Evaluation
from skectonas.network import initial_weights
from skectonas.search import AllRows, Greedy
from skectonas.search.algorithm import Search
from skectonas.search.ledger import Ledger
from skectonas.search.state import Outcome, SearchState


def states_from(search: Search, state: SearchState) -> list[SearchState]:
    states = [state]
    while states[-1].step != "done":
        states.append(search.advance(states[-1]))
    return states


def bits(candidate: Candidate) -> tuple[Any, ...]:
    weights = {name: value.numpy().tobytes() for name, value in candidate.weights.items()}
    return replace(candidate, weights={}).__dict__, weights


def found(outcome: Outcome) -> tuple[Any, ...]:
    """Return the results of a search in a form that can be compared, without times."""
    history = outcome.state.ledger.to_frame().drop(columns="seconds").to_csv()
    lines = [[bits(candidate) for candidate in line] for line in outcome.front]
    return history, [bits(candidate) for candidate in outcome.lineage], lines


def a_fit(digits: Any, monkeypatch: Any, case: str) -> tuple[Search, SearchState]:
    """Return a search as a classifier sets it up, and its initial state."""
    given: list[tuple[Search, SearchState]] = []
    run = Search.run

    def spy(self: Search, state: SearchState, *rest: Any) -> Outcome:
        given.append((self, state))
        return run(self, state, *rest)

    alpha = 1.0 if case == "greedy" else 0.5
    start = "small_cnn" if case == "balanced" else "small_ffnn"
    clf: ECToNASClassifier = quick(
        50, final_fraction=0.1, alpha=alpha, start=start, keep_candidates="pareto",
        warm_start=True, n_rounds=2, round_epochs=1, warmup_epochs=2,
    )  # fmt: skip
    if case == "warm start":
        clf.fit(*digits)
    with monkeypatch.context() as patched:
        patched.setattr(Search, "run", spy)
        clf.fit(*digits)
    return given[0]


@not_if_brief
@pytest.mark.parametrize("case", ["greedy", "balanced", "warm start"])
def test_a_pickled_state_continues_with_the_same_bits(
    digits: Any, monkeypatch: Any, case: str
) -> None:
    search, state = a_fit(digits, monkeypatch, case)
    fresh, _ = a_fit(digits, monkeypatch, case)
    pickles = [pickle.dumps(state)]
    while state.step != "done":
        state = search.advance(state)
        pickles.append(pickle.dumps(state))
    assert {"phase 1", "phase 2"} <= {entry.phase for entry in state.ledger.entries}
    expected = found(search.outcome(state))
    for pickled in pickles:
        assert found(fresh.run(pickle.loads(pickled))) == expected


def test_advance_leaves_its_state_as_it_was(digits: Any, monkeypatch: Any) -> None:
    search, state = a_fit(digits, monkeypatch, "balanced")
    steps = set()
    while state.step != "done":
        before = pickle.dumps(state)
        following = search.advance(state)
        assert pickle.dumps(state) == before
        assert following is not state
        steps.add(state.step)
        state = following
    at_the_end = {"control", "final"}  # if there is need for them
    assert steps - at_the_end == {"warm-up", "mutation", "recovery", "phase 1", "phase 2"}
    with pytest.raises(FrozenInstanceError):
        state.round = 1
    with pytest.raises(ValueError, match="done"):
        search.advance(state)


def test_observers_of_a_continued_search_see_the_open_tasks() -> None:
    search = a_search(FakeTrainer())
    states = states_from(search, search.initial_state([SMALL], Ledger(170, STEPS_PER_EPOCH)))
    whole = Log()
    search.run(states[0], [whole])
    for state in states:
        log = Log()
        search.run(state, [log])
        assert log.open == []
        assert log.ended == whole.ended[len(whole.ended) - len(log.ended) :]


def test_an_interruption_gives_the_state_after_the_last_step(monkeypatch: Any) -> None:
    search = a_search(FakeTrainer())
    states = states_from(search, search.initial_state([SMALL], Ledger(170, STEPS_PER_EPOCH)))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeTrainer, "train", interrupted)
    for state in states[1:]:
        outcome = search.run(state)
        assert outcome.interrupted == (outcome.state.step != "done")
        assert outcome.state.ledger is state.ledger
        assert outcome.state.survivors is state.survivors
        assert outcome.winner is search.outcome(state).winner
    with pytest.raises(KeyboardInterrupt):
        search.run(states[0])


class Annealed(FakeTrainer):
    """Evaluates with fixed losses, as on rows that it has trained on."""

    def __init__(self, validation_loss: float) -> None:
        super().__init__()
        self.validation_loss = validation_loss

    def train(self, *arguments: Any) -> list[Candidate]:
        evaluation = Evaluation(0.1, self.validation_loss, 0.9)
        return [replace(c, evaluations=(evaluation,)) for c in super().train(*arguments)]


@pytest.mark.parametrize(("loss", "stays"), [(0.02, True), (0.001, False)])
def test_a_network_trained_on_all_rows_competes_with_its_like(loss: float, stays: bool) -> None:
    weights = initial_weights(SMALL, np.random.default_rng(0))
    # No candidate comes near this loss, on rows that it has not been trained on.
    incumbent = Candidate(3, SMALL, weights, evaluations=(Evaluation(np.nan, 0.01, 1.0),))
    start = replace(incumbent, id=9, evaluations=(), generation=4, parent=None)
    search = replace(
        a_search(FakeTrainer(), Greedy("loss"), final_fraction=0.5, measure="loss"),
        final=AllRows(Annealed(loss), STEPS_PER_EPOCH + 2),
        losses=lambda candidate: np.zeros(9),
    )
    ledger = Ledger(40, STEPS_PER_EPOCH)
    outcome = search.run(search.initial_state(start, ledger, incumbent))
    assert (outcome.winner is incumbent) is stays
    assert incumbent.id not in [line[-1].id for line in outcome.front]
    final = outcome.state.ledger.entries[-1]
    assert (final.phase, final.n_steps % (STEPS_PER_EPOCH + 2)) == ("final", 0)
    # The rows held out say nothing of the finalist, and are not asked again.
    assert (final.train_loss, final.validation_loss) == (0.1, 1.0)
    if not stays:
        assert outcome.winner.loss == 1.0
    # Without a final training, there is nothing to compare it with.
    ledger = Ledger(1, STEPS_PER_EPOCH)
    assert search.run(search.initial_state(start, ledger, incumbent)).winner is incumbent

"""A search with a time limit ends in time, and is the same search up to where it ends."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import examples, not_if_brief, quick
from hypothesis import assume, given
from hypothesis import strategies as st
from test_search import SMALL, STEPS_PER_EPOCH, FakeTrainer, a_search

from skectonas import ECToNASClassifier
from skectonas.candidate import Candidate, Evaluation
from skectonas.population.trainer import FusedTrainer
from skectonas.population.workers.stopping import Workers
from skectonas.search import AllRows
from skectonas.search.clock import LEAST_TIMINGS, Clock, affordable_steps
from skectonas.search.fitness import Greedy
from skectonas.search.ledger import Ledger
from skectonas.search.state import Outcome
from skectonas.training import OutOfTime, PlainTrainer


class Watch:
    """A clock that only trainings move on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def pass_by(self, seconds: float, deadline: float = math.inf) -> None:
        self.now = min(self.now + seconds, max(deadline, self.now))
        if self.now >= deadline:
            raise OutOfTime


class SlowTrainer(FakeTrainer):
    """Takes some time for each batch and each evaluation."""

    def __init__(self, watch: Watch, of_a_step: float, of_an_evaluation: float) -> None:
        super().__init__()
        self.watch, self.of_a_step, self.of_an_evaluation = watch, of_a_step, of_an_evaluation

    def train(self, candidates: Any, n_steps: Any, *rest: Any) -> list[Candidate]:
        n_evaluations = sum(-(-n // STEPS_PER_EPOCH) for n in n_steps)
        seconds = sum(n_steps) * self.of_a_step + n_evaluations * self.of_an_evaluation
        self.watch.pass_by(seconds, rest[-1])
        return super().train(candidates, n_steps, *rest)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return _watch(monkeypatch)


def _watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    # Only for these modules: pytest and other threads need the real clock.
    clock = SimpleNamespace(monotonic=lambda: watch.now, perf_counter=lambda: watch.now)
    for module in ("search.clock", "search.trainings", "population.workers.stopping"):
        monkeypatch.setattr(f"skectonas.{module}.time", clock)
    return watch


def rows_of(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Return the trainings before the final one, without their times."""
    frame = outcome.state.ledger.to_frame().drop(columns="seconds")
    return [tuple(map(str, row)) for row in frame[frame["phase"] != "final"].to_numpy()]


@examples(30)
@given(
    limit=st.floats(0.01, 60),
    of_a_step=st.floats(1e-4, 0.05),
    of_an_evaluation=st.floats(0, 0.1),
    final_fraction=st.sampled_from([0.0, 0.3, 1.0]),
    budget=st.sampled_from([30.0, 200.0, math.inf]),
)
def test_a_search_ends_in_time(
    limit: float,
    of_a_step: float,
    of_an_evaluation: float,
    final_fraction: float,
    budget: float,
) -> None:
    # A search without end of networks that grow would take long.
    assume(limit / of_a_step < 5_000 or math.isfinite(budget))
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch = _watch(monkeypatch)
        trainer = SlowTrainer(watch, of_a_step, of_an_evaluation)
        settings = {"final_fraction": final_fraction, "max_parameters": 500, "n_rounds": 1}
        search = a_search(trainer, **settings)
        object.__setattr__(search, "clock", Clock(limit, watch.now))
        state = search.initial_state([SMALL], Ledger(budget, STEPS_PER_EPOCH))
        began = watch.now
        if limit < 3 * (of_a_step + of_an_evaluation):
            return  # a trial, and the first batch, are all that there may be time for
        outcome = search.run(state)
        assert watch.now <= began + limit
        assert outcome.state.step == "done"
        ledger = outcome.state.ledger
        assert ledger.spent <= ledger.total
        if math.isinf(budget):
            assert watch.now > began + limit / 2 - 10 * (of_a_step + of_an_evaluation)
        unlimited, ours = a_search(FakeTrainer(), **settings), rows_of(outcome)
        enough = Ledger(min(budget, 2 * len(ours) + 500), STEPS_PER_EPOCH)
        whole = rows_of(unlimited.run(unlimited.initial_state([SMALL], enough)))
        if ours[0] == whole[0]:  # the warm-up had the time that it asks for
            assert ours == whole[: len(ours)]


@pytest.mark.parametrize("n_rounds", [1, 3])
@pytest.mark.parametrize("limit", [8.0, 10.0, 13.0, 20.0, 29.0, 35.0])
def test_a_limit_of_time_leaves_room_for_the_control(
    limit: float, n_rounds: int, watch: Watch
) -> None:
    class Learning(SlowTrainer):
        def train(self, candidates: Any, n_steps: Any, *rest: Any) -> list[Candidate]:
            return [
                replace(c, evaluations=(Evaluation(loss_of(c), loss_of(c), 0.5),))
                for c in super().train(candidates, n_steps, *rest)
            ]

    def loss_of(candidate: Candidate) -> float:
        return 1 / (1 + candidate.n_steps / 500) - candidate.n_parameters / 10_000

    trainer = Learning(watch, 0.01, 0.005)
    settings = {"final_fraction": 0.3, "n_rounds": n_rounds, "warmup_epochs": 2}
    search = a_search(trainer, Greedy("loss"), measure="loss", **settings)
    all_rows = AllRows(trainer, STEPS_PER_EPOCH)
    object.__setattr__(search, "final", all_rows)
    object.__setattr__(search, "losses", lambda c: np.full(50, loss_of(c)))
    object.__setattr__(search, "clock", Clock(limit, watch.now))
    began = watch.now
    outcome = search.run(search.initial_state([SMALL], Ledger(math.inf, STEPS_PER_EPOCH)))
    assert watch.now <= began + limit
    phases = outcome.state.ledger.to_frame()["phase"].tolist()
    assert phases[-2:] == ["control", "final"]
    assert outcome.winner.n_parameters > SMALL.n_parameters  # which was proven


@pytest.mark.parametrize("limit", [4.0, 7.0, 12.0])
def test_a_generation_that_is_cut_off_is_not_one_without_improvement(
    limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def epochs(n_iter_no_change: int | None) -> list[float]:
        watch = _watch(monkeypatch)
        settings = {"final_fraction": 0.3, "n_rounds": 1, "max_parameters": 400}
        search = a_search(
            Improving(watch, 0.01, 0.005), n_iter_no_change=n_iter_no_change, **settings
        )
        object.__setattr__(search, "clock", Clock(limit, watch.now))
        start = search.initial_state([SMALL], Ledger(math.inf, STEPS_PER_EPOCH))
        return search.run(start).state.ledger.to_frame()["epochs"].tolist()

    assert epochs(1) == epochs(None)


class Improving(SlowTrainer):
    """The longer a network is trained, the better it becomes."""

    def train(self, candidates: Any, n_steps: Any, *rest: Any) -> list[Candidate]:
        trained = super().train(candidates, n_steps, *rest)
        losses = [1 / (1 + candidate.n_steps) for candidate in trained]
        evaluations = [(Evaluation(loss, loss, 1 - loss),) for loss in losses]
        return [replace(c, evaluations=e) for c, e in zip(trained, evaluations, strict=True)]


def test_the_final_training_fills_its_share_of_the_time(watch: Watch) -> None:
    trainer = SlowTrainer(watch, 0.01, 0.005)
    search = a_search(trainer, final_fraction=0.3, max_parameters=500)
    object.__setattr__(search, "clock", Clock(100, watch.now))
    outcome = search.run(search.initial_state([SMALL], Ledger(math.inf, STEPS_PER_EPOCH)))
    entry = outcome.state.ledger.entries[-1]
    assert entry.phase == "final"
    assert 15 < entry.seconds < 45
    assert trainer.recipes[-1].annealing_steps == entry.n_steps


@given(
    of_a_step=st.floats(1e-5, 0.1),
    of_an_evaluation=st.floats(0, 0.1),
    seconds=st.floats(0.01, 50),
    most=st.integers(1, 5000),
)
def test_timings_tell_how_much_is_affordable(
    of_a_step: float, of_an_evaluation: float, seconds: float, most: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch = _watch(monkeypatch)

        def train(n_steps: int) -> None:
            n_evaluations = -(-n_steps // STEPS_PER_EPOCH)
            watch.pass_by(n_steps * of_a_step + n_evaluations * of_an_evaluation)

        n_steps = affordable_steps(train, STEPS_PER_EPOCH, most, lambda: seconds)
        began = watch.now
        train(n_steps)
        assert 1 <= n_steps <= most
        assert n_steps == 1 or watch.now - began <= seconds + of_an_evaluation + 1e-6
        one_more = n_steps + (STEPS_PER_EPOCH if n_steps >= STEPS_PER_EPOCH else 1)
        tried = LEAST_TIMINGS * (of_a_step + of_an_evaluation) * (1 + 1e-6) < seconds
        if tried and one_more <= most:
            # An evaluation in the timing makes its batches seem slower.
            began = watch.now
            train(one_more)
            assert 2 * (watch.now - began) + 4 * of_an_evaluation > seconds


@given(
    of_a_step=st.floats(1e-5, 1e-3),
    to_set_up=st.floats(0, 0.2),
    seconds=st.floats(5, 50),
    steps_per_epoch=st.integers(1, 20),
)
def test_what_is_set_up_once_leaves_the_time_to_the_batches(
    of_a_step: float, to_set_up: float, seconds: float, steps_per_epoch: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch = _watch(monkeypatch)

        def train(n_steps: int) -> None:
            watch.pass_by(to_set_up + n_steps * of_a_step)

        n_steps = affordable_steps(train, steps_per_epoch, 10**9, lambda: seconds, False)
        assert n_steps % steps_per_epoch == 0
        began = watch.now
        train(n_steps)
        epoch = steps_per_epoch * of_a_step
        assert seconds - epoch - 1e-3 <= watch.now - began <= seconds + 1e-3


def test_a_single_batch_is_not_tried() -> None:
    def train(n_steps: int) -> None:
        raise AssertionError("there is nothing to find out")

    assert affordable_steps(train, STEPS_PER_EPOCH, 1, lambda: 1e-3) == 1


def test_a_clock_that_is_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    _watch(monkeypatch)  # stands still
    assert affordable_steps(lambda n_steps: None, STEPS_PER_EPOCH, 5, lambda: 0.0) == 1


@not_if_brief
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_trainer_gives_up_at_its_deadline(
    engine: str,
    n_jobs: int,
    digits: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[tuple[FusedTrainer, tuple[Any, ...]]] = []
    train = FusedTrainer.train

    def spy(self: FusedTrainer, *arguments: Any) -> list[Candidate]:
        trained.append((self, arguments))
        return train(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(FusedTrainer, "train", spy)
        quick(20, n_jobs=n_jobs).fit(*digits)
    trainer, (candidates, _, key, recipe, deadline) = trained[-1]
    assert deadline == math.inf
    plain = PlainTrainer(trainer.data, trainer.optimizer, trainer.scorer)
    for own in (trainer, plain):
        for seconds in (0, 0.2):
            began = time.monotonic()
            steps = [3_000_000] * len(candidates)  # they would take hours
            with pytest.raises(OutOfTime):
                own.train(candidates, steps, key, recipe, began + seconds)
            assert time.monotonic() - began < 60


def test_a_deadline_is_the_same_moment_in_a_worker(watch: Watch) -> None:
    workers = Workers(watch.now + 50)
    state = workers.__getstate__()
    watch.now += 1_000_000  # the clock of another machine
    twin = Workers.__new__(Workers)
    twin.__setstate__(state)
    assert twin.deadline - watch.now == pytest.approx(50)
    assert Workers().__getstate__() == (math.inf,)


def test_a_fit_without_a_budget_is_the_beginning_of_a_longer_one(digits: Any) -> None:
    clf = quick(None, time_limit=2).fit(*digits)
    searched = ~clf.history_["phase"].isin(["control", "final"])
    rows = clf.history_[searched].drop(columns="seconds")
    longer = quick(rows["epochs"].sum() / 0.7 + 60).fit(*digits)
    expected = longer.history_.drop(columns="seconds").iloc[: len(rows)]
    pd.testing.assert_frame_equal(rows, expected)
    assert 0 <= clf.score(*digits) <= 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"budget": None}, "budget=None needs a time_limit"),
        ({"time_limit": 0}, "time_limit"),
        ({"time_limit": math.nan}, "time_limit"),
        ({"time_limit": 1e-9}, "time_limit=1e-09 seconds are over"),
    ],
)
def test_what_cannot_be_done_is_an_error(
    digits: Any, parameters: dict[str, Any], message: str
) -> None:
    clf = ECToNASClassifier(**parameters)
    with pytest.raises(ValueError, match=message):
        clf.fit(*digits)
    assert not hasattr(clf, "network_")


def test_lines_tell_the_time(digits: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(60, verbose=1).fit(*digits)
    lines = capsys.readouterr().out.splitlines()
    quick(60, verbose=2).fit(*digits)
    more = capsys.readouterr().out.splitlines()
    assert len(more) > len(lines)
    for line in (*lines, *more):
        assert " candidates a second" in line
        assert " left, " in line
    assert "round 1 of phase 1: " in more[2]
    spent = [float(line.split(": ")[1].split(" of ")[0]) for line in more]
    assert spent == sorted(spent)

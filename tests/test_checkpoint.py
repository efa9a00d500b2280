"""A search that was killed continues from its checkpoint with the same bits."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import failing_trainer, not_if_brief, quick, texts
from killing import KilledFit, Workers, bits
from quick_processes import processes
from sklearn.model_selection import GridSearchCV
from test_search_state import a_fit, found

from skectonas import ECToNASClassifier
from skectonas.morphisms import AddUnits, Identity
from skectonas.population import FusedTrainer
from skectonas.search import Greedy, SearchState
from skectonas.search import checkpoint as checkpoints
from skectonas.search.checkpoint import DIGEST_SIZE, HEAD, Checkpoint

N_KILLS = 10


def _state_of(path: Path) -> SearchState:
    """Return the state in a file, of whatever search it is."""
    return checkpoints._state_from(checkpoints._read(path)["state"])


@not_if_brief
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_that_is_killed_again_and_again_has_the_same_bits(
    tmp_path: Path, n_jobs: int
) -> None:
    killed, random, outcomes = KilledFit(tmp_path, Workers(n_jobs)), Random(0), []
    while outcomes.count("killed") < N_KILLS or killed.path.exists():
        outcomes.append(killed.attempt(random))
    assert outcomes[-1] == "finished"
    assert "killed, killed" in ", ".join(outcomes)


@not_if_brief
@pytest.mark.parametrize("case", ["greedy", "balanced", "warm start"])
def test_every_state_can_be_written(
    digits: Any, monkeypatch: Any, tmp_path: Path, case: str
) -> None:
    search, state = a_fit(digits, monkeypatch, case)
    fresh, _ = a_fit(digits, monkeypatch, case)
    files, steps = [Checkpoint(tmp_path / "0", {"a": "b"}, 7)], [state.step]
    files[0].write(state)
    while state.step != "done":
        state = search.advance(state)
        files.append(Checkpoint(tmp_path / str(len(files)), {"a": "b"}, 7))
        files[-1].write(state)
        steps.append(state.step)
    assert {"mutation", "recovery", "phase 1", "phase 2", "final", "done"} <= set(steps)
    expected = found(search.outcome(state))
    for file in files:
        earlier = file.read()
        assert earlier is not None
        assert found(fresh.run(earlier)) == expected
        assert checkpoints.seed_in(file.path) == 7


@not_if_brief
def test_a_finished_search_is_not_repeated(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search"
    clf = quick(60, checkpoint=path).fit(*digits)
    with monkeypatch.context() as patched:
        patched.setattr(FusedTrainer, "train", None)
        again = quick(60, checkpoint=str(path), n_jobs=2, verbose=1).fit(*digits)
    assert bits(again, digits[0]) == bits(clf, digits[0])
    assert bits(quick(60).fit(*digits), digits[0]) == bits(clf, digits[0])


def stopped_after(n_trainings: int, fit: Callable[[], Any]) -> None:
    """Let a fit end in the middle of a training, without any notice."""
    with pytest.MonkeyPatch.context() as patched:
        failing_trainer(patched, n_trainings, SystemExit())
        patched.setattr(checkpoints, "MOST_OF_TIME", 1.0)
        with pytest.raises(SystemExit):
            fit()


@pytest.mark.parametrize("random_state", [3, None, "generator"])
def test_a_random_seed_is_kept(digits: Any, tmp_path: Path, random_state: Any) -> None:
    def fit(path: Path) -> ECToNASClassifier:
        own = np.random.RandomState(5) if random_state == "generator" else random_state
        clf = ECToNASClassifier(budget=60, random_state=own, checkpoint=path)
        return clf.fit(*digits)

    stopped_after(3, lambda: fit(tmp_path / "search"))
    seed = checkpoints.seed_in(tmp_path / "search")
    clf = fit(tmp_path / "search")
    assert clf.seed_ == seed
    if random_state is not None:
        assert bits(clf, digits[0]) == bits(fit(tmp_path / "another"), digits[0])


CHANGES: dict[str, dict[str, Any]] = {
    "budget": {"budget": 61},
    "alpha": {"alpha": 0.5},
    "start": {"start": "small_ffnn"},
    "random_state": {"random_state": 1},
    "learning_rate": {"learning_rate": 0.01},
    "morphisms": {"morphisms": [AddUnits(0.3, 4), Identity()]},
    "optimizer_params": {"optimizer_params": {"momentum": 0.5}},
    "scoring": {"scoring": "neg_log_loss"},
}


@not_if_brief
@pytest.mark.parametrize("name", CHANGES)
def test_another_search_is_refused(digits: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "search"
    stopped_after(2, lambda: quick(60, checkpoint=path).fit(*digits))
    before = path.read_bytes()
    clf = quick(60, checkpoint=path).set_params(**CHANGES[name])
    with pytest.raises(ValueError, match=f"checkpoint=.*{name}"):
        clf.fit(*digits)
    assert not hasattr(clf, "network_")
    assert path.read_bytes() == before


@not_if_brief
def test_other_data_are_refused(digits: Any, tmp_path: Path) -> None:
    path, (X, y) = tmp_path / "search", digits
    stopped_after(2, lambda: quick(60, checkpoint=path).fit(X, y))
    changed, other_y, weights = X.copy(), y.copy(), np.ones(len(X))
    changed[0, 3] += 1
    other_y[[0, 1]] = y[[1, 0]]
    assert (other_y != y).any()
    weights[5] = 0.5
    for rows in ((changed, y), (X, other_y), (X[:-1], y[:-1])):
        with pytest.raises(ValueError, match="X, y, sample_weight or groups"):
            quick(60, checkpoint=path).fit(*rows)
    with pytest.raises(ValueError, match="X, y, sample_weight or groups"):
        quick(60, checkpoint=path).fit(X, y, sample_weight=weights)
    assert bits(quick(60, checkpoint=path).fit(X.copy(), y.tolist()), X) == bits(
        quick(60).fit(X, y), X
    )


def test_a_frame_continues(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=80), "b": rng.choice(["x", "y"], 80)})
    y = np.where(X["a"] > 0, "yes", "no")
    path = tmp_path / "search"
    stopped_after(2, lambda: quick(120, checkpoint=path).fit(X.copy(), y))
    clf = quick(120, checkpoint=path).fit(X.copy(), y)
    assert bits(clf, X) == bits(quick(120).fit(X, y), X)


def test_a_folder_has_a_file_for_each_search(digits: Any, tmp_path: Path) -> None:
    grid = {"alpha": [0.5, 1.0]}
    search = GridSearchCV(quick(40, checkpoint=tmp_path), grid, cv=2, refit=False)
    stopped_after(5, lambda: search.fit(*digits))
    assert len(list(tmp_path.iterdir())) > 1
    search.fit(*digits)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 4
    plain = GridSearchCV(quick(40), grid, cv=2, refit=False).fit(*digits)
    scores = (s.cv_results_["mean_test_score"] for s in (search, plain))
    np.testing.assert_array_equal(*scores)
    with pytest.raises(ValueError, match="set random_state"):
        ECToNASClassifier(checkpoint=tmp_path).fit(*digits)


def test_a_search_that_ran_out_of_time_continues(digits: Any, tmp_path: Path) -> None:
    path = tmp_path / "search"
    for limit in (0.5, 1.0, None):
        clf = quick(150, checkpoint=path, time_limit=limit).fit(*digits)
    assert bits(clf, digits[0]) == bits(quick(150).fit(*digits), digits[0])


def test_a_warm_start_has_a_checkpoint_of_its_own(digits: Any, tmp_path: Path) -> None:
    clf = quick(30, warm_start=True, checkpoint=tmp_path / "first").fit(*digits)
    with pytest.raises(ValueError, match="the networks that the search begins with"):
        clf.fit(*digits)
    expected = quick(30, warm_start=True).fit(*digits).fit(*digits)
    clf.set_params(checkpoint=tmp_path / "second").fit(*digits)
    assert bits(clf, digits[0]) == bits(expected, digits[0])


def damaged(data: bytes) -> dict[str, bytes]:
    body = len(HEAD) + DIGEST_SIZE
    crafted = pickle.dumps({"seed": 0, "fingerprint": {}, "state": print})
    return {
        "empty": b"",
        "truncated": data[:-1],
        "longer": data + b"x",
        "flipped": data[: body + 9] + bytes([data[body + 9] ^ 1]) + data[body + 10 :],
        "another file": b"PK" + data,
        "code": HEAD + hashlib.sha256(crafted).digest() + crafted,
    }


@pytest.mark.parametrize("kind", damaged(b"x" * 100))
def test_a_damaged_file_is_an_error(digits: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "search"
    quick(20, checkpoint=path).fit(*digits)
    broken = damaged(path.read_bytes())[kind]
    path.write_bytes(broken)
    for random_state in (0, None):
        with pytest.raises(ValueError, match=r"checkpoint"):
            quick(20, checkpoint=path, random_state=random_state).fit(*digits)
    assert path.read_bytes() == broken


def test_a_place_that_cannot_be_written_to_is_an_error(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints, "write_file", refused)
    with pytest.raises(ValueError, match=r"checkpoint=.*cannot be written: .*denied"):
        quick(20, checkpoint=tmp_path / "search").fit(*digits)


def test_a_path_that_cannot_be_read_is_an_error(digits: Any) -> None:
    for path in (Path(__file__) / "search", "\0"):
        with pytest.raises(ValueError, match=r"checkpoint=.*cannot be read"):
            quick(20, checkpoint=path).fit(*digits)


def test_a_full_disk_does_not_end_the_search(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = checkpoints.write_file, []

    def full(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        write(*arguments)

    monkeypatch.setattr(checkpoints, "write_file", full)
    monkeypatch.setattr(checkpoints, "MOST_OF_TIME", 1.0)
    with pytest.warns(UserWarning, match="The checkpoint was not written: .*No space left"):
        clf = quick(60, checkpoint=tmp_path / "search").fit(*digits)
    assert bits(clf, digits[0]) == bits(quick(60).fit(*digits), digits[0])


def test_ctrl_c_while_it_is_written_loses_no_state(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, calls = tmp_path / "search", checkpoints.write_file, []

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(checkpoints, "write_file", interrupted)
    monkeypatch.setattr(checkpoints, "MOST_OF_TIME", 1e9)  # every state is written at once
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick(60, checkpoint=path).fit(*digits)
    assert len(_state_of(path).ledger.entries) == len(clf.history_)


def test_other_classes_are_refused(digits: Any, tmp_path: Path) -> None:
    X, y = digits[0], digits[1] % 2
    path = tmp_path / "search"
    quick(8, scoring="f1", checkpoint=path).fit(X, y)  # that of the upper class
    with pytest.raises(ValueError, match="X, y, sample_weight or groups"):
        quick(8, scoring="f1", checkpoint=path).fit(X, 1 + y)


def test_a_fitness_may_return_tensors(digits: Any, tmp_path: Path) -> None:
    clf = quick(60, selection=InTensors(), checkpoint=tmp_path / "search")
    fit = partial(clf.fit, *digits)
    assert bits(fit(), digits[0]) == bits(fit(), digits[0])


class InTensors(Greedy):
    def __call__(self, candidate: Any) -> Any:
        return torch.tensor(super().__call__(candidate))


def test_a_score_may_refer_to_itself(digits: Any, tmp_path: Path) -> None:
    score = Registered()
    fit = partial(quick(8, scoring=score, checkpoint=tmp_path / "search").fit, *digits)
    assert bits(fit(), digits[0]) == bits(fit(), digits[0])
    score.registry.append("another")
    with pytest.raises(ValueError, match="scoring"):
        fit()


class Registered:
    """One of twenty scores that all know each other."""

    def __init__(self, registry: list[Any] | None = None) -> None:
        self.registry = [self] if registry is None else registry
        while registry is None and len(self.registry) < 20:
            self.registry.append(Registered(self.registry))

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        return float(np.mean(estimator.predict(X) == y))


def test_a_last_state_that_cannot_be_written_loses_nothing(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Checkpoint.write

    def full_at_the_end(self: Checkpoint, state: SearchState) -> None:
        if state.step == "done":
            raise OSError(28, "No space left on device")
        write(self, state)

    monkeypatch.setattr(Checkpoint, "write", full_at_the_end)
    clf = quick(20, checkpoint=tmp_path / "search")
    with pytest.raises(UserWarning, match="not written") as caught:  # warnings are errors
        clf.fit(*digits)
    assert "best network so far" in caught.value.__notes__[0]
    assert bits(clf, digits[0]) == bits(quick(20).fit(*digits), digits[0])


@not_if_brief
def test_writing_takes_a_small_part_of_the_time(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, state = a_fit(digits, monkeypatch, "greedy")
    file, now, written = Checkpoint(tmp_path / "search", {}, 0), [0.0], []
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def write(own: Checkpoint, state: Any) -> None:
        written.append(now[0])
        now[0] += 0.01

    monkeypatch.setattr(Checkpoint, "write", write)
    state = search.advance(state)
    for _ in range(1000):
        now[0] += 0.003
        file.keep(state)
    assert 2 <= len(written) <= 4
    n_written = len(written)
    later = search.advance(state)
    file.keep(later)
    assert len(written) == n_written
    # What was put off is written in the end, and once.
    file.finish()
    file.finish()
    assert len(written) == n_written + 1


@not_if_brief
@pytest.mark.parametrize("slow", [False, True])
def test_the_file_has_all_that_was_done_in_time(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    if slow:
        monkeypatch.setattr(checkpoints, "MOST_OF_TIME", 1e-9)
    path = tmp_path / "search"
    clf = quick(None, time_limit=2, final_fraction=0.0, checkpoint=path).fit(*digits)
    kept = _state_of(path)
    trained = clf.history_["phase"] != "final"  # its length depends on the clock
    assert len(kept.ledger.entries) == trained.sum() > 5


def test_a_folder_that_does_not_exist_is_refused(digits: Any, tmp_path: Path) -> None:
    for path in (f"{tmp_path / 'no'}{os.sep}", tmp_path / "no" / "search"):
        with pytest.raises(ValueError, match="folder that does not exist"):
            quick(3, checkpoint=path).fit(*digits)
    assert not list(tmp_path.iterdir())


def test_an_empty_path_is_refused(digits: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="checkpoint must be the path"):
        quick(3, checkpoint="").fit(*digits)
    assert not list(tmp_path.iterdir())


def test_scores_of_other_settings_are_other_searches(digits: Any, tmp_path: Path) -> None:
    def score(estimator: Any, X: Any, y: Any, sign: float) -> float:
        return sign * float((estimator.predict(X) == y).mean())

    path = tmp_path / "search"
    quick(8, scoring=partial(score, sign=1.0), checkpoint=path).fit(*digits)
    with pytest.raises(ValueError, match="scoring"):
        quick(8, scoring=partial(score, sign=-1.0), checkpoint=path).fit(*digits)


SCORER = """
def score(estimator, X, y):
    return (estimator.predict(X) == y).mean() - {offset}
"""
FITNESS = """
class ByLoss:
    def __call__(self, candidate):
        return -{factor} * candidate.loss

    def final(self, candidate, start):
        return -candidate.loss
"""


ATTRIBUTE = FITNESS.format(factor="self.factor") + "\n    factor = {factor}\n"
DEFAULT = FITNESS.format(factor="factor").replace("candidate):", "candidate, factor={factor}):")


@pytest.mark.parametrize(
    ("name", "parameter", "before", "after"),
    [
        ("score", "scoring", SCORER.format(offset=0), SCORER.format(offset=1)),
        ("ByLoss()", "selection", FITNESS.format(factor=1), FITNESS.format(factor=2)),
        ("ByLoss()", "selection", ATTRIBUTE.format(factor=1), ATTRIBUTE.format(factor=2)),
        ("ByLoss()", "selection", DEFAULT.format(factor=1), DEFAULT.format(factor=2)),
    ],
)
def test_edited_code_makes_another_search(
    digits: Any, tmp_path: Path, name: str, parameter: str, before: str, after: str
) -> None:
    def run(code: str) -> None:
        module = {"__name__": "own"}
        exec(compile(code, "own.py", "exec"), module)
        params = {parameter: eval(name, module)}
        quick(8, checkpoint=tmp_path / "search", **params).fit(*digits)

    run(before)
    run(before)
    with pytest.raises(ValueError, match=rf"other values of \['{parameter}'\]"):
        run(after)


@pytest.mark.parametrize("is_table", [False, True])
def test_a_start_that_diverged_does_not_block_the_file(
    digits: Any, tmp_path: Path, is_table: bool
) -> None:
    X, y = digits
    X, path = X.reshape(len(X), -1) if is_table else X, tmp_path / "search"
    with pytest.raises(ValueError, match="diverged"), np.errstate(all="ignore"):
        quick(60, checkpoint=path, learning_rate=1e30).fit(X, y)
    assert path.exists()
    found = quick(60, checkpoint=path).fit(X, y)
    assert bits(found, X) == bits(quick(60).fit(X, y), X)


def test_texts_of_parameters_are_the_same_in_every_process() -> None:
    with processes().Pool(1) as pool:
        assert pool.apply_async(texts).get(timeout=60) == texts()
    assert len(set(texts())) == len(texts()) - 1  # 1 and 1.0
    assert "0x" not in "".join(texts())

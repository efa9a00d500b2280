"""A round whose workers die is done again, to the same bits."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from helpers import not_if_brief
from populations import KEY, SGD, assert_same_bits, networks, training_data
from quick_processes import dask_workers

from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer
from skectonas.population.workers.redoing import done_again
from skectonas.population.workers.sharing import Shared
from skectonas.training.scoring import Scorer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SHAPE = (6, 6, 1)
N_STEPS = [10, 10, 7]  # an epoch has five
DEATH = "Workers have died"


def mean(probabilities: np.ndarray) -> float:
    return float(probabilities[:, 0].mean())


def killing(folder: Path, most: int) -> Scorer:
    """Return a score that kills the worker that computes it, so many times at the most.

    The first evaluation of a candidate is in the middle of its training.
    """
    parent = os.getpid()

    def score(probabilities: np.ndarray) -> float:
        kills = len(list(folder.iterdir()))
        if os.getpid() != parent and kills < most:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(probabilities[:, 0].mean())

    return score


def trained(score: Scorer, n_jobs: int = 1) -> list[Candidate]:
    candidates = networks(SHAPE, 3, [("", (4,)), ("3a", (5,)), ("2m", ())])
    trainer = FusedTrainer(training_data(SHAPE), SGD, score, 2, n_jobs)
    return trainer.train(candidates, N_STEPS, KEY)


def reasons(warned: Iterable[warnings.WarningMessage]) -> list[str]:
    """Return where a round was done again, each time."""
    texts = [str(w.message) for w in warned if DEATH in str(w.message)]
    return [text.partition("done again by ")[2].partition(",")[0] for text in texts]


class Attempt:
    """What raises errors in workers, and gives a result where none is left to raise."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.n_workers = list(errors), []

    def __call__(self, handle: Any, n_workers: int) -> str:
        self.n_workers.append(n_workers)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class KilledWorker(Exception):
    """As Dask calls it."""


@pytest.mark.parametrize("error", [BrokenProcessPool("dead"), CancelledError(), KilledWorker()])
def test_dead_workers_are_replaced_and_then_done_without(error: Exception) -> None:
    for n_errors, expected in enumerate([[2], [2, 2], [2, 2, 1]]):
        attempt = Attempt(*[error] * n_errors)
        with joblib.parallel_config("loky"), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert done_again(attempt, Shared(0), 2) == "done"
        assert attempt.n_workers == expected
        assert reasons(warned) == ["new workers", "this process"][:n_errors]


def test_an_error_that_comes_again_without_workers_is_raised() -> None:
    """A score has raised it, and no worker is dead."""
    attempt = Attempt(*[BrokenProcessPool("ours")] * 3)
    with (
        joblib.parallel_config("loky"),
        pytest.warns(UserWarning, match=DEATH) as warned,
        pytest.raises(BrokenProcessPool, match="ours"),
    ):
        done_again(attempt, Shared(0), 2)
    assert len(warned) == 2


@pytest.mark.parametrize(
    ("backend", "error"), [("loky", ValueError("ours")), ("threading", TimeoutError("ours"))]
)
def test_other_errors_are_raised_at_once(backend: str, error: Exception) -> None:
    attempt = Attempt(error)
    with joblib.parallel_config(backend), pytest.raises(type(error), match="ours"):
        done_again(attempt, Shared(0), 2)


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    with joblib.parallel_config("loky"), pytest.warns(UserWarning, match=DEATH) as warned:
        found = trained(killing(tmp_path, 1), n_jobs=2)
    assert reasons(warned) == ["new workers"]
    assert list(tmp_path.iterdir())
    assert_same_bits(found, trained(mean))


# --- Dask ------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Iterator[Any]:
    """Yield a client of two workers of Dask, each a process."""
    with dask_workers() as client:
        yield client


def killing_all(workers: Sequence[int], once: Path) -> Scorer:
    """Return a score that kills all workers when one of them first computes it."""

    def score(probabilities: np.ndarray) -> float:
        if os.getpid() in workers and not once.exists():
            once.touch()
            for worker in sorted(workers, key=os.getpid().__eq__):
                os.kill(worker, signal.SIGKILL)
        return float(probabilities[:, 0].mean())

    return score


@not_if_brief
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of its own dependencies
def test_workers_of_dask_that_are_killed(client: Any, tmp_path: Path) -> None:
    expected = trained(mean)
    with joblib.parallel_config("dask"), warnings.catch_warnings(record=True) as warned:
        warnings.filterwarnings("always", DEATH, UserWarning)
        found = trained(killing(tmp_path, 1), n_jobs=2)
    # Dask does the task again if the other worker has the rows, and forgets it if not.
    assert reasons(warned) in ([], ["new workers"])
    assert len(list(tmp_path.iterdir())) == 1
    assert_same_bits(found, expected)
    client.wait_for_workers(2, timeout=60)
    workers = list(client.run(os.getpid).values())
    with joblib.parallel_config("dask"), pytest.warns(UserWarning, match=DEATH) as warned:
        found = trained(killing_all(workers, tmp_path / "once"), n_jobs=2)
    assert reasons(warned) == ["new workers"]
    assert (tmp_path / "once").exists()
    assert_same_bits(found, expected)

"""A round whose workers die is done again, to the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from populations import KEY, SGD, assert_same_bits, networks, training_data

from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer
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


def reasons(warned: pytest.WarningsRecorder) -> list[str]:
    """Return where a round was done again, each time."""
    texts = [str(w.message) for w in warned if DEATH in str(w.message)]
    return [text.partition("done again by ")[2].partition(",")[0] for text in texts]


@pytest.mark.parametrize(
    ("most", "places"),
    [(1, ["new workers"]), (99, ["new workers", "this process"])],
)
def test_processes_that_are_killed(most: int, places: list[str], tmp_path: Path) -> None:
    with joblib.parallel_config("loky"), pytest.warns(UserWarning, match=DEATH) as warned:
        found = trained(killing(tmp_path, most), n_jobs=2)
    assert reasons(warned) == places
    assert len(list(tmp_path.iterdir())) >= min(most, 2)
    assert_same_bits(found, trained(mean))


def test_an_error_of_a_score_is_not_lost() -> None:
    """It looks as if a worker had died, but comes again where there is none."""

    def score(probabilities: np.ndarray) -> float:
        raise BrokenProcessPool("ours")

    with (
        joblib.parallel_config("loky"),
        pytest.warns(UserWarning, match=DEATH) as warned,
        pytest.raises(BrokenProcessPool, match="ours"),
    ):
        trained(score, n_jobs=2)
    assert reasons(warned) == ["new workers", "this process"]


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_another_error_is_raised_at_once(backend: str, tmp_path: Path) -> None:
    def score(probabilities: np.ndarray) -> float:
        with (tmp_path / "calls").open("a") as file:
            file.write("x")
        raise TimeoutError("ours") if backend == "threading" else ZeroDivisionError("ours")

    expected = TimeoutError if backend == "threading" else ZeroDivisionError
    with joblib.parallel_config(backend), pytest.raises(expected, match="ours"):
        trained(score, n_jobs=2)
    assert len((tmp_path / "calls").read_text()) <= 2


# --- Dask ------------------------------------------------------------------------------------


@pytest.fixture
def client() -> Iterator[Any]:
    """Yield a client of two workers of Dask, each a process."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    with cluster, distributed.Client(cluster) as client:
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of its own dependencies
def test_workers_of_dask_that_are_killed(client: Any, tmp_path: Path) -> None:
    expected = trained(mean)
    with joblib.parallel_config("dask"):
        found = trained(killing(tmp_path, 1), n_jobs=2)  # Dask has the rows on the other one
    assert len(list(tmp_path.iterdir())) == 1
    assert_same_bits(found, expected)
    client.wait_for_workers(2, timeout=60)
    workers = list(client.run(os.getpid).values())
    with joblib.parallel_config("dask"), pytest.warns(UserWarning, match=DEATH) as warned:
        found = trained(killing_all(workers, tmp_path / "once"), n_jobs=2)
    assert reasons(warned) == ["new workers"]
    assert (tmp_path / "once").exists()
    assert_same_bits(found, expected)

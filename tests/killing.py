"""Fits that are killed at random moments and continued, and fits with a limit of time."""

from __future__ import annotations

import importlib
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import joblib
import numpy as np
from quick_processes import processes
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier
from skectonas.search import checkpoint as checkpoints


def bits(clf: ECToNASClassifier, X: Any) -> tuple[str, bytes]:
    """Return the history, without times, and the probabilities."""
    return clf.history_.drop(columns="seconds").to_csv(), clf.predict_proba(X).tobytes()


@dataclass(frozen=True)
class Workers:
    """The workers of a fit.

    Parameters
    ----------
    n_jobs : int, default=1
        Their number.
    backend : str or None, default=None
        The backend of joblib.
    address : str or None, default=None
        Where the scheduler of Dask is. Like its workers, it outlives a client that is killed.
    """

    n_jobs: int = 1
    backend: str | None = None
    address: str | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let fits in the block have these workers."""
        with ExitStack() as stack:
            if self.address is not None:
                distributed = importlib.import_module("distributed")
                stack.enter_context(distributed.Client(self.address))
            if self.backend is not None:
                stack.enter_context(joblib.parallel_config(self.backend))
            yield


def fit(path: str | None, workers: Workers) -> tuple[str, bytes]:
    """Fit the digits and return the bits."""
    X, y = load_digits(return_X_y=True)
    clf = ECToNASClassifier(budget=150, n_jobs=workers.n_jobs, random_state=0, checkpoint=path)
    with workers.at_work():
        return bits(clf.fit(X, y), X[:50])


def fit_in_a_process(path: str, result: str, workers: Workers) -> None:
    """Fit and write what was found to a file; a state is written after every round."""
    checkpoints.MOST_OF_TIME = 1.0
    Path(result).write_bytes(pickle.dumps(fit(path, workers)))
    os._exit(0)  # idle workers of joblib would be waited for


MOST_KILLS = 5


class KilledFit:
    """A fit that is killed and continued.

    Parameters
    ----------
    folder : Path
        Where its files are.
    workers : Workers
        What trains.
    """

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.path, self.result, self._workers = folder / "search", folder / "result", workers
        began = time.monotonic()
        self.expected = fit(None, workers)
        self._duration = time.monotonic() - began
        self._processes = processes()
        self._n_killed = 0

    def attempt(self, random: Random) -> str:
        """Begin or continue the fit, and kill it at a random moment.

        After `MOST_KILLS` in a row it comes to the end.

        Returns
        -------
        str
            "killed", or "finished" if it came to the end, with the bits of the fit that nobody
            has killed.
        """
        given = str(self.path), str(self.result), self._workers
        process = self._processes.Process(target=fit_in_a_process, args=given)
        process.start()
        while process.is_alive() and not self.path.exists():
            time.sleep(0.001)
        seconds = random.random() * self._duration
        process.join(None if self._n_killed == MOST_KILLS else seconds)
        if process.is_alive():
            process.kill()
            process.join()
            self._n_killed += 1
            return "killed"
        self._n_killed = 0
        assert process.exitcode == 0, "the fit has failed"
        found = pickle.loads(self.result.read_bytes())
        assert found == self.expected, "the fit has other bits"
        self.path.unlink()
        return "finished"


TOLERANCE, SHARE = 1.0, 0.02
"""Seconds, and the share of the limit, by which a fit may be late."""


def limited_fit(random: Random) -> str:
    """Fit images of a random number with a random limit of time.

    Returns
    -------
    str
        "in time", or the error if there was no time for the start.
    """
    limit = 60 ** random.random()
    n, side = round(10 ** random.uniform(2, 4.3)), random.choice([8, 14, 28])
    rng = np.random.default_rng(random.getrandbits(32))
    y = rng.integers(0, 10, n)
    X = rng.integers(0, 40, (n, side, side)).astype(np.uint8)
    X[np.arange(n), y % side, y % side] = 200
    clf = ECToNASClassifier(
        budget=random.choice([None, None, 50]),
        time_limit=limit,
        n_jobs=random.choice([1, 1, 2]),
        final_fraction=random.choice([0.0, 0.3, 0.3, 1.0]),
        random_state=0,
    )
    began = time.monotonic()
    clf.fit(X, y)
    elapsed = time.monotonic() - began
    late = f"{elapsed:.1f} s for a limit of {limit:.1f} s"
    assert elapsed <= (1 + SHARE) * limit + TOLERANCE, late
    assert clf.history_["phase"].iloc[0] == "warm-up"
    return "in time"

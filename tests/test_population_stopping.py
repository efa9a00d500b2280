"""No worker outlives a round that was interrupted."""

from __future__ import annotations

import itertools
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.population import trainer as trainers
from skectonas.population.workers import stopping
from skectonas.population.workers.stopping import Stopped, Workers
from skectonas.training import Recipe
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import resolve_optimizer


def test_an_exception_waits_for_the_workers_and_stops_them() -> None:
    workers = Workers()
    stopped = threading.Event()

    def train_for_ever() -> None:
        with workers.running():
            while True:
                workers.check()
                time.sleep(0.001)

    def work() -> None:
        with pytest.raises(Stopped):
            train_for_ever()
        stopped.set()

    thread = threading.Thread(target=work)

    def interrupted() -> None:
        with workers.stop_on_exception():
            thread.start()
            while not workers._running:
                time.sleep(0.001)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join(5)
    assert stopped.is_set()
    assert not workers._running
    with pytest.raises(Stopped), workers.running():
        raise AssertionError("a worker that begins late does not train")
    assert not workers._running


def interrupted_at(line: int, function: Callable[[], None]) -> int:
    """Call a function, and press Ctrl-C at the n-th line that runs in `stopping`.

    Returns
    -------
    int
        The number of lines that ran.
    """
    n_lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal n_lines
        if frame.f_code.co_filename != stopping.__file__:
            return None
        if event == "line":
            n_lines += 1
            if n_lines == line:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return n_lines


def test_ctrl_c_at_any_line_of_a_worker_in_the_main_thread() -> None:
    """Another thread is still waited for, and nobody waits for the main thread."""

    def round_of(workers: Workers, ended: list[bool]) -> None:
        def train() -> None:
            with suppress(Stopped), workers.running():
                begun.set()
                while not ended_by_us.is_set():
                    workers.check()
                    time.sleep(0.001)
            ended.append(True)

        begun, ended_by_us = threading.Event(), threading.Event()
        thread = threading.Thread(target=train, daemon=True)
        try:
            with workers.stop_on_exception():
                thread.start()
                begun.wait(20)
                with workers.running():
                    workers.check()
                ended_by_us.set()
                thread.join(20)
        finally:
            ended.append(not thread.is_alive())
            ended_by_us.set()
            if thread.ident is not None:
                thread.join(20)

    for line in itertools.count(1):
        workers, ended = Workers(), []
        try:
            n_lines = interrupted_at(line, lambda w=workers, e=ended: round_of(w, e))
        except KeyboardInterrupt:
            assert all(ended)
            assert workers._running <= {threading.get_ident()}
        else:
            assert n_lines < line
            break
    assert line > 8


def test_a_copy_in_another_process_counts_for_itself() -> None:
    workers = Workers()
    with workers.running():
        assert not pickle.loads(pickle.dumps(workers))._running


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adafactor"])
def test_no_thread_trains_on_behind_an_interrupted_training(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((512, 12, 12, 1)).astype(np.float32))
    rows = Rows(images, torch.arange(512) % 3)

    ended: list[int] = []

    def scorer(probabilities: np.ndarray) -> float:
        ended.append(len(probabilities))
        raise KeyboardInterrupt

    rounds: list[Workers] = []
    monkeypatch.setattr(
        trainers, "Workers", lambda *given: rounds.append(Workers(*given)) or rounds[-1]
    )
    trainer = FusedTrainer(
        TrainingData(rows, rows), resolve_optimizer(optimizer, 0.1), scorer, n_jobs=2
    )
    topologies = [
        Topology((12, 12, 1), [], [Dense(4)], 3),
        Topology((12, 12, 1), [ConvCell(3, "max"), ConvCell(6)], [Dense(10)], 3),
    ]
    candidates = [Candidate(i, t, initial_weights(t, rng)) for i, t in enumerate(topologies)]
    with pytest.raises(KeyboardInterrupt):
        trainer.train(candidates, [16, 16_000], (0,), Recipe(evaluates_epochs=False))
    assert [round._running for round in rounds] == [set()]
    assert len(ended) == 1

"""No worker outlives a round that was interrupted."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
import torch

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.population.workers.stopping import Stopped, Workers
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
            while not workers._n_running:
                time.sleep(0.001)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join(5)
    assert stopped.is_set()
    with workers.running():  # and the next round works again
        workers.check()


def test_a_copy_in_another_process_counts_for_itself() -> None:
    workers = Workers()
    with workers.running():
        assert pickle.loads(pickle.dumps(workers))._n_running == 0


def test_no_thread_trains_on_behind_an_interrupted_training() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.random((512, 12, 12, 1)).astype(np.float32))
    rows = Rows(images, torch.arange(512) % 3)

    def scorer(probabilities: np.ndarray) -> float:
        raise KeyboardInterrupt

    trainer = FusedTrainer(
        TrainingData(rows, rows), resolve_optimizer("sgd", 0.1), scorer, n_jobs=2
    )
    topologies = [
        Topology((12, 12, 1), [], [Dense(4)], 3),
        Topology((12, 12, 1), [ConvCell(3, "max"), ConvCell(6)], [Dense(10)], 3),
    ]
    candidates = [Candidate(i, t, initial_weights(t, rng)) for i, t in enumerate(topologies)]
    with pytest.raises(KeyboardInterrupt):
        trainer.train(candidates, [16, 16_000], (0,))
    assert trainer._workers._n_running == 0

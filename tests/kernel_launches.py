"""The kernel's launches, done by something other than a device, against the plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from populations import KEY, assert_close, scorer_for

from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer, trainer
from skectonas.population.kernels import launches
from skectonas.population.kernels.compiled import Launch
from skectonas.population.native.library import TORCH, VARIABLE
from skectonas.training.data import TrainingData
from skectonas.training.plain import OptimizerSpec, PlainTrainer


def assert_kernel_equals_plain_loop(
    launch: Launch,
    threads: int,
    data: TrainingData,
    candidates: Sequence[Candidate],
    n_steps: Sequence[int],
    optimizer: OptimizerSpec,
    n_classes: int,
    tolerance: float,
) -> None:
    """Train by `launch`, as with a kernel of `threads` threads, and by the plain loop."""
    scorer = scorer_for(data, n_classes)
    expected = PlainTrainer(data, optimizer, scorer, 2).train(candidates, n_steps, KEY)
    launched: list[int] = []

    def counted(n_candidates: int, *others: Any) -> None:
        launched.append(n_candidates)
        launch(n_candidates, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, TORCH)  # instead of the native library
        patch.setattr(trainer, "can_compile", lambda device: True)
        patch.setattr(trainer, "batches_at_once", lambda *_: 3)  # as on a device: several
        patch.setattr(launches, "threads_for", lambda *_: threads)
        patch.setattr(launches, "compiled", lambda *_: counted)
        found = FusedTrainer(data, optimizer, scorer, 2).train(candidates, n_steps, KEY)
    assert max(launched) == len(candidates)
    assert_close(found, expected, tolerance)

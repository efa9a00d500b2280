"""Whatever is given, and whenever it is interrupted: a fit, or a clear error and no change."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzzing import (
    a_checkpoint,
    call_fit,
    continue_from_damaged,
    interrupt,
    load_crafted,
    load_damaged,
    saved_files,
)
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st

SOURCES = st.randoms(use_true_random=False)


@examples(40)
@given(SOURCES)
def test_calls_of_fit(random: Random) -> None:
    call_fit(random)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, Any]]:
    return saved_files(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return a_checkpoint(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loaded")


@examples(50)
@given(SOURCES)
def test_damaged_files(files: Any, folder: Path, random: Random) -> None:
    load_damaged(random, files, folder)


@examples(20)
@given(SOURCES)
def test_damaged_checkpoints(checkpoint: bytes, folder: Path, random: Random) -> None:
    continue_from_damaged(random, checkpoint, folder)


@examples(50)
@given(SOURCES)
def test_crafted_files(files: Any, folder: Path, random: Random) -> None:
    load_crafted(random, files, folder)


@pytest.fixture(scope="module")
def n_lines() -> int:
    outcome, n_lines = interrupt(Random(0))
    assert outcome == "fit"
    assert n_lines > 1000
    return n_lines


@examples(20)
@given(SOURCES)
def test_interrupts(n_lines: int, random: Random) -> None:
    assert callable(signal.getsignal(signal.SIGINT))
    interrupt(random, n_lines)

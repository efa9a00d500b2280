"""The bits of a round are the same for every number of workers, of threads and of processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import joblib
import pytest
import torch
from helpers import examples, not_if_brief
from hypothesis import example, given
from hypothesis import strategies as st
from populations import (
    KEY,
    MIXED,
    SGD,
    assert_same_bits,
    candidate,
    networks,
    scorer_for,
    training_data,
)
from quick_processes import dask_workers

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer


class Round(NamedTuple):
    """What is trained, and on what."""

    topologies: list[Topology]
    n_steps: list[int]
    n_rows: int
    batch_size: int
    dtype: torch.dtype

    def trained(self, n_jobs: int) -> list[Candidate]:
        first = self.topologies[0]
        data = training_data(first.input_shape, first.n_classes, self.n_rows, self.batch_size)
        scorer = scorer_for(data, first.n_classes)
        candidates = [candidate(i, t, self.dtype) for i, t in enumerate(self.topologies)]
        return FusedTrainer(data, SGD, scorer, 2, n_jobs).train(candidates, self.n_steps, KEY)


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    side = st.integers(4, 16)
    shape = draw(st.tuples(side, side, st.integers(1, 3)))
    n_classes, n_rows = draw(st.integers(2, 6)), draw(st.integers(20, 200))
    batch_size = draw(st.integers(4, 60))
    first = draw(st.sampled_from(["average", "max", None, "no cells"]))
    most = 2 if min(shape[:2]) > 8 else 1
    later = st.builds(ConvCell, st.integers(1, 6), st.sampled_from(["average", "max", None]))
    dense = st.lists(st.builds(Dense, st.integers(1, 20)), max_size=2)
    topologies = []
    for _ in range(draw(st.integers(2, 6))):
        cells: list[ConvCell] = []
        if first != "no cells":
            cells = [ConvCell(draw(st.integers(1, 9)), first)]
            cells += draw(st.lists(later, max_size=most - 1))
        topologies.append(Topology(shape, cells, draw(dense), n_classes))
    per_epoch = -(-n_rows // batch_size)
    n_steps = [draw(st.integers(1, 2 * per_epoch)) for _ in topologies]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    return Round(topologies, n_steps, n_rows, batch_size, dtype)


def average_cell(channels: int, *units: int) -> Topology:
    cells = [ConvCell(channels, "average")]
    return Topology((4, 6, 2), cells, [Dense(n) for n in units], 2)


# With batches that lie back to back, the last bits differ on processors with AVX2.
BACK_TO_BACK = Round([average_cell(7, 5), average_cell(6)], [6, 1], 57, 19, torch.float32)


@pytest.mark.usefixtures("engine")
@examples(40)
@example(BACK_TO_BACK)
@given(rounds())
def test_threads(case: Round) -> None:
    alone = case.trained(1)
    for n_jobs in (2, 3):
        assert_same_bits(case.trained(n_jobs), alone)


@pytest.mark.usefixtures("kind_of_engine")
@examples(8)
@example(BACK_TO_BACK)
@given(rounds())
def test_processes(case: Round) -> None:
    # Arrays arrive read only. Always as many processes: another number starts others.
    with joblib.parallel_config("loky", max_nbytes=100):
        found = case.trained(2)
    assert_same_bits(found, case.trained(1))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Start two workers of Dask."""
    with dask_workers():
        yield


@not_if_brief
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of its own dependencies
@pytest.mark.usefixtures("kind_of_engine", "cluster")
def test_dask() -> None:
    topologies = [each.topology for each in networks((9, 7, 2), 3, MIXED)]
    n_steps = [8 + i % 4 for i in range(len(topologies))]
    case = Round(topologies, n_steps, 64, 8, torch.float32)
    with joblib.parallel_config("dask"):
        found = case.trained(2)
    assert_same_bits(found, case.trained(1))

"""An estimate of the memory that groups need in training.

It is meant to be too high rather than too low. ``benchmarks/needs.py`` compares it with what
rounds take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.population.groups.group_training import ROWS_AT_ONCE, TrainingSetup
from skectonas.population.groups.ways import Planned, Way
from skectonas.population.native.layout import Layout
from skectonas.population.native.library import Engine
from skectonas.population.native.rules import rule_of
from skectonas.population.native.session import ADAM, MOMENTUM, PLAIN, STORE, bytes_of_session
from skectonas.population.native.training import bytes_of_copies, steps_at_once
from skectonas.population.run.batches import batches_at_once
from skectonas.topology import Topology
from skectonas.training import PLAIN_ROWS_AT_ONCE

COPIES_OF_LIBRARY = {PLAIN: 2, MOMENTUM: 3, ADAM: 4, STORE: 7}
"""Copies of the weights besides the result: those in training, the means, and the state of the
rule; or, for an optimiser of torch, the gradient and a state of four values for each weight."""

COPIES_OF_TORCH = {PLAIN: 5, MOMENTUM: 6, ADAM: 7, STORE: 10}
"""The same in torch: the weights, two means, gradient, the networks that are evaluated, and the
state and temporary values of the optimiser."""

BYTES_OF_ROW = 56
"""Of a training row in the order of an epoch: number, place and variant of the image, label,
weight, and what draws them."""


class Need(NamedTuple):
    """Bytes that a group needs.

    Parameters
    ----------
    result : int
        What is left after the training.
    state : int
        What it has as long as groups are trained beside it, `result` included.
    scratch : int
        What a worker has for one group after the other.
    shared : int
        What groups have together, if they need the same number of bytes for it.
    common : int
        What all groups have together.
    """

    result: int
    state: int
    scratch: int
    shared: int = 0
    common: int = 0


def bytes_of(needs: Sequence[Need], n_workers: int) -> int:
    """Return the bytes that groups need together.

    Examples
    --------
    >>> from skectonas.population.memory.needs import Need, bytes_of
    >>> bytes_of([Need(1, 10, 100, 1000), Need(2, 20, 200, 1000)], n_workers=2)
    1430
    """
    return (
        sum(need.state for need in needs)
        + n_workers * max((need.scratch for need in needs), default=0)
        + sum({need.shared for need in needs})
        + max((need.common for need in needs), default=0)
    )


class Needs:
    """Estimates what the groups of a round need.

    Parameters
    ----------
    setup : TrainingSetup
        Data and settings of the search.
    batch : int
        Rows of a batch.
    engine : Engine
        What trains on the CPU.
    n_threads : int
        Threads of this process that train.
    in_processes : bool
        Whether candidates are trained in other processes of this machine.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        batch: int,
        engine: Engine,
        n_threads: int,
        *,
        in_processes: bool,
    ) -> None:
        self._setup, self._batch, self._engine = setup, batch, engine
        self._n_threads, self._in_processes = n_threads, in_processes
        self._device = setup.data.train.labels.device
        self._n_calibration = len(setup.data.calibration)

    def of(self, planned: Planned, candidates: Sequence[Candidate]) -> Need:
        """Return what a group needs, whose members are indices of these candidates."""
        members = [candidates[i] for i in planned.group.members]
        dtype = dtype_of(members[0].weights)
        result = sum(c.n_parameters for c in members) * dtype.itemsize
        estimate = self._native if planned.way is Way.NATIVE else self._in_torch
        state, scratch, shared = estimate(planned, dtype)
        shared += BYTES_OF_ROW * len(self._setup.data.train)
        common = self._copies if planned.way is Way.NATIVE else 0
        if not self._in_processes:
            return Need(result, state + result, scratch, shared, common)
        # They share nothing. Candidates and results are on both sides, and on their way.
        return Need(result, state + 4 * result, scratch + shared + common)

    @cached_property
    def _copies(self) -> int:
        return bytes_of_copies(self._setup.data, self._batch)

    def _native(self, planned: Planned, dtype: torch.dtype) -> tuple[int, int, int]:
        """Return state, scratch and shared bytes in the native library."""
        topology = planned.group.topology
        layout = Layout(topology)
        at_once = steps_at_once(topology, self._batch, self._n_threads)
        scratch, shared = bytes_of_session(
            self._engine, layout, dtype, self._batch, at_once, self._n_calibration
        )
        copies = COPIES_OF_LIBRARY[rule_of(self._setup.optimizer).kind]
        validation = len(self._setup.data.validation) * topology.n_classes
        return dtype.itemsize * (copies * layout.size + validation), scratch, shared

    def _in_torch(self, planned: Planned, dtype: torch.dtype) -> tuple[int, int, int]:
        """Return state, scratch and shared bytes of a stack, or of the plain loop."""
        topology, n = planned.group.topology, len(planned.group.members)
        rows = PLAIN_ROWS_AT_ONCE if planned.way is Way.ALONE else ROWS_AT_ONCE
        data = self._setup.data
        rows = min(max(len(data.validation), self._n_calibration), rows)
        copies = COPIES_OF_TORCH[rule_of(self._setup.optimizer).kind]
        weights = copies * n * topology.n_parameters
        steps = n * values_in_training(topology, self._batch)
        pixels = math.prod(topology.input_shape)
        evaluation = rows * values_in_evaluation(topology)
        evaluation += 2 * len(data.validation) * topology.n_classes
        loaded = batches_at_once((self._batch, *topology.input_shape), self._device)
        shared = 3 * pixels * self._batch * loaded
        if planned.way is Way.ALONE:
            state, scratch = 0, weights + max(steps, evaluation)
        elif self._device.type == "cpu":
            state, scratch = weights, max(steps, evaluation)
        else:  # a graph keeps what it computes, and so does the kernel
            state, scratch = weights + steps, evaluation
        size = dtype.itemsize
        return size * state, size * scratch, size * shared


def values_in_training(topology: Topology, batch: int) -> int:
    """Return how many values torch has for a step of a network, besides its weights."""
    kept, largest = 0, 0
    for i, cell in enumerate(topology.cells):
        inputs = topology.channels[i] * math.prod(topology.map_sizes[i])
        pooled = cell.channels * math.prod(topology.map_sizes[i + 1])
        unpooled = cell.channels * math.prod(topology.map_sizes[i])
        # Means of the input or the convolution before its pooling; then, of the pooled ones,
        # the convolution or the places of the maxima, the batch norm and the relu.
        whole = max(inputs, unpooled) if cell.pooling == "average" else unpooled
        kept += whole + 4 * pooled
        largest = max(largest, 2 * (inputs + whole))
    kept += 4 * sum(topology.widths)
    return batch * (kept + max(largest, 2 * max(topology.widths)))


def values_in_evaluation(topology: Topology) -> int:
    """Return how many values torch has for a row that is evaluated."""
    pixels = math.prod(topology.input_shape)
    most = max(before + 2 * after for before, after in pairwise(topology.widths))
    for i, cell in enumerate(topology.cells):
        inputs = topology.channels[i] * math.prod(topology.map_sizes[i])
        # The convolution has its output in another order of memory as well.
        most = max(most, inputs + 3 * cell.channels * math.prod(topology.map_sizes[i]))
    return 2 * pixels + most

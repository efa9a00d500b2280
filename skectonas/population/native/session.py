"""The C interface of the native library: networks that it trains and evaluates in threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skectonas.population.native.layout import Layout
from skectonas.population.native.library import Engine
from skectonas.threads import uninterrupted
from skectonas.topology import ALL_POOLINGS, ConvCell
from skectonas.training import NO_AUGMENTATION, Augmentation

Array: TypeAlias = NDArray[Any]

PIXEL_TYPES = (torch.uint8, torch.float32, torch.float64)
"""Types of pixels that the library reads, in the order of their numbers in interface.h."""

LACKS_MEMORY = "not enough memory to train the networks of a round"

SECONDS_BETWEEN_SIGNALS = 0.05
"""How often Python can handle Ctrl-C while the library computes."""

_int, _long, _double, _pointer = (
    ctypes.c_int32,
    ctypes.c_int64,
    ctypes.c_double,
    ctypes.c_void_p,
)


# The structures of interface.h.
class _Input(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("height", "width", "channels", "batch")),
        *((name, _int) for name in ("pixels", "is_double", "steps_at_once")),
        *((name, _int) for name in ("shift", "flip", "erase")),
        *((name, _pointer) for name in ("offset", "scale")),
    ]


class _Network(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("n_cells", "n_layers")),
        *((name, _pointer) for name in ("channels", "poolings", "units", "places")),
        ("size", _long),
        *((name, _pointer) for name in ("weights", "means", "gradient", "statistics")),
        ("n_steps", _long),
        *((name, _double) for name in ("last_rate", "loss")),
        ("probabilities", _pointer),
        ("validation_loss", _double),
        *((name, _int) for name in ("is_finite", "is_due")),
    ]


class _Rows(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in ("images", "places", "labels", "weights", "variants")),
        ("n", _long),
    ]


class _Rule(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in ("kind", "nesterov", "decoupled")),
        *((name, _double) for name in ("momentum", "dampening", "weight_decay")),
        *((name, _double) for name in ("beta1", "beta2", "epsilon")),
    ]


class _Part(ctypes.Structure):
    _fields_ = [
        *((name, _Rows) for name in ("train", "validation")),
        *((name, _long) for name in ("first_step", "n_steps")),
        *((name, _pointer) for name in ("rates", "snapshots")),
        ("calibrates", _int),
        ("first_row", _long),
    ]


class Source(NamedTuple):
    """Rows of images in some order.

    Parameters
    ----------
    images : Tensor of shape (m, height, width, channels)
        Pixels, contiguous, of one of `PIXEL_TYPES`.
    places : Tensor of shape (n,)
        Which of the images each row is, int64.
    labels : Tensor of shape (n,)
        Class indices, int64.
    weights : Tensor of shape (n,)
        Of each row in the loss, float64; the mean of a batch, or of all validation rows, is the
        sum with these weights.
    variants : Tensor of shape (n,) or None, default=None
        Which variant of its image each row is, int64; None means the images as they are.
    """

    images: Tensor
    places: Tensor
    labels: Tensor
    weights: Tensor
    variants: Tensor | None = None

    def as_rows(self) -> _Rows:
        """Return the structure of the library; it does not keep the tensors alive."""
        integers = [self.places, self.labels, self.variants]
        assert all(own is None or own.dtype == torch.int64 for own in integers)
        assert self.weights.dtype == torch.float64
        pointers = (None if tensor is None else tensor.data_ptr() for tensor in self)
        return _Rows(*pointers, len(self.labels))


class Rule(NamedTuple):
    """How gradients change weights: see interface.h."""

    kind: int
    nesterov: bool = False
    decoupled: bool = False
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.0
    epsilon: float = 0.0


STORE, PLAIN, MOMENTUM, ADAM = range(4)
"""Kinds of rules. The first only stores the gradients."""


class Settings(NamedTuple):
    """What all networks of a session share.

    Parameters
    ----------
    batch : int
        Rows of a training batch.
    steps_at_once : int
        Batches that are loaded at once.
    offset, scale : Tensor of shape (channels,)
        What the pixels of each channel are shifted and then multiplied by, float64.
    rule : Rule
        The optimiser.
    n_threads : int
        Number of threads. The results do not depend on it.
    augmentation : Augmentation, default=NO_AUGMENTATION
        The variants of the images.
    """

    batch: int
    steps_at_once: int
    offset: Tensor
    scale: Tensor
    rule: Rule
    n_threads: int
    augmentation: Augmentation = NO_AUGMENTATION


class Member(NamedTuple):
    """A network of a session, with the memory that the library works on.

    Parameters
    ----------
    layout : Layout
        Of the flat tensors.
    weights, means, gradient : Tensor of shape (layout.size,)
        The weights that are trained, the mean that is evaluated, and the gradient, which is
        only set by the rule `STORE`.
    statistics : Tensor of shape (2, channels of all cells)
        Means and variances for the batch norm of the evaluation.
    n_steps : int
        Steps of the whole training.
    last_rate : float
        Weight of the weights after the last step in the mean.
    """

    layout: Layout
    weights: Tensor
    means: Tensor
    gradient: Tensor
    statistics: Tensor
    n_steps: int
    last_rate: float


def bytes_of_session(
    engine: Engine,
    layout: Layout,
    dtype: torch.dtype,
    batch: int,
    steps_at_once: int,
    calibration_rows: int,
) -> tuple[int, int]:
    """Return the bytes that a session with a network takes besides the weights.

    Parameters
    ----------
    engine : Engine
        The library, and its variant.
    layout : Layout
        The network.
    dtype : torch.dtype
        Type of its weights.
    batch, steps_at_once : int
        See `Settings`.
    calibration_rows : int
        Rows that the statistics of the batch norm are computed on.

    Returns
    -------
    tuple of int
        Those of each thread, and those that the session takes once for all networks that read
        the same: average pooling, another cell or a dense layer first.
    """
    assert engine.library is not None
    topology, integers = layout.topology, _integers_of(layout)
    is_double = dtype == torch.float64
    # The largest pixels; what threads need for a variant of an image is little, and counts too.
    shared = _Input(
        *topology.input_shape,
        batch,
        len(PIXEL_TYPES) - 1,
        is_double,
        steps_at_once,
        erase=1,
    )
    network = _Network(*_head_of(layout, integers))
    of_thread, of_session = _long(), _long()
    engine.library.skectonas_needs(
        engine.name.encode(),
        ctypes.byref(shared),
        ctypes.byref(network),
        _long(calibration_rows),
        ctypes.byref(of_thread),
        ctypes.byref(of_session),
    )
    return of_thread.value, of_session.value


def _integers_of(layout: Layout) -> list[Array]:
    """Return the arrays that the library reads of a network."""
    cells: Sequence[ConvCell] = layout.topology.cells
    return [
        np.array([cell.channels for cell in cells], np.int32),
        np.array([ALL_POOLINGS.index(cell.pooling) for cell in cells], np.int32),
        np.array(layout.topology.widths[1:], np.int32),
        np.array(list(layout.places.values()), np.int64),
    ]


def _head_of(layout: Layout, integers: Sequence[Array]) -> tuple[int, ...]:
    """Return the first fields of the structure of a network, up to its size."""
    topology = layout.topology
    pointers = (array.ctypes.data for array in integers)
    return len(topology.cells), len(topology.dense) + 1, *pointers, layout.size


class Session(AbstractContextManager["Session"]):
    """Networks in training; closing it waits for the threads of the library.

    Parameters
    ----------
    engine : Engine
        The library, and its variant.
    members : sequence of Member
        The networks, for images of one shape, with weights of one type.
    settings : Settings
        What they share.
    calibration : Source
        The rows that the statistics of the batch norm are computed on.
    check : callable
        Is called many times a second, and may raise to end the training.

    Raises
    ------
    MemoryError
        If there is not enough memory.
    RuntimeError
        If no thread can be started.
    """

    _handle: int | None = None

    def __init__(
        self,
        engine: Engine,
        members: Sequence[Member],
        settings: Settings,
        calibration: Source,
        check: Callable[[], None],
    ) -> None:
        assert engine.library is not None
        self._library, self._check = engine.library, check
        library = engine.library
        library.skectonas_open.restype = _pointer
        library.skectonas_wait.argtypes = [_pointer, _double]
        library.skectonas_begin.argtypes = [_pointer, _pointer]
        library.skectonas_close.argtypes = [_pointer]
        # The library reads and writes what is here until it is closed. Frames can end earlier.
        self._alive: list[Any] = [members, settings, calibration]
        self._alive_in_part: list[Any] = []
        self._probabilities: list[Array] = []
        self.networks = (_Network * len(members))(*map(self._network, members))
        topology = members[0].layout.topology
        self._n_classes, dtype = topology.n_classes, members[0].weights.dtype
        self._probability_type = torch.empty(0, dtype=dtype).numpy().dtype
        shared = _Input(
            *topology.input_shape,
            settings.batch,
            PIXEL_TYPES.index(calibration.images.dtype),
            dtype == torch.float64,
            settings.steps_at_once,
            settings.augmentation.shift,
            bool(settings.augmentation.flip),
            # A larger square covers no more.
            min(settings.augmentation.erase, 2 * max(topology.input_shape)),
            settings.offset.data_ptr(),
            settings.scale.data_ptr(),
        )
        lacks_thread = _int()
        with uninterrupted():  # or nobody would know what to close
            self._handle = library.skectonas_open(
                engine.name.encode(),
                ctypes.byref(shared),
                ctypes.byref(_Rule(*settings.rule)),
                ctypes.byref(calibration.as_rows()),
                self.networks,
                _int(len(members)),
                # No part of a training has more tasks than this.
                _int(min(settings.n_threads, len(members) + settings.steps_at_once)),
                ctypes.byref(lacks_thread),
            )
        if lacks_thread.value:
            raise RuntimeError("no thread can be started to train the networks")
        if not self._handle:
            raise MemoryError(LACKS_MEMORY)

    def _network(self, member: Member) -> _Network:
        integers = _integers_of(member.layout)
        self._alive.append(integers)
        flat = (member.weights, member.means, member.gradient, member.statistics)
        return _Network(
            *_head_of(member.layout, integers),
            *(tensor.data_ptr() for tensor in flat),
            member.n_steps,
            member.last_rate,
        )

    def train(self, source: Source, first_step: int, rates: Array, snapshots: Array) -> None:
        """Train all networks that are not finished.

        Parameters
        ----------
        source : Source
            The rows of the batches, one after the other.
        first_step : int
            Number of the first step in the whole training.
        rates : ndarray of shape (n_steps,)
            Learning rate of each step.
        snapshots : ndarray of shape (n_steps,)
            Weight of the weights after each step in the mean; 0 leaves the mean as it is.
        """
        part = _Part(
            source.as_rows(),
            _Rows(),
            first_step,
            len(rates),
            rates.ctypes.data,
            snapshots.ctypes.data,
        )
        self._run(part, source, rates, snapshots)

    def calibrate(self) -> None:
        """Compute the statistics of the networks that are due, under the means."""
        self._run(_Part(calibrates=1))

    def validate(self, source: Source, first_row: int) -> None:
        """Add probabilities and losses of some validation rows to those of the due networks."""
        self._run(_Part(validation=source.as_rows(), first_row=first_row), source)

    def begin_evaluation(self, due: Sequence[int], n_rows: int) -> list[Array]:
        """Say which networks the next evaluation is of; return where probabilities will be."""
        self._probabilities = []
        for network in self.networks:
            network.is_due = 0
        for i in due:
            # New arrays each time, because a score may keep them.
            own = np.empty((n_rows, self._n_classes), self._probability_type)
            network = self.networks[i]
            network.probabilities = own.ctypes.data
            network.is_due = network.is_finite = 1
            network.validation_loss = 0.0
            self._probabilities.append(own)
        return self._probabilities

    def _run(self, part: _Part, *read: Any) -> None:
        """Run a part, which reads some objects."""
        self._alive_in_part = list(read)
        if not self._library.skectonas_begin(self._handle, ctypes.byref(part)):
            raise MemoryError(LACKS_MEMORY)
        done = 0
        while not done:
            self._check()
            done = self._library.skectonas_wait(self._handle, SECONDS_BETWEEN_SIGNALS)
        if done > 1:
            raise MemoryError(LACKS_MEMORY)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __del__(self) -> None:
        # Ctrl-C may have come before `__enter__`. If Ctrl-C had to wait here, it would be lost.
        if self._handle:
            self._close()

    def _close(self) -> None:
        with uninterrupted():
            handle, self._handle = self._handle, None
            if handle:
                self._library.skectonas_close(handle)

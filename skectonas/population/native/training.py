"""Training candidates with the native library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skectonas.candidate import Candidate, Evaluation
from skectonas.network import dtype_of
from skectonas.population.groups.group_training import TrainingSetup, epoch_ends
from skectonas.population.native.layout import Layout
from skectonas.population.native.library import Engine
from skectonas.population.native.rules import rule_of
from skectonas.population.native.session import (
    PIXEL_TYPES,
    STORE,
    Member,
    Session,
    Settings,
    Source,
)
from skectonas.population.run.optimizer import StackOptimizer
from skectonas.topology import Topology, norm_name
from skectonas.training import Key, Recipe, Rows, TrainingData, snapshot_steps

LOADED_VALUES = 2**17
"""Maximum number of pixels loaded at once: twice as many stay in the second cache of a core."""

LOADED_VALUES_OF_THREADS = 2**19
"""The same if several threads wait for each other after each loading."""

MAX_STEPS_AT_ONCE = 16

COPIED_ROWS = 1024
"""Rows that are copied at once where the library cannot read the images in place. More are not
faster, and would take memory that files and sparse arrays are meant to save."""

COPIED_BYTES = 2**25
"""Fewer rows are copied at once if these would take more, but at least a batch."""

COPIES = 4
"""Copies of such rows that there are at the same time: those that the library has read last,
and what is made of the next ones."""


def train_natively(
    setup: TrainingSetup,
    candidates: Sequence[Candidate],
    n_steps: Sequence[int],
    key: Key,
    recipe: Recipe,
    engine: Engine,
    n_threads: int,
    check: Callable[[], None] = lambda: None,
) -> list[Candidate]:
    """Return the candidates, trained by the native library.

    Parameters
    ----------
    setup : TrainingSetup
        Data and settings of the search.
    candidates : sequence of Candidate
        The candidates; their weights have the same type.
    n_steps : sequence of int
        Number of batches of each of them, at least one.
    key : tuple of int
        Key of the batch order.
    recipe : Recipe
        The course of the learning rate, and the changes of the images.
    engine : Engine
        The library.
    n_threads : int
        Number of threads. The results do not depend on it.
    check : callable
        Is called many times a second, and may raise to end the training.

    Returns
    -------
    list of Candidate
        See `Trainer.train`.
    """
    return _Training(setup, candidates, n_steps, key, recipe).run(engine, n_threads, check)


class _Training:
    """The training of some candidates from the first batch to the last."""

    def __init__(
        self,
        setup: TrainingSetup,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe,
    ) -> None:
        self._setup, self._candidates, self._n_steps = setup, candidates, n_steps
        self._data = data = setup.data.augmented(recipe.augmentation)
        self._rates = recipe.rates(float(setup.optimizer.settings["lr"]), max(n_steps))
        self._evaluates_epochs = recipe.evaluates_epochs
        self._order = data.batches(max(n_steps), key)
        self._per_epoch = data.steps_per_epoch
        self._snapshots = snapshot_steps(self._per_epoch, self._per_epoch, setup.averaging)
        # Weight of the weights after each step of an epoch in the mean of the snapshots.
        self._shares = np.zeros(self._per_epoch)
        for n_taken, snapshot in enumerate(self._snapshots):
            self._shares[snapshot - 1] = 1 / (1 + n_taken)
        self._rule = rule_of(setup.optimizer)
        self._dtype = dtype_of(candidates[0].weights)
        self._layouts = [Layout(candidate.topology) for candidate in candidates]
        ends = np.cumsum([layout.size for layout in self._layouts])
        self._parts = [
            slice(end - layout.size, end)
            for end, layout in zip(ends.tolist(), self._layouts, strict=True)
        ]
        stores = self._rule.kind == STORE
        self._flat = torch.zeros(int(ends[-1]), dtype=self._dtype)
        self._means = torch.zeros_like(self._flat)
        self._gradient = torch.zeros_like(self._flat) if stores else self._flat[:0]
        self._statistics = [
            torch.zeros(2, sum(cell.channels for cell in c.topology.cells), dtype=self._dtype)
            for c in candidates
        ]
        for candidate, layout, part in zip(candidates, self._layouts, self._parts, strict=True):
            layout.fill(self._flat[part], candidate.weights)
        self._evaluations: list[list[Evaluation]] = [[] for _ in candidates]
        # The library stores the gradients of a step if it does not have the optimiser.
        self._optimizer: StackOptimizer | None = None
        if stores:
            self._optimizer = StackOptimizer(setup.optimizer, self._flat, self._gradient)
        # The library reads images of all sources as pixels of this type.
        self._pixels = pixel_type(data.train, data.validation)
        self._calibration = data.calibration.to(self._pixels).contiguous()

    def run(self, engine: Engine, n_threads: int, check: Callable[[], None]) -> list[Candidate]:
        """Train and evaluate; return the trained candidates."""
        data = self._data
        channels = self._candidates[0].topology.input_shape[2]
        offset, scale = data.scaling.tensors(torch.float64, torch.device("cpu"))
        settings = Settings(
            self._order.shape[1],
            steps_at_once(self._candidates[0].topology, self._order.shape[1], n_threads),
            offset.expand(channels).contiguous(),
            scale.expand(channels).contiguous(),
            self._rule,
            n_threads,
            data.train.augmentation,
        )
        images, n = self._calibration, len(self._calibration)
        calibration = Source(
            images, torch.arange(n), data.train.labels[:n], torch.ones(n, dtype=torch.float64)
        )
        with Session(engine, self._members(), settings, calibration, check) as session:
            begin = 0
            for stop in epoch_ends(self._n_steps, self._per_epoch):
                self._train(session, begin, stop)
                self._end_epoch(session, stop)
                begin = stop
        return [self._trained(i) for i in range(len(self._candidates))]

    def _members(self) -> list[Member]:
        stores = self._optimizer is not None
        return [
            Member(
                layout,
                self._flat[part],
                self._means[part],
                self._gradient[part] if stores else self._gradient,
                statistics,
                n_steps,
                0.0 if stores else self._last_rate(n_steps),
            )
            for layout, part, statistics, n_steps in zip(
                self._layouts, self._parts, self._statistics, self._n_steps, strict=True
            )
        ]

    def _last_rate(self, step: int) -> float:
        """Return the weight of the weights after a step in the mean that is evaluated then."""
        n_taken = sum(snapshot < self._step_of_epoch(step) for snapshot in self._snapshots)
        return 1 / (1 + n_taken)

    def _step_of_epoch(self, step: int) -> int:
        return (step - 1) % self._per_epoch + 1

    def _train(self, session: Session, begin: int, stop: int) -> None:
        """Train to the next end of an epoch."""
        data, batch = self._data, self._order.shape[1]
        rows = self._order[begin:stop].reshape(-1)
        weights = torch.ones(len(rows), dtype=torch.float64)
        if data.train.weights is not None:
            weights = data.train.weights_of(rows).to(torch.float64)
        by_step = self._optimizer is not None
        own = sources(data.train, rows, weights / batch, self._pixels, batch, by_step)
        for source in own:
            first, begin = begin, begin + len(source.labels) // batch
            shares = self._shares[np.arange(first, begin) % self._per_epoch]
            if self._optimizer is not None:
                shares[:] = 0  # the library does not take the step
            session.train(source, first, self._rates[first:begin], shares)
            if self._optimizer is not None:
                self._optimizer.step(float(self._rates[first]))
                self._take_snapshot(begin)

    @torch.no_grad()
    def _take_snapshot(self, step: int) -> None:
        """Move the means after a step of an optimiser that the library does not have."""
        for n_steps, part in zip(self._n_steps, self._parts, strict=True):
            rate = self._shares[(step - 1) % self._per_epoch]
            if step == n_steps:
                rate = self._last_rate(step)
            if rate and step <= n_steps:
                self._means[part].lerp_(self._flat[part], float(rate))

    def _end_epoch(self, session: Session, step: int) -> None:
        """Evaluate all candidates at the end of an epoch, or else those that are finished."""
        step_of_epoch = self._step_of_epoch(step)
        is_full = step_of_epoch == self._per_epoch
        ending = [
            i
            for i, n_steps in enumerate(self._n_steps)
            if step == n_steps or (is_full and step < n_steps)
        ]
        due = [i for i in ending if self._evaluates_epochs or step == self._n_steps[i]]
        if due:
            self._evaluate(session, due, step_of_epoch)
        for i in ending:
            session.networks[i].loss = 0.0

    def _evaluate(self, session: Session, due: list[int], step_of_epoch: int) -> None:
        rows = self._setup.data.validation
        probabilities = session.begin_evaluation(due, len(rows))
        session.calibrate()
        begin = 0
        for source in sources(rows, None, validation_weights(rows), self._pixels, 1):
            session.validate(source, begin)
            begin += len(source.labels)
        for i, own in zip(due, probabilities, strict=True):
            network = session.networks[i]
            loss, score = float("inf"), float("-inf")
            if network.is_finite:
                loss, score = network.validation_loss, self._setup.scorer(own)
            if not math.isfinite(score):
                score = float("-inf")
            evaluation = Evaluation(network.loss / step_of_epoch, loss, score)
            self._evaluations[i].append(evaluation)

    def _trained(self, i: int) -> Candidate:
        candidate = self._candidates[i]
        views = self._layouts[i].views_of(self._means[self._parts[i]])
        weights = {
            name: view.clone(memory_format=torch.contiguous_format)
            for name, view in views.items()
        }
        channels = [cell.channels for cell in candidate.topology.cells]
        for cell, own in enumerate(self._statistics[i].split(channels, dim=1)):
            for name, values in zip(("running_mean", "running_var"), own, strict=True):
                weights[f"{norm_name(cell)}.{name}"] = values.clone()
        return replace(
            candidate,
            weights=weights,
            n_steps=candidate.n_steps + self._n_steps[i],
            evaluations=(*candidate.evaluations, *self._evaluations[i]),
        )


def steps_at_once(topology: Topology, batch: int, n_threads: int) -> int:
    """Return how many batches of the input of a topology to load at once."""
    # Box maps and padded maps are a little larger than the pixels.
    values = math.prod(topology.input_shape) * batch * 2
    most = LOADED_VALUES if n_threads == 1 else LOADED_VALUES_OF_THREADS
    return min(max(most // values, 1), MAX_STEPS_AT_ONCE)


def validation_weights(rows: Rows) -> Tensor:
    """Return the weights with which the mean validation loss is a sum."""
    weights = torch.ones(len(rows), dtype=torch.float64)
    if rows.weights is not None and bool(rows.weights.any()):
        weights = rows.weights.to(torch.float64)
    return weights / weights.sum()


def sources(
    rows: Rows,
    order: Tensor | None,
    weights: Tensor,
    pixels: torch.dtype,
    unit: int,
    one_unit: bool = False,
) -> Iterator[Source]:
    """Yield some rows as the library reads them, in pieces if they have to be copied.

    Parameters
    ----------
    rows : Rows
        The rows.
    order : Tensor of shape (n,) or None
        Which of the rows, in which order; None means all of them.
    weights : Tensor of shape (n,)
        Their weights in the loss, float64.
    pixels : torch.dtype
        The type of the pixels.
    unit : int
        The number of rows of a piece is a multiple of this.
    one_unit : bool, default=False
        Whether each piece has one unit.

    Yields
    ------
    Source
        At most `copied_rows` images are copied at once.
    """
    order = torch.arange(len(rows)) if order is None else order
    in_place = _in_place(rows, pixels)
    size = len(order) if in_place is not None else copied_rows(rows, pixels, unit)
    if one_unit:
        size = unit
    for own, own_weights in zip(order.split(size), weights.split(size), strict=True):
        labels = rows.labels_of(own)
        if in_place is not None:
            places, variants = rows.places_of(own).contiguous(), rows.variants_of(own)
            yield Source(in_place, places, labels, own_weights, variants)
        else:
            copies = rows.take(own).to(pixels).contiguous()
            yield Source(copies, torch.arange(len(own)), labels, own_weights)


def _in_place(rows: Rows, pixels: torch.dtype) -> Tensor | None:
    """Return the images if the library can read them where they are."""
    images = rows.images
    if isinstance(images, Tensor) and images.dtype == pixels and images.is_contiguous():
        return images
    return None


def copied_rows(rows: Rows, pixels: torch.dtype, unit: int) -> int:
    """Return how many images to copy at once: a multiple of `unit`."""
    most = min(COPIED_ROWS, COPIED_BYTES // _bytes_of_image(rows, pixels))
    return max(most // unit, 1) * unit


def _bytes_of_image(rows: Rows, pixels: torch.dtype) -> int:
    return rows.take(torch.arange(1)).numel() * pixels.itemsize


def bytes_of_copies(data: TrainingData, batch: int) -> int:
    """Return the bytes of the images that a training copies, those for the statistics included.

    Parameters
    ----------
    data : TrainingData
        The rows.
    batch : int
        Rows of a batch.
    """
    pixels = pixel_type(data.train, data.validation)
    calibration = data.calibration
    total = calibration.nbytes
    if calibration.dtype != pixels:
        total += calibration.numel() * pixels.itemsize
    copied = [
        min(copied_rows(rows, pixels, unit), len(rows)) * _bytes_of_image(rows, pixels)
        for rows, unit in ((data.train, batch), (data.validation, 1))
        if _in_place(rows, pixels) is None
    ]
    return total + COPIES * max(copied, default=0)


def pixel_type(*rows: Rows) -> torch.dtype:
    """Return a type that the library reads and all of these images can be converted to."""
    types = {own.take(torch.arange(1)).dtype for own in rows}
    return types.pop() if len(types) == 1 and types <= set(PIXEL_TYPES) else torch.float64

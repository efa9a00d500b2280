"""The native library against loops in torch: what the tests of all engines do not reach."""

from __future__ import annotations

import ctypes
import gc
import signal
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import examples, not_if_brief
from hypothesis import given
from hypothesis import strategies as st
from populations import (
    KEY,
    assert_close,
    assert_same_bits,
    candidate,
    networks,
    scorer_for,
    training_data,
)

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.mapped import MappedImages
from skectonas.network import build
from skectonas.population.groups.group_training import TrainingSetup
from skectonas.population.native.library import LIBRARY, Engine, load, named_engine
from skectonas.population.native.rules import rule_of
from skectonas.population.native.session import (
    ADAM,
    MOMENTUM,
    PIXEL_TYPES,
    PLAIN,
    STORE,
    Session,
    Source,
)
from skectonas.population.native.training import copied_rows, sources, train_natively
from skectonas.surroundings import one_thread
from skectonas.training import PLAIN_RECIPE, Augmentation, Recipe
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import OptimizerSpec, PlainTrainer, resolve_optimizer

VARIANTS = load(LIBRARY).variants

pytestmark = [
    pytest.mark.skipif(not VARIANTS, reason="no native library was built"),
    not_if_brief,  # the library does not depend on other packages
]


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Engine:
    return named_engine(request.param)


SGD = resolve_optimizer("sgd", 0.05)


def setup_of(
    data: TrainingData, optimizer: OptimizerSpec = SGD, averaging: int = 1
) -> TrainingSetup:
    return TrainingSetup(data, optimizer, scorer_for(data, n_classes=3), averaging)


@st.composite
def wide_cells(draw: st.DrawFn, side: int) -> list[ConvCell]:
    """Up to two cells that pool maps of this side, and two that do not, in any order."""
    pooled = st.lists(st.sampled_from(["average", "max"]), max_size=min(side - 1, 2))
    unpooled = st.lists(st.none(), max_size=2)
    poolings = draw(st.permutations(draw(pooled) + draw(unpooled)))
    return [ConvCell(draw(st.integers(1, 15)), pooling) for pooling in poolings]


@st.composite
def wide_rounds(draw: st.DrawFn) -> tuple[TrainingData, list[Candidate], list[int], int]:
    """Networks wider than all tiles of the library, up to 40 classes, batches of any size."""
    side = st.integers(1, 9)
    shape = draw(st.tuples(side, side, st.integers(1, 5)))
    n_classes = draw(st.integers(2, 40))
    data = training_data(
        shape,
        n_classes,
        draw(st.integers(30, 70)),
        draw(st.integers(2, 70)),  # torch has no batch norm of a single value
        weighted=draw(st.booleans()),
        eight_bit=draw(st.booleans()),
    )
    dense = st.lists(st.builds(Dense, st.integers(1, 35)), max_size=3)
    topologies = [
        Topology(shape, draw(wide_cells(min(shape[:2]))), draw(dense), n_classes)
        for _ in range(draw(st.integers(1, 3)))
    ]
    steps = st.integers(1, min(2 * data.steps_per_epoch, 6))
    return (
        data,
        [candidate(i, topology) for i, topology in enumerate(topologies)],
        [draw(steps) for _ in topologies],
        n_classes,
    )


@examples(60)
@given(case=wide_rounds(), n_threads=st.integers(1, 3))
def test_wide_networks_equal_the_plain_loop(
    variant: Engine,
    case: tuple[TrainingData, list[Candidate], list[int], int],
    n_threads: int,
) -> None:
    data, candidates, n_steps, n_classes = case
    setup = TrainingSetup(data, SGD, scorer_for(data, n_classes), 2)
    found = train_natively(setup, candidates, n_steps, KEY, PLAIN_RECIPE, variant, n_threads)
    expected = PlainTrainer(data, SGD, setup.scorer, 2).train(candidates, n_steps, KEY)
    assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_numbers_smaller_than_normal_ones_are_zero(
    variant: Engine, dtype: torch.dtype, n_threads: int
) -> None:
    """The weights of units that are never active decay to them."""
    tiny = torch.finfo(dtype).tiny
    candidates = networks((6, 5, 2), 3, [("3a", (4,)), ("2m 3n", (5,)), ("", (6,))])
    for each in candidates:
        for name, value in each.weights.items():
            each.weights[name] = value.to(dtype)
        each.weights["dense.0.weight"][0] = 1.001 * tiny
        each.weights["dense.0.bias"][0] = -100
    data = training_data((6, 5, 2))
    decaying = resolve_optimizer("sgd", 0.05, {"weight_decay": 0.01})
    setup = setup_of(data, decaying)
    found = train_natively(setup, candidates, [8, 9, 10], KEY, PLAIN_RECIPE, variant, n_threads)
    for each in found:
        assert (each.weights["dense.0.weight"][0].abs() >= tiny).all()  # a decay of zero
    plain = PlainTrainer(data, decaying, setup.scorer, 1)
    expected = plain.train(candidates, [8, 9, 10], KEY)
    assert_close(found, expected, 1e-4 if dtype == torch.float32 else 1e-8)
    for each in expected:
        assert (each.weights["dense.0.weight"][0].abs() < tiny).all()
    # Other threads still have them.
    assert (torch.tensor(tiny, dtype=dtype) / 8 != 0).item()


@examples(20)
@given(case=wide_rounds())
def test_float32_is_float64_up_to_rounding(
    variant: Engine, case: tuple[TrainingData, list[Candidate], list[int], int]
) -> None:
    data, candidates, _, n_classes = case
    n_steps = [1] * len(candidates)  # rounding decides which pixel is the largest
    setup = TrainingSetup(data, SGD, scorer_for(data, n_classes), 1)
    expected = train_natively(setup, candidates, n_steps, KEY, PLAIN_RECIPE, variant, 1)
    singles = [
        replace(c, weights={name: value.float() for name, value in c.weights.items()})
        for c in candidates
    ]
    found = train_natively(setup, singles, n_steps, KEY, PLAIN_RECIPE, variant, 1)
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.weights.items():
            assert ours.weights[name].dtype == torch.float32
            if not name.startswith("cells"):
                torch.testing.assert_close(
                    ours.weights[name].double(), value, rtol=1e-3, atol=1e-3
                )


@pytest.mark.parametrize("batch", [16, 32, 33, 64])
@pytest.mark.parametrize("cells", ["3a 4a", "7a 3a", "2n 5a 9n", "7m 6a", "6n 7m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_in_batches_of_any_size(
    variant: Engine, batch: int, cells: str, dtype: torch.dtype
) -> None:
    """Maps of odd sides with several channels, in one or more blocks, full or not."""
    shape = (7, 5, 2)
    data = training_data(shape, n_rows=70, batch_size=batch)
    population = networks(shape, 3, [(cells, ()), (cells, (5,))])
    given = [
        replace(c, weights={name: value.to(dtype) for name, value in c.weights.items()})
        for c in population
    ]
    found = train_natively(setup_of(data), given, [2, 2], KEY, PLAIN_RECIPE, variant, 1)
    expected = PlainTrainer(data, SGD, scorer_for(data)).train(population, [2, 2], KEY)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.weights.items():
            torch.testing.assert_close(
                ours.weights[name].double(), value, rtol=tolerance, atol=tolerance
            )


RULES = [
    ("sgd", {}, PLAIN),
    ("sgd", {"dampening": 0.5}, PLAIN),
    ("sgd", {"weight_decay": 0.1}, MOMENTUM),
    ("sgd", {"weight_decay": 0.1, "dampening": 0.5}, MOMENTUM),
    ("sgd", {"momentum": 0.9, "dampening": 0.4}, MOMENTUM),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}, MOMENTUM),
    ("sgd", {"momentum": 0.9, "maximize": True}, STORE),
    ("adam", {}, ADAM),
    ("adam", {"betas": (0.7, 0.9999), "eps": 1e-3, "weight_decay": 0.1}, ADAM),
    ("adam", {"decoupled_weight_decay": True, "weight_decay": 0.1}, ADAM),
    ("adam", {"amsgrad": True}, STORE),
    ("adam", {"eps": 1e-50}, STORE),
    ("adam", {"eps": 1e-40}, STORE),
    ("adam", {"eps": 1e-30}, STORE),
    ("adam", {"eps": 1e-20}, STORE),
    ("adam", {"eps": 1e-15}, ADAM),
    ("adam", {"eps": 1e-15, "betas": (0.9, 0.99999)}, STORE),
    ("adamw", {}, ADAM),
    ("adamw", {"betas": (0.5, 0.7), "weight_decay": 0.3}, ADAM),
    ("adamw", {"maximize": True}, STORE),
    ("rmsprop", {"momentum": 0.5}, STORE),
    ("nadam", {}, STORE),
    ("adagrad", {"lr_decay": 0.1}, STORE),
    ("asgd", {}, STORE),
]


def loop_with_rates(
    candidate: Candidate, data: TrainingData, optimizer: OptimizerSpec, rates: np.ndarray
) -> dict[str, torch.Tensor]:
    """Train with torch, one learning rate after the other; return the weights."""
    network = build(candidate.topology, candidate.weights)
    made = optimizer(network.parameters())
    dtype = network.output.weight.dtype
    for rows, rate in zip(data.batches(len(rates), KEY)[:], rates.tolist(), strict=True):
        for group in made.param_groups:
            group["lr"] = rate
        made.zero_grad()
        logits = network(data.scaled(data.train.take(rows), dtype))
        torch.nn.functional.cross_entropy(logits, data.train.labels[rows]).backward()
        made.step()
    return {name: value.detach() for name, value in network.named_parameters()}


@pytest.mark.parametrize(("name", "params", "kind"), RULES)
def test_a_rate_for_each_step(
    variant: Engine, name: str, params: dict[str, object], kind: int
) -> None:
    optimizer = resolve_optimizer(name, 0.01, params)
    assert rule_of(optimizer).kind == kind
    data = training_data((7, 6, 2), n_rows=60, batch_size=9)
    topologies = [
        Topology((7, 6, 2), [ConvCell(3, "max"), ConvCell(2)], [Dense(4)], 3),
        Topology((7, 6, 2), [ConvCell(2, None), ConvCell(3, None)], [], 3),
        Topology((7, 6, 2), [], [Dense(5)], 3),
    ]
    candidates = [candidate(i, topology) for i, topology in enumerate(topologies)]
    n_steps = [11, 8, 7]
    recipe = Recipe(annealing_steps=11)
    rates = recipe.rates(0.01, 11)
    setup = setup_of(data, optimizer)
    found = train_natively(setup, candidates, n_steps, KEY, recipe, variant, 1)
    for ours, start, steps in zip(found, candidates, n_steps, strict=True):
        for weight, value in loop_with_rates(start, data, optimizer, rates[:steps]).items():
            torch.testing.assert_close(ours.weights[weight], value, rtol=0, atol=1e-9)


class InterruptedLibrary:
    """The library, for which Ctrl-C comes while a session opens; it counts open sessions."""

    def __init__(self, library: Any) -> None:
        self.library, self.n_open = library, 0
        library.skectonas_open.restype = ctypes.c_void_p
        library.skectonas_close.argtypes = [ctypes.c_void_p]

        def opened(*arguments: Any) -> Any:
            handle = library.skectonas_open(*arguments)
            self.n_open += 1
            signal.raise_signal(signal.SIGINT)
            return handle

        def closed(handle: Any) -> None:
            self.n_open -= 1
            library.skectonas_close(handle)

        self.skectonas_open, self.skectonas_close = opened, closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


def test_a_session_that_is_interrupted_while_it_opens_is_closed() -> None:
    engine = named_engine(VARIANTS[0])
    library = InterruptedLibrary(engine.library)
    setup = setup_of(training_data((4, 4, 1), n_rows=20, batch_size=5))
    candidates = [candidate(0, Topology((4, 4, 1), [], [Dense(3)], 3))]
    interrupted = replace(engine, library=library)
    with pytest.raises(KeyboardInterrupt):
        train_natively(setup, candidates, [4], KEY, PLAIN_RECIPE, interrupted, 1)
    gc.collect()
    assert library.n_open == 0


class WatchedLibrary:
    """The library, for which Ctrl-C comes in the n-th part; tells when a session is closed."""

    def __init__(self, library: Any, n: int, log: list[str]) -> None:
        self.library, self.left = library, n
        library.skectonas_wait.argtypes = [ctypes.c_void_p, ctypes.c_double]
        library.skectonas_close.argtypes = [ctypes.c_void_p]

        def waited(*arguments: Any) -> int:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            while not library.skectonas_wait(*arguments):
                pass
            return 1

        def closed(handle: Any) -> None:
            library.skectonas_close(handle)
            log.append("closed")

        self.skectonas_wait, self.skectonas_close = waited, closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)


@pytest.mark.parametrize(
    ("part", "before", "after"), [(1, [], ["rows"]), (3, ["rows"], ["probabilities", "rows"])]
)
def test_rows_outlive_a_session_that_is_closed_late(
    part: int, before: list[str], after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes again when the session closes, in a training and in a validation."""
    log: list[str] = []
    begin, close = Session.begin_evaluation, Session._close

    def watched_sources(*arguments: Any) -> Iterator[Source]:
        for source in sources(*arguments):
            weakref.finalize(source.weights, log.append, "rows")
            yield source

    def watched_evaluation(self: Session, *arguments: Any) -> list[np.ndarray]:
        found = begin(self, *arguments)
        weakref.finalize(found[0], log.append, "probabilities")
        return found

    def interrupted_close(self: Session) -> None:
        monkeypatch.setattr(Session, "_close", close)
        raise KeyboardInterrupt

    monkeypatch.setattr("skectonas.population.native.training.sources", watched_sources)
    monkeypatch.setattr(Session, "begin_evaluation", watched_evaluation)
    monkeypatch.setattr(Session, "_close", interrupted_close)
    setup = setup_of(training_data((4, 4, 1), n_rows=20, batch_size=5))
    start = candidate(0, Topology((4, 4, 1), [], [Dense(3)], 3))
    engine = named_engine(VARIANTS[0])

    def interrupted() -> None:
        library = WatchedLibrary(engine.library, part, log)
        watched = replace(engine, library=library)
        train_natively(setup, [start], [4], KEY, PLAIN_RECIPE, watched, 1)

    with suppress(KeyboardInterrupt):
        interrupted()
    gc.collect()
    first = log.index("closed")
    assert log[:first] == before
    assert sorted(log[first + 1 :]) == after


@pytest.mark.parametrize(
    ("name", "params", "kind"), [rule for rule in RULES if rule[2] != STORE]
)
def test_rules_in_float32(
    variant: Engine, name: str, params: dict[str, object], kind: int
) -> None:
    """Constants such as 1 - beta have to be rounded once."""
    optimizer = resolve_optimizer(name, 0.01, params)
    data = training_data((5, 4, 1), n_rows=40, batch_size=8)
    start = candidate(0, Topology((5, 4, 1), [], [Dense(5)], 3), torch.float32)
    [found] = train_natively(
        setup_of(data, optimizer), [start], [5], KEY, PLAIN_RECIPE, variant, 1
    )
    for weight, value in loop_with_rates(start, data, optimizer, np.full(5, 0.01)).items():
        torch.testing.assert_close(found.weights[weight], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("epsilon", [1e-8, 1e-15, 1e-20, 1e-30])
def test_gradients_whose_squares_are_no_normal_numbers(
    variant: Engine, name: str, epsilon: float
) -> None:
    """Those of a class that is all but impossible, and of no row."""
    optimizer = resolve_optimizer(name, 0.001, {"eps": epsilon})
    start = candidate(0, Topology((4, 4, 1), [], [Dense(6)], 3), torch.float32)
    start.weights["output.bias"][2] = -43
    data = training_data((4, 4, 1))
    data = replace(data, train=replace(data.train, labels=data.train.labels % 2))
    setup = setup_of(data, optimizer)
    [found] = train_natively(setup, [start], [5], KEY, PLAIN_RECIPE, variant, 1)
    for weight, value in loop_with_rates(start, data, optimizer, np.full(5, 0.001)).items():
        torch.testing.assert_close(found.weights[weight], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "logits"),
    [(torch.float32, [0, -86, -88]), (torch.float64, [0, -707, -709])],
)
def test_what_is_no_normal_number_is_no_probability(
    variant: Engine, dtype: torch.dtype, logits: list[float]
) -> None:
    start = candidate(0, Topology((4, 4, 1), [], [], 3), dtype)
    start.weights["output.weight"][:] = 0
    start.weights["output.bias"][:] = torch.tensor(logits)
    seen: list[np.ndarray] = []
    setup = TrainingSetup(
        training_data((4, 4, 1)),
        resolve_optimizer("sgd", 0.0),
        lambda probabilities: seen.append(probabilities) or 0.0,
        1,
    )
    train_natively(setup, [start], [1], KEY, PLAIN_RECIPE, variant, 1)
    [found] = seen
    expected = [1, np.exp(logits[1]), 0]
    np.testing.assert_allclose(found, np.tile(expected, (len(found), 1)), rtol=1e-5, atol=0)


POPULATION = [
    candidate(0, Topology((6, 5, 2), [ConvCell(3)], [Dense(4)], 3), torch.float32),
    candidate(1, Topology((6, 5, 2), [ConvCell(3, "max")], [], 3), torch.float32),
    candidate(2, Topology((6, 5, 2), [], [Dense(4)], 3), torch.float32),
    candidate(3, Topology((6, 5, 2), [ConvCell(3, None)], [], 3), torch.float32),
]


@pytest.mark.parametrize("recipe", [PLAIN_RECIPE, Recipe(augmentation=Augmentation(2, True))])
@pytest.mark.parametrize("bound", [{"COPIED_ROWS": 20}, {"COPIED_BYTES": 1100}])
def test_images_wherever_they_are(
    variant: Engine,
    recipe: Recipe,
    bound: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not contiguous, through places, in a file, of other types: the bits are the same."""
    plain = training_data((6, 5, 2))
    train, validation = plain.train, plain.validation
    setup = setup_of(plain)

    def trained_on(train: Rows, validation: Rows) -> list[Candidate]:
        data = replace(plain, train=train, validation=validation)
        own = replace(setup, data=data)
        return train_natively(own, POPULATION, [7, 5, 6, 4], KEY, recipe, variant, 1)

    expected = trained_on(train, validation)
    for name, value in bound.items():
        monkeypatch.setattr(f"skectonas.population.native.training.{name}", value)

    def with_images(rows: Rows, images: torch.Tensor | MappedImages) -> Rows:
        return Rows(images, rows.labels)

    turned = train.images.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    assert not turned.is_contiguous()
    assert_same_bits(trained_on(with_images(train, turned), validation), expected)

    both = torch.cat([validation.images, train.images]).flip(0)
    places = torch.arange(len(both)).flip(0)
    shared = [
        Rows(both, rows.labels, places=own)
        for rows, own in zip(
            (validation, train), places.split([len(validation), len(train)]), strict=True
        )
    ]
    assert_same_bits(trained_on(shared[1], shared[0]), expected)

    np.save(tmp_path / "images.npy", train.images.numpy())
    mapped = MappedImages(
        np.load(tmp_path / "images.npy", mmap_mode="r"), lambda X, rows: np.array(X[rows])
    )
    assert_same_bits(trained_on(with_images(train, mapped), validation), expected)

    for dtype in (torch.float32, torch.float64, torch.int16, torch.float16):
        for ours, theirs in ((dtype, dtype), (torch.uint8, dtype), (dtype, torch.uint8)):
            found = trained_on(
                with_images(train, train.images.to(ours)),
                with_images(validation, validation.images.to(theirs)),
            )
            assert_same_bits(found, expected)


AUGMENTATIONS = st.builds(
    Augmentation,
    st.integers(0, 3) | st.integers(0, 12),
    st.booleans(),
    st.integers(0, 8) | st.integers(0, 25) | st.just(10**30),
)


@examples(60)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
    augmentation=AUGMENTATIONS,
    pixels=st.sampled_from(PIXEL_TYPES),
    weights=st.sampled_from([torch.float32, torch.float64]),
    has_places=st.booleans(),
    n_threads=st.integers(1, 3),
)
def test_variants_of_images_are_those_of_torch(
    variant: Engine,
    shape: tuple[int, int, int],
    augmentation: Augmentation,
    pixels: torch.dtype,
    weights: torch.dtype,
    has_places: bool,
    n_threads: int,
) -> None:
    """Images that are not contiguous are copied, and torch changes them."""
    data = training_data(shape, eight_bit=not pixels.is_floating_point)
    rows = data.train
    images, places = rows.images.to(pixels), None
    if pixels.is_floating_point:
        images /= 7  # means of such values are rounded
    if has_places:
        places = torch.arange(len(rows)).flip(0)
        images = images.flip(0)
    copied = images.repeat_interleave(2, 0)[::2]
    assert images.is_contiguous()
    assert not copied.is_contiguous()
    validation = replace(data.validation, images=data.validation.images.to(pixels))
    candidates = [
        candidate(i, Topology(shape, cells, [], 3), weights)
        for i, cells in enumerate([[], [ConvCell(2, None)]])
    ]
    found, expected = (
        train_natively(
            setup_of(
                replace(
                    data,
                    train=replace(rows, images=own, places=places),
                    validation=validation,
                )
            ),
            candidates,
            [9, 7],
            KEY,
            Recipe(augmentation=augmentation),
            variant,
            n,
        )
        for own, n in ((images, n_threads), (copied, 1))
    )
    assert_same_bits(found, expected)


@pytest.mark.parametrize("pixels", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_variants_of_usual_images_are_those_of_torch(
    variant: Engine, shape: tuple[int, int, int], pixels: torch.dtype
) -> None:
    data = training_data(shape, n_rows=90, batch_size=40, eight_bit=pixels == torch.uint8)
    copied = data.train.images.repeat_interleave(2, 0)[::2]
    recipe = Recipe(augmentation=Augmentation(shift=1, flip=True, erase=11))
    population = networks(shape, 3, [("3a", ()), ("3m", ()), ("", ())])
    found, expected = (
        train_natively(
            setup_of(replace(data, train=replace(data.train, images=images))),
            population,
            [4, 4, 4],
            KEY,
            recipe,
            variant,
            1,
        )
        for images in (data.train.images, copied)
    )
    assert_same_bits(found, expected)


def test_which_images_are_copied() -> None:
    """The library changes images that it reads where they are; others are changed by torch."""
    augmentation = Augmentation(shift=1)
    rows = replace(training_data((4, 4, 1)).train, augmentation=augmentation)
    order, weights = torch.arange(3, 8), torch.ones(5, dtype=torch.float64)

    def source_of(images: torch.Tensor, pixels: torch.dtype) -> Source:
        [source] = sources(replace(rows, images=images), order, weights, pixels, 1)
        return source

    in_place = source_of(rows.images, torch.uint8)
    assert in_place.images is rows.images
    assert in_place.variants is not None
    for images, pixels in (
        (rows.images, torch.float64),
        (rows.images.repeat_interleave(2, 0)[::2], torch.uint8),
    ):
        copied = source_of(images, pixels)
        assert copied.images.shape == (5, 4, 4, 1)
        assert copied.variants is None


@pytest.mark.parametrize(
    ("side", "pixels", "unit", "expected"),
    [
        (28, torch.uint8, 1, 1024),
        (28, torch.float64, 30, 1020),
        (160, torch.float32, 1, 109),
        (160, torch.float32, 32, 96),
        (160, torch.float32, 200, 200),
        (3000, torch.float64, 1, 1),
    ],
)
def test_large_images_are_copied_in_smaller_pieces(
    side: int, pixels: torch.dtype, unit: int, expected: int
) -> None:
    images = MappedImages(
        np.zeros((2000, 1)), lambda X, rows: np.zeros((len(rows), side, side, 3), np.uint8)
    )
    rows = Rows(images, torch.zeros(2000, dtype=torch.int64))
    assert copied_rows(rows, pixels, unit) == expected
    order, weights = torch.arange(4), torch.ones(4, dtype=torch.float64)
    own = sources(rows, order, weights, torch.uint8, 1)
    assert sum(len(source.images) for source in own) == 4


@pytest.mark.parametrize("name", ["places", "labels", "weights", "variants"])
def test_the_library_is_only_told_of_types_that_it_reads(name: str) -> None:
    numbers = torch.arange(3)
    source = Source(torch.zeros(3, 2, 2, 1), numbers, numbers, numbers.double(), numbers)
    source.as_rows()
    with pytest.raises(AssertionError):
        source._replace(**{name: numbers.to(torch.int32)}).as_rows()


def test_more_threads_than_there_is_to_do(variant: Engine) -> None:
    setup = setup_of(training_data((6, 5, 2)))
    found, expected = (
        train_natively(setup, POPULATION, [7, 5, 6, 4], KEY, PLAIN_RECIPE, variant, n)
        for n in (2**40, 1)
    )
    assert_same_bits(found, expected)


class Interrupt(Exception):
    """What the check raises."""


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_check_ends_a_training_that_would_take_hours(variant: Engine, n_threads: int) -> None:
    data = training_data((6, 5, 2), n_rows=2_000)
    data = replace(data, batch_size=1)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise Interrupt

    with pytest.raises(Interrupt):
        train_natively(
            setup_of(data),
            POPULATION,
            [10**7] * len(POPULATION),
            KEY,
            PLAIN_RECIPE,
            variant,
            n_threads,
            check,
        )
    assert len(calls) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_without_memory() -> None:
    """Maps of 4 GiB do not fit below a limit of one more than there is."""
    program = """
        import resource
        from pathlib import Path
        from test_native_training import *

        data = training_data((256, 256, 1), n_rows=64, batch_size=64)
        start = candidate(0, Topology((256, 256, 1), [ConvCell(200), ConvCell(100)], [], 3))
        small = candidate(0, Topology((256, 256, 1), [], [], 3))
        engine = named_engine(VARIANTS[0])
        train_natively(setup_of(data), [small], [1], KEY, PLAIN_RECIPE, engine, 1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            train_natively(setup_of(data), [start], [1], KEY, PLAIN_RECIPE, engine, 1)
        except MemoryError as error:
            print(error)
        train_natively(setup_of(data), [small], [1], KEY, PLAIN_RECIPE, engine, 1)
        print("goes on")
    """
    assert printed_by(program) == [
        "not enough memory to train the networks of a round",
        "goes on",
    ]


def printed_by(program: str) -> list[str]:
    """Return the lines that a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


@not_if_brief
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_maps_of_one_network_at_a_time() -> None:
    """Those for the statistics of both together do not fit below the limit."""
    program = """
        import re, resource
        from pathlib import Path
        from test_native_training import *

        data = training_data((64, 64, 1), n_rows=512, batch_size=32)
        small, *large = [
            replace(c, weights={k: v.float() for k, v in c.weights.items()})
            for c in networks((64, 64, 1), 3, [("1n", ()), ("9n 8n", ()), ("14n", ())])
        ]
        engine = named_engine(VARIANTS[0])
        def train(candidates):
            steps = [1] * len(candidates)
            train_natively(setup_of(data), candidates, steps, KEY, PLAIN_RECIPE, engine, 1)

        train([small])
        [used] = re.findall(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
        limit = 1024 * int(used) + 330 * 10**6
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        train(large)
        print("fits")
    """
    assert printed_by(program) == ["fits"]


@not_if_brief
@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
def test_without_threads() -> None:
    """The stack of a thread would be larger than what there may be."""
    program = """
        import resource
        from pathlib import Path
        from test_native_training import *

        engine = named_engine(VARIANTS[0])
        data = training_data((4, 4, 1))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        start = networks((4, 4, 1), 3, [("", ())])
        try:
            train_natively(setup_of(data), start, [1], KEY, PLAIN_RECIPE, engine, 1)
        except RuntimeError as error:
            print(error)
    """
    with_stack = f"""
        import resource, subprocess, sys
        _, most = resource.getrlimit(resource.RLIMIT_STACK)
        resource.setrlimit(resource.RLIMIT_STACK, (2**32, most))
        sys.exit(subprocess.call([sys.executable, "-c", {textwrap.dedent(program)!r}]))
    """
    assert printed_by(with_stack) == ["no thread can be started to train the networks"]

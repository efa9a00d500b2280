"""The course of the learning rate, and random changes of the training images."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import examples, quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import skectonas.training.recipe
from skectonas.training import (
    NO_AUGMENTATION,
    PLAIN_RECIPE,
    Augmentation,
    BatchOrder,
    Recipe,
    Rows,
    TrainingData,
)

AUGMENTATIONS = [Augmentation(shift, flip) for shift in (0, 1, 2) for flip in (False, True)]
IMAGES = arrays(
    np.uint8, st.tuples(st.just(3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
)


def variants_by_hand(image: np.ndarray, augmentation: Augmentation) -> list[bytes]:
    """Return all variants of an image, by padding it and cutting windows out."""
    height, width, _ = image.shape
    shift = augmentation.shift
    found = []
    padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            window = padded[down : down + height, right : right + width]
            found.append(window.tobytes())
            if augmentation.flip:
                found.append(window[:, ::-1].tobytes())
    return sorted(found)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@examples(10)
@given(images=IMAGES)
def test_variants_are_those_by_hand(augmentation: Augmentation, images: np.ndarray) -> None:
    tensor = torch.from_numpy(images)
    made = [
        augmentation.apply(tensor, torch.full((3,), variant)).numpy()
        for variant in range(augmentation.n_variants)
    ]
    assert np.array_equal(made[0], images)
    for i, image in enumerate(images):
        own = sorted(variant[i].tobytes() for variant in made)
        assert own == variants_by_hand(image, augmentation)


def erased_by_hand(image: np.ndarray, side: int, number: int) -> np.ndarray:
    """Return an image without a square, whose centre is one of 16x16 places."""
    height, width, channels = image.shape
    row, column = (number // 16 + 0.5) / 16 * height, (number % 16 + 0.5) / 16 * width
    top, left = int(row) - side // 2, int(column) - side // 2
    made = image.copy()
    for channel in range(channels):
        mean = image[..., channel].astype(float).mean()
        mean = mean if image.dtype.kind == "f" else np.round(mean)
        for y in range(max(top, 0), min(top + side, height)):
            for x in range(max(left, 0), min(left + side, width)):
                made[y, x, channel] = mean
    return made


@examples(60)
@given(
    images=IMAGES,
    side=st.integers(1, 9) | st.integers(100, 10**9),
    moves=st.tuples(st.integers(0, 2), st.booleans()),
    numbers=st.tuples(*[st.integers(0, 16**2)] * 3),
    is_float=st.booleans(),
    data=st.data(),
)
def test_a_square_is_erased(
    images: np.ndarray,
    side: int,
    moves: tuple[int, bool],
    numbers: tuple[int, ...],
    is_float: bool,
    data: st.DataObject,
) -> None:
    """After an image was moved."""
    tensor = torch.from_numpy(images / 7 if is_float else images)
    plain, augmentation = Augmentation(*moves), Augmentation(*moves, erase=side)
    assert augmentation.n_variants == 257 * plain.n_variants
    own = data.draw(st.tuples(*[st.integers(0, plain.n_variants - 1)] * 3))
    before = tensor.clone()
    moved = plain.apply(tensor, torch.tensor(own)).numpy()
    variants = torch.tensor(own) + plain.n_variants * torch.tensor(numbers)
    made = augmentation.apply(tensor, variants).numpy()
    for image, number, found in zip(moved, numbers, made, strict=True):
        expected = erased_by_hand(image, side, number - 1) if number else image
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    assert torch.equal(tensor, before)
    assert np.array_equal(made[1:], augmentation.apply(tensor[1:], variants[1:]).numpy())
    with mock.patch.object(skectonas.training.recipe, "VALUES_AT_ONCE", 1):
        assert np.array_equal(made, augmentation.apply(tensor, variants).numpy())


def test_large_values_have_a_mean() -> None:
    images = torch.full((1, 2, 2, 1), 1e308, dtype=torch.float64)
    made = Augmentation(erase=1).apply(images, torch.tensor([5]))
    torch.testing.assert_close(made, images)


def test_each_image_has_its_own_variant() -> None:
    images = torch.arange(2 * 3).view(2, 1, 3, 1)
    made = Augmentation(flip=True).apply(images, torch.tensor([1, 0]))
    assert made.flatten().tolist() == [2, 1, 0, 3, 4, 5]


@pytest.mark.parametrize("shared", [False, True])
def test_numbers_of_variants(shared: bool) -> None:
    images = torch.arange(4 * 6).view(4, 2, 3, 1)
    places = torch.tensor([2, 0, 3]) if shared else None
    own = images[places] if shared else images[:3]
    plain = Rows(images, torch.tensor([5, 6, 7, 8][: 3 if shared else 4]), None, places)
    rows = Rows(images, plain.labels, torch.arange(len(plain)) / 2, places, Augmentation(1))
    numbers = torch.tensor([1, len(rows) * 4 + 1, len(rows) * 8 + 2])
    taken = rows.take(numbers)
    assert torch.equal(taken[0], own[1])
    expected = rows.augmentation.apply(own[[1, 2]], torch.tensor([4, 8]))
    assert torch.equal(taken[1:], expected)
    assert rows.labels_of(numbers).tolist() == [6, 6, 7]
    assert rows.weights_of(numbers).tolist() == [0.5, 0.5, 1.0]


def test_only_training_rows_are_changed() -> None:
    rows = Rows(torch.zeros(8, 4, 4, 1), torch.zeros(8, dtype=torch.int64))
    data = TrainingData(rows, rows, batch_size=4).augmented(Augmentation(1))
    assert data.validation.augmentation == NO_AUGMENTATION
    assert torch.equal(data.calibration, rows.images)
    assert data.augmented(Augmentation(1)) is data
    assert data.steps_per_epoch == 2
    assert int(data.batches(2, (0,))[:].max()) >= 8


@given(st.integers(2, 30), st.integers(1, 8), st.integers(1, 18))
def test_an_order_of_variants_has_the_rows_of_the_plain_order(
    n: int, batch: int, n_variants: int
) -> None:
    plain = BatchOrder(n, batch, 7, (3,))
    order = BatchOrder(n, batch, 7, (3,), n_variants=n_variants)
    assert torch.equal(order[:] % n, plain[:])
    assert int(order[:].max()) < n * n_variants


def test_all_variants_are_drawn_equally_often() -> None:
    order = BatchOrder(50, 10, 5 * 200, (1,), n_variants=9)
    counts = torch.bincount(order[:].flatten() // 50, minlength=9)
    assert (counts / counts.sum() - 1 / 9).abs().max() < 0.01


def test_rates() -> None:
    assert PLAIN_RECIPE.rates(0.5, 3).tolist() == [0.5, 0.5, 0.5]
    rates = Recipe(annealing_steps=10).rates(0.5, 12)
    assert rates[0] == 0.5
    assert (np.diff(rates[:11]) < 0).all()
    np.testing.assert_allclose(rates[5], 0.25)
    assert rates[10:].tolist() == [0, 0]
    # The course does not depend on how many of its steps are asked for.
    assert Recipe(annealing_steps=10).rates(0.5, 4).tolist() == rates[:4].tolist()


@pytest.mark.parametrize("name", ["shift", "erase"])
@pytest.mark.parametrize("value", [-1, 0.5, "1", None])
def test_pixels_are_whole_numbers(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        Augmentation(**{name: value})


@pytest.mark.parametrize("value", [2, -1, "yes", None])
def test_images_are_mirrored_or_not(value: Any) -> None:
    with pytest.raises(ValueError, match="flip must be a bool"):
        Augmentation(flip=value)


def test_images_are_not_shifted_out_of_their_frame(digits: Any) -> None:
    with pytest.raises(ValueError, match="augmentation: expected a shift by less than"):
        quick(3, augmentation=Augmentation(shift=8)).fit(*digits)
    X, y = digits
    with pytest.raises(ValueError, match="less than the sides of the images of 8x4 pixels"):
        quick(3, augmentation=Augmentation(shift=4)).fit(X[:, :, :4], y)
    # Signals are images of one row.
    signals = X.reshape(-1, 1, 64, 1)
    clf = quick(30, augmentation=Augmentation(shift=4)).fit(signals, y)
    assert clf.predict(signals).shape == y.shape

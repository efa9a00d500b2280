"""The batch order, and the rows that batches are taken from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st

from skectonas.inputs.scaling import PixelScaling
from skectonas.training.data import CALIBRATION_ROWS, BatchOrder, Rows, TrainingData

RELAXED = examples(200)
ROWS = st.integers(1, 90)
SIZES = st.integers(1, 40)
KEYS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5)


def batch_order(n_rows: int, batch_size: int, n_steps: int, key: Sequence[int]) -> np.ndarray:
    return BatchOrder(n_rows, batch_size, n_steps, key)[:].numpy()


def rows(n: int, dtype: torch.dtype = torch.uint8) -> Rows:
    return Rows(torch.arange(n * 4).reshape(n, 2, 2, 1).to(dtype), torch.arange(n) % 2)


@RELAXED
@given(ROWS, SIZES, KEYS, st.integers(1, 3))
def test_every_epoch_sees_every_row(
    n_rows: int, batch_size: int, key: list[int], n_epochs: int
) -> None:
    fewest = len(range(0, n_rows, batch_size))  # batches that the batch size allows
    order = batch_order(n_rows, batch_size, n_epochs * fewest, key)
    size = order.shape[1]
    assert order.shape == (n_epochs * fewest, size)
    assert order.dtype == np.int64
    assert size <= batch_size
    assert (size - 1) * fewest < n_rows  # the smallest that covers all
    for epoch in np.split(order, n_epochs):
        assert set(epoch.flat) == set(range(n_rows))
        counts = Counter(epoch.flat)
        assert max(counts.values()) <= 2
        twice = {row for row, count in counts.items() if count == 2}
        assert len(twice) == fewest * size - n_rows
        assert twice <= set(epoch[0])
        assert twice <= set(epoch[-1])
    for batch in order:
        assert len(set(batch)) == size


@RELAXED
@given(ROWS, SIZES, KEYS, st.integers(1, 30), st.integers(0, 30))
def test_a_longer_order_begins_with_the_shorter(
    n_rows: int, batch_size: int, key: list[int], n_steps: int, more: int
) -> None:
    short = batch_order(n_rows, batch_size, n_steps, key)
    long = batch_order(n_rows, batch_size, n_steps + more, tuple(key))
    assert len(short) == n_steps
    np.testing.assert_array_equal(long[:n_steps], short)


@RELAXED
@given(
    st.lists(st.integers(0, 2**31 - 1), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(1, 5),
)
def test_each_part_of_the_key_changes_the_order(key: list[int], part: int, by: int) -> None:
    other = list(key)
    other[part] += by
    order = batch_order(50, 8, 14, key)
    assert not np.array_equal(order, batch_order(50, 8, 14, other))
    assert not np.array_equal(order[:7], order[7:])  # another permutation in every epoch


@RELAXED
@given(ROWS, SIZES, KEYS, st.integers(0, 30), st.data())
def test_an_order_is_the_same_however_it_is_asked_for(
    n_rows: int, batch_size: int, key: list[int], n_steps: int, data: st.DataObject
) -> None:
    per_epoch = -(-n_rows // batch_size)
    size = -(-n_rows // per_epoch)
    epochs = [np.empty((0, size), int)]
    for epoch in range(-(-n_steps // per_epoch)):
        permutation = np.random.default_rng([*key, epoch]).permutation(n_rows)
        epochs.append(np.resize(permutation, (per_epoch, size)))
    whole = np.concatenate(epochs)[:n_steps]  # of all epochs at once
    order = BatchOrder(n_rows, batch_size, n_steps, key)
    assert order.shape == whole.shape == (len(order), size)
    for _ in range(3):
        first, last = (data.draw(st.integers(0, n_steps + 2)) for _ in range(2))
        np.testing.assert_array_equal(order[first:last], whole[first:last])


def test_an_order_has_64_bits_where_numpy_draws_32(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = batch_order(9, 4, 7, (0,))

    class Generator(np.random.Generator):
        def permutation(self, n: int) -> np.ndarray:
            return super().permutation(n).astype(np.int32)

    monkeypatch.setattr(np.random, "default_rng", lambda key: Generator(np.random.PCG64(key)))
    found = batch_order(9, 4, 7, (0,))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_the_order_is_uniform() -> None:
    first = Counter(int(batch_order(6, 3, 1, (0, 0, 0, i))[0, 0]) for i in range(3000))
    assert len(first) == 6
    assert all(400 < count < 600 for count in first.values())  # 500, standard deviation 20


def test_the_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()
    batch_order(50, 8, 14, (1, 2, 3, 4))
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize(
    ("n", "batch_size", "steps"), [(64, 32, 2), (65, 32, 3), (63, 32, 2), (5, 32, 1), (5, 1, 5)]
)
def test_steps_per_epoch(n: int, batch_size: int, steps: int) -> None:
    data = TrainingData(rows(n), rows(2), batch_size=batch_size)
    assert data.steps_per_epoch == steps
    np.testing.assert_array_equal(
        data.batches(7, (1, 2, 3, 4))[:], batch_order(n, batch_size, 7, (1, 2, 3, 4))
    )
    assert set(data.batches(steps, (0,))[:].flatten().tolist()) == set(range(n))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stored", [torch.uint8, torch.float32, torch.float64])
def test_scaled(dtype: torch.dtype, stored: torch.dtype) -> None:
    data = TrainingData(rows(9, stored), rows(2, stored), PixelScaling((3.1,), (0.3,)))
    images = data.train.images
    scaled = data.scaled(images, dtype)
    assert scaled.dtype == dtype
    expected = (np.arange(36).reshape(9, 2, 2, 1) - 3.1) * 0.3  # not wrapped below the offset
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=0, atol=tolerance)
    assert images.dtype == stored
    np.testing.assert_array_equal(images.numpy().ravel(), np.arange(36))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_channel_is_scaled_on_its_own(dtype: torch.dtype) -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 2, 2, 3)
    some = Rows(images, torch.tensor([0, 1]))
    scaling = PixelScaling((0.5, 100.0, -3.0), (2.0, 0.1, 1.0))
    data = TrainingData(some, some, scaling)
    offset, scale = data.scaling.tensors(dtype, images.device)
    assert offset.dtype == scale.dtype == dtype
    assert offset.shape == scale.shape == (3,)
    expected = (np.arange(24).reshape(2, 2, 2, 3) - [0.5, 100, -3]) * [2, 0.1, 1]
    scaled = data.scaled(images, dtype)
    assert scaled.dtype == dtype
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        scaling.apply(images.numpy()), data.scaled(images, torch.float64)
    )


def test_pixels_are_kept_as_they_came() -> None:
    data = TrainingData(rows(9), rows(2), PixelScaling((1.0,), (0.5,)), batch_size=4)
    moved = data.to(torch.device("cpu"))
    for one in (data, moved):
        assert one.train.images.dtype == one.validation.images.dtype == torch.uint8
        assert one.calibration.dtype == torch.uint8
    assert (moved.scaling, moved.batch_size) == (PixelScaling((1.0,), (0.5,)), 4)


def test_calibration_is_the_beginning_of_the_training_rows() -> None:
    few = TrainingData(rows(9), rows(2))
    assert torch.equal(few.calibration, few.train.images)
    many = TrainingData(rows(CALIBRATION_ROWS + 5, torch.int32), rows(2))
    assert torch.equal(many.calibration, many.train.images[:CALIBRATION_ROWS])


def test_rows_that_share_images() -> None:
    images = rows(9).images
    places = torch.tensor([7, 1, 4])
    some = Rows(images, torch.tensor([1, 0, 1]), None, places)
    assert torch.equal(some.take(torch.tensor([2, 0])), images[[4, 7]])
    out = torch.empty(2, 2, 2, 1, dtype=torch.uint8)
    assert some.take(torch.tensor([1, 1]), out=out) is out
    assert torch.equal(out, images[[1, 1]])
    assert [len(part) for part in some.chunks(2)] == [2, 1]
    assert torch.equal(torch.cat(list(some.chunks(2))), images[places])
    assert torch.equal(TrainingData(some, some).calibration, images[places])
    alone = rows(9)
    assert torch.equal(torch.cat(list(alone.chunks(4))), alone.images)


def test_shared_images_are_moved_once() -> None:
    images, labels = torch.zeros(6, 2, 2, 1), torch.tensor([0, 1, 0])
    train, validation = (
        Rows(images, labels, None, torch.arange(first, 6, 2)) for first in (0, 1)
    )
    moved = TrainingData(train, validation).to(torch.device("meta"))
    assert moved.train.images is moved.validation.images
    for side in (moved.train, moved.validation):
        assert {t.device.type for t in (side.images, side.labels, side.places)} == {"meta"}
    apart = TrainingData(rows(9), rows(2)).to(torch.device("meta"))
    assert len(apart.train.images) == 9
    assert len(apart.validation.images) == 2


def test_rows_on_a_device_keep_their_weights() -> None:
    images, labels = torch.zeros(3, 2, 2, 1), torch.tensor([0, 1, 0])
    weighted = Rows(images, labels, torch.tensor([1.0, 2.0, 0.5]))
    assert len(weighted) == 3
    moved = weighted.to(torch.device("meta"))
    assert {t.device.type for t in (moved.images, moved.labels, moved.weights)} == {"meta"}
    assert Rows(images, labels).to(torch.device("meta")).weights is None

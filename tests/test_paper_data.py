"""The loaders of the paper's data sets read the usual files, here made up."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "paper"))

import data as paper_data

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("folder", ["fashion_mnist", "fashion-mnist", "."])
def test_idx_files(tmp_path: Path, folder: str, is_packed: bool) -> None:
    place, written = tmp_path / folder, []
    place.mkdir(exist_ok=True)
    for part, n in (("train", 5), ("t10k", 3)):
        for kind, array in (("images-idx3", pixels(n, 4, 6)), ("labels-idx1", pixels(n) % 10)):
            content = struct.pack(">i", 2048 + array.ndim)
            content += struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
            name = f"{part}-{kind}-ubyte"
            if is_packed:
                (place / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (place / name).write_bytes(content)
            written.append(array)
    for found, array in zip(paper_data.load("fashion_mnist", tmp_path), written, strict=True):
        np.testing.assert_array_equal(found, array)


def test_a_cut_idx_file(tmp_path: Path) -> None:
    for name in (
        "train-images-idx3",
        "train-labels-idx1",
        "t10k-images-idx3",
        "t10k-labels-idx1",
    ):
        head = (
            struct.pack(">4i", 2051, 2, 3, 3) if "idx3" in name else struct.pack(">2i", 2049, 2)
        )
        (tmp_path / f"{name}-ubyte").write_bytes(head + b"\0")
    with pytest.raises(ValueError, match="train-images-idx3-ubyte: expected an idx file"):
        paper_data.load("mnist", tmp_path)


def write_cifar(path: Path, rows: np.ndarray, name: bytes) -> None:
    content = {b"data": rows, name: RNG.integers(0, 10, len(rows)).tolist()}
    path.write_bytes(pickle.dumps(content, protocol=2))


def test_cifar_pickles(tmp_path: Path) -> None:
    place = tmp_path / "cifar10" / "cifar-10-batches-py"
    place.mkdir(parents=True)
    rows = [pixels(2, 3072) for _ in range(6)]
    for part, name in zip(rows, [*paper_data.BATCHES, "test_batch"], strict=True):
        write_cifar(place / name, part, b"labels")
    found = paper_data.load("cifar10", tmp_path)
    assert found.X_train.shape == (10, 32, 32, 3)
    assert found.X_test.shape == (2, 32, 32, 3)
    # The rows have all reds first, then all greens, then all blues.
    np.testing.assert_array_equal(found.X_train[3, :, :, 1].ravel(), rows[1][1, 1024:2048])
    assert len(found.y_train) == 10
    assert len(found.y_test) == 2


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "was here",)

    for name in ("train", "test"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Crafted()}, protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="has no place in a pickle of images"):
        paper_data.load("cifar100", tmp_path)
    assert not (tmp_path / "was here").exists()


def test_mat_files(tmp_path: Path) -> None:
    images, labels = pixels(32, 32, 3, 4), np.array([[10], [1], [9], [10]])
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels})
    found = paper_data.load("svhn", tmp_path)
    np.testing.assert_array_equal(found.X_test[2], images[..., 2])
    assert found.y_train.tolist() == [0, 1, 9, 0]


def test_folders_of_images(tmp_path: Path) -> None:
    from PIL import Image

    for name, shade in (("Forest", 10), ("River", 200)):
        (tmp_path / "eurosat" / name).mkdir(parents=True)
        for i in range(10):
            image = Image.fromarray(np.full((6, 6, 3), shade, np.uint8))
            image.save(tmp_path / "eurosat" / name / f"{i}.png")
    found = paper_data.load("eurosat", tmp_path)
    assert found.X_train.shape == (18, 6, 6, 3)
    assert sorted(found.y_test) == ["Forest", "River"]
    shades = np.where(found.y_train == "Forest", 10, 200)
    np.testing.assert_array_equal(found.X_train[:, 0, 0, 0], shades)


def test_npz(tmp_path: Path) -> None:
    arrays = {"x_train": pixels(4, 5, 5), "y_train": np.arange(4)[:, None]}
    arrays |= {"x_test": pixels(2, 5, 5), "y_test": np.arange(2)}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    found = paper_data.load("cifar10", tmp_path)
    np.testing.assert_array_equal(found.X_train, arrays["x_train"])
    assert found.y_train.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", paper_data.SETS)
def test_a_missing_set_says_where_to_put_which_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    expected = f"{name} was not found. Put .* into .*{name}; or put {name}.npz there"
    with pytest.raises(FileNotFoundError, match=expected):
        paper_data.load(name, tmp_path)


def adult() -> pd.DataFrame:
    """Return rows with as many categories as Adult has."""
    sizes = {
        "workclass": 7, "education": 16, "marital-status": 7, "occupation": 14,
        "relationship": 6, "race": 5, "native-country": 38,
    }  # fmt: skip
    rows = np.arange(80)
    columns = {name: [f"kind {i % n}" for i in rows] for name, n in sizes.items()}
    frame = pd.DataFrame(columns | dict.fromkeys(paper_data.ADULT_NAMES[0:13:2], 1.0) | columns)
    numbers = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss"]
    frame = frame.assign(**dict.fromkeys([*numbers, "hours-per-week"], rows))
    frame["sex"] = np.where(rows % 2, "Male", "Female")
    frame.loc[:2, "native-country"] = paper_data.RAREST_COUNTRIES
    frame.loc[3, "workclass"] = "Never-worked"
    frame.loc[4, "occupation"] = "?"
    frame["income"] = np.where(rows % 3, "<=50K", ">50K")
    return frame[list(paper_data.ADULT_NAMES)]


def test_adult_as_one_file_and_as_two(tmp_path: Path) -> None:
    frame, is_train = adult(), np.arange(80) < 60
    (tmp_path / "one").mkdir()
    split = np.where(is_train, "train", "test")
    frame.assign(split=split).to_csv(tmp_path / "one" / "adult.csv.gz", index=False)
    one = paper_data.load("adult", tmp_path / "one")
    (tmp_path / "two").mkdir()
    plain = {"index": False, "header": False}
    frame[is_train].to_csv(tmp_path / "two" / "adult.data", **plain)
    test = frame[~is_train].assign(income=lambda part: part["income"] + ".")
    content = "|1x3 Cross validator\n" + test.to_csv(**plain)
    (tmp_path / "two" / "adult.test").write_text(content)
    two = paper_data.load("adult", tmp_path / "two")
    assert one.X_train.shape == (60, 100)
    assert set(one.y_test) == {"<=50K", ">50K"}
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)

"""The seven data sets of the paper, from a local folder or from OpenML.

`load` looks for the files in ``folder/name`` (or with hyphens for underscores) and in `folder`
itself. Any set of images may also be one file, ``name.npz``, with the arrays ``x_train``,
``y_train``, ``x_test`` and ``y_test``, or folders of images, ``train/class/*.png``. Without a
part for tests, as in EuroSAT, a tenth of the rows is held out, stratified.
"""

from __future__ import annotations

import gzip
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.io import loadmat
from sklearn.datasets import fetch_openml
from sklearn.model_selection import train_test_split

Array = NDArray[Any]
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
RAREST_COUNTRIES = ("Holand-Netherlands", "Hungary", "Honduras")
DROPPED = ["sex_Male", *(f"native-country_{c}" for c in RAREST_COUNTRIES)]
"""The columns of Adult that the paper drops. 101 are left; the rarest of these has 10 rows."""
RAREST = "workclass_Never-worked"
ADULT_NAMES = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
)  # fmt: skip


class Data(NamedTuple):
    """Rows to train on, and rows to test on."""

    X_train: Array
    y_train: Array
    X_test: Array
    y_test: Array


class NotThere(FileNotFoundError):
    """A data set whose files are missing."""


def load(name: str, folder: Path | None, seed: int = 0) -> Data:
    """Return a data set.

    Parameters
    ----------
    name : str
        One of `SETS`.
    folder : Path or None
        Where the files are. With None, OpenML is asked for them.
    seed : int, default=0
        Decides which rows are held out for tests, where there is no part for tests.
    """
    native, expected = SETS[name]
    if folder is None:
        return from_openml(name)
    for place in (folder / name, folder / name.replace("_", "-"), folder):
        if (place / f"{name}.npz").is_file():
            return from_npz(place / f"{name}.npz", seed)
        data = native(place)
        if data is None and place != folder:
            data = from_image_folders(place, seed)
        if data is not None:
            return data
    raise NotThere(
        f"{name} was not found. Put {expected} into {folder / name}; or put {name}.npz there, "
        "with the arrays x_train, y_train, x_test and y_test; or folders of images, "
        "train/CLASS/*.png and test/CLASS/*.png."
    )


def from_idx(place: Path) -> Data | None:
    """Return the images of MNIST's four files, compressed or not."""
    parts = []
    for part in ("train", "t10k"):
        for kind, magic in (("images-idx3", 2051), ("labels-idx1", 2049)):
            content = _content(place / f"{part}-{kind}-ubyte")
            if content is None:
                return None
            parts.append(_idx_array(content, magic, f"{part}-{kind}-ubyte"))
    return Data(*parts)


def _content(path: Path) -> bytes | None:
    packed = path.with_name(path.name + ".gz")
    if packed.is_file():
        return gzip.decompress(packed.read_bytes())
    return path.read_bytes() if path.is_file() else None


def _idx_array(content: bytes, magic: int, name: str) -> Array:
    head = np.frombuffer(content, ">i4", count=1 + magic % 256)
    if head[0] != magic or len(content) != 4 * len(head) + np.prod(head[1:], dtype=int):
        raise ValueError(f"{name}: expected an idx file that begins with {magic}")
    return np.frombuffer(content, np.uint8, offset=4 * len(head)).reshape(head[1:])


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of numpy arrays and plain values, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) == ("numpy._core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a pickle of images")


def _read_pickle(path: Path) -> dict[bytes, Any]:
    read: dict[bytes, Any] = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    return read


def from_cifar(*folders: str, train: list[str], test: str, labels: bytes) -> Callable[..., Any]:
    """Return the function that reads CIFAR's python pickles."""

    def read(place: Path) -> Data | None:
        for where in (place, *(place / folder for folder in folders)):
            if all((where / part).is_file() for part in (*train, test)):
                return Data(*both(where, train), *both(where, [test]))
        return None

    def both(where: Path, names: list[str]) -> tuple[Array, Array]:
        parts = [_read_pickle(where / name) for name in names]
        images = np.concatenate([part[b"data"] for part in parts])
        return _cifar_images(images), np.concatenate([part[labels] for part in parts])

    return read


def _cifar_images(rows: Array) -> Array:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def from_mat(place: Path) -> Data | None:
    """Return the cropped digits of SVHN."""
    parts: list[Array] = []
    for part in ("train", "test"):
        path = place / f"{part}_32x32.mat"
        if not path.is_file():
            return None
        read = loadmat(path)
        parts.append(np.ascontiguousarray(np.moveaxis(read["X"], -1, 0)))
        parts.append(read["y"].ravel() % 10)  # zeros are in class 10
    return Data(*parts)


def from_npz(path: Path, seed: int) -> Data:
    """Return the arrays of one file, which has no objects that would be unpickled."""
    with np.load(path) as arrays:
        if "x_test" in arrays:
            x_train, y_train, x_test, y_test = (arrays[key] for key in NPZ)
            return Data(x_train, y_train.ravel(), x_test, y_test.ravel())
        return held_out(arrays["x_train"], arrays["y_train"].ravel(), seed)


NPZ = ("x_train", "y_train", "x_test", "y_test")


def from_image_folders(place: Path, seed: int) -> Data | None:
    """Return images from a folder for each class."""
    if (place / "train").is_dir() and (place / "test").is_dir():
        return Data(*_images_in(place / "train"), *_images_in(place / "test"))
    if any(path.parent.parent == place for path in _image_files(place)):
        return held_out(*_images_in(place), seed)
    return None


def _image_files(place: Path) -> Iterator[Path]:
    return (p for p in sorted(place.glob("*/*")) if p.suffix.lower() in IMAGES)


def _images_in(place: Path) -> tuple[Array, Array]:
    from PIL import Image  # only needed here; comes with matplotlib

    files = list(_image_files(place))
    images = np.stack([np.asarray(Image.open(path)) for path in files])
    return images, np.array([path.parent.name for path in files])


def held_out(X: Array, y: Array, seed: int) -> Data:
    """Hold out a tenth of the rows for tests."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.1, stratify=y, random_state=seed
    )
    return Data(X_train, y_train, X_test, y_test)


def no_file(place: Path) -> None:
    """Look for nothing: the set only comes as folders of images."""


def from_census(place: Path) -> Data | None:
    """Return Adult from one CSV file that has a column ``split``, or from UCI's two files."""
    for name in ("adult.csv.gz", "adult.csv"):
        if (place / name).is_file():
            frame = pd.read_csv(place / name, na_values="?")
            return census(frame, (frame.pop("split") == "train").to_numpy())
    if not all((place / name).is_file() for name in ("adult.data", "adult.test")):
        return None
    read = {"names": ADULT_NAMES, "na_values": "?", "skipinitialspace": True}
    train = pd.read_csv(place / "adult.data", **read)
    test = pd.read_csv(place / "adult.test", skiprows=1, **read)  # its first line is a remark
    frame = pd.concat([train, test], ignore_index=True)
    return census(frame, np.arange(len(frame)) < len(train))


def census(frame: pd.DataFrame, is_train: Array) -> Data:
    """Return Adult as the 100 columns of section 4.1.

    The paper one-hot encodes the categories and drops the columns of missing values, of men,
    and of the three rarest countries. This leaves 101 columns; it does not say which other one
    it drops. Here it is the rarest.
    """
    y = frame["income"].str.rstrip(".").to_numpy(object)
    encoded = pd.get_dummies(frame.drop(columns="income"), dtype=np.float32)
    X = encoded.drop(columns=[*DROPPED, RAREST]).to_numpy(np.float32)
    if X.shape[1] != 100:
        raise ValueError(f"adult: expected 100 columns, got {X.shape[1]}")
    return Data(X[is_train], y[is_train], X[~is_train], y[~is_train])


def from_openml(name: str) -> Data:
    """Return a set of which OpenML has the rows in their order, training rows first."""
    if name not in OPENML:
        raise NotThere(f"{name} is not read from OpenML; give the folder of its files.")
    title, n_train = OPENML[name]
    read = fetch_openml(title, version=1 if name != "adult" else 2, as_frame=True).frame
    is_train = np.arange(len(read)) < n_train
    if name == "adult":
        return census(read.rename(columns={"class": "income"}), is_train)
    y = read.pop("class").astype(int).to_numpy()
    X = read.to_numpy(np.uint8).reshape(-1, 28, 28)
    return Data(X[is_train], y[is_train], X[~is_train], y[~is_train])


OPENML = {
    "mnist": ("mnist_784", 60_000),
    "fashion_mnist": ("Fashion-MNIST", 60_000),
    "adult": ("adult", 32_561),
}
IDX_FILES = (
    "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz"
)
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]

SETS: dict[str, tuple[Callable[[Path], Data | None], str]] = {
    "mnist": (from_idx, IDX_FILES),
    "fashion_mnist": (from_idx, IDX_FILES),
    "cifar10": (
        from_cifar("cifar-10-batches-py", train=BATCHES, test="test_batch", labels=b"labels"),
        "the python version (data_batch_1 to data_batch_5 and test_batch)",
    ),
    "cifar100": (
        from_cifar("cifar-100-python", train=["train"], test="test", labels=b"fine_labels"),
        "the python version (train and test)",
    ),
    "svhn": (from_mat, "train_32x32.mat and test_32x32.mat"),
    "eurosat": (no_file, "the folders of the RGB version, one for each class,"),
    "adult": (
        from_census,
        "adult.csv.gz (with the columns income and split), or adult.data and adult.test,",
    ),
}
"""How each set is read, and which files it consists of."""

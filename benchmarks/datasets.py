"""The data sets of the benchmarks, from a local folder or from OpenML."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml

# Where Debian's package dataset-fashion-mnist puts its files.
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def fashion_mnist(folder: Path = FASHION_FOLDER) -> tuple[Images, Labels, Images, Labels]:
    """Return Fashion-MNIST: training images, labels, test images, labels."""
    if not folder.exists():
        X, y = fetch_openml("Fashion-MNIST", version=1, return_X_y=True, as_frame=False)
        images, labels = X.reshape(-1, 28, 28).astype(np.uint8), y.astype(np.int64)
        return images[:60_000], labels[:60_000], images[60_000:], labels[60_000:]
    parts = []
    for name in ("train", "t10k"):
        pixels = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())
        parts.append(np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28))
        parts.append(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))
    return parts[0], parts[1], parts[2], parts[3]

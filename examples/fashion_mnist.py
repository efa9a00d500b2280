"""
Fashion-MNIST, a part of it
===========================

A search on larger images, in which convolutional cells are added and removed.

The images come from a local folder with the original idx files, such as that of Debian's
package dataset-fashion-mnist, or from OpenML, so this script was not run when the site was
built.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml
from story import tell

from skectonas import ECToNASClassifier

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def main() -> None:
    parser = argparse.ArgumentParser(description="ECToNAS on a part of Fashion-MNIST.")
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the idx files")
    parser.add_argument("--rows", type=int, default=6_000, help="training images to use")
    parser.add_argument("--budget", type=float, default=200)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--start", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images, labels = load(arguments.data)
    X_train, y_train = images[: arguments.rows], labels[: arguments.rows]
    clf = ECToNASClassifier(
        arguments.alpha,
        arguments.budget,
        arguments.start,
        random_state=arguments.seed,
        verbose=1,
    )
    clf.fit(X_train, y_train)
    tell(clf, images[60_000:], labels[60_000:])


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return all images and labels, with the 60,000 training images first."""
    if not folder.exists():
        X, y = fetch_openml("Fashion-MNIST", version=1, return_X_y=True, as_frame=False)
        return X.reshape(-1, 28, 28).astype(np.uint8), y.astype(int)
    images, labels = [], []
    for part in ("train", "t10k"):
        pixels = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        images.append(np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28))
        classes = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        labels.append(np.frombuffer(classes, np.uint8, offset=8).astype(int))
    return np.concatenate(images), np.concatenate(labels)


if __name__ == "__main__":
    main()

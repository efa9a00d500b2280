"""Settings and fixtures that tests share."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import quick
from hypothesis import settings
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier

# The machines that tests run on are too unlike for deadlines, and a run has to be repeatable.
settings.register_profile("skectonas", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("skectonas")


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 300 images of digits with their labels."""
    bunch = load_digits()
    return bunch.images[:300], bunch.target[:300]


@pytest.fixture(scope="session")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> ECToNASClassifier:
    """Return a classifier of them; tests leave it as it is."""
    return quick(60).fit(*digits)

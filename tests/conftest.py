"""Settings and fixtures that tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

# Before torch is imported. The networks are tiny, and several processes run the tests: threads
# of torch would wait for processors most of the time. Tests of threads set their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from helpers import USUAL_EXAMPLES, quick
from hypothesis import HealthCheck, settings
from populations import ENGINES, KINDS
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier
from skectonas.population.native.library import VARIABLE

# The machines that run the tests differ too much for deadlines. A run has to be repeatable,
# unless it explores new examples.
settings.register_profile(
    "skectonas",
    deadline=None,
    derandomize=True,
    max_examples=USUAL_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore",
    settings.get_profile("skectonas"),
    derandomize=False,
    max_examples=10 * USUAL_EXAMPLES,
    print_blob=True,
)
# Where other tests have tried all examples with the newest dependencies.
settings.register_profile(
    "brief", settings.get_profile("skectonas"), max_examples=USUAL_EXAMPLES // 5
)
settings.load_profile(os.environ.get("SKECTONAS_TESTS", "skectonas"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Handle Ctrl-C also where the tests run in the background of a shell, which ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return 300 images of digits with their labels."""
    bunch = load_digits()
    return bunch.images[:300], bunch.target[:300]


@pytest.fixture(scope="session")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> ECToNASClassifier:
    """Return a classifier fitted on them; tests do not change it."""
    return quick(60).fit(*digits)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Train with each of the engines in turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, request.param)
        yield request.param


@pytest.fixture(scope="module", params=KINDS)
def kind_of_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Train with one engine of each kind, where variants of the library do the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, request.param)
        yield request.param

"""The source of the CUDA kernel, run on the CPU, against the plain loop.

The interpreter of test_population_program repeats what the kernel computes. Here it is the
kernel itself that computes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from cuda_on_cpu import COMPILER, compile_for_cpu
from helpers import not_if_brief
from kernel_launches import assert_kernel_equals_plain_loop
from populations import MIXED, networks, training_data

from skectonas.population.kernels.compiled import Launch
from skectonas.surroundings import one_thread
from skectonas.training.plain import resolve_optimizer

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no compiler"),
    not_if_brief,
]

THREADS = 128
WIDE = [
    ("", (40, 17)),
    ("18m", (3, 33)),
    ("17n 4n", ()),
    ("4m 17n", ()),
    ("17a 5m", (2,)),
    ("5m 17a", ()),
]


@pytest.fixture(autouse=True)
def _single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return compile_for_cpu(tmp_path_factory.mktemp("kernel"), THREADS)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_small_networks(launch, name) -> None:
    data = training_data((6, 7, 1), weighted=True)
    rule = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01} if name == "SGD" else {}
    candidates, n_steps = networks((6, 7, 1), 3, MIXED), [3 + i % 2 for i in range(len(MIXED))]
    optimizer = resolve_optimizer(name, 0.02, rule)
    assert_kernel_equals_plain_loop(
        launch, THREADS, data, candidates, n_steps, optimizer, 3, 1e-9
    )


def test_layers_of_many_tiles(launch) -> None:
    data = training_data((9, 7, 3), n_classes=35, n_rows=80, batch_size=40)
    candidates, n_steps = networks((9, 7, 3), 35, WIDE), [2] * len(WIDE)
    optimizer = resolve_optimizer("SGD", 0.02, {"momentum": 0.8, "dampening": 0.3})
    assert_kernel_equals_plain_loop(
        launch, THREADS, data, candidates, n_steps, optimizer, 35, 1e-9
    )


def test_gradients_in_parts(launch) -> None:
    data = training_data((27, 28, 1), n_rows=64, batch_size=16)
    candidates = networks((27, 28, 1), 3, [("3m", ()), ("2a 5n", (4,)), ("1n 2a", ())])
    optimizer = resolve_optimizer("SGD", 0.01)
    assert_kernel_equals_plain_loop(
        launch, THREADS, data, candidates, [2, 1, 2], optimizer, 3, 1e-9
    )

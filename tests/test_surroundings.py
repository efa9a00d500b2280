"""torch settings around a fit or prediction do not affect it, and are left unchanged."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from helpers import quick
from threadpoolctl import threadpool_limits

import skectonas
from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.callers import no_warnings
from skectonas.morphisms import MORPHISMS, Activations, Context
from skectonas.network import initial_weights
from skectonas.population import engine_in_use
from skectonas.surroundings import one_thread, undisturbed
from skectonas.threads import SharedSetting, uninterrupted

T = TypeVar("T")
TOPOLOGY = Topology((8, 8, 1), [ConvCell(6), ConvCell(6, "max")], [Dense(8), Dense(6)], 10)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def medium_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "meta device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "3 threads": lambda: threads(3),
    "medium precision": medium_precision,
}
OPTIMIZERS = ["sgd", "adam", "adafactor"]


def searched(digits: Any, optimizer: str, **settings: Any) -> ECToNASClassifier:
    X, y = digits
    clf = quick(24, start=TOPOLOGY, optimizer=optimizer, learning_rate=0.01, **settings)
    return clf.fit(X[:150], y[:150])


def assert_same(found: ECToNASClassifier, expected: ECToNASClassifier) -> None:
    ours, theirs = (clf.network_.state_dict() for clf in (found, expected))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        assert torch.equal(ours[name], value), name
    columns = ["topology", "train_loss", "validation_loss", "validation_score", "mean_loss"]
    assert found.history_[columns].equals(expected.history_[columns])


@pytest.fixture(scope="module")
def undisturbed_searches(digits: Any) -> dict[str, ECToNASClassifier]:
    return {optimizer: searched(digits, optimizer) for optimizer in OPTIMIZERS}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("around", AROUND)
def test_fit_and_predict(
    around: str,
    optimizer: str,
    digits: Any,
    undisturbed_searches: dict[str, ECToNASClassifier],
) -> None:
    expected = undisturbed_searches[optimizer]
    wanted = expected.predict_proba(digits[0])
    with AROUND[around]():
        found = searched(digits, optimizer)
        probabilities = found.predict_proba(digits[0])
        again = expected.predict_proba(digits[0])
    assert_same(found, expected)
    assert not any(p.is_inference() for p in found.network_.parameters())
    assert all(p.requires_grad for p in found.network_.parameters())
    np.testing.assert_array_equal(probabilities, wanted)
    np.testing.assert_array_equal(again, wanted)


def test_products_are_exact_whatever_precision_is_allowed() -> None:
    a, b = torch.randn(2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    with undisturbed():
        exact = a @ b
    with medium_precision(), undisturbed():
        assert torch.equal(a @ b, exact)


@pytest.mark.parametrize("around", AROUND)
def test_workers_and_a_warm_start(around: str, digits: Any) -> None:
    def twice() -> ECToNASClassifier:
        clf = searched(digits, "sgd", n_jobs=2, warm_start=True)
        return clf.fit(*digits)

    expected = twice()
    with AROUND[around]():
        found = twice()
    assert_same(found, expected)


@pytest.mark.parametrize("around", AROUND)
def test_what_leaves_the_estimator(
    around: str,
    digits: Any,
    tmp_path: Path,
    undisturbed_searches: dict[str, ECToNASClassifier],
) -> None:
    clf = undisturbed_searches["sgd"]
    wanted = clf.predict_proba(digits[0])
    X, y = torch.from_numpy(digits[0]), torch.from_numpy(digits[1])
    logits = clf.to_torch()(X)
    with AROUND[around]():
        module = clf.to_torch()
        clf.save(tmp_path / "clf.safetensors")
        loaded = ECToNASClassifier.load(tmp_path / "clf.safetensors")
        copied = pickle.loads(pickle.dumps(clf))
    assert torch.equal(module(X), logits)
    for other in (loaded, copied):
        assert_same(other, clf)
        np.testing.assert_array_equal(other.predict_proba(digits[0]), wanted)
    for network in (module, loaded.to_torch(), copied.to_torch(), loaded.network_):
        assert all(p.requires_grad and not p.is_inference() for p in network.parameters())
    torch.nn.functional.cross_entropy(module(X), y).backward()
    assert module.network.output.weight.grad is not None


@pytest.mark.parametrize("around", ["float64", "float16", "meta device", "inference_mode"])
def test_weights_and_morphisms(around: str) -> None:
    """Parts that run unprotected name the dtype and device of what they make."""
    images = torch.rand(30, 8, 8, 1)

    def children() -> list[dict[str, torch.Tensor]]:
        weights = initial_weights(TOPOLOGY, np.random.default_rng(0))
        made = [weights]
        for morphism in MORPHISMS:
            for site in morphism.sites(TOPOLOGY):
                rng = np.random.default_rng(1)
                new = morphism.rewrite(TOPOLOGY, site, rng)
                context = Context(rng, images, Activations(weights, TOPOLOGY, images))
                made.append(dict(morphism.carry(weights, TOPOLOGY, new, site, context)))
        return made

    expected = children()
    with AROUND[around]():
        found = children()
    for ours, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype == torch.float32
            assert torch.equal(ours[name], value), name


def test_initial_weights_lie_in_memory_of_torch() -> None:
    """That of numpy begins anywhere, and where it does shows in the last bits of products."""
    for units in range(1, 40):
        topology = Topology((5, 5, 1), [ConvCell(units)], [Dense(units)], 3)
        for weight in initial_weights(topology, np.random.default_rng(0)).values():
            assert weight.data_ptr() % 64 == 0


def test_a_prediction_does_not_depend_on_where_its_rows_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 27, 6)), np.arange(60) % 4
    start = Topology((27, 6, 1), [], [Dense(173), Dense(116)], 4)
    clf = quick(4, start=start).fit(X, y)
    expected = clf.predict_proba(X[:2])
    scaling = type(clf.encoder_.scaling_)
    apply = scaling.apply
    for shift in range(8):

        def shifted(*args: Any, shift: int = shift) -> np.ndarray:
            scaled = apply(*args)
            room = np.empty(scaled.size + 16)
            begin = shift + -room.ctypes.data % 64 // 8
            placed = room[begin : begin + scaled.size].reshape(scaled.shape)
            placed[:] = scaled
            return placed

        monkeypatch.setattr(scaling, "apply", shifted)
        np.testing.assert_array_equal(clf.predict_proba(X[:2]), expected)


def in_a_thread(function: Callable[[], Any]) -> Any:
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("found", [1, 2])
def test_one_thread(found: int) -> None:
    with threads(found):
        with one_thread():
            assert torch.get_num_threads() == 1
            assert in_a_thread(torch.get_num_threads) == found  # nobody else
            with one_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == found
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == in_a_thread(torch.get_num_threads) == found


@pytest.mark.parametrize("first_out", ["first", "second"])
@pytest.mark.parametrize("known", [True, False])
def test_overlapping_threads(first_out: str, known: bool) -> None:
    """The first thread leaves first or last; threads are new to torch or not."""
    inside = {name: threading.Event() for name in ("first", "second")}
    leave = {name: threading.Event() for name in inside}
    begin = threading.Barrier(2)
    seen: dict[str, tuple[int, int]] = {}

    def work(name: str) -> None:
        if known:
            torch.get_num_threads()
        begin.wait(20)
        if name == "second":
            inside["first"].wait(20)
        with one_thread():
            inside[name].set()
            leave[name].wait(20)
            within = torch.get_num_threads()
        seen[name] = within, torch.get_num_threads()

    with threads(3):
        workers = {name: threading.Thread(target=work, args=(name,)) for name in inside}
        for worker in workers.values():
            worker.start()
        for event in inside.values():
            assert event.wait(20)
        assert torch.get_num_threads() == in_a_thread(torch.get_num_threads) == 3
        for name in sorted(workers, key=lambda name: name != first_out):
            leave[name].set()
            workers[name].join()
        assert seen == {"first": (1, 3), "second": (1, 3)}
        assert torch.get_num_threads() == in_a_thread(torch.get_num_threads) == 3


def test_many_overlapping_fits_and_predictions(
    digits: Any, undisturbed_searches: dict[str, ECToNASClassifier]
) -> None:
    clf = undisturbed_searches["sgd"]
    wanted = clf.predict_proba(digits[0])
    found: list[bool] = []
    begin = threading.Barrier(4)

    def work(i: int) -> None:
        torch.get_num_threads()
        begin.wait(20)
        for n in range(3):
            if (i + n) % 2:
                again = clf.predict_proba(digits[0])
            else:
                again = searched(digits, "sgd", n_jobs=1 + n).predict_proba(digits[0])
            found.append(np.array_equal(again, wanted))
            found.append(torch.get_num_threads() == 3)

    with threads(3):
        workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 24
        assert all(found)
        assert torch.get_num_threads() == in_a_thread(torch.get_num_threads) == 3


def test_a_number_set_within_is_kept() -> None:
    with threads(2):
        with one_thread():
            in_a_thread(lambda: torch.set_num_threads(4))  # by another thread
        assert in_a_thread(torch.get_num_threads) == 4
        assert torch.get_num_threads() == 2
        with one_thread():
            torch.set_num_threads(3)  # by a callback, say
            with one_thread():
                assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == in_a_thread(torch.get_num_threads) == 3


def test_threads_of_the_library_of_products() -> None:
    """Threadpoolctl leaves the number that torch has given to the library of products."""
    rng = np.random.default_rng(0)
    left, right = (torch.from_numpy(rng.random((700, 700))) for _ in range(2))
    with one_thread():
        expected = left @ right
    with threads(3), threadpool_limits(1), one_thread():
        assert torch.equal(left @ right, expected)


def test_no_thread_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_start(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with threads(2), monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_start)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("around", AROUND)
def test_the_surroundings_are_as_before(around: str) -> None:
    def state() -> tuple[Any, ...]:
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.empty(0).device,
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
        )

    with AROUND[around]():
        before = state()
        with undisturbed():
            assert state() == (1, before[1], torch.device("cpu"), True, False, False)
        assert state() == before


@pytest.mark.parametrize("before", [(False, True), (True, False)])
def test_cudnn_takes_the_same_algorithms(
    before: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = torch.backends.cudnn
    for name, value in zip(("deterministic", "benchmark"), before, strict=True):
        monkeypatch.setattr(cudnn, name, value)
    with undisturbed("cpu"):
        assert (cudnn.deterministic, cudnn.benchmark) == before
    with undisturbed("cuda"):
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    assert (cudnn.deterministic, cudnn.benchmark) == before


def overlapping(block: Callable[[], AbstractContextManager[None]], look: Callable[[], T]) -> T:
    """Return what is seen in a block that another thread had begun when this one began.

    The other one ends first, so that what it has found would be put back too early, and what
    this one has found too late.
    """
    began, end = threading.Event(), threading.Event()

    def other() -> None:
        with block():
            began.set()
            end.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(10)
    with block():
        end.set()
        thread.join()
        return look()


def test_cudnn_takes_the_same_algorithms_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", False)
    assert overlapping(lambda: undisturbed("cuda"), lambda: cudnn.deterministic)
    assert not cudnn.deterministic


def test_warnings_are_told_again_after_threads() -> None:
    before = list(warnings.filters)
    overlapping(no_warnings, lambda: warnings.warn("not told", stacklevel=2))
    assert warnings.filters == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes of this kind")
def test_a_forked_process_leaves_the_blocks_of_other_threads() -> None:
    values = [0]

    @contextmanager
    def setting() -> Iterator[None]:
        values.append(1)
        try:
            yield
        finally:
            values.append(0)

    shared = SharedSetting(setting)

    def fork() -> int:
        process = os.fork()
        if not process:
            with shared.block():
                inside = values[-1]
            os._exit(values[-1] * 2 + inside)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    began, end = threading.Event(), threading.Event()

    def other() -> None:
        with shared.block():
            began.set()
            end.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    assert began.wait(10)
    assert fork() == 1  # made again and restored
    with shared.block():
        assert fork() == 3  # this thread is still inside, there as well
    end.set()
    thread.join()
    assert values == [0, 1, 0]


def test_ctrl_c_waits() -> None:
    done = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done
    with pytest.raises(KeyError), uninterrupted():
        raise KeyError
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_other_threads_and_with_other_handlers() -> None:
    def work() -> bool:
        with uninterrupted():
            return True

    assert in_a_thread(work)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def run(program: str) -> list[str]:
    """Run a program in a process of its own; return the words that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(skectonas.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


def test_ctrl_c_in_the_first_second_of_the_first_fit() -> None:
    """What torch imports when an optimiser is made is whole in every case."""
    program = """
        import signal, sys
        import numpy as np
        from skectonas import ECToNASClassifier

        class Interrupts:
            def find_spec(self, name, path=None, target=None):
                if name == "torch.distributed._shard.sharder":
                    sys.meta_path.remove(self)
                    signal.raise_signal(signal.SIGINT)

        assert "torch._dynamo" not in sys.modules
        sys.meta_path.insert(0, Interrupts())
        X, y = np.random.default_rng(0).random((40, 4, 4)), np.arange(40) % 2
        clf = ECToNASClassifier(budget=2, random_state=0, optimizer="adagrad")
        try:
            clf.fit(X, y)
        except KeyboardInterrupt:
            print("interrupted")
        clf.fit(X, y)
        print("fitted")
    """
    assert run(program) == ["interrupted", "fitted"]


@pytest.mark.skipif(engine_in_use().startswith("torch"), reason="torch trains")
def test_the_native_library_does_not_need_the_compiler_of_torch() -> None:
    """It takes a second to import, and would be imported for any optimiser that is made."""
    program = """
        import sys
        import numpy as np
        from skectonas import ECToNASClassifier

        X, y = np.random.default_rng(0).random((40, 4, 4)), np.arange(40) % 2
        for optimizer, params in (
            ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
            ("adam", {"betas": (0.8, 0.99), "eps": 1e-6}),
            ("adamw", {"weight_decay": 0.1}),
        ):
            ECToNASClassifier(
                budget=2, random_state=0, optimizer=optimizer, optimizer_params=params
            ).fit(X, y)
        print("torch._dynamo" in sys.modules)
    """
    assert run(program) == ["False"]

"""What processes and machines that train get, and what they leave behind."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from helpers import not_if_brief, quick
from quick_processes import dask_workers, processes
from sklearn.model_selection import GridSearchCV

import skectonas
from skectonas.population.workers import sharing
from skectonas.population.workers.sharing import OnFile, Shared

ROOT = Path(skectonas.__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="files without names")
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and orphans of POSIX")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture(params=[pytest.param("nameless", marks=LINUX), "named"])
def kind_of_file(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let files have no name, or a name as on systems that need one."""
    if request.param == "named":
        monkeypatch.setattr(sharing, "nameless_file", lambda: None)
    return str(request.param)


def test_a_value_is_written_and_read_once(temporary: Path, kind_of_file: str) -> None:
    value = {"array": np.arange(5), "function": lambda: 3}
    sent = OnFile(value)
    assert not list(temporary.iterdir())
    messages = [pickle.dumps(sent) for _ in range(2)]
    assert messages[0] == messages[1]
    assert len(messages[0]) < 500
    assert len(list(temporary.iterdir())) == (kind_of_file == "named")
    first, second = (pickle.loads(message).value for message in messages)
    assert first is second
    np.testing.assert_array_equal(first["array"], value["array"])
    assert first["function"]() == 3
    del sent
    gc.collect()
    assert not list(temporary.iterdir())
    assert pickle.loads(messages[0]).value is first  # known by now
    sharing._received.clear()
    with pytest.raises((FileNotFoundError, EOFError, pickle.UnpicklingError, OSError)):
        pickle.loads(messages[0])


@LINUX
def test_a_file_at_the_same_place_is_not_taken_for_it(temporary: Path) -> None:
    sent = OnFile("ours")
    key, _, sender = sent.__getstate__()
    _, place, _ = OnFile("another").__getstate__()
    other = OnFile("another")
    _, place, _ = other.__getstate__()
    again = object.__new__(OnFile)
    with pytest.raises(FileNotFoundError, match="another file"):
        again.__setstate__((key, place, sender))
    assert not hasattr(again, "value")


def test_elsewhere_the_value_is_in_the_task() -> None:
    shared = Shared({"a": lambda: 5})
    backend = joblib.parallel.SequentialBackend()
    assert shared.handle_for(backend) is shared
    assert shared.handle_for(None) is shared
    assert pickle.loads(pickle.dumps(shared)).value["a"]() == 5


FIT = """
    import os, sys, time
    import joblib, numpy as np
    from skectonas import ECToNASClassifier
    from skectonas.population.workers import sharing

    if {named}:
        sharing.nameless_file = lambda: None

    def slow(estimator, X, y):
        with open({seen!r}, "a") as file:
            file.write(f"{{os.getpid()}} {{os.getppid()}}\\n")
        time.sleep(0.05)
        return 0.5

    X, y = np.random.default_rng(0).random((80, 6, 6)), np.arange(80) % 2
    clf = ECToNASClassifier(
        budget=10_000, start="medium_cnn", warmup_epochs=1, scoring=slow, n_jobs=2
    )
    with joblib.parallel_config({backend!r}):
        clf.fit(X, y)
"""


@contextmanager
def a_fit(seen: Path, backend: str, named: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a fit of many minutes in a process of its own."""
    program = textwrap.dedent(FIT.format(seen=str(seen), backend=backend, named=named))
    # What joblib finds left over, it writes there.
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def workers_in(seen: Path, parent: int) -> set[int]:
    lines = seen.read_text().splitlines() if seen.exists() else []
    pairs = [tuple(map(int, line.split())) for line in lines if len(line.split()) == 2]
    return {worker for worker, of in pairs if of == parent}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may have asked for the exit status of a process that has ended.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def our_files(folder: Path) -> list[Path]:
    return list(folder.glob("**/skectonas-*"))


@POSIX
@pytest.mark.parametrize(
    ("number", "named"),
    [
        pytest.param("SIGKILL", False, marks=[LINUX, not_if_brief]),
        pytest.param("SIGTERM", False, marks=[LINUX, not_if_brief]),
        ("SIGKILL", True),
    ],
)
def test_nothing_is_left_of_a_killed_fit(
    number: str, named: bool, temporary: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    with a_fit(seen, "loky", named) as process:
        assert wait_for(lambda: len(workers_in(seen, process.pid)) == 2)
        workers = workers_in(seen, process.pid)
        assert len(our_files(temporary)) == named
        process.send_signal(getattr(signal, number))
        process.wait()
        assert wait_for(lambda: not any(map(is_alive, workers)), 15)
    assert wait_for(lambda: not our_files(temporary), 15)


@POSIX
def test_nothing_is_left_of_killed_processes_of_multiprocessing(
    temporary: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    with a_fit(seen, "multiprocessing") as process:
        assert wait_for(lambda: len(workers_in(seen, process.pid)) == 2)
        workers = workers_in(seen, process.pid)
        process.kill()
        process.wait()
        assert wait_for(lambda: not any(map(is_alive, workers)), 15)
    assert not our_files(temporary)


def test_a_fit_in_processes_leaves_no_file(
    digits: Any, temporary: Path, kind_of_file: str
) -> None:
    expected = quick(45).fit(*digits).predict_proba(digits[0])
    with joblib.parallel_config("loky"):
        found = quick(45, n_jobs=2).fit(*digits).predict_proba(digits[0])
    np.testing.assert_array_equal(found, expected)
    gc.collect()
    assert not our_files(temporary)


# --- Dask ------------------------------------------------------------------------------------


class Nowhere:
    """A plugin of Dask: each worker has a folder for temporary files that no other has."""

    def __init__(self, parent: Path, forbidden: tuple[str, ...]) -> None:
        self.parent, self.forbidden = parent, forbidden

    def setup(self, worker: Any) -> None:
        import sys
        import tempfile

        own = self.parent / f"worker-{os.getpid()}"
        own.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(own)
        forbidden = self.forbidden

        def refuse(event: str, arguments: Any) -> None:
            if event in ("open", "os.listdir", "os.scandir") and arguments:
                path = str(arguments[0])
                # Some releases of Dask look at the folders that their own processes have made.
                if path.startswith(forbidden) and "dask-scratch-space" not in path:
                    (own / "trespass").write_text(path)
                    raise PermissionError(f"{path} is on another machine")

        sys.addaudithook(refuse)


@pytest.fixture(scope="module")
def temporary_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the only folder for temporary files of this process, which no worker sees."""
    processes()  # they have a socket in the usual folder: its path has to be short
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr("tempfile.tempdir", None)
        yield folder


@pytest.fixture(scope="module")
def machines(temporary_here: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a client of two workers of Dask that do not see the files of this process."""
    distributed = pytest.importorskip("distributed")
    cloudpickle = pytest.importorskip("cloudpickle")
    # Workers cannot import the tests, unless they happen to be started beside them.
    this_module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(this_module)

    class Plugin(Nowhere, distributed.WorkerPlugin):
        pass

    apart = tmp_path_factory.mktemp("machines")
    with dask_workers(local_directory=str(apart)) as client:
        files = f"/proc/{os.getpid()}/"
        client.register_plugin(Plugin(apart, (str(temporary_here), files)))
        yield client
        found = client.run(lambda: tempfile_of_this_process())
        assert len(set(found.values())) == 2
        assert not list(apart.glob("*/trespass"))
    cloudpickle.unregister_pickle_by_value(this_module)


def tempfile_of_this_process() -> str:
    import tempfile

    return tempfile.gettempdir()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of its own dependencies
@pytest.mark.parametrize("optimizer", ["sgd", "adafactor"])
def test_a_search_over_machines(
    optimizer: str, machines: Any, digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"start": "small_cnn", "optimizer": optimizer, "learning_rate": 0.01}
    expected = quick(60, **settings).fit(*digits).predict_proba(digits[0])
    sent: list[Any] = []
    scatter = machines.scatter
    monkeypatch.setattr(
        machines, "scatter", lambda data, **how: sent.append(type(data)) or scatter(data, **how)
    )
    with joblib.parallel_config("dask"):
        found = quick(60, n_jobs=2, **settings).fit(*digits).predict_proba(digits[0])
    np.testing.assert_array_equal(found, expected)
    # Once, for the rounds: lone candidates are trained here, the last one on all rows.
    assert sent.count(Shared) == 1


@not_if_brief
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_grid_over_machines_searches_in_each_of_them(machines: Any, digits: Any) -> None:
    grid = GridSearchCV(quick(12), {"alpha": [0.5, 1.0]}, cv=2, n_jobs=2, error_score="raise")
    expected = grid.fit(*digits).cv_results_["mean_test_score"]
    machines.run(refuse_to_scatter)
    try:
        with joblib.parallel_config("dask"):
            found = grid.fit(*digits).cv_results_["mean_test_score"]
    finally:
        machines.run(scatter_again)
    np.testing.assert_array_equal(found, expected)


def refuse_to_scatter() -> None:
    from skectonas.population.workers.sharing import Shared

    def refuse(self: Any, client: Any) -> None:
        raise AssertionError("a search inside a task has sent its data to others")

    shared: Any = Shared
    shared.before, shared._scattered_by = shared._scattered_by, refuse


def scatter_again() -> None:
    from skectonas.population.workers.sharing import Shared

    shared: Any = Shared
    shared._scattered_by = shared.before
    del shared.before


@not_if_brief
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_memory_map_on_machines(
    machines: Any, digits: Any, temporary_here: Path, tmp_path: Path
) -> None:
    """Its file has to be there."""
    X, y = digits
    expected = quick(45).fit(X, y).predict_proba(X)
    for folder in (tmp_path, temporary_here):
        np.save(folder / "X.npy", X)
    with joblib.parallel_config("dask"):
        found = quick(45, n_jobs=2).fit(np.load(tmp_path / "X.npy", mmap_mode="r"), y)
        with pytest.raises(OSError, match="on another machine needs it at the same place"):
            quick(45, n_jobs=2).fit(np.load(temporary_here / "X.npy", mmap_mode="r"), y)
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    for refusal in machines.run(trespasses).values():
        refusal.unlink(missing_ok=True)


def trespasses() -> Path:
    return Path(tempfile_of_this_process()) / "trespass"


@not_if_brief
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_search_inside_a_task_may_use_the_cluster(machines: Any, digits: Any) -> None:
    expected = quick(45).fit(*digits).predict_proba(digits[0])

    def fit(X: Any, y: Any) -> Any:
        with joblib.parallel_config("dask"):
            return quick(45, n_jobs=2).fit(X, y).predict_proba(X)

    found = machines.submit(fit, *digits).result(timeout=100)
    np.testing.assert_array_equal(found, expected)

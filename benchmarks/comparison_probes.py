"""The probes of one tool, each in a process and a folder of its own: see `comparison.py`.

    python comparison_probes.py TOOL FEATURE ...

Runs with the tool's interpreter in the current folder, which should be empty, and prints a line
of JSON for each feature. A probe returns nothing if the outcome is yes, or returns the
measurement; it raises if the outcome is no. The tool is imported once and the process forked
for each probe, except those in `FRESH`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import numpy as np
from comparison_tools import TOOLS, Tool

FLAT, IMAGE, COLOUR = (64,), (28, 28), (16, 16, 3)
MAPPED_ROWS, MAPPED_COLUMNS = 256_000, 400  # 410 MB
READING = 0.005  # seconds between two readings of the memory
IMPORTS = 5
SECONDS = 200  # for a probe
LONG = {"check_estimator: failed of all": 400}
FRESH = {
    "prints nothing unless asked, warnings aside",
    "writes nothing to disk unasked",
    "memory map of 410 MB in less memory than that",
    "seconds to import, beyond numpy",
}
"""What the first import may have a part in is probed in a process that has imported nothing."""

Probe = Callable[[Tool], Any]
PROBES: dict[str, Probe] = {}


def probe(title: str) -> Callable[[Probe], Probe]:
    """Make a function the probe of a feature; the order of the file is that of the table."""

    def keep(function: Probe) -> Probe:
        PROBES[title] = function
        return function

    return keep


# Data ------------------------------------------------------------------------------------


def digits(images: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return digits: X, y, X of the test, y of the test; flat and standardised, or images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    if images:  # 28 by 28, from 0 to 255
        X = np.kron(bunch.images, np.ones((3, 3))) * 15.9
        X = np.pad(X, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    else:
        X = (bunch.data - bunch.data.mean(0)) / (bunch.data.std(0) + 1e-3)
        X = X.astype(np.float32)
    y = bunch.target.astype(np.int64)
    return X[:1200], y[:1200], X[1200:], y[1200:]


def raw_frame(strings: bool) -> tuple[Any, np.ndarray]:
    """Return a table of numbers, categories and missing values, and what depends on it."""
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 600
    colour = rng.choice(["red", "green", "blue"], n)
    size, weight = rng.normal(size=n), rng.normal(size=n)
    y = ((colour == "red") ^ (size > 0)).astype(np.int64)
    weight[::7] = np.nan
    frame = pd.DataFrame({"size": size, "weight": weight, "count": rng.integers(0, 9, n)})
    frame["colour"] = pd.Categorical(colour)
    if strings:
        frame["word"] = rng.choice(["some", "words"], n)
        frame["known"] = rng.random(n) > 0.5
    return frame, y


def overlapping() -> tuple[np.ndarray, np.ndarray]:
    """Return two classes that differ only in their weights."""
    X = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    return X, np.arange(600) % 2


def score(tool: Tool, model: Any, X: Any, y: Any) -> float:
    # As text, since AutoKeras returns numbers as text.
    found = np.asarray(tool.predict(model, X)).astype(str)
    return float((found == np.asarray(y).astype(str)).mean())


def need(condition: Any, message: str) -> None:
    """Raise unless what was tried gave what it should."""
    if not condition:
        raise ShortfallError(message)


class ShortfallError(Exception):
    """The tool ran, but did not do what was asked."""


# Data that go in -------------------------------------------------------------------------


@probe("images (n, 28, 28) as they are")
def images(tool: Tool) -> None:
    X, y, X_test, y_test = digits(images=True)
    model = tool.fit(tool.make(IMAGE), X, y)
    need(score(tool, model, X_test, y_test) > 0.4, "does not learn them")


@probe("colour images (n, 16, 16, 3)")
def colour_images(tool: Tool) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = rng.integers(0, 100, (300, *COLOUR), dtype=np.uint8)
    X[np.arange(300), :, :, y] += 100
    model = tool.fit(tool.make(COLOUR), X, y)
    need(score(tool, model, X, y) > 0.6, "does not learn them")


def fit_frame(tool: Tool, frame: Any, y: np.ndarray) -> None:
    model = tool.fit(tool.make((frame.shape[1],)), frame, y)
    need(len(tool.predict(model, frame)) == len(y), "does not predict")


@probe("numbers with missing values")
def missing(tool: Tool) -> None:
    X, y, *_ = digits()
    X[::5, 3] = np.nan
    model = tool.fit(tool.make(FLAT), X, y)
    need(score(tool, model, X, y) > 0.4, "does not learn them")


@probe("pandas frame with categories and missing values")
def categories(tool: Tool) -> None:
    fit_frame(tool, *raw_frame(strings=False))


@probe("the same with strings and booleans")
def strings(tool: Tool) -> None:
    fit_frame(tool, *raw_frame(strings=True))


@probe("polars frame of numbers")
def polars_numbers(tool: Tool) -> None:
    import polars as pl

    X, y, *_ = digits()
    fit_frame(tool, pl.DataFrame(X, schema=[f"pixel {i}" for i in range(X.shape[1])]), y)


@probe("polars frame with categories, strings, missing values")
def polars_raw(tool: Tool) -> None:
    import polars as pl

    frame, y = raw_frame(strings=True)
    fit_frame(tool, pl.from_pandas(frame), y)


@probe("sparse matrix")
def sparse(tool: Tool) -> None:
    from scipy.sparse import csr_matrix

    X, y, *_ = digits()
    fit_frame(tool, csr_matrix(X), y)


@probe("memory map of 410 MB in less memory than that")
def memory_map(tool: Tool) -> str:
    rng = np.random.default_rng(0)
    X = np.memmap("X.dat", np.float32, "w+", shape=(MAPPED_ROWS, MAPPED_COLUMNS))
    for rows in np.array_split(np.arange(MAPPED_ROWS), 20):
        X[rows] = rng.random((len(rows), MAPPED_COLUMNS), dtype=np.float32)
    X.flush()
    size = X.nbytes / 1e6
    X = np.memmap("X.dat", np.float32, "r", shape=X.shape)
    y = np.arange(MAPPED_ROWS) % 2
    few = np.array(X[:300])
    tool.fit(tool.make((MAPPED_COLUMNS,)), few, y[:300])  # libraries have what they keep
    with peak_memory() as peak:
        tool.fit(tool.brief((MAPPED_COLUMNS,)), X, y)
    need(peak[0] < size, f"{peak[0]:.0f} MB on top of the data, which have {size:.0f}")
    return f"yes: {peak[0]:.0f} MB on top of the data, which have {size:.0f}"


@contextlib.contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list with how far, in MB, the anonymous memory rises above where it begins."""

    def read() -> float:
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1e3

    before, ended = read(), threading.Event()
    peak = [0.0]

    def watch() -> None:
        while not ended.wait(READING):
            peak[0] = max(peak[0], read() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


# Learning --------------------------------------------------------------------------------


@probe("string labels")
def string_labels(tool: Tool) -> None:
    X, y, X_test, y_test = digits()
    names = np.array([f"digit {i}" for i in range(10)])
    model = tool.fit(tool.make(FLAT), X, names[y])
    need(score(tool, model, X_test, names[y_test]) > 0.4, "predict does not give them")


@probe("sample_weight")
def sample_weight(tool: Tool) -> None:
    X, y = overlapping()
    for favoured in (0, 1):
        weights = np.where(y == favoured, 20.0, 1.0)
        model = tool.fit(tool.make(X.shape[1:]), X, y, sample_weight=weights)
        share = (tool.predict(model, X) == favoured).mean()
        need(share > 0.8, f"weights of 20 to 1 give {share:.2f} of the rows to a class")


@probe("class_weight")
def class_weight(tool: Tool) -> None:
    X, y = overlapping()
    for favoured in (0, 1):
        weights = {favoured: 20.0, 1 - favoured: 1.0}
        model = tool.fit_with_class_weight(tool.make(X.shape[1:]), X, y, weights)
        share = (tool.predict(model, X) == favoured).mean()
        need(share > 0.8, f"weights of 20 to 1 give {share:.2f} of the rows to a class")


@probe("regression")
def regression(tool: Tool) -> None:
    X, y, *_ = digits()
    target = y.astype(np.float32)
    if tool.column_targets:
        target = target[:, None]
    model = tool.fit(tool.regressor(FLAT), X, target)
    error = np.mean((np.ravel(model.predict(X)) - y) ** 2)
    need(error < 0.9 * y.var(), "does not learn it")


@probe("goes on training a fitted model")
def goes_on(tool: Tool) -> None:
    X, y, *_ = digits()
    losses = []
    model = tool.fit(tool.unfinished(FLAT), X, y)
    losses.append(log_loss(tool, model, X, y))
    model = tool.train_on(model, X, y)
    losses.append(log_loss(tool, model, X, y))
    need(losses[1] < 0.9 * losses[0], f"log loss {losses[0]:.3f}, then {losses[1]:.3f}")


@probe("partial_fit")
def partial_fit(tool: Tool) -> None:
    X, y, X_test, y_test = digits()
    model = tool.make(FLAT)
    for epoch in range(10):
        for rows in np.array_split(np.arange(len(X)), 10):
            # Only the first call may need to know all classes.
            more = {"classes": np.arange(10)} if epoch == 0 and tool.names_classes else {}
            model.partial_fit(X[rows], y[rows], **more)
    need(score(tool, model, X_test, y_test) > 0.4, "does not learn")


def log_loss(tool: Tool, model: Any, X: Any, y: Any) -> float:
    chosen = tool.probabilities(model, X)[np.arange(len(y)), y]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


# scikit-learn ----------------------------------------------------------------------------


@probe("Pipeline and GridSearchCV")
def grid_search(tool: Tool) -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    X, y, X_test, y_test = digits()
    pipeline = Pipeline([("scale", StandardScaler()), ("model", tool.make(FLAT))])
    grid = {f"model__{name}": values for name, values in tool.grid.items()}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    need(search.score(X_test, y_test) > 0.15, "does not learn")


@probe("clone, get_params, set_params")
def clones(tool: Tool) -> None:
    from sklearn.base import clone

    [(name, values)] = tool.grid.items()
    model = clone(tool.make(FLAT)).set_params(**{name: values[0]})
    need(clone(model).get_params()[name] == values[0], "a clone forgets its parameters")


@probe("check_estimator: failed of all")
def estimator_checks(tool: Tool) -> str:
    from sklearn.utils.estimator_checks import check_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(tool.make(FLAT), on_fail=None, on_skip=None)
    status = [result["status"] for result in results]
    ran = len(status) - status.count("skipped")
    return f"{status.count('failed')} of {ran}"


@probe("own code is called while it trains")
def callbacks(tool: Tool) -> None:
    X, y, *_ = digits()
    calls: list[Any] = []
    tool.fit(tool.with_callback(tool.make(FLAT), calls.append), X, y)
    need(len(calls) > 1, f"called {len(calls)} times")


@probe("reports to scikit-learn's callbacks inside GridSearchCV")
def callbacks_of_scikit_learn(tool: Tool) -> None:
    from comparison_tools import scikit_learn_callback
    from sklearn.model_selection import GridSearchCV

    X, y, *_ = digits()
    calls: list[str] = []
    search = GridSearchCV(tool.make(FLAT), tool.grid, cv=2, error_score="raise")
    search.set_callbacks(scikit_learn_callback(lambda e: calls.append(type(e).__name__)))
    search.fit(X, y)
    inner = calls.count(type(search.estimator).__name__)
    need(inner > 5, f"{inner} reports from the estimator, {len(calls) - inner} from the search")


# Reliability -----------------------------------------------------------------------------


def digest(tool: Tool, n_jobs: int | None = None) -> str:
    """Return a fingerprint of the bits that are predicted after a fit with a seed."""
    X, y, X_test, _ = digits()
    model = tool.make(FLAT, seed=0)
    if n_jobs is not None and "n_jobs" in getattr(model, "get_params", dict)():
        model.set_params(n_jobs=n_jobs)
    probabilities = tool.probabilities(tool.fit(model, X, y), X_test)
    return hashlib.sha256(np.ascontiguousarray(probabilities).tobytes()).hexdigest()


@probe("the same seed gives the same bits")
def same_bits(tool: Tool) -> None:
    with tempfile_folder("first"):
        first = digest(tool)
    with tempfile_folder("second"):
        second = digest(tool)
    need(first == second, "two fits differ")


@probe("and whatever the number of threads and jobs")
def same_bits_in_threads(tool: Tool) -> None:
    found = set()
    for n in ("1", "2"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        Path(n).mkdir()
        done = subprocess.run(
            [sys.executable, __file__, tool.name, "--digest", n],
            env=os.environ | dict.fromkeys(names, n),
            cwd=n,
            capture_output=True,
            text=True,
        )
        need(done.returncode == 0, done.stderr[-300:])
        found.add(done.stdout.split()[-1])
    need(len(found) == 1, "fits with one and with two threads differ")


@probe("global random state is left alone")
def global_random_state(tool: Tool) -> None:
    X, y, *_ = digits()
    model = tool.make(FLAT, seed=0)  # a seed that has to be set globally is set here
    with contextlib.suppress(ImportError):
        import_module("torch")
    before = random_states()
    tool.fit(model, X, y)
    after = random_states()
    moved = [name for name, state in before.items() if state != after[name]]
    need(not moved, f"moves that of {', '.join(moved)}")


def random_states() -> dict[str, bytes]:
    states = {"random": random.getstate(), "numpy": np.random.get_state()}  # noqa: NPY002 (looked at, never used)
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes()
    return {name: pickle.dumps(state) for name, state in states.items()}


@probe("prints nothing unless asked, warnings aside")
def prints_nothing(tool: Tool) -> None:
    X, y, *_ = digits()
    warnings.simplefilter("ignore")
    before = os.dup(1), os.dup(2)
    with open("printed", "w+b") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            tool.fit(tool.make(FLAT), X, y)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os.dup2(before[0], 1)
            os.dup2(before[1], 2)
    printed = Path("printed").read_text(errors="replace")
    lines = [line for line in printed.splitlines() if line.strip()]
    need(not lines, f"{len(lines)} lines, the first: {lines[0][:60] if lines else ''}")


@probe("writes nothing to disk unasked")
def writes_nothing(tool: Tool) -> None:
    X, y, *_ = digits()
    tool.fit(tool.make(FLAT), X, y)
    # The current folder, the home and that for temporary files are new for every probe.
    root = Path.cwd().parent
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files = [path for path in files if path.parent != root]  # the probe's own
    size = sum(path.stat().st_size for path in files) / 1e6
    names = f"{files[0].relative_to(root)}" if files else ""
    need(not files, f"{len(files)} files, {size:.1f} MB, such as {names}")


@probe("Ctrl-C leaves a model that predicts")
def interrupted(tool: Tool) -> str | None:
    X, y, X_test, y_test = digits()
    tool.fit(tool.make(FLAT), X, y)  # what the first fit loads is there
    model = tool.long(FLAT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    threading.Timer(tool.settles, os.kill, (os.getpid(), signal.SIGINT)).start()
    began, raised = time.perf_counter(), ""
    try:
        tool.fit(model, X, y)
    except KeyboardInterrupt:
        raised = "fit raises KeyboardInterrupt all the same"
    need(time.perf_counter() - began > tool.settles, "fit had ended by itself")
    found = score(tool, model, X_test, y_test)
    need(found > 0.4, f"accuracy {found:.2f}")
    return f"yes: {raised}" if raised else None


@probe("a limit of the whole training is kept")
def limit(tool: Tool) -> str:
    X, y, *_ = digits()
    allowed, done = tool.training(X, y)
    need(done <= allowed, f"{done:.4g} of {allowed:.4g} allowed")
    return f"yes: {done:.4g} of {allowed:.4g} allowed"


@probe("a limit in time can be set")
def limit_in_time(tool: Tool) -> str:
    names = vars(tool.make(FLAT)) if not hasattr(tool.make(FLAT), "get_params") else None
    names = names or tool.make(FLAT).get_params()
    found = [name for name in names if re.search("time(?!r)|second|minute", name)]
    need(found, "no parameter is called so")
    return f"yes: {', '.join(found)}"


# What comes out --------------------------------------------------------------------------


@probe("searches the architecture")
def searches(tool: Tool) -> str:
    X, y, *_ = digits()
    model = tool.fit(tool.make(FLAT), X, y)
    found = len(set(tool.architectures(model)))
    need(found > 1, f"{found} in a fit")
    return f"yes: {found} in a short fit"


@probe("history of all candidates")
def history(tool: Tool) -> None:
    X, y, *_ = digits()
    need(len(tool.candidates(tool.fit(tool.make(FLAT), X, y))) > 1, "one candidate")


@probe("front of size against accuracy")
def front(tool: Tool) -> str:
    X, y, *_ = digits()
    found = tool.front(tool.fit(tool.make(FLAT), X, y))
    need(len(found), "it is empty")
    return f"yes: {len(found)} candidates"


@probe("pickle")
def pickles(tool: Tool) -> None:
    X, y, X_test, _ = digits()
    model = tool.fit(tool.make(FLAT), X, y)
    again = pickle.loads(pickle.dumps(model))
    need(np.array_equal(tool.predict(again, X_test), tool.predict(model, X_test)), "differs")


@probe("a file that is loaded without running code from it")
def plain_file(tool: Tool) -> None:
    X, y, X_test, _ = digits()
    model = tool.fit(tool.make(FLAT), X, y)
    path = Path("model.safetensors").absolute()
    tool.save(model, path)
    armed = []

    def refuse(event: str, details: Any) -> None:
        if armed and event == "pickle.find_class":
            raise ShortfallError(f"a pickle asks for {details}")

    sys.addaudithook(refuse)
    armed.append(True)
    again = tool.load(path, tool.make(FLAT))
    armed.clear()
    get = getattr(again, "predict_proba", None) or again.predict
    difference = np.abs(np.asarray(get(X_test)) - tool.probabilities(model, X_test)).max()
    need(difference < 1e-5, f"predictions differ by {difference:.2g}")


@probe("ONNX")
def onnx(tool: Tool) -> None:
    import onnxruntime

    X, y, X_test, _ = digits()
    model = tool.fit(tool.make(FLAT), X, y)
    path = Path("model.onnx").absolute()
    tool.to_onnx(model, X, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    out = session.run(None, {session.get_inputs()[0].name: X_test})
    chosen = out[0] if np.ndim(out[0]) == 1 else np.argmax(out[0], 1)
    need(np.mean(chosen == tool.predict(model, X_test)) > 0.99, "predicts otherwise")


@probe("a plain module of torch")
def torch_module(tool: Tool) -> None:
    X, y, X_test, _ = digits()
    module = tool.to_torch(tool.fit(tool.make(FLAT), X, y))
    import torch

    need(isinstance(module, torch.nn.Module), f"a {type(module).__name__}")
    need(module(torch.from_numpy(X_test)).shape == (len(X_test), 10), "another shape")


# What it costs ---------------------------------------------------------------------------


@probe("seconds to import, beyond numpy")
def import_time(tool: Tool) -> str:
    clock = "time.process_time()"
    code = f"import time; import numpy; t = {clock}; import {tool.module}; print({clock} - t)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:2])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for _ in range(IMPORTS + 1):  # the first writes the byte code
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        need(done.returncode == 0, done.stderr[-300:])
        times.append(float(done.stdout.split()[-1]))
    return f"{min(times[1:]):.1f}"


@probe("MB of the tool and all it needs")
def installed_size(tool: Tool) -> str:
    found: dict[str, int] = {}
    wanted = list(tool.packages)
    while wanted:
        distribution = metadata.distribution(wanted.pop())
        name = canonical(distribution.name)
        if name not in found:
            found[name] = sum(map(size_of, distribution.files or []))
            wanted += requirements(distribution)
    return f"{sum(found.values()) / 1e6:.0f}"


def size_of(file: Any) -> int:
    path = Path(file.locate())
    return path.stat().st_size if path.suffix != ".pyc" and path.exists() else 0


def requirements(distribution: metadata.Distribution) -> list[str]:
    """Return what a package needs without any of its extras, as far as it is installed."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement
    names = []
    for line in distribution.requires or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            with contextlib.suppress(metadata.PackageNotFoundError):
                metadata.distribution(requirement.name)
                names.append(requirement.name)
    return names


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def version(tool: Tool) -> str:
    return metadata.version(tool.packages[0])


def surroundings() -> str:
    """Return the versions that matter for what a probe found."""
    names = ("scikit-learn", "torch", "keras", "tensorflow-cpu")
    found = [f"Python {sys.version.split()[0]}"]
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


@contextlib.contextmanager
def tempfile_folder(name: str) -> Iterator[None]:
    """Work in a folder of its own: some tools find what an earlier fit has left."""
    Path(name).mkdir()
    with contextlib.chdir(name):
        yield


def run(tool: Tool, feature: str) -> dict[str, str]:
    """Return the outcome of a probe and what is to be said of it."""
    try:
        found = PROBES[feature](tool)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        text = " ".join(str(error).split())
        note = text if isinstance(error, ShortfallError) else f"{type(error).__name__}: {text}"
        return {"outcome": "no", "note": note[:300]}
    outcome, _, note = (found or "yes").partition(": ")
    return {"outcome": outcome, "note": note}


def place(folder: Path) -> None:
    """Make the folders of a probe, empty ones, those of the process."""
    for name in ("home", "temporary", "work"):
        (folder / name).mkdir(parents=True)
    os.environ |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    os.chdir(folder / "work")


def be_the_process(tool: Tool, feature: str, folder: Path) -> None:
    """Run a probe and leave what came out in the folder."""
    os.setsid()
    place(folder)
    with open(folder / "stderr", "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if feature not in FRESH:
        found = run(tool, feature)
    else:
        command = [sys.executable, __file__, tool.name, "--here", feature]
        subprocess.run([*command, str(folder / "found")])
        found = json.loads((folder / "found").read_text())
    (folder / "result.json").write_text(json.dumps(found))


def forked(tool: Tool, feature: str, folder: Path) -> dict[str, str]:
    """Run a probe in a fork of this process; return what came out."""
    limit = LONG.get(feature, SECONDS)
    child = os.fork()
    if not child:
        try:
            be_the_process(tool, feature, folder)
        finally:
            os._exit(0)  # some tools leave threads behind
    ends = time.monotonic() + limit
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > ends:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"outcome": "not done", "note": f"no result within {limit} s"}
        time.sleep(0.02)
    result = folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    last = (folder / "stderr").read_text(errors="replace").strip().splitlines()[-1:]
    return {"outcome": "no", "note": f"the process died: {' '.join(last)}"[:300]}


def main() -> None:
    name, *features = sys.argv[1:]
    tool = TOOLS[name]()
    if features[0] == "--digest":
        print(digest(tool, int(features[1])))
    elif features[0] == "--here":
        Path(features[2]).write_text(json.dumps(run(tool, features[1])))
    else:
        import_module(tool.module)
        about = {"version": version(tool), "surroundings": surroundings()}
        for feature in features:
            with tempfile.TemporaryDirectory() as folder:
                found = forked(tool, feature, Path(folder) / "probe")
            row = {"tool": name, "feature": feature, **about, **found}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)

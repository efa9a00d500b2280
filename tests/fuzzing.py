"""Calls, files and interrupts at random, and what has to hold after each of them.

Each function takes a `random.Random`, does one thing, and returns what came of it in a word. It
raises `Violation` if something happened that is promised never to happen.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
import warnings
from copy import deepcopy
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np
import safetensors.numpy
import torch
from fuzzing_values import (
    GOOD_X,
    GOOD_Y,
    GROUPS,
    IMAGES,
    LABELS,
    ODD_X,
    ODD_Y,
    PARAMETERS,
    TABLE,
    WEIGHTS,
)
from sklearn.exceptions import NotFittedError

import skectonas
from skectonas import ECToNASClassifier
from skectonas.export.saving import _digest
from skectonas.population import FusedTrainer

ROOT = Path(skectonas.__file__).parent
CHECKED_BY = (str(ROOT), "sklearn", "skrub")
"""Where the errors come from that a user may see: our checks, and those that they call."""


class Violation(AssertionError):
    """Something that must never happen."""


def small(**settings: Any) -> ECToNASClassifier:
    return ECToNASClassifier(
        **{"budget": 3, "warmup_epochs": 1, "round_epochs": 1, "random_state": 0, **settings}
    )


# --- calls of fit ----------------------------------------------------------------------------


def call_fit(random: Random) -> str:
    """Fit on good or odd data with good or odd parameters, maybe twice.

    Returns
    -------
    str
        "fit", or the type of the error.
    """
    names = random.sample(sorted(PARAMETERS), random.choice([0, 0, 1, 1, 2, 4]))
    clf = small(**{name: random.choice(PARAMETERS[name]) for name in names})
    outcome = _fit_once(clf, random)
    if random.random() < 0.2:  # other rows, maybe of another width, and maybe a warm start
        outcome = _fit_once(clf, random)
    return outcome


def _fit_once(clf: ECToNASClassifier, random: Random) -> str:
    X = random.choice(ODD_X if random.random() < 0.4 else GOOD_X)()
    y = random.choice(ODD_Y if random.random() < 0.3 else GOOD_Y)()
    weights = random.choice(WEIGHTS)() if random.random() < 0.3 else None
    groups = random.choice(GROUPS)() if random.random() < 0.2 else None
    before, trained = dict(vars(clf)), []
    train = FusedTrainer.train

    def watched(self: FusedTrainer, *args: Any) -> Any:
        trained.append(True)
        return train(self, *args)

    with mock.patch.object(FusedTrainer, "train", watched), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clf.fit(X, y, weights, groups=groups)
        except Exception as error:
            _check_error(clf, before, error, bool(trained))
            return type(error).__name__
        _check_fitted(clf, X, y)
    return "fit"


def _check_error(clf: Any, before: dict[str, Any], error: Exception, trained: bool) -> None:
    told = f"{type(error).__name__}: {str(error)[:200]}"
    if vars(clf).keys() != before.keys() or any(vars(clf)[k] is not before[k] for k in before):
        raise Violation(f"a fit that failed has changed the estimator: {told}") from error
    if trained and "training of the start diverged" not in str(error):
        raise Violation(f"an error after training had begun: {told}") from error
    if not isinstance(error, ValueError | TypeError):
        raise Violation(f"an error of another type: {told}") from error
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if not any(place in last for place in CHECKED_BY):
        raise Violation(f"a raw error of {last}: {told}") from error


def _check_fitted(clf: ECToNASClassifier, X: Any, y: Any) -> None:
    probabilities = clf.predict_proba(X)
    if probabilities.shape[1] != len(clf.classes_) or not np.isfinite(probabilities).all():
        raise Violation("the probabilities are not those of the classes")
    if not np.allclose(probabilities.sum(1), 1, atol=1e-9):
        raise Violation("the probabilities do not add up to 1")
    if not 0 <= clf.score(X, y) <= 1:
        raise Violation("the accuracy is not between 0 and 1")
    if clf.history_["epochs"].sum() > float(clf.budget) * (1 + 1e-9) and not clf.warm_start:
        raise Violation("the budget was exceeded")


# --- files -----------------------------------------------------------------------------------


def saved_files(folder: Path) -> list[tuple[bytes, Any]]:
    """Return the files of some fits, each with the rows that it was fitted on."""
    files = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for X in (TABLE, IMAGES, GOOD_X[6]()):
            small(keep_candidates="pareto").fit(X, LABELS).save(folder / "model")
            files.append(((folder / "model").read_bytes(), X))
    return files


def load_damaged(random: Random, files: list[tuple[bytes, Any]], folder: Path) -> str:
    """Load a file with flipped bits, or of which a part is missing or too much."""
    whole, _ = random.choice(files)
    file = _damaged(random, whole)
    if file == whole:
        return "whole"
    if _load(file, folder) is not None:
        raise Violation("a damaged file was read")
    return "refused"


def _damaged(random: Random, whole: bytes) -> bytes:
    file = bytearray(whole)
    match random.randrange(4):
        case 0:
            del file[random.randrange(len(file)) :]
        case 1:
            at = random.randrange(len(file))
            del file[at : at + random.randrange(1, 100)]
        case 2:
            at = random.randrange(len(file))
            file[at:at] = random.randbytes(random.randrange(1, 100))
        case _:
            for _ in range(random.choice([1, 1, 2, 10])):
                file[random.randrange(len(file))] ^= 1 << random.randrange(8)
    return bytes(file)


def continue_from_damaged(random: Random, whole: bytes, folder: Path) -> str:
    """Continue a search from a damaged checkpoint."""
    path, file = folder / "damaged", _damaged(random, whole)
    if file == whole:
        return "whole"
    path.write_bytes(file)
    clf = small(checkpoint=path, random_state=random.choice([0, None]))
    try:
        clf.fit(TABLE, LABELS)
    except ValueError as error:
        if "checkpoint=" not in str(error) or path.read_bytes() != file:
            raise Violation(f"{error}") from error
        return "refused"
    raise Violation("a damaged checkpoint was read")


def a_checkpoint(folder: Path) -> bytes:
    """Return the file of a finished search."""
    path = folder / "checkpoint"
    small(checkpoint=path).fit(TABLE, LABELS)
    return path.read_bytes()


def load_crafted(random: Random, files: list[tuple[bytes, Any]], folder: Path) -> str:
    """Load a file with odd contents, but with the right checksum."""
    whole, X = random.choice(files)
    length = int.from_bytes(whole[:8], "little")
    contents = json.loads(json.loads(whole[8 : 8 + length])["__metadata__"]["skectonas"])
    tensors = {k: v.copy() for k, v in safetensors.numpy.load(whole).items()}
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if random.random() < 0.4:
            _change_a_tensor(random, tensors)
        else:
            _change_a_value(random, contents, random.choice(["attributes", "parameters"]))
    contents["sha256"] = _digest(contents, tensors)
    file = safetensors.numpy.save(tensors, {"skectonas": json.dumps(contents)})
    clf = _load(bytes(file), folder)
    if clf is None:
        return "refused"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            probabilities = clf.predict_proba(X)
        except (ValueError, TypeError, NotFittedError):
            return "rows refused"  # it is for others
    if probabilities.shape != (len(X), len(clf.classes_)):
        raise Violation("a crafted file gives predictions of another shape")
    return "read"


def _load(file: bytes, folder: Path) -> ECToNASClassifier | None:
    path = folder / "file"
    path.write_bytes(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ECToNASClassifier.load(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise Violation(f"an error that does not name the file: {error}") from error
            return None
        except Exception as error:
            raise Violation(f"an error of another type: {type(error)}: {error}") from error


ODD_VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 10**30, 1e308, "x", "", [], {}, [[]], {"x": 1}, "<U400000000"),
    *({"$tensor": "classes_"}, {"$tuple": [1, 2]}, {"$number": "nan"}, {"$frame": {}}),
    *(
        {"$strings": {"dtype": "<U9", "values": ["a"]}},
        {"$device": "cuda:3"},
        {"$optimizer": "x"},
    ),
]


def _change_a_value(random: Random, contents: dict[str, Any], key: Any) -> None:
    place: Any = contents
    while isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
        place = place[key]
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
    match random.randrange(4) if isinstance(place, dict) else 0:
        case 1:
            del place[key]
        case 2:
            place[random.choice(["predict", "x_", "_x_", "$tensor", "9"])] = deepcopy(
                place[key]
            )
        case _:
            place[key] = deepcopy(random.choice(ODD_VALUES))
    for name in ("attributes", "parameters"):
        contents.setdefault(name, {})


def _change_a_tensor(random: Random, tensors: dict[str, np.ndarray]) -> None:
    name = random.choice(sorted(tensors))
    array = tensors[name]
    match random.randrange(6):
        case 0:
            tensors[name] = array.astype(random.choice([np.int8, np.float32, np.float64, bool]))
        case 1:
            tensors[name] = array.reshape(-1)[: random.randrange(array.size + 1)].copy()
        case 2:
            tensors[name] = np.concatenate([array.reshape(-1)] * 2)
        case 3:
            del tensors[name]
        case 4 if array.size and array.dtype.kind == "f":
            array.flat[random.randrange(array.size)] = random.choice([np.nan, np.inf, 1e38])
        case _ if array.size and array.dtype.kind in "iu":
            array.flat[random.randrange(array.size)] = random.choice([0, 1, 100])


# --- interrupts ------------------------------------------------------------------------------


def interrupt(random: Random, n_lines: int | None = None) -> tuple[str, int]:
    """Press Ctrl-C at some line of the package while it fits.

    Parameters
    ----------
    random : Random
        Chooses the line, and whether the estimator was fitted before.
    n_lines : int or None
        Number of lines to choose from; None presses nothing.

    Returns
    -------
    str
        "fit" if what was found so far is kept, or else "untouched".
    int
        Number of lines that have run.
    """
    clf = small(budget=8, n_jobs=random.choice([None, 2]), warm_start=random.random() < 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if random.random() < 0.5:
            clf.fit(TABLE, LABELS)
        before, surroundings = dict(vars(clf)), _surroundings()
        line = 0 if n_lines is None else random.randrange(1, n_lines + 1)
        seen = _Lines(line)
        try:
            with seen:
                clf.fit(TABLE, LABELS)
        except KeyboardInterrupt:
            if vars(clf).keys() != before.keys():
                raise Violation(f"an interrupt at {seen.at} left attributes") from None
            if any(vars(clf)[name] is not before[name] for name in before):
                raise Violation(f"an interrupt at {seen.at} changed attributes") from None
            outcome = "untouched"
        else:
            _check_fitted(clf, TABLE, LABELS)
            if clf.network_.topology != clf.best_topology_:
                raise Violation(f"an interrupt at {seen.at} left another network")
            outcome = "fit"
    if _surroundings() != surroundings:
        raise Violation(f"an interrupt at {seen.at} left other settings: {_surroundings()}")
    return outcome, seen.n_lines


def _surroundings() -> tuple[Any, ...]:
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


class _Lines:
    """Counts the lines of the package that the main thread runs, and interrupts at one."""

    def __init__(self, line: int) -> None:
        self.line, self.n_lines, self.at = line, 0, ""

    def __enter__(self) -> _Lines:
        assert threading.current_thread() is threading.main_thread()
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(str(ROOT)):
            return None
        if event == "line":
            self.n_lines += 1
            if self.n_lines == self.line:
                self.at = f"{frame.f_code.co_filename[len(str(ROOT)) :]}:{frame.f_lineno}"
                signal.raise_signal(signal.SIGINT)
        return self._trace

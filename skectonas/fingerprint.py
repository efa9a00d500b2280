"""What a search depends on, in a form that can be compared after a restart."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from skectonas.estimators import __version__
from skectonas.search import SearchState, digest_of
from skectonas.training import Rows, TrainingData

ROWS_AT_ONCE = 4096

LIBRARIES = frozenset({"builtins", "numpy", "skectonas", "sklearn", "torch"})
"""Packages whose functions and classes are known by their names."""

UNIMPORTANT = frozenset(
    {"checkpoint", "n_jobs", "random_state", "time_limit", "verbose", "warm_start"}
)
"""Parameters that a search does not depend on. For the random state, there is the seed."""


def fingerprint_of(
    estimator: BaseEstimator, rows: str, seed: int, state: SearchState
) -> dict[str, str]:
    """Return names and texts of all that the search of an estimator depends on.

    Parameters
    ----------
    estimator : estimator
        Its parameters count.
    rows : str
        The digest of the rows.
    seed : int
        The seed of all random draws.
    state : SearchState
        The initial state.
    """
    parameters = estimator.get_params(deep=False)
    return {
        **{
            name: text_of(value)
            for name, value in sorted(parameters.items())
            if name not in UNIMPORTANT
        },
        "random_state": str(seed),
        "X, y, sample_weight or groups": rows,
        "the networks that the search begins with": digest_of(state),
        "the version of skectonas": __version__,
    }


def text_of(value: Any) -> str:
    """Return a text that equal values have in common, in every process.

    Examples
    --------
    >>> from skectonas.fingerprint import text_of
    >>> from skectonas import Dense
    >>> text_of({"layers": [Dense(5)], "budget": 40.0})
    "{'budget': 40, 'layers': [skectonas.topology.Dense(units=5)]}"
    """
    return _Writer().text_of(value)


class _Writer:
    """Writes values, and objects that refer to each other only once."""

    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._known: list[object] = []

    def text_of(self, value: Any) -> str:
        if id(value) in self._inside:
            return "<itself>"
        self._inside.add(id(value))
        try:
            return self._written(value)
        finally:
            self._inside.discard(id(value))

    def _written(self, value: Any) -> str:
        text = self.text_of
        if isinstance(value, float) and value.is_integer():
            return repr(int(value))
        if isinstance(value, Mapping):
            pairs = sorted((repr(key), text(part)) for key, part in value.items())
            return "{" + ", ".join(f"{key}: {part}" for key, part in pairs) + "}"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(map(text, value)) + "]"
        if isinstance(value, set | frozenset):
            return "{" + ", ".join(sorted(map(text, value))) + "}"
        if isinstance(value, np.ndarray):
            return text(value.tolist())
        if isinstance(value, np.generic):
            return text(value.item())
        if isinstance(value, partial):
            return f"partial({text([value.func, value.args, value.keywords])})"
        if isinstance(value, type | torch.dtype | torch.device):
            return repr(value)
        name = getattr(value, "__qualname__", None)
        if name is not None:
            return f"{value.__module__}.{name}" + self._what_a_name_leaves_open(value)
        kind = f"{type(value).__module__}.{type(value).__qualname__}{self._code_of(value)}"
        if is_dataclass(value):
            parts = [f"{f.name}={text(getattr(value, f.name))}" for f in fields(value)]
            return f"{kind}({', '.join(parts)})"
        return self._object(value, kind)

    def _object(self, value: Any, kind: str) -> str:
        slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
        if not slots and not hasattr(value, "__dict__"):
            return repr(value)
        for i, known in enumerate(self._known):
            if known is value:
                return f"<{i}>"
        self._known.append(value)
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        return kind + self.text_of({**held, **getattr(value, "__dict__", {})})

    def _what_a_name_leaves_open(self, function: Any) -> str:
        """Return what tells a method, or a function of the user's own, from its namesakes."""
        if inspect.ismethod(function):
            return f" of {self.text_of(function.__self__)}"
        if not inspect.isfunction(function):
            function = getattr(function, "__wrapped__", None)  # of a cache, for example
        if not inspect.isfunction(function):
            return ""
        if _is_of_library(function) and not function.__closure__:
            return ""
        return f" {self._code_and_given(function)}"

    def _code_of(self, value: Any) -> str:
        """Return what tells an object of a class of the user's own from one before an edit."""
        texts = [
            f"{name} {self._text_of_member(name, member)}"
            for cls in type(value).__mro__
            if not _is_of_library(cls)
            for name, member in sorted(vars(cls).items())
        ]
        return hashlib.sha256(repr(texts).encode()).hexdigest()[:16] if texts else ""

    def _text_of_member(self, name: str, member: Any) -> str:
        if isinstance(member, property):
            member = member.fget
        member = inspect.unwrap(getattr(member, "__func__", member))
        if inspect.isfunction(member):
            return self._code_and_given(member)
        # Python's own say in which line the class is, for example.
        is_constant = isinstance(member, bool | int | float | str | tuple)
        return self.text_of(member) if is_constant and not name.startswith("__") else ""

    def _code_and_given(self, function: FunctionType) -> str:
        held = [cell.cell_contents for cell in function.__closure__ or ()]
        given = self.text_of([function.__defaults__, function.__kwdefaults__, held])
        return f"{_text_of_code(function.__code__, function.__doc__)} {given}"


def _is_of_library(value: Any) -> bool:
    return str(getattr(value, "__module__", None)).partition(".")[0] in LIBRARIES


def _text_of_code(code: CodeType, docstring: str | None = None) -> str:
    constants = [
        _text_of_code(part) if isinstance(part, CodeType) else text_of(part)
        for part in code.co_consts
        if docstring is None or part != docstring
    ]
    digest = hashlib.sha256(code.co_code).hexdigest()[:16]
    return f"{digest}{[*code.co_names, *constants]}"


def digest_of_rows(data: TrainingData) -> str:
    """Return a text that only the same rows, split in the same way, have in common."""
    digest = hashlib.sha256()
    for rows in (data.train, data.validation):
        _add_rows(digest, rows)
    return digest.hexdigest()


def _add_rows(digest: Any, rows: Rows) -> None:
    for images in rows.chunks(ROWS_AT_ONCE):
        digest.update(repr((images.dtype, tuple(images.shape))).encode())
        digest.update(images.cpu().contiguous().numpy())
    digest.update(rows.labels.cpu().numpy())
    if rows.weights is not None:
        digest.update(rows.weights.cpu().numpy())

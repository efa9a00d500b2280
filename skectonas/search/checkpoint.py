"""The state of a search in a file, from which a fit that was killed goes on.

The file has a line of text, the checksum of what follows, and a pickle of plain values: tuples,
numbers, texts and bytes. It is read by an unpickler that knows no classes and no functions, so
that no code runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import time
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from skectonas.callers import level_of_user
from skectonas.candidate import Ancestor, Candidate, Evaluation
from skectonas.files import write_file
from skectonas.search.ledger import Entry, Ledger
from skectonas.search.state import SearchState
from skectonas.topology import ConvCell, Dense, Topology

HEAD = b"skectonas checkpoint 1\n"
DIGEST_SIZE = 32

MOST_OF_TIME = 0.01
"""The share of the time that may go into writing states."""

Plain: TypeAlias = Any
"""A value that consists of tuples, dicts, numbers, texts and bytes."""


class Checkpoint:
    """A file that holds the last state of one search.

    Parameters
    ----------
    path : str or path-like
        The file. If it is a folder, the file in it is named after the fingerprint.
    fingerprint : mapping of str to str
        What the search depends on: names and digests.
    seed : int
        The seed of all random draws.
    """

    def __init__(
        self, path: str | os.PathLike[str], fingerprint: Mapping[str, str], seed: int
    ) -> None:
        self.path = Path(path)
        folder = self.path if os.fspath(path).endswith(("/", os.sep)) else self.path.parent
        if not folder.exists():
            raise ValueError(
                f"checkpoint={os.fspath(path)!r} is in a folder that does not exist: "
                f"{os.fspath(folder)!r}."
            )
        if self.path.is_dir():
            name = hashlib.sha256(repr(sorted(fingerprint.items())).encode()).hexdigest()
            self.path /= f"{name[:32]}.checkpoint"
        self._fingerprint, self._seed = dict(fingerprint), seed
        self._due = 0.0
        self._unwritten: SearchState | None = None

    def read(self) -> SearchState | None:
        """Return the state in the file, or None if there is none to continue.

        A file of another search in which nothing has been trained yet does not count.

        Raises
        ------
        ValueError
            If the file is of another search, is damaged, or is another kind of file.
        """
        contents = _read(self.path)
        if contents is None:
            return None
        found = contents["fingerprint"]
        others = [name for name, value in self._fingerprint.items() if found.get(name) != value]
        # What depends on parameters differs with them.
        others = [name for name in others if name.isidentifier()] or others
        state = _state_from(contents["state"])
        if others and not state.ledger.entries:
            return None
        if others:
            raise ValueError(
                f"checkpoint={os.fspath(self.path)!r} holds a search with other values of "
                f"{others}. Set them as they were to continue it, or give another path. A warm "
                "start is another search."
            )
        return state

    def write(self, state: SearchState) -> None:
        """Replace what the file holds by this state.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        contents = {
            "fingerprint": self._fingerprint,
            "seed": self._seed,
            "state": _plain(state),
        }
        data = pickle.dumps(contents, protocol=5)
        write_file(self.path, HEAD + hashlib.sha256(data).digest() + data)

    def keep(self, state: SearchState) -> None:
        """Write a state, if that is worth its time.

        All writing together takes at most `MOST_OF_TIME`, so that of many short rounds some
        are not written at once, but by `finish`. If the file cannot be written, there is a
        warning.
        """
        self._unwritten = state
        if time.monotonic() >= self._due:
            self.finish()

    def finish(self) -> None:
        """Write the last state that was to be kept, unless it is written."""
        if self._unwritten is None:
            return
        began = time.monotonic()
        try:
            self.write(self._unwritten)
            self._unwritten = None  # not earlier: Ctrl-C may come
        except OSError as error:
            warnings.warn(
                f"The checkpoint was not written: {error}. This does not end the search.",
                stacklevel=level_of_user(),
            )
        now = time.monotonic()
        self._due = now + (now - began) / MOST_OF_TIME


def seed_in(path: str | os.PathLike[str]) -> int | None:
    """Return the seed of the search in a file, or None if there is no file.

    Raises
    ------
    ValueError
        If the file is damaged, or is another kind of file.
    """
    contents = _read(Path(path))
    return None if contents is None else contents["seed"]


def fingerprint_in(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the fingerprint of the search in a file, which is empty if there is no file.

    Raises
    ------
    ValueError
        If the file is damaged, or is another kind of file.
    """
    contents = _read(Path(path))
    return {} if contents is None else contents["fingerprint"]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint={os.fspath(path)!r} cannot be read: {error}") from error
    begin = len(HEAD) + DIGEST_SIZE
    body = memoryview(data)[begin:]
    if not data.startswith(HEAD) or data[len(HEAD) : begin] != hashlib.sha256(body).digest():
        raise ValueError(
            f"checkpoint={os.fspath(path)!r} is a damaged file, or none that this version has "
            "written. Delete it to begin anew, or give another path."
        )
    contents: dict[str, Any] = _PlainUnpickler(io.BytesIO(body)).load()
    return contents


class _PlainUnpickler(pickle.Unpickler):
    """Reads only plain values."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"a checkpoint holds no {module}.{name}")


def digest_of(state: SearchState) -> str:
    """Return a text that only states with the same values have in common."""
    # A pickle would depend on which texts are the same object.
    text = json.dumps(_plain(state), default=lambda data: hashlib.sha256(data).hexdigest())
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(state: SearchState) -> Plain:
    """Return a state as plain values."""
    writer = _Writer()
    return {
        "ledger": (
            state.ledger.budget,
            state.ledger.steps_per_epoch,
            [_values(entry) for entry in state.ledger.entries],
        ),
        "reference": _values(state.reference),
        "best": writer.candidate(state.best),
        "start": writer.maybe(state.start),
        "finalist": writer.maybe(state.finalist),
        "incumbent": writer.maybe(state.incumbent),
        "untrained": [writer.candidate(candidate) for candidate in state.untrained],
        "survivors": [writer.candidate(candidate) for candidate in state.survivors],
        "front": [writer.candidate(candidate) for candidate in state.front],
        "known": [writer.candidate(candidate) for candidate in state.known.values()],
        "numbers": {name: getattr(state, name) for name in NUMBERS},
    }


NUMBERS = ("generation", "step", "round", "next_id", "finished", "n_unimproved", "cut_short")


def _state_from(plain: Plain) -> SearchState:
    reader = _Reader()
    budget, steps_per_epoch, entries = plain["ledger"]
    known = [reader.candidate(candidate) for candidate in plain["known"]]
    return SearchState(
        Ledger(budget, steps_per_epoch, tuple(Entry(*entry) for entry in entries)),
        reader.candidate(plain["best"]),
        Ancestor(*plain["reference"]),
        start=reader.maybe(plain["start"]),
        untrained=tuple(map(reader.candidate, plain["untrained"])),
        survivors=tuple(map(reader.candidate, plain["survivors"])),
        front=tuple(map(reader.candidate, plain["front"])),
        known={candidate.id: candidate for candidate in known},
        finalist=reader.maybe(plain["finalist"]),
        incumbent=reader.maybe(plain["incumbent"]),
        **plain["numbers"],
    )


def _values(record: Entry | Ancestor | Evaluation) -> tuple[Plain, ...]:
    """Return the values of a record; a score of one's own may give numbers of numpy."""
    values = vars(record).values()
    return tuple(v.item() if isinstance(v, np.generic) else v for v in values)


class _Writer:
    """Writes candidates and tensors; those that are there twice are one object again."""

    def __init__(self) -> None:
        self._candidates: dict[int, Plain] = {}
        self._tensors: dict[int, Plain] = {}

    def candidate(self, candidate: Candidate) -> Plain:
        if id(candidate) not in self._candidates:
            parent, topology = candidate.parent, candidate.topology
            self._candidates[id(candidate)] = {
                **{f.name: getattr(candidate, f.name) for f in fields(Candidate)},
                "topology": (
                    topology.input_shape,
                    [(cell.channels, cell.pooling) for cell in topology.cells],
                    [layer.units for layer in topology.dense],
                    topology.n_classes,
                ),
                "weights": {
                    name: self._tensor(value) for name, value in candidate.weights.items()
                },
                "parent": None if parent is None else _values(parent),
                "evaluations": [_values(e) for e in candidate.evaluations],
            }
        return self._candidates[id(candidate)]

    def maybe(self, candidate: Candidate | None) -> Plain:
        return None if candidate is None else self.candidate(candidate)

    def _tensor(self, tensor: torch.Tensor) -> Plain:
        if id(tensor) not in self._tensors:
            array = tensor.numpy()
            self._tensors[id(tensor)] = (array.dtype.str, array.shape, array.tobytes())
        return self._tensors[id(tensor)]


class _Reader:
    """Reads what a `_Writer` has written, each object once."""

    def __init__(self) -> None:
        self._candidates: dict[int, Candidate] = {}
        self._tensors: dict[int, torch.Tensor] = {}

    def candidate(self, plain: Plain) -> Candidate:
        if id(plain) not in self._candidates:
            shape, cells, units, n_classes = plain["topology"]
            parent = plain["parent"]
            cells, layers = [ConvCell(*cell) for cell in cells], [Dense(n) for n in units]
            read = {
                "topology": Topology(shape, cells, layers, n_classes),
                "weights": {name: self._tensor(v) for name, v in plain["weights"].items()},
                "parent": None if parent is None else Ancestor(*parent),
                "evaluations": tuple(Evaluation(*values) for values in plain["evaluations"]),
            }
            self._candidates[id(plain)] = Candidate(**{**plain, **read})
        return self._candidates[id(plain)]

    def maybe(self, plain: Plain) -> Candidate | None:
        return None if plain is None else self.candidate(plain)

    def _tensor(self, plain: Plain) -> torch.Tensor:
        if id(plain) not in self._tensors:
            dtype, shape, data = plain
            array = np.frombuffer(bytearray(data), dtype).reshape(shape)
            # Cloned into torch's memory, whose alignment does not change the last bits.
            self._tensors[id(plain)] = torch.from_numpy(array).clone()
        return self._tensors[id(plain)]

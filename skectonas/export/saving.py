"""A fitted estimator as one file of JSON and tensors; no code runs when it is loaded.

The file is one of safetensors. Its metadata have ``skectonas``, which is JSON: ``format``, the
version of what is described here; ``written_by``, the versions of the packages; ``class``,
``parameters`` and ``attributes`` of the estimator; ``left_out``, the parameters that are no
plain data; and ``sha256``, over all of that and the tensors. In it, ``{"$tensor": name}``
stands for an array, and ``{"$<tag>": parts}`` for a value that one of the `CODECS` has written.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skectonas.callers import level_of_user, no_warnings
from skectonas.export.trials import check_fitted
from skectonas.extras import import_extra
from skectonas.files import write_file
from skectonas.inputs import InputEncoder
from skectonas.morphisms import MORPHISMS
from skectonas.network import TopologyNetwork, build, weights_of
from skectonas.topology import Topology
from skectonas.training import Augmentation

Estimator = TypeVar("Estimator", bound=BaseEstimator)

FORMAT = 2  # to be raised with every change that this version could not read
DEEPEST = 50  # nesting of values; those of an encoder have 15
MOST_CHARACTERS = 2**28  # of the texts of an array
PACKAGES = ("skectonas", "torch", "numpy", "pandas", "scikit-learn")
MORPHISM_CLASSES = {type(morphism).__name__: type(morphism) for morphism in MORPHISMS}
MASKED_TYPES = {
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
    *("Float32", "Float64", "boolean"),
}
MASKED = (pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray)


def save(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file: see `ECToNASClassifier.save`."""
    safetensors = import_extra("safetensors.numpy", "save")
    writer = _Writer()
    parameters, left_out = {}, {}
    for name, value in estimator.get_params(deep=False).items():
        try:
            parameters[name] = writer.write(value, f"parameters.{name}")
        except _NotPlainError:
            left_out[name] = value
    fitted = {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("_")
    }
    contents = {
        "format": FORMAT,
        "written_by": {name: version(name) for name in PACKAGES},
        "class": type(estimator).__name__,
        "parameters": parameters,
        "left_out": list(left_out),
        "attributes": {name: writer.write(value, name) for name, value in fitted.items()},
    }
    contents["sha256"] = _digest(contents, writer.tensors)
    text = json.dumps(contents, allow_nan=False)
    write_file(path, safetensors.save(writer.tensors, {"skectonas": text}))
    if left_out:
        warnings.warn(
            f"{os.fspath(path)} was written without the parameters {left_out!r}: functions, "
            "generators and objects of your own are not plain data. After loading they will "
            "have their defaults. Predictions do not depend on them, another fit may.",
            stacklevel=level_of_user(),
        )


def load(cls: type[Estimator], path: str | os.PathLike[str]) -> Estimator:
    """Read a fitted estimator from a file: see `ECToNASClassifier.load`."""
    contents, tensors = _read_file(path)
    reader = _Reader(tensors)
    # The checksum protects from damage, not from what somebody has written on purpose. That can
    # fail anywhere, and is always the same error.
    try:
        if contents["class"] != cls.__name__:
            raise ValueError(f"it holds an estimator of the class {contents['class']}")
        parameters = reader.read(contents["parameters"])
        attributes = reader.read(contents["attributes"])
        check_fitted(cls, attributes)
        known = {n: parameters[n] for n in cls._get_param_names() if n in parameters}
        estimator: Estimator = cls(**known)
        vars(estimator).update(attributes)
    except Exception as error:
        raise ValueError(
            f"{os.fspath(path)} does not hold a {cls.__name__}: {error}"
        ) from error
    remarks = {
        "holds no value for the parameters {}: they have their defaults": (
            [name for name in cls._get_param_names() if name not in known]
        ),
        "has parameters that this version does not know and that are left out: {}": (
            [name for name in parameters if name not in known]
        ),
    }
    for remark, names in remarks.items():
        if names:
            warnings.warn(
                f"{os.fspath(path)} {remark.format(names)}. Predictions do not depend on them, "
                "another fit may.",
                stacklevel=level_of_user(),
            )
    return estimator


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator, with networks, encoder and frames as plain data.

    Unlike these, plain data do not depend on the device, on private attributes or on the
    release of pandas, and skops can write them.
    """
    return {name: _plain_value(value) for name, value in state.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_value(part) for key, part in value.items()}
    if not isinstance(value, TopologyNetwork | InputEncoder | pd.DataFrame):
        return value
    writer = _Writer()
    try:
        return {"$plain": writer.write(value, ""), "$tensors": writer.tensors}
    except _NotPlainError:
        return value  # a frame that was changed


def restored_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that `plain_state` was given."""
    return {name: _restored_value(value) for name, value in state.items()}


def _restored_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() != {"$plain", "$tensors"}:
        return {key: _restored_value(part) for key, part in value.items()}
    return _Reader(value["$tensors"]).read(value["$plain"])


def _read_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the contents and the tensors of a file that is whole."""
    safetensors = import_extra("safetensors", "save")
    where = str(Path(path))  # no bytes, as in `save`
    with open(path, "rb"):  # the error of the system names what is wrong with a path
        pass
    try:
        with safetensors.safe_open(where, framework="numpy") as file:
            text = (file.metadata() or {}).get("skectonas")
            names = [] if text is None else file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is not a file of `save`, or it is damaged or truncated: {error}."
        ) from error
    if text is None:
        raise ValueError(f"{where} is not a file of `save`: it is another file of safetensors.")
    try:
        contents = dict(json.loads(text))
        whole = contents["sha256"] == _digest(contents, tensors)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{where} is damaged: its contents are no JSON of `save`.") from error
    if contents.get("format") != FORMAT:
        raise ValueError(
            f"{where} has the format {contents.get('format')!r}, written by "
            f"{contents.get('written_by')}; this version of skectonas reads format {FORMAT}."
        )
    if not whole:
        raise ValueError(f"{where} is damaged: its contents do not have their checksum.")
    return contents, tensors


def _digest(contents: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    covered = {name: part for name, part in contents.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(covered).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype.str, tensor.shape]).encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


class _NotPlainError(ValueError):
    """A value that cannot be written."""


@dataclass
class _Writer:
    """Turns values into what JSON can hold, and puts arrays aside."""

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)

    def write(self, value: Any, name: str) -> Any:
        """Return a value as JSON; `name` says where it comes from."""
        for codec in CODECS:
            if codec.holds(value):
                return {f"${codec.tag}": self.write(codec.parts(value), name)}
        if isinstance(value, np.ndarray):
            return self._put_aside(value, name)
        if isinstance(value, dict):
            return {key: self.write(part, f"{name}.{key}") for key, part in value.items()}
        if isinstance(value, list):
            return [self.write(part, f"{name}.{i}") for i, part in enumerate(value)]
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool | np.bool_):
            return bool(value)
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real):
            return float(value)
        raise _NotPlainError(f"{name} cannot be written: {value!r}.")

    def _put_aside(self, array: NDArray[Any], name: str) -> dict[str, str]:
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise _NotPlainError(f"{name} cannot be written: an array of {array.dtype}.")
        native = array.astype(array.dtype.newbyteorder("="), order="C")
        assert name not in self.tensors
        self.tensors[name] = native
        return {"$tensor": name}


class _Reader:
    """Turns what a `_Writer` gave back into values.

    Each array can be read once, as it was written once: a small file that names a large array
    many times would fill the memory.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors = dict(tensors)

    def read(self, plain: Any, depth: int = 0) -> Any:
        """Return the value."""
        if depth > DEEPEST:
            raise ValueError("values are nested too deeply")
        if isinstance(plain, list):
            return [self.read(part, depth + 1) for part in plain]
        if not isinstance(plain, dict):
            return plain
        [tag, *others] = plain or [""]
        if others or not tag.startswith("$"):
            return {key: self.read(part, depth + 1) for key, part in plain.items()}
        if tag == "$tensor":
            if plain[tag] not in self._tensors:
                raise ValueError(f"there is no array {plain[tag]!r}, or it is named twice")
            return self._tensors.pop(plain[tag])
        if tag not in BY_TAG:
            raise ValueError(f"it has values of an unknown kind, {tag!r}")
        return BY_TAG[tag].whole(self.read(plain[tag], depth + 1))


@dataclass(frozen=True)
class Codec:
    """A type of values that JSON lacks.

    Parameters
    ----------
    tag : str
        What it is called in a file.
    holds : callable
        Whether a value is of this type.
    parts : callable
        A value to simpler ones that it consists of.
    whole : callable
        These to the value. It must be safe for anything that a file may hold.
    """

    tag: str
    holds: Callable[[Any], bool]
    parts: Callable[[Any], Any]
    whole: Callable[[Any], Any]


def _is_mapping_of_others(value: Any) -> bool:
    """Whether a dict has keys that JSON has not, or one that looks like a tag."""
    return isinstance(value, dict) and not all(
        isinstance(key, str) and not key.startswith("$") for key in value
    )


def _is_array_of(kinds: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, np.ndarray) and value.dtype.kind in kinds


def _holds_texts(value: Any) -> bool:
    """Whether an array of objects holds text, and missing values, only."""
    return _is_array_of("O")(value) and all(
        isinstance(text, str) for text in value[~pd.isna(value)].tolist()
    )


def _texts(array: NDArray[np.object_]) -> dict[str, Any]:
    codes, values = pd.factorize(array)
    return {"codes": codes, "values": values.tolist()}


def _array_of_texts(parts: dict[str, Any]) -> NDArray[np.object_]:
    # One more entry, because the code of a missing value is -1, the last place.
    values: NDArray[np.object_] = np.array([*parts["values"], None], dtype=object)
    lengths = np.array([*map(len, parts["values"]), 0])[parts["codes"]]
    if lengths.sum() > MOST_CHARACTERS:  # a frame would copy them
        raise ValueError(f"an array has texts of {lengths.sum()} characters")
    chosen: NDArray[np.object_] = values[parts["codes"]]
    return chosen


def _strings(parts: dict[str, Any]) -> NDArray[np.str_]:
    dtype, values = _dtype(parts["dtype"], "U"), parts["values"]
    if dtype.itemsize // 4 * len(values) > MOST_CHARACTERS:
        raise ValueError(f"an array has {len(values)} texts of the type {parts['dtype']!r}")
    return np.array(values, dtype=dtype)


def _times(parts: dict[str, Any]) -> NDArray[Any]:
    times: NDArray[Any] = parts["values"].view(_dtype(parts["dtype"], "mM"))
    return times


def _dtype(name: str, kinds: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in kinds:
        raise ValueError(f"an array has the dtype {name!r}")
    return dtype


def _masked(array: Any) -> dict[str, Any]:
    values = array.to_numpy(dtype=array.dtype.numpy_dtype, na_value=0)
    return {"dtype": array.dtype.name, "values": values, "missing": array.isna()}


def _masked_array(parts: dict[str, Any]) -> Any:
    dtype = parts["dtype"]
    if dtype not in MASKED_TYPES:
        raise ValueError(f"an array has the dtype {dtype!r}")
    array: Any = pd.array(parts["values"], dtype=dtype)
    array[parts["missing"]] = pd.NA
    return array


def _columns(frame: pd.DataFrame) -> dict[Any, Any]:
    return {
        name: column.array if isinstance(column.array, MASKED) else column.to_numpy()
        for name, column in frame.items()
    }


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    # As a list, text gets the dtype that this release of pandas gives it.
    return pd.DataFrame({n: c.tolist() if c.dtype == object else c for n, c in columns.items()})


def _network(parts: dict[str, Any]) -> TopologyNetwork:
    with no_warnings("The given NumPy array is not writable"):  # nobody writes to them
        weights = {name: torch.from_numpy(array) for name, array in parts["weights"].items()}
    return build(parts["topology"], weights).eval()


def _optimizer(name: str) -> type[torch.optim.Optimizer]:
    found = vars(torch.optim).get(name)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(f"torch.optim has no {name!r}")
    return found


# The first that holds is taken.
CODECS: tuple[Codec, ...] = (
    Codec("tuple", lambda v: isinstance(v, tuple), list, tuple),
    Codec("pairs", _is_mapping_of_others, lambda v: [list(p) for p in v.items()], dict),
    Codec(
        "number",
        lambda v: isinstance(v, Real) and not math.isfinite(v),
        lambda v: str(float(v)),
        float,
    ),
    Codec(
        "strings",
        _is_array_of("U"),
        lambda v: {"dtype": v.dtype.str, "values": v.tolist()},
        _strings,
    ),
    Codec("texts", _holds_texts, _texts, _array_of_texts),
    Codec(
        "times",
        _is_array_of("mM"),
        lambda v: {"dtype": v.dtype.str, "values": v.view(np.int64)},
        _times,
    ),
    Codec("masked", lambda v: isinstance(v, MASKED), _masked, _masked_array),
    Codec("frame", lambda v: isinstance(v, pd.DataFrame), _columns, _frame),
    Codec("path", lambda v: isinstance(v, PurePath), os.fspath, Path),
    Codec(
        "augmentation",
        lambda v: isinstance(v, Augmentation),
        asdict,
        lambda fields: Augmentation(**fields),
    ),
    Codec("topology", lambda v: isinstance(v, Topology), Topology.to_dict, Topology.from_dict),
    Codec(
        "encoder",
        lambda v: isinstance(v, InputEncoder),
        InputEncoder.to_dict,
        InputEncoder.from_dict,
    ),
    Codec(
        "network",
        lambda v: isinstance(v, TopologyNetwork),
        lambda v: {
            "topology": v.topology,
            "weights": {name: weight.numpy() for name, weight in weights_of(v).items()},
        },
        _network,
    ),
    Codec(
        "morphism",
        lambda v: type(v) is MORPHISM_CLASSES.get(type(v).__name__),
        lambda v: [type(v).__name__, {f.name: getattr(v, f.name) for f in fields(v)}],
        lambda parts: MORPHISM_CLASSES[parts[0]](**parts[1]),
    ),
    Codec(
        "optimizer",
        lambda v: isinstance(v, type) and vars(torch.optim).get(v.__name__) is v,
        lambda v: v.__name__,
        _optimizer,
    ),
    Codec("device", lambda v: isinstance(v, torch.device), str, torch.device),
)
BY_TAG = {f"${codec.tag}": codec for codec in CODECS}

"""What a report of a problem has to say about the installation."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skectonas.population import engine_in_use

DEPENDENCIES = (
    *("numpy", "pandas", "scikit-learn", "scipy", "torch", "joblib", "skrub", "threadpoolctl"),
    *("matplotlib", "skorch", "onnx", "onnxscript", "safetensors", "polars", "pyarrow"),
    *("rich", "ipywidgets"),
)
"""The required packages, and then those of the extras."""


def show_versions() -> None:
    """Print the system, the versions of the dependencies, and the engine in use.

    A report of a problem should include this.

    Raises
    ------
    ValueError
        After everything else is printed, if the environment variable SKECTONAS_CPU_ENGINE names
        an unknown engine.

    See Also
    --------
    skectonas.population.engine_in_use : What the last line says.

    Examples
    --------
    >>> import skectonas
    >>> skectonas.show_versions()
    System:
    ...
    Python dependencies:
    ...
    CPU engine: ...
    """
    system = {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    versions = {name: _version_of(name) for name in ("skectonas", "pip", *DEPENDENCIES)}
    _show("System", system)
    _show("Python dependencies", versions)
    _say(f"CPU engine: {engine_in_use()}")


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _show(title: str, values: dict[str, str]) -> None:
    _say(f"{title}:")
    for name, value in values.items():
        _say(f"{name:>14}: {value}")
    _say("")


def _say(line: str) -> None:
    print(line)  # noqa: T201 (what it is for)

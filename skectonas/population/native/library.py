"""The native library, and the choice of the engine that trains on the CPU."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from skectonas.callers import level_of_user

VARIABLE = "SKECTONAS_CPU_ENGINE"
"""Environment variable that names the engine to use."""

TORCH = "torch"
"""Name of the engine that is always there; the others are variants of the library."""

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY = Path(__file__).with_name(f"_native{_SUFFIX}")


@dataclass(frozen=True)
class Native:
    """The native library, if it can be used here.

    Attributes
    ----------
    library : ctypes.CDLL or None
        The library, or None if there is none that can be used.
    variants : tuple of str
        The variants that this processor can run, best first.
    problem : str
        Why no variant can be used, or empty.
    """

    library: ctypes.CDLL | None
    variants: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Engine:
    """What trains on the CPU.

    Attributes
    ----------
    name : str
        A variant of the native library, or "torch".
    library : ctypes.CDLL or None
        The native library; None if torch trains.
    reason : str
        Why it is this engine; empty if it is the best variant of the library.
    """

    name: str
    library: ctypes.CDLL | None
    reason: str

    def __str__(self) -> str:
        if self.library is None:
            return f"{self.name} ({self.reason})"
        return f"native ({', '.join(filter(None, (self.name, self.reason)))})"


@functools.cache
def load(path: Path) -> Native:
    """Load a native library.

    Warns
    -----
    RuntimeWarning
        If the library is there and cannot be used.
    """
    if not path.exists():
        return Native(
            None,
            problem="the native library was not built: no C++ compiler was found when the "
            "package was installed, or it failed",
        )
    try:
        library = ctypes.CDLL(str(path))
        library.skectonas_sources.restype = ctypes.c_char_p
        library.skectonas_variants.restype = ctypes.c_char_p
        is_stale = sources_of(path.with_name("source")) not in (
            None,
            library.skectonas_sources().decode(),
        )
        names = library.skectonas_variants().decode()
    except (OSError, AttributeError) as error:  # not a library, or another one
        return _unusable(f"the native library cannot be loaded: {error}")
    if is_stale:
        return _unusable(
            "the native library was built from other sources than those that are here now; "
            "install the package again"
        )
    variants = tuple(filter(None, names.split(",")))
    if not variants:
        return Native(None, problem="the native library has no variant for this processor")
    return Native(library, variants)


def _unusable(problem: str) -> Native:
    warnings.warn(
        f"Networks are trained with torch, which takes longer: {problem}.",
        RuntimeWarning,
        stacklevel=level_of_user(),
    )
    return Native(None, problem=problem)


def sources_of(folder: Path) -> str | None:
    """Return the digest of the sources in a folder, as CMakeLists.txt computes it.

    It is None where there are no sources, as in a wheel.
    """
    paths = [path for path in folder.glob("*") if path.suffix in (".cpp", ".h")]
    if not paths:
        return None
    paths.sort(key=lambda path: path.name)
    digests = (hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def choose_engine() -> Engine:
    """Return the engine that trains on the CPU.

    It is the best variant of the native library that this processor can run, or torch if there
    is none. The environment variable SKECTONAS_CPU_ENGINE names another one.

    Raises
    ------
    ValueError
        If the variable names an unknown engine.
    """
    wanted = os.environ.get(VARIABLE, "")
    return named_engine(wanted) if wanted else _best_engine()


def _best_engine() -> Engine:
    native = load(LIBRARY)
    if native.variants:
        return Engine(native.variants[0], native.library, "")
    return Engine(TORCH, None, native.problem)


def named_engine(wanted: str) -> Engine:
    """Return the engine of a name.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    if wanted == TORCH:
        return Engine(TORCH, None, f"as {VARIABLE} says")
    native = load(LIBRARY)
    if wanted not in native.variants:
        names = " or ".join((*native.variants, TORCH))
        because = f", because {native.problem}" if native.problem else ""
        raise ValueError(f"{VARIABLE}={wanted}: it can only be {names} here{because}")
    return Engine(wanted, native.library, f"as {VARIABLE} says")


def engine_in_use() -> str:
    """Return which engine trains on the CPU, and why if it is not the fastest.

    A library of compiled code trains several times faster than torch. It has variants for
    several kinds of processors, of which the best that this one can run is taken. The
    environment variable SKECTONAS_CPU_ENGINE names another variant, or torch.

    Returns
    -------
    description : str
        For example ``"native (x86-64-v3)"``.

    Raises
    ------
    ValueError
        If the environment variable names an unknown engine.

    Examples
    --------
    >>> from skectonas.population import engine_in_use
    >>> engine_in_use().split()[0] in ("native", "torch")
    True
    """
    return str(choose_engine())

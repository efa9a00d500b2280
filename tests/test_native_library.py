"""The native library is found, loaded and chosen, or the reason why not is given."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import quick

from skectonas.population import engine_in_use
from skectonas.population.native import library
from skectonas.population.native.library import VARIABLE, choose_engine, load, sources_of

BUILT_FILE = library.LIBRARY
BUILT = load(BUILT_FILE)
needs_library = pytest.mark.skipif(not BUILT.variants, reason="no native library was built")
SOURCES = BUILT_FILE.with_name("source")


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend that there is no library, and return where it would be."""
    path = tmp_path / library.LIBRARY.name
    monkeypatch.setattr(library, "LIBRARY", path)
    return path


def test_without_a_library(missing: Path) -> None:
    engine = choose_engine()
    assert (engine.name, engine.library) == ("torch", None)
    assert engine_in_use() == (
        "torch (the native library was not built: no C++ compiler was found when the package "
        "was installed, or it failed)"
    )


def test_without_a_library_a_fit_works(missing: Path, digits: tuple[np.ndarray, ...]) -> None:
    assert quick(2).fit(*digits).predict(digits[0]).shape == digits[1].shape


def test_a_file_that_is_not_a_library(missing: Path) -> None:
    missing.write_text("text")
    with pytest.warns(RuntimeWarning, match="longer: the native library cannot") as caught:
        assert choose_engine().name == "torch"
    assert [warning.filename for warning in caught] == [__file__]
    # Once is enough.
    assert engine_in_use().startswith("torch (the native library cannot be loaded: ")


def test_a_library_of_something_else(missing: Path) -> None:
    shutil.copy(np.linalg._umath_linalg.__file__, missing)
    with pytest.warns(RuntimeWarning, match="cannot be loaded: .*skectonas_sources"):
        assert choose_engine().name == "torch"


@needs_library
def test_the_best_variant_is_used() -> None:
    engine = choose_engine()
    assert engine.name == BUILT.variants[0]
    assert engine.library is BUILT.library
    assert engine_in_use() == f"native ({BUILT.variants[0]})"


@needs_library
def test_each_variant_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    for variant in BUILT.variants:
        monkeypatch.setenv(VARIABLE, variant)
        assert choose_engine().name == variant
        assert engine_in_use() == f"native ({variant}, as {VARIABLE} says)"


def test_torch_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "torch")
    assert choose_engine().library is None
    assert engine_in_use() == f"torch (as {VARIABLE} says)"


def test_torch_can_be_forced_past_a_broken_library(
    missing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing.write_text("text")
    monkeypatch.setenv(VARIABLE, "torch")
    assert choose_engine().name == "torch"


def test_nothing_is_no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = engine_in_use()
    monkeypatch.setenv(VARIABLE, "")
    assert engine_in_use() == expected


def test_an_unknown_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fortran")
    with pytest.raises(ValueError, match=f"{VARIABLE}=fortran: it can only be .*torch here"):
        engine_in_use()


def test_what_there_is_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    native = library.Native(ctypes.pythonapi, ("x86-64-v3", "x86-64-v2"))
    monkeypatch.setattr(library, "load", lambda path: native)
    monkeypatch.setenv(VARIABLE, "x86-64-v4")
    with pytest.raises(ValueError, match="can only be x86-64-v3 or x86-64-v2 or torch here"):
        choose_engine()


def test_a_variant_without_a_library(missing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "x86-64-v3")
    with pytest.raises(ValueError, match="only be torch here, because the native library"):
        engine_in_use()


@needs_library
@pytest.mark.skipif(not SOURCES.exists(), reason="a wheel has no sources")
def test_a_library_of_other_sources_is_not_used(missing: Path) -> None:
    shutil.copy(BUILT_FILE, missing)
    sources = missing.with_name("source")
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns("CMake*", ".*"))
    assert load(missing).variants == BUILT.variants
    load.cache_clear()
    with (sources / "engine.cpp").open("a") as file:
        file.write("// a change\n")
    with pytest.warns(RuntimeWarning, match="built from other sources"):
        assert choose_engine().name == "torch"


@needs_library
def test_where_there_are_no_sources_the_library_is_used(missing: Path) -> None:
    assert sources_of(missing.with_name("source")) is None
    shutil.copy(BUILT_FILE, missing)
    assert choose_engine().name == BUILT.variants[0]


@needs_library
def test_every_variant_was_compiled_for_its_processor() -> None:
    sizes = {"x86-64-v4": 64, "x86-64-v3": 32, "x86-64-v2": 16, "baseline": 16}
    for variant in BUILT.variants:
        assert BUILT.library.skectonas_vector_bytes(variant.encode()) == sizes[variant]


@pytest.mark.skipif(
    BUILT.variants in ((), ("baseline",)) or not Path("/proc/cpuinfo").exists(),
    reason="needs a library with variants, and Linux, which lists the features of a processor",
)
def test_the_variants_are_those_of_the_processor() -> None:
    [line, *_] = re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(line.split())
    v2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
    v3 = v2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}
    v4 = v3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    needed = {"x86-64-v4": v4, "x86-64-v3": v3, "x86-64-v2": v2}
    assert BUILT.variants == tuple(name for name, some in needed.items() if some <= flags)

"""What show_versions prints."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import skectonas
from skectonas.population import engine_in_use
from skectonas.versions import DEPENDENCIES, show_versions

ROOT = Path(__file__).parents[1]
OF_DEVELOPERS = ("test", "docs", "lint", "types", "dev")


def test_system_dependencies_and_engine_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert skectonas.show_versions is show_versions
    show_versions()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "System:"
    assert f"         torch: {version('torch')}" in lines
    assert f"     skectonas: {skectonas.__version__}" in lines
    assert lines[-1] == f"CPU engine: {engine_in_use()}"


def test_what_is_not_installed_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skectonas.versions.DEPENDENCIES", ("no-such-package",))
    show_versions()
    assert "no-such-package: not installed\n" in capsys.readouterr().out


def test_a_wrong_wish_is_refused_after_everything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKECTONAS_CPU_ENGINE", "fortran")
    with pytest.raises(ValueError, match="fortran"):
        show_versions()
    assert "scikit-learn: " in capsys.readouterr().out


def test_all_dependencies_are_shown() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [
        *project["dependencies"],
        *(r for name in extras for r in extras[name] if name not in OF_DEVELOPERS),
    ]
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in needed]
    assert list(DEPENDENCIES) == list(dict.fromkeys(names))

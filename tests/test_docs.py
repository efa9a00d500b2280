"""The documents against the code and the files that they name."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
from pathlib import Path

import pytest

import skectonas

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_example_of_the_readme_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace("budget=300", "budget=30"), names)
    assert hasattr(names["clf"], "network_")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if "://" not in link:
            assert (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(document: Path) -> None:
    folders = "skectonas|tests|benchmarks|docs|examples"
    for name in re.findall(rf"`((?:{folders})/[\w/.*]+)`", document.read_text()):
        assert [*ROOT.glob(name)], name


def in_the_reference() -> set[str]:
    """Return the full names that docs/api.rst lists."""
    text = (ROOT / "docs" / "api.rst").read_text()
    _, *parts = re.split(r"\.\. currentmodule:: (\S+)\n", text)
    return {
        f"{module}.{name}"
        for module, lines in zip(parts[::2], parts[1::2], strict=True)
        for name in re.findall(r"^(?:   |\.\. data:: )([\w.]+)$", lines, re.MULTILINE)
    }


@pytest.mark.parametrize("package", ["", ".displays", ".morphisms", ".population"])
def test_public_names_are_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"skectonas{package}")
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= in_the_reference()


def test_what_the_reference_lists_is_there() -> None:
    for name in in_the_reference():
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name


def test_the_examples_are_named_in_order() -> None:
    order = (ROOT / "docs" / "gallery_order.py").read_text()
    named = set(re.findall(r'"(\w+\.py)"', order))
    assert named <= {path.name for path in ROOT.glob("examples/*.py")}


def test_the_citation_is_of_this_version() -> None:
    [version] = re.findall(
        r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )
    assert version == skectonas.__version__
    assert f"version = {{{version}}}" in (ROOT / "docs" / "citing.md").read_text()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    [command] = re.findall(r"tests=\$\((.*)\)\n", script)
    found = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found.startswith("python3 -m venv .venv && ")
    assert found.endswith("-m pytest -n 2")
    assert f"    {found}\n" in (ROOT / "README.md").read_text()


def test_dead_links_of_the_site_are_found(tmp_path: Path) -> None:
    dead_links = runpy.run_path(str(ROOT / "docs" / "links.py"))["dead_links"]
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.html").write_text('<a href="deep/b.html#there">1</a> <a href="#no">2</a>')
    (tmp_path / "deep" / "b.html").write_text(
        '<p id="there"><a href="../a.html?x=1">1</a> <a href="https://a.b/c">2</a>'
        '<a href="../a.html#no">3</a> <img src="gone.png"></p>'
    )
    found = dead_links(tmp_path)
    assert found == ["a.html: #no", "deep/b.html: ../a.html#no", "deep/b.html: gone.png"]

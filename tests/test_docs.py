"""What the documents say can be done, done."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

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


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    [command] = re.findall(r"tests=\$\((.*)\)\n", script)
    found = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found.startswith("python3 -m venv .venv && ")
    assert found.endswith("-m pytest -n 2")
    assert f"    {found}\n" in (ROOT / "README.md").read_text()

"""What is optional is imported only by those who use it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONAL = {"accelerate", "onnx", "onnxruntime", "onnxscript", "safetensors", "skops", "skorch"}


def test_importing_the_package_imports_nothing_optional() -> None:
    script = "import sys, skectonas; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = set(run.stdout.split())
    assert {"skectonas", "torch"} <= loaded
    assert not loaded & OPTIONAL


def test_the_extras_that_errors_name_install_what_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    calls = re.findall(
        r'import_extra\("(\w+)[.\w]*", "(\w+)"\)',
        "".join((ROOT / "skectonas" / name).read_text() for name in ("export.py", "saving.py")),
    )
    assert {module for module, _ in calls} == {"onnx", "onnxscript", "safetensors", "skorch"}
    for module, extra in calls:
        requirements = project["optional-dependencies"][extra]
        assert any(requirement.startswith(f"{module}>=") for requirement in requirements)
    assert not any(r.startswith(tuple(OPTIONAL)) for r in project["dependencies"])

"""Optional packages are imported only when they are used."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CALLING = ("export/conversions.py", "export/saving.py", "inputs/frames.py")
OPTIONAL = {
    *("accelerate", "matplotlib", "onnx", "onnxruntime", "onnxscript", "polars", "pyarrow"),
    *("rich", "safetensors", "skops", "skorch"),
}


def loaded_by(*steps: str) -> list[set[str]]:
    """Return the modules that are loaded after each of some imports, in one process."""
    script = "import sys\n" + "".join(f"import {step}; print(*sys.modules)\n" for step in steps)
    run = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return [set(line.split()) for line in run.stdout.splitlines()]


def test_importing_the_package_imports_nothing_optional() -> None:
    # pandas and scikit-learn import some of them where they are installed.
    needed, loaded, drawing = loaded_by(
        "torch, pandas, sklearn.model_selection, sklearn.preprocessing",
        "skectonas",
        "skectonas.displays",
    )
    assert "skectonas" in loaded - needed
    assert not (loaded - needed) & OPTIONAL
    assert "skectonas.displays" in drawing - loaded
    assert not (drawing - needed) & OPTIONAL
    assert "matplotlib" not in drawing  # but where something is drawn


def test_the_extras_that_errors_name_install_what_is_missing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    calls = re.findall(
        r'import_extra\("(\w+)[.\w]*", "(\w+)"\)',
        "".join((ROOT / "skectonas" / name).read_text() for name in CALLING),
    )
    known = {"onnx", "onnxscript", "pyarrow", "safetensors", "skorch"}
    assert {module for module, _ in calls} == known
    for module, extra in calls:
        requirements = project["optional-dependencies"][extra]
        assert any(requirement.startswith(f"{module}>=") for requirement in requirements)
    assert not any(r.startswith(tuple(OPTIONAL)) for r in project["dependencies"])


def test_the_progress_bar_is_drawn_in_notebooks() -> None:
    # In notebooks rich draws with ipywidgets, and warns repeatedly if they are missing.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = " ".join(project["optional-dependencies"]["progress"])
    assert "rich" in extra
    assert "ipywidgets" in extra


def test_skrub_is_imported_for_text_and_dates_only() -> None:
    code = """
import sys
import numpy as np, pandas as pd
from skectonas import ECToNASClassifier
y = np.arange(40) % 2
clf = ECToNASClassifier(budget=5, random_state=0)
numbers = pd.DataFrame({"a": np.arange(40.0), "b": pd.Categorical(y)})
clf.fit(numbers, y).predict(numbers)
assert "skrub" not in sys.modules
texts = numbers.assign(c=np.where(y, "yes", "no"))
clf.fit(texts, y).predict(texts)
assert "skrub" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

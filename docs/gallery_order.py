"""The order of the examples in the gallery: from the first fit to parts of your own."""

from __future__ import annotations

FIRST = [
    "quickstart.py",
    "mixed_table.py",
    "pseudo_images.py",
    "pictures.py",
    "pareto_front.py",
    "callbacks.py",
    "save_and_load.py",
    "onnx_export.py",
    "skorch_continue.py",
    "custom_morphism.py",
]
LAST = ["adult.py", "fashion_mnist.py"]  # shown, not run


def by_theme(filename: str) -> tuple[int, str]:
    """Return what the files of the examples are sorted by; those not named come in between."""
    if filename in LAST:
        return len(FIRST) + 1 + LAST.index(filename), filename
    return (FIRST.index(filename) if filename in FIRST else len(FIRST)), filename

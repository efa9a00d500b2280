"""A module imports only from lower floors: the design, enforced."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import skectonas

ROOT = Path(skectonas.__file__).parent

# Every module, on the floor above all that it may import. Modules on one floor do not know
# each other; a package is one entry, and its modules may import each other. A new module has to
# be given its place here.
FLOORS = {
    "topology": 0.0,
    "ledger": 0.0,
    "pareto": 0.0,
    "notebook": 0.0,
    "extras": 0.0,
    "files": 0.0,
    "mapped": 0.0,
    "callbacks": 0.0,
    "callers": 0.0,
    "versions": 0.0,
    "interruption": 0.0,
    "surroundings": 0.5,
    "given": 0.5,
    "starts": 1.0,
    "network": 1.0,
    "displays": 1.0,
    "candidate": 1.5,
    "data": 2.0,
    "scoring": 2.0,
    "fitness": 2.0,
    "tournament": 2.0,
    "images": 2.0,
    "scaling": 0.0,
    "tables": 2.0,
    "morphisms": 2.0,
    "training": 3.0,
    "inputs": 3.0,
    "population": 4.0,
    "portable": 4.0,
    "saving": 4.0,
    "search": 5.0,
    "validation": 5.0,
    "export": 5.5,
    "observers": 5.5,
    "outcome": 5.5,
    "classifier": 6.0,
    "__init__": 7.0,
}

LOWEST = {"candidate", "ledger", "network", "starts", "topology"}

# What a floor does not say: who does not know of whom, although it lies below.
STRANGERS = {
    "morphisms": {"candidate", "data", "fitness", "ledger", "starts", "training"},
    "training": {"fitness", "ledger", "morphisms", "starts", "tournament"},
    "population": {"fitness", "ledger", "morphisms", "starts", "tournament"},
    "search": {"data", "images", "inputs", "population", "scoring", "starts", "tables"},
    "fitness": {"network", "topology"},
    "data": LOWEST,
    "images": LOWEST,
    "scoring": LOWEST,
    "tables": LOWEST,
    "tournament": LOWEST,
}
WITHOUT_TORCH = [
    *("topology", "starts", "ledger", "pareto", "notebook", "extras", "files", "given"),
    *("tournament", "fitness", "scoring"),
]

FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of a module inside skectonas; that of its __init__ is empty."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def entry_of(module: str) -> str:
    return module.partition(".")[0] or "__init__"


def imported(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports, wherever in it; of a name, its parents too."""
    package = ["skectonas", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{source}.{alias.name}"


def own_imports(path: Path) -> set[str]:
    """Return the modules of skectonas that a file imports; "" is the package itself."""
    found = set()
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "skectonas":
            continue
        inside = parts[1:]
        while inside and ".".join(inside) not in MODULES:
            inside.pop()  # a name within a module
        found.add(".".join(inside))
    return found


def test_the_walk_sees_imports() -> None:
    assert own_imports(ROOT / "starts.py") == {"topology"}
    assert {"morphisms", "ledger", "training"} <= own_imports(ROOT / "search.py")
    assert "morphisms.base" in own_imports(ROOT / "morphisms" / "widen.py")
    assert "torch.nn" in set(imported(ROOT / "network.py"))


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_its_floor(module: str) -> None:
    assert entry_of(module) in FLOORS, f"give {module} a floor"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    mine = entry_of(module)
    for other in own_imports(MODULES[module]):
        theirs = entry_of(other)
        if mine != theirs or mine == "__init__":
            assert FLOORS[theirs] < FLOORS[mine], f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_strangers_stay_strangers(module: str) -> None:
    known = {entry_of(other) for other in own_imports(MODULES[module])}
    assert not known & STRANGERS.get(entry_of(module), set())


def test_no_circles_within_packages() -> None:
    graph = {module: own_imports(path) for module, path in MODULES.items()}
    while graph:
        free = [module for module, needs in graph.items() if not needs & set(graph)]
        assert free, f"a circle among {sorted(graph)}"
        for module in free:
            del graph[module]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_no_torch_where_none_is_needed(module: str) -> None:
    assert not {name.partition(".")[0] for name in imported(ROOT / f"{module}.py")} & {"torch"}


def test_only_the_search_charges_the_ledger() -> None:
    charging = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "charge"
    ]
    assert charging == ["search"]


def test_the_table_names_no_strangers_to_the_floors() -> None:
    assert set(STRANGERS) <= set(FLOORS)
    assert set().union(*STRANGERS.values()) <= set(FLOORS)

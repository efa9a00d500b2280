"""Packages import only from lower floors, and only names that are exported there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import skectonas

ROOT = Path(skectonas.__file__).parent

# Every module and package at the top, in the order in which they may import each other: each
# imports only from those before it. A new one has to be given its place here.
FLOORS = (
    *("topology", "extras", "files", "threads", "callers", "surroundings", "estimators"),
    *("network", "candidate", "inputs", "morphisms", "training", "population", "search"),
    *(
        "guessing",
        "paper",
        "displays",
        "export",
        "fingerprint",
        "sample",
        "trial",
        "fitting",
        "classifier",
        "versions",
        "__init__",
    ),
)

# Imports that are forbidden although the order would allow them.
STRANGERS = {
    "inputs": {"candidate", "network", "topology"},
    "morphisms": {"candidate", "estimators", "inputs"},
    "training": {"estimators", "morphisms"},
    "population": {"estimators", "inputs", "morphisms"},
    "search": {"population"},
    "fingerprint": {"population"},
    "displays": {"candidate", "inputs", "morphisms", "population", "training"},
}
POPULATION = (
    *("groups", "run", "kernels", "native", "memory", "workers", "trainer"),
    "__init__",
)
"""The same for what is inside of `population`."""

WITHOUT_TORCH = (
    *("topology", "extras", "threads", "callers", "inputs/frames", "training/scoring"),
    "training/holdout",
    *("search/ledger", "search/tournament", "search/fitness", "search/front"),
)


def module_of(path: Path) -> str:
    """Return the name of a module inside skectonas: "search.ledger", "search", "__init__"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[1:] and parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield each module that a module imports from, anywhere in it, with the imported name."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: an import relative to the package"
            for alias in node.names:
                yield str(node.module), alias.name


def own_imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield what a module imports from skectonas."""
    for source, name in imports(module):
        if source.startswith("skectonas."):
            inside = source.partition(".")[2]
            yield (f"{inside}.{name}", "") if f"{inside}.{name}" in MODULES else (inside, name)


def test_rooms_import_from_lower_floors() -> None:
    assert {room_of(module) for module in MODULES} == set(FLOORS)
    seen = set()
    for module in MODULES:
        mine = room_of(module)
        for source, _ in own_imports(module):
            theirs = room_of(source)
            seen.add((mine, theirs))
            if mine != theirs:
                assert FLOORS.index(theirs) < FLOORS.index(mine), f"{module} imports {source}"
                assert theirs not in STRANGERS.get(mine, ()), f"{module} imports {source}"
    assert {("search", "training"), ("fitting", "population"), ("search", "search")} <= seen


def test_the_population_has_floors_of_its_own() -> None:
    for module in MODULES:
        if not module.startswith("population"):
            continue
        mine = (*module.split("."), "__init__")[1]
        for source, _ in own_imports(module):
            theirs = (*source.split("."), "__init__")[1]
            if source.startswith("population") and mine != theirs:
                lower = POPULATION.index(theirs) < POPULATION.index(mine)
                assert lower, f"{module} imports {source}"


def test_rooms_take_from_a_package_what_it_offers() -> None:
    for module in MODULES:
        for source, name in own_imports(module):
            if room_of(module) != room_of(source) and source != "displays.notebook":
                assert "." not in source, f"{module} reaches into {source}"
                package = ROOT / source
                if package.is_dir() and name:
                    offered = ast.literal_eval(all_of(package / "__init__.py"))
                    assert name in offered, f"{module} imports {name} from {source}"


def all_of(path: Path) -> ast.expr:
    [value] = [
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return value


def test_no_circles_within_packages() -> None:
    graph = {module: {source for source, _ in own_imports(module)} for module in MODULES}
    while graph:
        free = [module for module, needs in graph.items() if not needs & set(graph)]
        assert free, f"a circle among {sorted(graph)}"
        for module in free:
            del graph[module]


def test_no_torch_where_none_is_needed() -> None:
    for name in WITHOUT_TORCH:
        module = name.replace("/", ".")
        assert not [source for source, _ in imports(module) if source.startswith("torch")]


def test_only_the_search_charges_the_ledger() -> None:
    charging = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "charge"
    ]
    assert charging == ["search.trainings"]

"""Check the sdist, and wheels that are built from it with and without a compiler.

python .ci/check_wheels.py DIST FOLDER [TEST ...]

DIST has the sdist and the wheel with the library, which is installed in this environment. The
other wheel is built in FOLDER, which is emptied, and has an environment of its own there. Both
fit a classifier where the tree is not found. The tests that are named run on the wheel with the
library, on fewer examples.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
NATIVE = "skectonas/population/native"
BUILT = re.compile(
    r"(^|/)(CMake(Cache|Files|Init)\b|build\.ninja|__pycache__)|\.(so|dylib|dll|pyc)$"
)
SYSTEM = ("ld", "libc", "libm", "libpthread")
TRY = """
import skectonas
from sklearn.datasets import load_digits
X, y = load_digits(return_X_y=True)
clf = skectonas.ECToNASClassifier(budget=30, random_state=0).fit(X, y)
print(skectonas.__file__)
print(clf.best_topology_, clf.score(X, y))
skectonas.show_versions()
"""


def run(*command: object, folder: Path, **variables: str) -> str:
    """Run a command, and return what it prints."""
    outside = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=outside | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{command} failed")
    return done.stdout


def expect(condition: object, what: str) -> None:
    """Stop with an explanation if something is not as it should be."""
    if not condition:
        sys.exit(what)


def check_sdist(path: Path) -> set[str]:
    """Check the files that an sdist has, and return them."""
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    superfluous = [n for n in names if BUILT.search(n) or n.startswith("benchmarks/results")]
    expect(not superfluous, f"the sdist has {superfluous}")
    needed = {"LICENSE", "README.md", "pyproject.toml", f"{NATIVE}/source/CMakeLists.txt"}
    expect(needed <= names, f"the sdist lacks {needed - names}")
    return names


def build_without_compiler(sdist: Path, folder: Path) -> Path:
    """Return a wheel that is made from the sdist in a folder."""
    command = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, sdist)
    run(*command, folder=folder, CXX=str(folder / "no-such-compiler"))
    [path] = folder.glob("*.whl")
    return path


def check_wheel(path: Path, of_sdist: set[str], folder: Path, *, compiler: bool) -> None:
    """Check the tags of a wheel, and the files that it has."""
    pure = path.name.endswith("-py3-none-any.whl")
    expect("-py3-none-" in path.name and pure != compiler, f"a wheel is called {path.name}")
    with ZipFile(path) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        libraries = [name for name in names if BUILT.search(name)]
        if compiler and sys.platform == "linux":
            file.extractall(folder, libraries)
    found = [str(PurePosixPath(name).with_suffix("")) for name in libraries]
    expect(found == [f"{NATIVE}/_native"] * compiler, f"{path.name} has {libraries}")
    package = {n for n in of_sdist if n.startswith("skectonas/")}
    package = {n for n in package if not n.startswith(f"{NATIVE}/source/") and "." in n}
    expect(names - {*libraries} == package, f"{path.name}: {names ^ package}")
    if compiler and sys.platform == "linux":
        needed = run("readelf", "-d", folder / libraries[0], folder=folder)
        others = set(re.findall(r"NEEDED.*\[(.*?)[.-]", needed)) - {*SYSTEM}
        expect(not others, f"the library needs {others}")


def environment(folder: Path, wheel: Path) -> Path:
    """Return the Python of a new environment with a wheel.

    Its dependencies are those of this environment, which are found behind its own packages.
    """
    venv.create(folder)
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}), "python")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "-q", "--no-deps", wheel, folder=folder)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python


def try_wheel(python: str | Path, installed: str | Path, engine: str, folder: Path) -> None:
    """Fit a classifier with an installed wheel, and look which engine is in use."""
    said = run(python, "-W", "error", "-c", TRY, folder=folder)
    print(said)
    expect(said.startswith(str(installed)), f"{said.splitlines()[0]} was imported")
    expect(f"\nCPU engine: {engine}" in said, f"another engine than {engine} is in use")


def main(dist: Path, folder: Path, tests: Sequence[str]) -> None:
    """Check everything."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    [sdist], [native] = dist.resolve().glob("*.tar.gz"), dist.resolve().glob("*.whl")
    of_sdist = check_sdist(sdist)
    check_wheel(native, of_sdist, folder, compiler=True)
    try_wheel(sys.executable, sysconfig.get_path("purelib"), "native (", folder)

    pure = build_without_compiler(sdist, folder)
    check_wheel(pure, of_sdist, folder, compiler=False)
    python = environment(folder / "venv", pure)
    try_wheel(python, folder / "venv", "torch (the native library was not built", folder)

    if tests:
        copy = folder / "copy"
        shutil.copytree(ROOT / "tests", copy / "tests")
        shutil.copy(ROOT / "pyproject.toml", copy)
        command = (sys.executable, "-m", "pytest", "-q", "-n", 2)
        print(run(*command, "--hypothesis-profile", "brief", *tests, folder=copy))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

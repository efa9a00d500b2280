"""Build the sdist, and a wheel from it with and without a compiler; check and try both.

python .ci/check_wheels.py FOLDER [TEST ...]

The folder is emptied. Each wheel is installed into an environment of its own, where the tree is
not found, and fits a classifier. The tests that are named run on the wheel with the library, on
fewer examples.
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


def build_sdist(folder: Path) -> tuple[Path, set[str]]:
    """Return the sdist, and the files that it has."""
    run(sys.executable, "-m", "build", "--sdist", "-o", folder, ROOT, folder=folder)
    [path] = folder.glob("*.tar.gz")
    with tarfile.open(path) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    superfluous = [n for n in names if BUILT.search(n) or n.startswith("benchmarks/results")]
    expect(not superfluous, f"the sdist has {superfluous}")
    needed = {"LICENSE", "README.md", "pyproject.toml", f"{NATIVE}/source/CMakeLists.txt"}
    expect(needed <= names, f"the sdist lacks {needed - names}")
    return path, names


def build_wheel(sdist: Path, folder: Path, *, compiler: bool) -> Path:
    """Return a wheel that is made from the sdist."""
    none = {} if compiler else {"CXX": str(folder / "no-such-compiler")}
    command = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, sdist)
    run(*command, folder=folder, **none)
    [path] = folder.glob("*.whl")
    return path


def check_wheel(path: Path, of_sdist: set[str], *, compiler: bool) -> None:
    """Check the tags of a wheel, and the files that it has."""
    pure = path.name.endswith("-py3-none-any.whl")
    expect("-py3-none-" in path.name and pure != compiler, f"a wheel is called {path.name}")
    with ZipFile(path) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
        libraries = [name for name in names if BUILT.search(name)]
        if compiler and sys.platform == "linux":
            file.extractall(path.parent, libraries)
    found = [str(PurePosixPath(name).with_suffix("")) for name in libraries]
    expect(found == [f"{NATIVE}/_native"] * compiler, f"{path.name} has {libraries}")
    package = {n for n in of_sdist if n.startswith("skectonas/")}
    package = {n for n in package if not n.startswith(f"{NATIVE}/source/") and "." in n}
    expect(names - {*libraries} == package, f"{path.name}: {names ^ package}")
    if compiler and sys.platform == "linux":
        needed = run("readelf", "-d", path.parent / libraries[0], folder=path.parent)
        others = set(re.findall(r"NEEDED.*\[(.*?)[.-]", needed)) - {*SYSTEM}
        expect(not others, f"the library needs {others}")


def environment(folder: Path) -> Path:
    """Return the Python of a new environment in a folder."""
    venv.create(folder, with_pip=True)
    return Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}), "python")


def try_wheel(python: Path, folder: Path, engine: str) -> None:
    """Fit a classifier with an installed wheel, and look which engine is in use."""
    said = run(python, "-W", "error", "-c", TRY, folder=folder)
    print(said)
    expect(said.startswith(str(folder)), f"{said.splitlines()[0]} was imported")
    expect(f"\nCPU engine: {engine}" in said, f"another engine than {engine} is in use")


def main(folder: Path, tests: Sequence[str]) -> None:
    """Build and check everything in a folder."""
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sdist, of_sdist = build_sdist(folder)
    wheels = {}
    for name, compiler in (("native", True), ("pure", False)):
        (folder / name).mkdir()
        wheels[name] = build_wheel(sdist, folder / name, compiler=compiler)
        check_wheel(wheels[name], of_sdist, compiler=compiler)

    native, pure = (environment(folder / name / "venv") for name in wheels)
    constraints = ("-c", ROOT / "constraints.txt")
    tools = ("hypothesis", "pyarrow", "pytest", "pytest-xdist")
    install = ("-m", "pip", "install", "-q", "--no-compile")
    run(native, *install, *constraints, wheels["native"], *tools, folder=folder)
    try_wheel(native, folder / "native", "native (")

    # The dependencies of the other are the same, and are found behind its own packages.
    run(pure, *install, "--no-deps", wheels["pure"], folder=folder)
    packages = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = run(native, "-c", packages, folder=folder)
    Path(run(pure, "-c", packages, folder=folder).strip(), "others.pth").write_text(theirs)
    try_wheel(pure, folder / "pure", "torch (the native library was not built")

    copy = folder / "copy"
    shutil.copytree(ROOT / "tests", copy / "tests")
    shutil.copy(ROOT / "pyproject.toml", copy)
    if tests:
        command = (native, "-m", "pytest", "-q", "-n", 2, "--hypothesis-profile", "brief")
        print(run(*command, *tests, folder=copy))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Skectonas and other tools: every feature is tried with every tool.

    python benchmarks/comparison.py --interpreter scikeras=/path/to/its/python ...

Each pair of tool and feature runs in its own process (`comparison_probes.py`), with one thread,
in an empty folder, with the interpreter that was named for the tool or else this one. The rows
of ``results/comparison.csv`` are replaced one by one, so that a part can be run again:
``--tools skectonas --features "polars frame of numbers"``. Afterwards the tables of
``docs/comparison.md`` are written anew, which ``--page`` alone does as well.

``--try-install nni autokeras+tensorflow-cpu+scikit-learn:autokeras`` installs the newest
packages in separate environments, imports the module after the colon, fits once if it is one of
the tools, and records the outcome.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from comparison_probes import PROBES
from comparison_tools import TOOLS

RESULTS = HERE / "results" / "comparison.csv"
ACCURACY = HERE / "results" / "comparison_accuracy.csv"
PAGE = HERE.parent / "docs" / "comparison.md"
COLUMNS = ["tool", "version", "feature", "outcome", "note", "surroundings"]
INSTALLS = "installs"
FIRST_FIT = "images (n, 28, 28) as they are"
DATA = {
    "digits": "digits",
    "breast_cancer": "breast cancer",
    "fashion": "Fashion-MNIST, 6,000",
    "adult": "Adult",
}
"""How the page calls the data of `comparison_accuracy.py`."""

Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interpreter", nargs="*", default=[], metavar="TOOL=PATH")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS))
    parser.add_argument("--features", nargs="*", default=list(PROBES))
    parser.add_argument("--try-install", nargs="*", default=[], metavar="PACKAGE[:MODULE]")
    parser.add_argument("--page", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    interpreters = dict(pair.split("=", 1) for pair in arguments.interpreter)
    if not arguments.page:
        for wish in arguments.try_install:
            packages, _, module = wish.partition(":")
            keep(try_install(packages, module or packages.partition("+")[0]))
        for tool in arguments.tools if not arguments.try_install else []:
            for row in try_features(
                interpreters.get(tool, sys.executable), tool, arguments.features
            ):
                keep(row)
    PAGE.write_text(with_tables(PAGE.read_text()))


def keep(row: Row) -> None:
    """Replace a row of the results, or append it."""
    print(" | ".join(row[column] for column in COLUMNS[:-1]), flush=True)
    same = ("tool", "feature")
    known = {*PROBES, INSTALLS}
    others = [old for old in read(RESULTS) if old["feature"] in known]
    others = [old for old in others if any(old[key] != row[key] for key in same)]
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([*others, row])


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def try_features(interpreter: str, tool: str, features: list[str]) -> Iterator[Row]:
    """Run the probes of a tool; yield their rows as they come."""
    threads = [f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL")]
    threads += ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]
    environment = os.environ | dict.fromkeys(threads, "1")
    command = [interpreter, str(HERE / "comparison_probes.py"), tool, *features]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"The probes of {tool} ended with exit code {process.returncode}.")


def try_install(packages: str, module: str) -> Row:
    """Install packages in a separate environment; return the row with the outcome."""
    first, *_ = names = packages.split("+")
    row = {"tool": first, "version": "", "feature": INSTALLS, "outcome": "no"}
    row |= {"note": "", "surroundings": f"Python {sys.version.split()[0]}"}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        done = run([python, "-m", "pip", "install", "--quiet", *names])
        if done.returncode:
            return row | {"note": f"does not install: {last_error(done.stderr)}"}
        show = f"from importlib.metadata import version; print(version({first!r}))"
        row["version"] = run([python, "-c", show]).stdout.strip()
        done = run([python, "-c", f"import {module}"])
        if done.returncode:
            return row | {"note": f"import {module}: {last_error(done.stderr)}"}
        for tool in (tool for tool in TOOLS.values() if tool.module == module):
            for found in try_features(python, tool.name, [FIRST_FIT]):
                note = found["note"] and f"fit: {found['note']}"
                surroundings = found["surroundings"]
                row |= {"outcome": found["outcome"], "note": note, "surroundings": surroundings}
            return row
    return row | {"outcome": "yes"}


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True)


def last_error(text: str) -> str:
    lines = re.findall(r"(?m)^ *((?:ERROR: |\w*Error: ).*?) *$", text)
    return "; ".join(dict.fromkeys(lines))[:300]


# The page --------------------------------------------------------------------------------


def with_tables(page: str) -> str:
    """Return the page with its generated tables written anew from the results."""
    tables = {
        "features": feature_table(read(RESULTS)),
        "installs": install_table(read(RESULTS)),
        "accuracy": accuracy_table(read(ACCURACY)),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name}: generated -->", f"<!-- /{name} -->"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"The page has no place for the table {name!r}.")
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page


def feature_table(rows: list[Row]) -> str:
    rows = [row for row in rows if row["feature"] != INSTALLS]
    tools = [tool for tool in TOOLS if any(row["tool"] == tool for row in rows)]
    cells = {(row["tool"], row["feature"]): row["outcome"] for row in rows}
    versions = {row["tool"]: row["version"] for row in rows if row["version"]}
    head = ["", *(f"{tool} {versions.get(tool, '')}" for tool in tools)]
    body = [
        [feature, *(cells.get((tool, feature), "not tried") for tool in tools)]
        for feature in PROBES
    ]
    return markdown([head, *body])


def install_table(rows: list[Row]) -> str:
    body = [
        [
            f"{row['tool']} {row['version']}".strip(),
            row["outcome"],
            f"`{row['note']}`" if row["note"] else "",
        ]
        for row in rows
        if row["feature"] == INSTALLS
    ]
    return markdown([["package", "works", "what it says"], *body])


def accuracy_table(rows: list[Row]) -> str:
    """Return a table of mean test accuracy, seconds and size."""
    rows = [row for row in rows if row["test_accuracy"]]
    models = dict.fromkeys(row["model"] for row in rows)
    of = {name: in_common([row for row in rows if row["data"] == name]) for name in DATA}
    head = [""]
    for name, title in DATA.items():
        n = len({row["seed"] for row in of[name]})
        head.append(f"{title}, {n} seed{'s'[: n > 1]}")
    body = [
        [model, *(cell([row for row in of[name] if row["model"] == model]) for name in DATA)]
        for model in models
    ]
    return markdown([head, *body])


def in_common(rows: list[Row]) -> list[Row]:
    """Return the rows with the seeds that all models have, so that means are comparable."""
    seeds = [
        {row["seed"] for row in rows if row["model"] == model}
        for model in {row["model"] for row in rows}
    ]
    return [row for row in rows if row["seed"] in set.intersection(*seeds)]


def cell(rows: list[Row]) -> str:
    if not rows:
        return "–"
    score, seconds, size = (
        mean([float(row[column]) for row in rows])
        for column in ("test_accuracy", "cpu_seconds", "size")
    )
    return f"{score:.3f}, {seconds:.1f} s, {size:,.0f}".lstrip("0")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


if __name__ == "__main__":
    main()

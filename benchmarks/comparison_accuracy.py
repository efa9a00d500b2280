"""Test accuracy of the tools of `comparison.py`, used as a new user would use them.

    python benchmarks/comparison_accuracy.py [--interpreter scikeras=/path/to/its/python ...]

Settings are the defaults, with the obvious preprocessing: the dense networks get standardised
numbers and one-hot categories, gradient boosting gets categories, and skectonas gets the raw
data. skorch and scikeras have no default network; they get one hidden layer of 100 units as in
scikit-learn, Adam, and 20 epochs. The search of AutoKeras is cut short, since its default of
100 trials takes hours. Each fit runs in its own process with one thread; the rows of
``results/comparison_accuracy.csv`` are appended as they come. ``cpu_seconds`` are those of
`fit` and `predict`, ``size`` is the number of trained weights, of gradient boosting the number
of nodes. Fits that take longer than ``--limit`` are stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np
from comparison_tools import TOOLS

RESULTS = HERE / "results" / "comparison_accuracy.csv"
COLUMNS = ["model", "data", "seed", "test_accuracy", "cpu_seconds", "size", "note"]
DATA = ("digits", "breast_cancer", "fashion", "adult")
FASHION_ROWS = 6_000

Row = dict[str, Any]


# Data ------------------------------------------------------------------------------------


def raw(name: str, seed: int, path: Path | None) -> tuple[Any, ...]:
    """Return the data as they come: training X and y, test X and y."""
    from datasets import adult, fashion_mnist
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.model_selection import train_test_split

    if name == "fashion":
        X, y, X_test, y_test = fashion_mnist()
        return X[:FASHION_ROWS], y[:FASHION_ROWS], X_test, y_test
    if name == "adult":
        X, y, X_test, y_test = adult(path)
        y, y_test = ((labels == max(y)).astype(int) for labels in (y, y_test))
        return X, y, X_test, y_test
    bunch = load_digits() if name == "digits" else load_breast_cancer()
    X = bunch.images if name == "digits" else bunch.data
    X, X_test, y, y_test = train_test_split(
        X, bunch.target, stratify=bunch.target, random_state=seed
    )
    return X, y, X_test, y_test


def numbers(X: Any, X_test: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised numbers, categories one-hot."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    encoder: Any = StandardScaler()
    if hasattr(X, "columns"):
        is_number = make_column_selector(dtype_include="number")
        is_other = make_column_selector(dtype_exclude="number")
        scale = make_pipeline(SimpleImputer(), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        encoder = make_column_transformer((scale, is_number), (one_hot, is_other))
    elif X.ndim > 2:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    X = encoder.fit_transform(X)
    return X.astype(np.float32), encoder.transform(X_test).astype(np.float32)


# Models ----------------------------------------------------------------------------------


def skectonas(seed: int, data: Row, **settings: Any) -> tuple[Any, ...]:
    from skectonas import ECToNASClassifier

    clf = ECToNASClassifier(**settings, random_state=seed).fit(data["X"], data["y"])
    return clf.predict(data["X_test"]), clf.n_parameters_


def skectonas_short(seed: int, data: Row) -> tuple[Any, ...]:
    return skectonas(seed, data, budget=300)


def mlp(seed: int, data: Row) -> tuple[Any, ...]:
    from sklearn.neural_network import MLPClassifier

    clf = MLPClassifier(random_state=seed).fit(data["numbers"], data["y"])
    weights = [*clf.coefs_, *clf.intercepts_]
    return clf.predict(data["numbers_test"]), sum(w.size for w in weights)


def boosting(seed: int, data: Row) -> tuple[Any, ...]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    X, X_test = data["X"], data["X_test"]
    if hasattr(X, "columns"):
        kinds = dict.fromkeys(X.select_dtypes(exclude="number"), "category")
        X, X_test = X.astype(kinds), X_test.astype(kinds)
    else:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    clf = HistGradientBoostingClassifier(random_state=seed).fit(X, data["y"])
    nodes = sum(len(tree.nodes) for trees in clf._predictors for tree in trees)
    return clf.predict(X_test), nodes


def skorch(seed: int, data: Row) -> tuple[Any, ...]:
    import torch
    from comparison_torch import FlatNetwork
    from skorch import NeuralNetClassifier

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    sizes = {"n_inputs": data["numbers"].shape[1], "n_outputs": len(set(data["y"]))}
    net = NeuralNetClassifier(
        FlatNetwork(**sizes),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        max_epochs=20,
        iterator_train__shuffle=True,
        verbose=0,
    ).fit(data["numbers"], data["y"].astype(np.int64))
    size = sum(weight.numel() for weight in net.module_.parameters())
    return net.predict(data["numbers_test"]), size


def scikeras(seed: int, data: Row) -> tuple[Any, ...]:
    from comparison_keras import flat_network
    from scikeras.wrappers import KerasClassifier

    clf = KerasClassifier(
        flat_network,
        loss="sparse_categorical_crossentropy",
        optimizer="adam",
        epochs=20,
        random_state=seed,
        verbose=0,
    ).fit(data["numbers"], data["y"])
    return clf.predict(data["numbers_test"]), clf.model_.count_params()


def autokeras(seed: int, data: Row) -> tuple[Any, ...]:
    import autokeras

    images = "images" in data
    kind = autokeras.ImageClassifier if images else autokeras.StructuredDataClassifier
    form = "images" if images else "numbers"
    clf = kind(max_trials=3, seed=seed)
    clf.fit(data[form], data["y"], epochs=10, verbose=0)
    chosen = np.ravel(clf.predict(data[f"{form}_test"], verbose=0)).astype(int)
    return chosen, clf.export_model().count_params()


MODELS = {
    "skectonas": skectonas,
    "skectonas, budget=300": skectonas_short,
    "MLPClassifier": mlp,
    "HistGradientBoosting": boosting,
    "skorch": skorch,
    "scikeras": scikeras,
    "AutoKeras, 3 trials of 10 epochs": autokeras,
}
IMPORTS = {tool.name: tool.module for tool in TOOLS.values()} | {"skorch": "torch, skorch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--interpreter", nargs="*", default=[], metavar="TOOL=PATH")
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--data", nargs="*", default=list(DATA))
    parser.add_argument("--seeds", type=int, default=3, help="of AutoKeras it is one")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one fit")
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    interpreters = dict(pair.split("=", 1) for pair in arguments.interpreter)
    for seed in range(arguments.first, arguments.seeds):
        for name in arguments.data:
            with tempfile.TemporaryDirectory() as folder:
                path = prepare(name, seed, arguments.adult, Path(folder))
                for model in arguments.models:
                    if seed == 0 or not model.startswith("AutoKeras"):
                        tool = model.partition(",")[0]
                        python = interpreters.get(tool, sys.executable)
                        row = fit(python, model, seed, path, arguments.limit)
                        keep({"model": model, "data": name, "seed": seed, **row})


def prepare(name: str, seed: int, adult: Path | None, folder: Path) -> Path:
    """Write the data in the forms that the models want; raw ones for this interpreter."""
    X, y, X_test, y_test = raw(name, seed, adult)
    forms = dict(zip(("numbers", "numbers_test"), numbers(X, X_test), strict=True))
    if X.ndim > 2:
        forms |= {"images": X, "images_test": X_test}
    np.savez(folder / "forms.npz", y=y, y_test=y_test, **forms)
    (folder / "raw.pickle").write_bytes(pickle.dumps({"X": X, "X_test": X_test}))
    return folder


def fit(python: str, model: str, seed: int, path: Path, limit: float) -> Row:
    """Have a model fitted in a process; return what is measured."""
    libraries = ("OMP", "OPENBLAS", "MKL")
    environment = os.environ | {f"{library}_NUM_THREADS": "1" for library in libraries}
    environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    with tempfile.TemporaryDirectory() as work:
        command = [
            python,
            str(Path(__file__).resolve()),
            "--worker",
            model,
            str(seed),
            str(path),
        ]
        try:
            done = subprocess.run(
                command,
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            return {"note": f"not done in {limit:g} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        told = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        return {"note": told[-1][:300]}
    return json.loads(lines[-1])


def work(model: str, seed: str, path: str) -> None:
    """Be the process that fits: print one line of JSON."""
    folder = Path(path)
    data: Row = dict(np.load(folder / "forms.npz"))
    if model.startswith(("skectonas", "HistGradientBoosting")):
        data |= pickle.loads((folder / "raw.pickle").read_bytes())
    exec(f"import {IMPORTS[model.partition(',')[0]]}")  # not a part of the time
    began = time.process_time()
    chosen, size = MODELS[model](int(seed), data)
    row = {
        "test_accuracy": float(np.mean(np.asarray(chosen) == data["y_test"])),
        "cpu_seconds": round(time.process_time() - began, 1),
        "size": int(size),
    }
    print("\n" + json.dumps(row), flush=True)
    os._exit(0)  # some tools leave threads behind


def keep(row: Row) -> None:
    """Append a row to the results."""
    print(row, flush=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()

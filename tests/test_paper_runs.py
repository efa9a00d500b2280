"""The experiments of the paper: rows, curves, and going on where a run was stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

sys.path.append(str(Path(__file__).parents[1] / "benchmarks" / "paper"))

import data as paper_data
import pooling
import run as paper_run
import tables
import torch

DIGITS = load_digits()
DATA = paper_data.Data(
    DIGITS.images[:200].astype(np.uint8),
    DIGITS.target[:200],
    DIGITS.images[200:300],
    DIGITS.target[200:300],
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a few short runs."""
    monkeypatch.setattr(paper_run, "load", lambda *_: DATA)
    monkeypatch.setattr(paper_run, "BASELINE_EPOCHS", 3)
    go(tmp_path, monkeypatch, "--alphas", "1", "0.5")
    return tmp_path


def go(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    few = ["mnist", "--starts", "small_ffnn", "--seeds", "1", "--budget", "120"]
    monkeypatch.setattr(sys, "argv", ["run.py", *few, "--out", str(folder), *arguments])
    paper_run.main()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_stopped_gives_no_row(number, tmp_path, monkeypatch) -> None:
    def loaded(*_: object) -> paper_data.Data:
        threading.Timer(0.5, os.kill, (os.getpid(), number)).start()
        return DATA

    monkeypatch.setattr(paper_run, "load", loaded)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit, match="stopped"):
        go(tmp_path, monkeypatch, "--budget", "100000")
    assert signal.getsignal(number) is before
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_a_search_that_was_stopped_is_continued(results, tmp_path_factory, monkeypatch) -> None:
    folder = tmp_path_factory.mktemp("stopped")

    def stop(*_: object) -> None:
        sys.exit("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(paper_run, "append", stop)
        with pytest.raises(SystemExit, match="stopped"):
            go(folder, patch, "--modes", "search", "--alphas", "1")
    [noted] = folder.glob("unfinished/*.seconds")
    assert 0 < float(noted.read_text()) < 1000
    noted.write_text("1000")
    go(folder, monkeypatch, "--modes", "search", "--alphas", "1")
    [found], [expected, *_] = (
        pd.read_csv(path / "paper.csv").to_dict("records") for path in (folder, results)
    )
    assert found.pop("cpu_seconds") >= 1000 > expected.pop("cpu_seconds")
    assert found == expected
    assert not list(folder.glob("unfinished/*"))


def test_rows_and_curves(results: Path) -> None:
    rows = pd.read_csv(results / "paper.csv")
    assert rows["mode"].tolist() == ["search", "search", "random", "baseline"]
    assert rows["alpha"].tolist() == [1, 0.5, 1, 1]
    assert (rows["crossed"] == (rows["began_with_cells"] != rows["ended_with_cells"])).all()
    curves = pd.read_csv(results / "paper_curves.csv")
    for row in rows.itertuples():
        own = tables.chosen(curves, mode=row.mode, alpha=row.alpha)
        assert own["epoch"].is_monotonic_increasing
        assert own["epoch"].iloc[-1] == pytest.approx(row.epochs, abs=0.01)
        assert own["n_parameters"].iloc[-1] == row.n_parameters
    assert own["epoch"].tolist() == [1, 2, 3]
    assert own["accuracy"].between(0, 1).all()


def test_a_run_is_not_repeated(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (results / "paper.csv").read_text()
    go(results, monkeypatch, "--alphas", "1", "0.5", "0")
    after = (results / "paper.csv").read_text()
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 1


def test_a_baseline_is_the_start_trained_alone(results: Path) -> None:
    rows = pd.read_csv(results / "paper.csv")
    baseline = rows[rows["mode"] == "baseline"].iloc[0]
    clf = paper_run.ECToNASClassifier(
        **paper_run.PAPER_SETTINGS | {"warmup_epochs": 3, "budget": 3, "random_state": 0}
    ).fit(DATA.X_train, DATA.y_train)
    assert baseline["test_accuracy"] == round(clf.score(DATA.X_test, DATA.y_test), 4)


def test_short_runs_have_a_fifth_of_the_budget(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paper_run, "load", lambda *_: DATA)
    go(tmp_path, monkeypatch, "--settings", "short", "--alphas", "0.5")
    rows = pd.read_csv(tmp_path / "paper.csv")
    assert rows["mode"].tolist() == ["search", "random"]
    assert rows["budget"].tolist() == [24, 24]


def test_tables_are_put_between_their_marks(results: Path) -> None:
    runs = pd.read_csv(results / "paper.csv")
    page = "before\n<!-- begin modes -->\nold\n<!-- end modes -->\nafter\n"
    new = tables.put(page, "modes", tables.by_mode(runs))
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert "old" not in new
    assert "| MNIST | search, alpha 0.5 | 94.7 ± 3.2 | 6 K |" in new
    assert tables.put(new, "modes", tables.by_mode(runs)) == new
    with pytest.raises(ValueError, match="no marks"):
        tables.put(page, "starts", "")


@pytest.mark.parametrize("kind", ["average", "max"])
def test_structured_pooling_of_weights(kind: str) -> None:
    images, labels = torch.from_numpy(DATA.X_train).float()[:, None], torch.tensor(DATA.y_train)
    trial = pooling.Trial(images, labels, 0.1, 0)
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 5, 4)))
    found = trial.adapted(weight, kind, "structured")
    assert found.shape == (2, 3, 3, 2)
    for i, j in np.ndindex(3, 2):
        window: Any = torch.nn.functional.pad(weight, (0, 0, 0, 1))[
            ..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2
        ]
        flat = window.flatten(2)
        largest = flat.gather(2, flat.abs().argmax(2, keepdim=True))[..., 0]
        expected = flat.mean(2) if kind == "average" else largest
        torch.testing.assert_close(found[..., i, j], expected)


def test_a_fitted_layer_keeps_the_outputs_best() -> None:
    images, labels = (
        torch.from_numpy(DATA.X_train).float()[:, None] / 16,
        torch.tensor(DATA.y_train),
    )
    trial = pooling.Trial(images, labels, 0.1, 0)
    torch.manual_seed(0)
    network = pooling.Network((8, 8, 1), 10)
    wanted = network(trial.train[0])

    def error(method: str) -> float:
        child = trial.changed(network, "average", method)
        with torch.no_grad():
            return float((child(trial.train[0]) - wanted).square().mean())

    assert error("fitted") < error("sum") < error("structured")


@pytest.mark.skipif(not (paper_run.RESULTS / "paper.csv").exists(), reason="not in the sdist")
def test_the_page_has_the_tables_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "paper.md"
    monkeypatch.setattr(sys, "argv", ["tables.py", "--page", str(page), "--check"])
    assert tables.main() == 0

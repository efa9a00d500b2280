"""ONNX export: onnxruntime computes the estimator's predictions from raw rows."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import census, examples, not_if_brief, quick, rows_of_all_kinds
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_network import random_weights, topologies

import skectonas
from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.export.conversions import metadata_of
from skectonas.inputs.encoder import InputEncoder
from skectonas.network import build

KINDS = rows_of_all_kinds()
FEW = ["8-bit images", "whole numbers", "colours"]
FEW += ["table of float32", "table with gaps", "minmax table with gaps"]
MORE = ["digits", "far from zero", "flat images", "shuffled table"]
TYPES = {"uint8": "uint8", "float64": "double", "float32": "float", "int64": "int64"}


def run(path: Path, X: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def logits_of(clf: ECToNASClassifier, X: NDArray[Any]) -> NDArray[np.float64]:
    with torch.no_grad():
        return clf.to_torch().double()(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("kind", [*FEW, *(pytest.param(k, marks=not_if_brief) for k in MORE)])
def test_raw_rows_go_in(kind: str, tmp_path: Path) -> None:
    X, y, parameters = KINDS[kind]
    clf = quick(11, **parameters).fit(X, y)
    path = tmp_path / "model.onnx"
    clf.to_onnx(path)
    for n in (1, 7, len(X)):
        found = run(path, X[:n])
        assert list(found) == ["probabilities", "logits"]
        np.testing.assert_allclose(
            found["probabilities"], clf.predict_proba(X[:n]), rtol=0, atol=1e-5
        )
        np.testing.assert_allclose(found["logits"], logits_of(clf, X[:n]), 1e-5, 1e-5)
    [seen] = onnxruntime.InferenceSession(str(path)).get_inputs()
    assert seen.shape == ["batch", *X.shape[1:]]
    assert seen.type == f"tensor({TYPES[X.dtype.name]})"
    onnx.checker.check_model(str(path), full_check=True)


@pytest.mark.parametrize("column_scaling", ["quantile", "piecewise", "minmax"])
def test_columns_of_every_kind(column_scaling: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = np.stack(
        [
            rng.normal(size=90),
            rng.integers(0, 2, 90),
            np.full(90, 7.0),
            rng.lognormal(sigma=3, size=90),
            np.where(rng.random(90) < 0.95, np.nan, 1),
        ],
        axis=1,
    )
    clf = quick(11, column_scaling=column_scaling).fit(X, np.arange(90) % 3)
    clf.to_onnx(tmp_path / "model.onnx")
    ends = np.stack([np.nanmin(X, axis=0), np.nanmax(X, axis=0)])
    beyond = [[-1e300] * 5, [1e300] * 5, [np.nan] * 5, [0] * 5, [1] * 5]
    for rows in (X, ends, np.array(beyond, dtype=float)):
        found = run(tmp_path / "model.onnx", rows)["logits"]
        np.testing.assert_allclose(found, logits_of(clf, rows), 1e-5, 1e-5)


@example(Topology((7, 5, 2), [ConvCell(3, "max"), ConvCell(2, None)], [Dense(4)], 3), 0)
@given(topologies(), st.integers(0, 1000))
@examples(7)
def test_any_topology_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, topology: Topology, seed: int
) -> None:
    clf = ECToNASClassifier()
    rng = np.random.default_rng(seed)
    images = rng.uniform(-3, 5, (40, *topology.input_shape)).astype(np.float32)
    clf.encoder_ = InputEncoder().fit(images)
    clf.best_topology_ = topology
    clf.network_ = build(topology, random_weights(topology, seed)).float().eval()
    clf.classes_ = np.arange(topology.n_classes)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    clf.to_onnx(path)
    for n in (1, 7):
        X = rng.uniform(-3, 5, (n, *topology.input_shape)).astype(np.float32)
        found, expected = run(path, X), logits_of(clf, X)
        np.testing.assert_allclose(found["logits"], expected, 1e-5, 1e-5)
        likely = torch.from_numpy(expected).softmax(1)
        np.testing.assert_allclose(found["probabilities"], likely, rtol=0, atol=1e-5)


def test_a_frame_is_encoded_beforehand(tmp_path: Path) -> None:
    X, y = census()
    clf = quick(11, start="medium_cnn").fit(X, y)
    clf.to_onnx(tmp_path / "model.onnx")
    found = run(tmp_path / "model.onnx", clf.encoder_.transform(X))["probabilities"]
    np.testing.assert_allclose(found, clf.predict_proba(X), rtol=0, atol=1e-5)
    about = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert json.loads(about["classes"]) == ["<=50K", ">50K"]
    assert Topology.from_dict(json.loads(about["topology"])) == clf.best_topology_


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        ([False, True], [False, True]),
        ([1.0, 2.0], [1.0, 2.0]),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), ["2020-01-01", "2021-01-01"]),
    ],
)
def test_classes_of_any_type_are_written(labels: Any, written: Any) -> None:
    X, y, _ = KINDS["table"]
    clf = quick(5, warmup_epochs=1).fit(X, np.asarray(labels)[y % 2])
    assert json.loads(metadata_of(clf)["classes"]) == written


def test_nothing_else_is_told_or_moved(
    fitted: ECToNASClassifier, tmp_path: Path, capfd: Any, caplog: Any
) -> None:
    level, before = logging.getLogger("torch.onnx").level, torch.get_rng_state()
    fitted.to_onnx(tmp_path / "model.onnx")
    first = (tmp_path / "model.onnx").read_bytes()
    fitted.to_onnx(tmp_path / "model.onnx")  # over the one that is there
    assert (tmp_path / "model.onnx").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert torch.equal(torch.get_rng_state(), before)
    assert logging.getLogger("torch.onnx").level == level
    # Neither the location of the package nor its code.
    assert str(Path(skectonas.__file__).parent).encode() not in first
    assert b"forward" not in first


def test_a_folder_that_is_not_there(
    fitted: ECToNASClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked for before the network is exported."""
    monkeypatch.delattr(torch.onnx, "export")
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere' does not exist"):
        fitted.to_onnx(tmp_path / "nowhere" / "model.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_what_is_not_installed_is_named(
    fitted: ECToNASClassifier, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{missing} .*skectonas\[onnx\]"):
        fitted.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_estimator_that_is_not_fitted_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        quick().to_onnx(tmp_path / "model.onnx")

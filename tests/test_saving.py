"""One file of JSON and tensors: all that a fitted estimator has, and clear errors."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import safetensors.torch
import skops.io
import torch
from helpers import census, not_if_brief, quick, rows_of_all_kinds
from sklearn.base import clone

import skectonas
from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.export.saving import _digest
from skectonas.morphisms import AddCell, AddUnits, Identity
from skectonas.network import weights_of
from skectonas.search.fitness import Greedy
from skectonas.training import Augmentation

CODECS = rows_of_all_kinds()


def accuracy(estimator: Any, X: Any, y: Any) -> float:
    return float((estimator.predict(X) == y).mean())


class MyIdentity(Identity):
    """A morphism of somebody's own."""


@pytest.fixture(scope="module")
def saved(fitted: ECToNASClassifier, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a file of a fitted classifier."""
    path = tmp_path_factory.mktemp("saved") / "digits.safetensors"
    fitted.save(path)
    return path.read_bytes()


def assert_same(found: Any, expected: Any) -> None:
    """Compare attributes of estimators and encoders: values, types and dtypes."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, torch.nn.Module):
        assert not found.training
        assert found.topology == expected.topology
        for ours, theirs in zip(
            found.state_dict().items(), expected.state_dict().items(), strict=True
        ):
            assert ours[0] == theirs[0]
            assert torch.equal(ours[1], theirs[1])
    elif hasattr(expected, "image_shape_"):
        assert set(vars(found)) == set(vars(expected))
    else:
        assert found == expected


def assert_equal(found: ECToNASClassifier, expected: ECToNASClassifier) -> None:
    assert type(found) is type(expected)
    assert set(vars(found)) == set(vars(expected))
    for name, value in vars(expected).items():
        assert_same(getattr(found, name), value)


def there_and_back(clf: ECToNASClassifier, folder: Path) -> ECToNASClassifier:
    clf.save(folder / "clf.safetensors")
    return type(clf).load(folder / "clf.safetensors")


@pytest.mark.parametrize("kind", CODECS)
def test_all_comes_back(kind: str, tmp_path: Path) -> None:
    X, y, parameters = CODECS[kind]
    clf = quick(30, **parameters).fit(X, y)
    loaded = there_and_back(clf, tmp_path)
    assert_equal(loaded, clf)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    # It is an estimator like any other: it can be fitted again, and gives the same.
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), clf.predict_proba(X))


def test_kept_candidates_come_back_in_every_way(digits: Any, tmp_path: Path) -> None:
    clf = quick(40, keep_candidates="pareto").fit(*digits)
    clf.save(tmp_path / "model")
    skops.io.dump(clf, tmp_path / "skops")
    types = skops.io.get_untrusted_types(file=tmp_path / "skops")
    for again in (
        ECToNASClassifier.load(tmp_path / "model"),
        skops.io.load(tmp_path / "skops", trusted=types),
        pickle.loads(pickle.dumps(clf)),
    ):
        assert list(again.kept_) == list(clf.kept_)
        for candidate in clf.pareto_front_["candidate"]:
            one, other = again.with_candidate(candidate), clf.with_candidate(candidate)
            np.testing.assert_array_equal(
                one.predict_proba(digits[0]), other.predict_proba(digits[0])
            )
            pd.testing.assert_frame_equal(one.lineage_, other.lineage_)


@pytest.mark.filterwarnings("ignore:Columns of X")
def test_columns_of_every_kind_come_back(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 150
    X = pd.DataFrame(
        {
            "number": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "stray": ["<0.1" if i % 9 == 0 else str(i / 7) for i in range(n)],
            "day": pd.date_range("2020-01-01", periods=n, freq="7h", tz="Europe/Paris"),
            "written": [f"{1 + i % 28:02}/{1 + i % 12:02}/20{10 + i % 9}" for i in range(n)],
            "span": pd.to_timedelta(rng.integers(0, 9999, n), "s"),
            "word": rng.choice(["oak", "elm", None], n),
            "text": [f"a note on the number {i} and on {i * i}" for i in range(n)],
            "key": [f"key{i}" for i in range(n)],
            "nothing": None,
        }
    )
    objects = X[["number", "word", "text"]].to_numpy()
    for table in (X, objects):
        clf = quick(2, warmup_epochs=1).fit(table, np.arange(n) % 2)
        kinds = {column["kind"] for column in clf.encoder_.to_dict()["tables"]["columns"]}
        if table is X:
            assert kinds == {"numbers", "dates", "durations", "categories", "texts", "dropped"}
        loaded = there_and_back(clf, tmp_path)
        assert_equal(loaded, clf)
        np.testing.assert_array_equal(
            loaded.encoder_.transform(table[:20]), clf.encoder_.transform(table[:20])
        )
        np.testing.assert_array_equal(loaded.predict_proba(table), clf.predict_proba(table))


def test_a_frame_comes_back(tmp_path: Path) -> None:
    X, y = census()
    X["child"] = pd.Series([0, 1, None, 3] * 50, dtype="Int64")
    X["rare"] = [f"of {i // 2}" if i > 4 else None for i in range(200)]
    X["text"] = pd.Series(["1", "2.0", "ä", "\n"] * 50, dtype="string")
    X["mixed"] = pd.Series([True, 2, "x", None] * 50, dtype=object)
    clf = quick(30, start="small_cnn").fit(X, y)
    loaded = there_and_back(clf, tmp_path)
    assert_equal(loaded, clf)
    job = X["job"].where(X.index > 0, "astronaut")
    unseen = X.assign(age=1e9, job=job, child=pd.NA, region=None)
    for rows in (X, X[::-1], unseen):
        np.testing.assert_array_equal(loaded.predict_proba(rows), clf.predict_proba(rows))
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(X.drop(columns="age"))


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes, very"]),
        np.array(["no", "yes"], dtype=object),
        np.array([False, True]),
        np.array([-3, 2**40]),
        np.array([7, 200], dtype=np.uint8),
        np.array([1.0, 2.0]),
        np.array([1.0, 2.0], dtype=np.float16),
        np.array(["2020-01-01", "2021-05-06"], "M8[D]"),
        np.array([1, 2], "m8[s]"),
    ],
    ids=lambda labels: labels.dtype.str,
)
def test_classes_of_any_type_come_back(labels: Any, tmp_path: Path) -> None:
    X, y, _ = CODECS["table"]
    clf = quick(5, warmup_epochs=1).fit(X, labels[y % 2])
    loaded = there_and_back(clf, tmp_path)
    assert_equal(loaded, clf)
    np.testing.assert_array_equal(loaded.predict(X), clf.predict(X))


def test_parameters_of_any_plain_type_come_back(digits: Any, tmp_path: Path) -> None:
    clf = quick(
        11,
        alpha=np.float64(0.5),
        start=Topology((8, 8, 1), [ConvCell(3, "max")], [Dense(6)], 10),
        optimizer=torch.optim.Adam,
        optimizer_params={"betas": (0.8, 0.9)},
        learning_rate=0.01,
        class_weight={np.int64(label): 1.0 + label for label in range(10)},
        image_shape=[8, 8],
        morphisms=["add_dense", AddUnits(at_least=3), AddCell(extra=(0, 5))],
        max_growth=np.inf,
        device=torch.device("cpu"),
        n_jobs=1,
    ).fit(*digits)
    assert there_and_back(clf, tmp_path).get_params() == clf.get_params()


def test_parameters_that_are_not_plain_are_left_out_and_named(
    digits: Any, tmp_path: Path
) -> None:
    own = {
        "scoring": accuracy,
        "morphisms": ["identity", MyIdentity()],
        "selection": Greedy(),
        "random_state": np.random.RandomState(0),
    }
    clf = quick(11, alpha=0.9, **{**own, "morphisms": [MyIdentity()]}).fit(*digits)
    clf.set_params(**own)
    with pytest.warns(UserWarning, match="without the parameters") as at_saving:
        clf.save(tmp_path / "clf.safetensors")
    with pytest.warns(UserWarning, match="no value for the parameters") as at_loading:
        loaded = ECToNASClassifier.load(tmp_path / "clf.safetensors")
    for [warning] in (at_saving, at_loading):
        assert all(name in str(warning.message) for name in own)
        assert "alpha" not in str(warning.message)
        assert warning.filename == __file__
    defaults = ECToNASClassifier()
    assert all(getattr(loaded, name) == getattr(defaults, name) for name in own)
    assert loaded.alpha == 0.9
    np.testing.assert_array_equal(loaded.predict_proba(digits[0]), clf.predict_proba(digits[0]))


def test_parameters_of_other_versions_are_told(saved: bytes, tmp_path: Path) -> None:
    def change(contents: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        contents["parameters"]["of_later"] = 3
        contents["parameters"].pop("time_limit")

    with pytest.warns(UserWarning, match="parameters") as told:
        loaded = loading(crafted(saved, change), tmp_path)
    assert loaded.time_limit is None
    missing, unknown = (str(warning.message) for warning in told)
    assert "holds no value for the parameters ['time_limit']: they have" in missing
    assert "does not know and that are left out: ['of_later']" in unknown


@pytest.mark.parametrize("action", ["save", "load"])
def test_a_path_of_bytes_is_refused(
    fitted: ECToNASClassifier, action: str, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="str"):
        getattr(fitted, action)(bytes(tmp_path / "model.safetensors"))


def test_a_model_of_a_gpu_is_read_without_one(
    fitted: ECToNASClassifier, digits: Any, tmp_path: Path
) -> None:
    clf = pickle.loads(pickle.dumps(fitted)).set_params(device="cuda:7")
    loaded = there_and_back(clf, tmp_path)
    assert loaded.device == "cuda:7"
    np.testing.assert_array_equal(
        loaded.predict_proba(digits[0]), fitted.predict_proba(digits[0])
    )
    clf.set_params(device=torch.device("cuda:7"))
    assert there_and_back(clf, tmp_path).device == torch.device("cuda:7")


def test_subclasses_have_files_of_their_own(digits: Any, tmp_path: Path) -> None:
    class Mine(ECToNASClassifier):
        pass

    clf = Mine(budget=11, random_state=0).fit(*digits)
    assert_equal(there_and_back(clf, tmp_path), clf)
    with pytest.raises(ValueError, match=r"clf\.safetensors .* of the class Mine"):
        ECToNASClassifier.load(tmp_path / "clf.safetensors")


def test_the_file_is_safetensors_and_json(saved: bytes, fitted: ECToNASClassifier) -> None:
    tensors = safetensors.numpy.load(saved)
    for name, weight in weights_of(fitted.network_).items():
        np.testing.assert_array_equal(tensors[f"network_.weights.{name}"], weight)
    contents = contents_of(saved)
    assert contents["format"] == 2
    assert (
        contents["written_by"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    )
    assert contents["parameters"]["budget"] == 60


# --- files that are not right ----------------------------------------------------------------


def contents_of(file: bytes) -> dict[str, Any]:
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    return dict(json.loads(header["__metadata__"]["skectonas"]))


def with_contents(file: bytes, contents: Any) -> bytes:
    tensors = safetensors.numpy.load(file)
    return safetensors.numpy.save(tensors, {"skectonas": json.dumps(contents)})


def loading(file: bytes, folder: Path) -> ECToNASClassifier:
    path = folder / "model.safetensors"
    path.write_bytes(file)
    return ECToNASClassifier.load(path)


def test_a_damaged_file_is_an_error(saved: bytes, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    length = int.from_bytes(saved[:8], "little")
    header, tensors = rng.integers(8 + length, size=300), rng.integers(length, len(saved), 100)
    for place in [*range(20), *header, *tensors, len(saved) - 1]:
        damaged = bytearray(saved)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(ValueError, match=r"model\.safetensors .*(damaged|format|not a)"):
            loading(bytes(damaged), tmp_path)


@pytest.mark.parametrize("part", [0, 0.01, 0.2, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_an_error(saved: bytes, part: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors .*truncated"):
        loading(saved[: int(part * len(saved))], tmp_path)


def test_a_file_that_is_too_long_is_an_error(saved: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.safetensors .*damaged"):
        loading(saved + b"x", tmp_path)


def test_foreign_files_are_errors(saved: bytes, fitted: Any, tmp_path: Path) -> None:
    for foreign in (pickle.dumps(fitted), b"PK\x03\x04" * 50, b"{}", os.urandom(500)):
        with pytest.raises(ValueError, match=r"model\.safetensors is not a file of `save`"):
            loading(foreign, tmp_path)
    ones = {"a": torch.ones(2, dtype=torch.bfloat16)}  # numpy has no such type
    for other in (safetensors.torch.save(ones), safetensors.torch.save(ones, {"b": "c"})):
        with pytest.raises(ValueError, match="another file of safetensors"):
            loading(other, tmp_path)


def test_a_newer_format_is_an_error(saved: bytes, tmp_path: Path) -> None:
    contents = contents_of(saved) | {"format": 3, "written_by": {"skectonas": "9.9"}}
    newer = with_contents(saved, contents)
    with pytest.raises(
        ValueError, match=r"model\.safetensors has the format 3, .*9\.9.* format 2"
    ):
        loading(newer, tmp_path)


def test_contents_that_are_no_contents_are_an_error(saved: bytes, tmp_path: Path) -> None:
    contents = contents_of(saved)
    for other in (7, None, [], {}, {**contents, "sha256": 7}, {**contents, "left_out": ["a"]}):
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            loading(with_contents(saved, other), tmp_path)


def test_paths_that_cannot_be_opened(tmp_path: Path, fitted: ECToNASClassifier) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        ECToNASClassifier.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        ECToNASClassifier.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fitted.save(tmp_path / "nowhere" / "clf")
    with pytest.raises(OSError, match="directory"):
        fitted.save(tmp_path)
    assert not list(tmp_path.iterdir())


# --- no code is run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("optimizer", {"$optimizer": "Optimizer.__init__"}),
        ("optimizer", {"$optimizer": "lr_scheduler"}),
        ("morphisms", [{"$morphism": ["os", {}]}]),
        ("morphisms", [{"$morphism": ["AddUnits", {"no_such": 1}]}]),
        ("start", {"$topology": {"input_shape": [8, 8, 1]}}),
        ("scoring", {"$no_such_kind": "os.system"}),
        ("scoring", {"$tensor": "no_such_tensor"}),
        ("scoring", {"$strings": {"dtype": "O", "values": ["a"]}}),
        ("scoring", {"$times": {"dtype": "O", "values": {"$tensor": "history_.round"}}}),
        ("device", {"$device": "no_such_device"}),
    ],
)
def test_contents_that_mean_nothing_are_an_error(
    saved: bytes, name: str, plain: Any, tmp_path: Path
) -> None:
    contents = contents_of(saved)
    contents["parameters"][name] = plain
    contents["sha256"] = _digest(contents, safetensors.numpy.load(saved))
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold a ECToNASClass"):
        loading(with_contents(saved, contents), tmp_path)


def crafted(
    file: bytes,
    change: Callable[[dict[str, Any], dict[str, np.ndarray]], None],
) -> bytes:
    """Return a file with changes of its contents and arrays, and with the right checksum."""
    contents, tensors = contents_of(file), safetensors.numpy.load(file)
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    change(contents, tensors)
    contents["sha256"] = _digest(contents, tensors)
    return bytes(safetensors.numpy.save(tensors, {"skectonas": json.dumps(contents)}))


WEIGHT = "network_.weights.output.weight"
TEXTS = {"codes": {"$tensor": "codes"}, "values": ["x" * 10_000]}
CRAFTED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a method": (lambda a, t: a.update(predict=1), "'predict' is no attribute"),
    "a private name": (lambda a, t: a.update(_x_=1), "'_x_' is no attribute"),
    "the class": (lambda a, t: a.update({"__class__": 1}), "'__class__' is no attribute"),
    "nan": (lambda a, t: t[WEIGHT].__setitem__((0, 0), np.nan), r"output\.weight has values"),
    "inf": (lambda a, t: t[WEIGHT].__setitem__((0, 0), np.inf), r"output\.weight has values"),
    "whole numbers": (
        lambda a, t: t.update({WEIGHT: t[WEIGHT].astype(np.int64)}),
        "floating point|gradients",
    ),
    "a wrong shape": (
        lambda a, t: t.update({WEIGHT: t[WEIGHT][:, 1:].copy()}),
        "size mismatch",
    ),
    "no weight": (
        lambda a, t: a["network_"]["$network"]["weights"].pop("output.weight"),
        "Missing key",
    ),
    "a missing attribute": (lambda a, t: a.pop("classes_"), "classes_ is missing"),
    "no score": (lambda a, t: a.pop("scoring_"), "scoring_ is missing"),
    "no losses": (
        lambda a, t: a["history_"]["$frame"].pop("mean_loss"),
        "history_ is empty or has other columns",
    ),
    "another type": (lambda a, t: a.update(encoder_=3), "encoder_ is missing, or .* int"),
    "too few classes": (
        lambda a, t: t.update(classes_=t["classes_"][:-1]),
        "shape of classes_",
    ),
    "a table of classes": (
        lambda a, t: t.update(classes_=t["classes_"][:, None]),
        "shape of classes_",
    ),
    "another topology": (
        lambda a, t: a["best_topology_"]["$topology"].update(n_classes=9),
        "topology of network_",
    ),
    "a gigantic topology": (
        lambda a, t: a["network_"]["$network"]["topology"]["$topology"].update(
            dense=[{"units": 10**9}]
        ),
        "size mismatch|Missing key|floating point|gradients",
    ),
    "gigantic images": (
        lambda a, t: a["encoder_"]["$encoder"].update(image_shape_={"$tuple": [10**6] * 3}),
        "image shape of encoder_",
    ),
    "gigantic text": (
        lambda a, t: a.update(x_={"$strings": {"dtype": "<U400000000", "values": ["a"]}}),
        "1 texts of the type '<U400000000'",
    ),
    "text a million times": (
        lambda a, t: t.update(codes=np.zeros(10**6, np.int8)) or a.update(x_={"$texts": TEXTS}),
        "texts of 10000000000 characters",
    ),
    "an array many times": (
        lambda a, t: a.update(x_=[{"$tensor": "classes_"}] * 1000),
        "or it is named twice",
    ),
    "an unknown dtype": (
        lambda a, t: a.update(
            x_={"$masked": {"dtype": "category", "values": [1], "missing": [False]}}
        ),
        "dtype 'category'",
    ),
    "wrong parts": (lambda a, t: a.update(x_={"$topology": 3}), "topology"),
    "other tables": (
        lambda a, t: a.update(history_={"$frame": {}}),
        "history_ is empty or has other col",
    ),
    "no lineage": (lambda a, t: a.update(lineage_={"$frame": {}}), "lineage is empty"),
    "another size": (lambda a, t: a.update(n_parameters_=1), "n_parameters_ is 1, where"),
    "other rows": (lambda a, t: a.update(n_features_in_=63), "n_features_in_ is 63 for rows"),
    "kept things": (lambda a, t: a.update(kept_={"$pairs": [[0, 3]]}), "kept_ holds something"),
    "a list": (lambda a, t: a.update(kept_=[]), "kept_ is missing, or of a wrong type: list"),
    "no candidates": (lambda a, t: a.pop("kept_"), "kept_ is missing"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_an_error(saved: bytes, kind: str, tmp_path: Path) -> None:
    change, message = CRAFTED[kind]
    file = crafted(saved, lambda contents, tensors: change(contents["attributes"], tensors))
    with pytest.raises(
        ValueError, match=rf"(?s)model\.safetensors does not hold .*({message})"
    ):
        loading(file, tmp_path)
    assert loading(crafted(saved, lambda contents, tensors: None), tmp_path).n_parameters_


@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_deeply_nested_contents_are_an_error(saved: bytes, depth: int, tmp_path: Path) -> None:
    contents = contents_of(saved)
    contents["attributes"]["deep_"] = "here"
    contents["sha256"] = _digest(contents, safetensors.numpy.load(saved))
    text = json.dumps(contents).replace('"here"', "[" * depth + "]" * depth)
    tensors = safetensors.numpy.load(saved)
    if depth < 900:
        plain = json.loads(text)
        plain["sha256"] = _digest(plain, tensors)
        text = json.dumps(plain)
    with pytest.raises(ValueError, match=r"model\.safetensors .*(nested too deeply|damaged)"):
        loading(safetensors.numpy.save(tensors, {"skectonas": text}), tmp_path)


@pytest.mark.parametrize("kind", ["table", "images of an own size", "frame"])
def test_rows_that_a_crafted_encoder_cannot_take(kind: str, tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).random((40, 6)), np.arange(40) % 2
    rows = {"table": X, "images of an own size": X.reshape(40, 2, 3), "frame": pd.DataFrame(X)}
    quick(2, warmup_epochs=1).fit(
        rows[kind].rename(columns=str) if kind == "frame" else rows[kind], y
    ).save(tmp_path / "clf")
    file = (tmp_path / "clf").read_bytes()
    assert loading(file, tmp_path).n_features_in_ == 6

    def wider(contents: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        encoder = contents["attributes"]["encoder_"]["$encoder"]
        encoder["input_shape"] = {"$tuple": [10**12]}
        contents["attributes"]["n_features_in_"] = 10**12

    with pytest.raises(ValueError, match="does not hold a ECToNASClassifier: "):
        loading(crafted(file, wider), tmp_path)


# --- writing ---------------------------------------------------------------------------------


def test_a_crash_leaves_the_old_file(
    fitted: ECToNASClassifier, saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the old one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            fitted.save(path)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]
    fitted.save(path)
    assert path.read_bytes() == saved
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(fitted: ECToNASClassifier, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "latest"
    link.symlink_to(tmp_path / "folder" / "model")
    fitted.save(str(link))
    assert link.is_symlink()
    assert_equal(ECToNASClassifier.load(tmp_path / "folder" / "model"), fitted)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and pipes")
def test_a_private_file_stays_private(fitted: ECToNASClassifier, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.touch(mode=0o600)
    fitted.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ECToNASClassifier.load(path).n_parameters_ == fitted.n_parameters_


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and pipes")
def test_a_pipe_is_written_to(fitted: ECToNASClassifier, saved: bytes, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        fitted.save(pipe)
        assert read.result() == saved
    assert pipe.is_fifo()


def test_others_may_read_it_as_they_may_any_file(
    fitted: ECToNASClassifier, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "ours")
    (tmp_path / "any").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_what_is_not_installed_is_named(
    fitted: ECToNASClassifier, saved: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"safetensors.* .*skectonas\[save\]"):
        fitted.save(tmp_path / "model.safetensors")
    with pytest.raises(ImportError, match=r"safetensors .*skectonas\[save\]"):
        loading(saved, tmp_path)


def test_an_estimator_that_is_not_fitted_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        quick().save(tmp_path / "clf")


def test_an_attribute_that_cannot_be_written_is_named(
    fitted: ECToNASClassifier, tmp_path: Path
) -> None:
    clf = pickle.loads(pickle.dumps(fitted))
    for value in (
        object(),
        np.array([1, "a"], dtype=object),
        np.ones(2, np.longdouble),
        {1, 2},
    ):
        clf.classes_ = value
        with pytest.raises(ValueError, match="classes_"):
            clf.save(tmp_path / "clf")
    assert not list(tmp_path.iterdir())


# --- the other ways of the field -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["8-bit images", "digits", "table", "frame"])
def test_skops(kind: str, tmp_path: Path) -> None:
    X, y, parameters = (*census(), {}) if kind == "frame" else CODECS[kind]
    clf = quick(11, **parameters).fit(X, y)
    skops.io.dump(clf, tmp_path / "clf.skops")
    trusted = skops.io.get_untrusted_types(file=tmp_path / "clf.skops")
    assert all(name.startswith(("skectonas.", "numpy.dtype")) for name in trusted)
    loaded = skops.io.load(tmp_path / "clf.skops", trusted=trusted)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    pd.testing.assert_frame_equal(loaded.history_, clf.history_)


@not_if_brief
@pytest.mark.parametrize("module", ["pickle", "joblib"])
def test_fitted_again_in_another_process(digits: Any, tmp_path: Path, module: str) -> None:
    X, y = digits
    clf = quick(40, start="medium_cnn").fit(X, y)
    joblib.dump((X, y, clone(clf).fit(X[:200], y[:200])), tmp_path / "there")
    script = (
        f"import joblib, {module}\n"
        "X, y, clf = joblib.load('there')\n"
        "with open('back', 'wb') as file:\n"
        f"    {module}.dump(clf.fit(X, y), file)\n"
    )
    folder = Path(skectonas.__file__).parents[1]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(folder)},
        check=True,
    )
    with (tmp_path / "back").open("rb") as file:
        loaded = (pickle if module == "pickle" else joblib).load(file)
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


def test_a_model_in_a_memory_map(tmp_path: Path, digits: Any) -> None:
    X, y = digits
    clf = quick(3).fit(X, y)
    joblib.dump(clf, tmp_path / "there")
    mapped = joblib.load(tmp_path / "there", mmap_mode="r")  # without a warning
    np.testing.assert_array_equal(mapped.predict_proba(X), clf.predict_proba(X))


def test_augmentations_and_paths_are_kept(tmp_path: Path, digits: Any) -> None:
    given = {
        "augmentation": Augmentation(1, flip=True, erase=3),
        "checkpoint": tmp_path / "search",
    }
    quick(3, **given).fit(*digits).save(tmp_path / "file")
    loaded = ECToNASClassifier.load(tmp_path / "file")
    assert {name: loaded.get_params()[name] for name in given} == given


@pytest.mark.parametrize(
    "labels",
    [
        [10, 20],
        [1.5, 2.5],
        ["u", "v"],
        [0, 1],
        [("a", "x"), ("a", "y")],
        [pd.Timestamp("2020-01-01"), pd.Timestamp("2021-01-01")],
    ],
)
def test_any_labels_of_columns_are_kept(tmp_path: Path, labels: list[Any]) -> None:
    X = pd.DataFrame({0: np.random.default_rng(0).random(40), 1: ["a", "b"] * 20})
    X.columns = pd.Index(labels)
    clf = quick(3).fit(X, np.arange(40) % 2)
    clf.save(tmp_path / "file")
    loaded = ECToNASClassifier.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match=r"seen in fit|should match"):
        loaded.predict(X[X.columns[::-1]])

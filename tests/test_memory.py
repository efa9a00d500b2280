"""X is not copied where it need not be, and what lies in a file stays there."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import not_if_brief, quick, watch_batches
from sklearn.model_selection import GridSearchCV

from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.mapped import FileArray, MappedImages, mapping_of, read_at_random
from skectonas.inputs.rows import batches_of
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import initial_weights
from skectonas.population import FusedTrainer
from skectonas.surroundings import one_thread
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import PlainTrainer, resolve_optimizer

RNG = np.random.default_rng(0)
N = 120
LABELS = np.arange(N) % 3
PIXELS = (RNG.integers(0, 200, (N, 8, 8)) + 20 * LABELS[:, None, None]).astype(np.uint8)
PIXELS[0, 0, 0] = 255
COLOUR = RNG.integers(0, 256, (N, 5, 6, 3), dtype=np.uint8)
TABLE = RNG.normal(size=(N, 5)) @ RNG.normal(size=(5, 7))


def mapped(path: Path, X: np.ndarray, mode: Any = "r") -> np.memmap:
    """Return an array in a file, behind some bytes that do not belong to it."""
    file = path / f"{len(list(path.iterdir()))}.dat"
    file.write_bytes(b"header" + X.tobytes())
    return np.memmap(file, X.dtype, mode, offset=6, shape=X.shape)


def data_of(
    monkeypatch: Any, clf: ECToNASClassifier, X: Any, y: Any = LABELS, **fit: Any
) -> TrainingData:
    """Return what a fit hands to its trainer."""
    seen = []

    def keep(data: TrainingData, *others: Any) -> FusedTrainer:
        seen.append(data)
        return FusedTrainer(data, *others)

    monkeypatch.setattr("skectonas.fitting.FusedTrainer", keep)
    clf.fit(X, y, **fit)
    monkeypatch.undo()
    return seen[0]


def assert_same_fit(one: ECToNASClassifier, other: ECToNASClassifier) -> None:
    histories = (clf.history_.drop(columns="seconds") for clf in (one, other))
    pd.testing.assert_frame_equal(*histories)
    for ours, theirs in zip(
        one.network_.state_dict().values(), other.network_.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


# --- arrays in memory ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "settings"),
    [
        (PIXELS, {}),
        (PIXELS > 100, {}),
        (PIXELS.astype(np.float32), {}),
        ((PIXELS / 255).astype(np.float32), {}),
        (PIXELS.astype(np.float32) - 100, {}),
        (COLOUR, {"start": "medium_cnn"}),
        (PIXELS.reshape(N, 64), {"image_shape": (8, 8)}),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_fit_uses_the_memory_of_X(
    X: np.ndarray, settings: Any, read_only: bool, monkeypatch: Any
) -> None:
    X = X.copy()
    X.flags.writeable = not read_only
    before = X.copy()
    data = data_of(monkeypatch, quick(12, **settings), X)
    assert data.train.images is data.validation.images
    assert np.shares_memory(data.train.images.numpy(), X)
    assert len(data.train) + len(data.validation) == len(data.train.images) == N
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "X",
    [
        PIXELS.astype(np.float64),
        PIXELS.astype(np.int64) - 100,
        PIXELS.astype(np.float32).transpose(0, 2, 1),
        PIXELS.transpose(0, 2, 1),
        np.asfortranarray(PIXELS),
        TABLE,
    ],
)
def test_what_has_to_be_converted_is_copied_once(X: np.ndarray, monkeypatch: Any) -> None:
    data = data_of(monkeypatch, quick(12), X)
    images = data.train.images
    assert images is data.validation.images
    assert not np.shares_memory(images.numpy(), X)
    assert len(images) == N
    assert images.dtype == (torch.uint8 if X.dtype == np.uint8 else torch.float32)


def test_rows_without_weight_are_neither_looked_at_nor_kept(monkeypatch: Any) -> None:
    weights = np.where(np.arange(N) < 90, 1.0, 0.0)
    bright = PIXELS.astype(np.float64)
    bright[90:] = 1e300
    data = data_of(monkeypatch, quick(12), bright, sample_weight=weights)
    assert len(data.train.images) == 90
    expected = data_of(monkeypatch, quick(12), bright[:90], y=LABELS[:90])
    assert torch.equal(data.train.images, expected.train.images)
    assert data.scaling == expected.scaling


def test_images_that_are_not_aligned_are_copied() -> None:
    X = np.frombuffer(b"x" + (PIXELS / 255).astype(np.float32).tobytes(), np.float32, -1, 1)
    images = InputEncoder().fit(X.reshape(N, 8, 8)).transform(X.reshape(N, 8, 8))
    assert images.flags.aligned
    np.testing.assert_array_equal(images.ravel(), X)


# --- parts instead of the whole --------------------------------------------------------------

KINDS = {
    "bytes": (PIXELS, {}),
    "colour": (COLOUR, {}),
    "floats": (PIXELS.astype(np.float64), {}),
    "to scale": (PIXELS - 50.5, {}),
    "flattened": (PIXELS.reshape(N, 64), {"image_shape": (8, 8)}),
    "to scale as they are": (PIXELS.astype(np.float32) - 50.5, {}),
    "table": (TABLE, {}),
    "table with gaps": (np.where(TABLE > 1, np.nan, TABLE), {"column_scaling": "minmax"}),
    "correlated table": (TABLE, {"column_order": "correlation"}),
    "frame": (
        pd.DataFrame(TABLE, columns=list("abcdefg")).assign(
            word=RNG.choice(
                ["ash", "elm", "fir", "oak", "yew"], N, p=[0.4, 0.25, 0.15, 0.1, 0.1]
            )
        ),
        {"column_order": "correlation"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_some_rows_is_encoding_them_alone(kind: str) -> None:
    X, settings = KINDS[kind]
    rows = np.array([5, 100, 7, *range(20, 60)])
    alone = X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]
    encoder = InputEncoder(**settings).fit(X, rows)
    expected = InputEncoder(**settings).fit(alone)
    assert encoder.scaling_ == expected.scaling_
    np.testing.assert_array_equal(encoder.transform(X, rows), expected.transform(alone))
    np.testing.assert_array_equal(encoder.transform(X)[rows], expected.transform(alone))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_parts_does_not_matter(kind: str, monkeypatch: Any) -> None:
    X, settings = KINDS[kind]
    whole = InputEncoder(**settings).fit(X)
    expected = whole.transform(X)
    monkeypatch.setattr("skectonas.inputs.rows._VALUES_AT_ONCE", 700)
    monkeypatch.setattr("skectonas.inputs.rows._ROWS_OF_FRAME", 1)
    assert len(list(batches_of(X, None, 64))) > 5
    parts = InputEncoder(**settings).fit(X)
    # Sums of another order have other last bits.
    for ours, theirs in zip(
        asdict(parts.scaling_).values(), asdict(whole.scaling_).values(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    tolerance = 1e-6 if parts.feature_names_out_ is None else 0
    np.testing.assert_allclose(parts.transform(X), expected, rtol=0, atol=tolerance)


# --- arrays in files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "settings"),
    [
        (PIXELS, {}),
        (PIXELS, {"start": "medium_cnn", "scoring": "neg_log_loss"}),
        (PIXELS > 100, {}),
        (COLOUR, {"start": "medium_cnn"}),
        ((PIXELS / 255).astype(np.float32), {}),
        (PIXELS.astype(np.float32) - 100, {}),
        (PIXELS.astype(np.float32).astype(">f4"), {}),
        (PIXELS.astype(np.float16), {}),
        (PIXELS.astype(np.int16), {}),
        (PIXELS / 255, {}),
        (PIXELS - 1e6, {}),
        (PIXELS.reshape(N, 64), {"image_shape": (8, 8)}),
        (TABLE, {}),
        (TABLE, {"column_order": "correlation"}),
        (TABLE.astype(np.float32), {"scoring": lambda clf, X, y: (clf.predict(X) == y).mean()}),
    ],
)
@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=not_if_brief)])
def test_a_memory_map_gives_the_same_bits(
    X: np.ndarray, settings: Any, weighted: bool, tmp_path: Path
) -> None:
    weights = np.arange(N) % 4.0 if weighted else None
    expected = quick(30, **settings).fit(X, LABELS, weights)
    in_file = mapped(tmp_path, X)
    found = quick(30, **settings).fit(in_file, LABELS, weights)
    assert_same_fit(found, expected)
    np.testing.assert_array_equal(found.predict_proba(in_file), expected.predict_proba(X))


@pytest.mark.parametrize(
    "view", [lambda X: X[7:], lambda X: X[::-2], lambda X: X.transpose(0, 2, 1), np.asarray]
)
def test_views_of_memory_maps(view: Any, tmp_path: Path, monkeypatch: Any) -> None:
    X = view(PIXELS)
    labels = np.arange(len(X)) % 3
    in_file = view(mapped(tmp_path, PIXELS))
    found = quick(12).fit(in_file, labels)
    assert_same_fit(found, quick(12).fit(X, labels))
    data = data_of(monkeypatch, quick(12), in_file, labels)
    assert isinstance(data.train.images, MappedImages)


@pytest.mark.parametrize("optimizer", ["sgd", "adafactor"])
def test_a_memory_map_in_processes(optimizer: str, tmp_path: Path) -> None:
    settings = {"start": "medium_cnn", "optimizer": optimizer}
    expected = quick(30, **settings).fit(PIXELS, LABELS)
    with joblib.parallel_config("loky"):
        found = quick(30, **settings, n_jobs=2).fit(mapped(tmp_path, PIXELS), LABELS)
    assert_same_fit(found, expected)


def test_a_grid_over_a_memory_map(tmp_path: Path) -> None:
    grid = GridSearchCV(quick(12), {"alpha": [0.5, 1.0]}, cv=2, n_jobs=2)
    found = grid.fit(mapped(tmp_path, PIXELS), LABELS).cv_results_["mean_test_score"]
    expected = grid.fit(PIXELS, LABELS).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_found_before_the_training(
    value: float, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("skectonas.inputs.rows._VALUES_AT_ONCE", 700)
    X = PIXELS.astype(np.float32)
    clf = quick(12).fit(X, LABELS)
    X[-1, -1, -1] = value
    in_file = mapped(tmp_path, X)

    def trained(*arguments: Any) -> None:
        raise AssertionError("trained before the input was checked")

    monkeypatch.setattr("skectonas.population.FusedTrainer.train", trained)
    message = "have no missing values, got NaN" if np.isnan(value) else "got infinity"
    with pytest.raises(ValueError, match=message):
        quick(12).fit(in_file, LABELS)
    with pytest.raises(ValueError, match=message):
        clf.predict(in_file)


def test_images_are_read_in_batches(tmp_path: Path, monkeypatch: Any) -> None:
    n = 3_000
    X = np.tile(PIXELS, (25, 1, 1))
    taken = watch_batches(monkeypatch)
    quick(14, start="medium_cnn", validation_fraction=0.5).fit(
        mapped(tmp_path, X), np.tile(LABELS, 25)
    )
    assert len(X) == n
    assert sum(taken) > 10 * n
    assert max(taken) <= 1024


LIMITED = """
import resource, sys
import numpy as np
from skectonas import ECToNASClassifier

path, rows = sys.argv[1], int(sys.argv[2])
clf = ECToNASClassifier(
    budget=2, start="small_ffnn", warmup_epochs=1, round_epochs=0.2, batch_size=256,
    morphisms=["identity", "add_units"], random_state=0,
)
clf.fit(np.random.default_rng(0).normal(size=(40, 32, 32)), np.arange(40) % 2)
X = np.memmap(path, np.float64, "r", shape=(rows, 32, 32))
status = open("/proc/self/status").read()
used = 1024 * int(status.partition("VmData:")[2].split()[0])
limit = used + X.nbytes // 2
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(X, dtype=np.float32), np.array(X[: rows // 4])
except MemoryError:
    print("limited")
clf.fit(X, np.arange(rows) % 2)
print(clf.predict_proba(X).shape)
"""


@not_if_brief
@pytest.mark.skipif(sys.platform != "linux", reason="no limit of this kind")
def test_a_file_larger_than_the_memory_can_be_fitted(tmp_path: Path) -> None:
    n = 25_000  # 8 kB each; half of that may be allocated
    X = np.memmap(tmp_path / "X", np.float64, "w+", shape=(n, 32, 32))
    for part in np.array_split(X, 10):
        part[:] = RNG.normal(size=part.shape)
    X.flush()
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "X"), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"limited\n({n}, 2)\n", done.stderr


# --- the pieces ------------------------------------------------------------------------------


def images_of(X: np.ndarray, rows: Any = None) -> MappedImages:
    return MappedImages(X, InputEncoder().fit(X).transform, rows)


def test_what_is_mapped(tmp_path: Path) -> None:
    X = mapped(tmp_path, PIXELS)
    for view in (X, X[3:], np.asarray(X), X.reshape(N, 64), X.view(np.ndarray)[::2, 1]):
        assert mapping_of(view) is X
    for copy in (X[[1, 2]], X + 1, X.astype(float), np.array(X), PIXELS):
        assert mapping_of(copy) is None


def test_images_are_taken_by_their_places(tmp_path: Path) -> None:
    X = mapped(tmp_path, PIXELS)
    places = torch.tensor([3, 0, 3])
    assert torch.equal(
        images_of(X).take(places), torch.from_numpy(PIXELS[[3, 0, 3]][..., None])
    )
    some = images_of(X, np.array([9, 8, 7, 50]))
    assert len(some) == 4
    assert len(images_of(X)) == N
    assert torch.equal(some.take(places), torch.from_numpy(PIXELS[[50, 9, 50]][..., None]))


def test_images_on_a_device(tmp_path: Path) -> None:
    images = images_of(mapped(tmp_path, PIXELS - 50.5))
    assert images.to(torch.device("cpu")) is images
    moved = images.to(torch.device("meta"))
    assert (moved.shape, moved.dtype) == ((N, 8, 8, 1), torch.float32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_memory_map_on_a_device(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("skectonas.inputs.mapped.ROWS_AT_ONCE", 50)
    images = images_of(mapped(tmp_path, PIXELS - 50.5))
    moved = images.to(torch.device("cuda"))
    assert torch.equal(moved.cpu(), images.take(torch.arange(N)))
    found = quick(30, device="cuda").fit(mapped(tmp_path, PIXELS), LABELS)
    assert_same_fit(found, quick(30, device="cuda").fit(PIXELS, LABELS))


@pytest.mark.parametrize(
    "view",
    [
        lambda X: X,
        lambda X: X[5:60],
        lambda X: X[::-3],
        lambda X: X.transpose(0, 2, 1),
        lambda X: X[:, 1:, ::2].view(np.ndarray),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, ">f8"])
def test_a_pickle_holds_the_name_of_the_file(view: Any, dtype: Any, tmp_path: Path) -> None:
    X = view(mapped(tmp_path, PIXELS.astype(dtype), "r+"))
    written = pickle.dumps(images_of(X, np.arange(10)))
    assert len(written) < 2_000 < X.nbytes
    again = pickle.loads(pickle.dumps(pickle.loads(written)))
    places = torch.tensor([7, 2])
    assert torch.equal(again.take(places), images_of(X).take(places))
    assert mapping_of(again._X) is not None


def test_a_pickle_holds_values_that_no_file_has(tmp_path: Path) -> None:
    changed = mapped(tmp_path, PIXELS, "c")
    changed[4] = 77
    gone, replaced = mapped(tmp_path, PIXELS), mapped(tmp_path, PIXELS)
    Path(gone.filename).unlink()
    Path(replaced.filename).unlink()
    Path(replaced.filename).write_bytes(bytes(6 + PIXELS.nbytes))
    cut = mapped(tmp_path, PIXELS)
    Path(cut.filename).unlink()
    Path(cut.filename).write_bytes(b"short")
    for X in (changed, gone, replaced, cut):
        assert FileArray.of(X) is None
        again = pickle.loads(pickle.dumps(images_of(X)))
        assert torch.equal(again.take(torch.arange(9)), images_of(X).take(torch.arange(9)))
    assert FileArray.of(PIXELS) is None


@pytest.mark.parametrize("values", [b"", b"short", bytes(6 + PIXELS.nbytes)])
def test_a_file_that_is_another_one_elsewhere(values: bytes, tmp_path: Path) -> None:
    X = mapped(tmp_path, PIXELS)
    again = pickle.loads(pickle.dumps(images_of(X)))
    file = Path(X.filename)
    file.unlink()
    if values:
        file.write_bytes(values)
    with pytest.raises(OSError, match=rf"X is in the file '{file}', which cannot be read here"):
        again.take(torch.arange(2))


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_reading_at_random_ends_with_the_block(tmp_path: Path) -> None:
    X = mapped(tmp_path, np.zeros((1000, 8, 8)))

    def flags() -> str:
        maps = Path("/proc/self/smaps").read_text()
        return re.findall(rf"{X.filename}.*?VmFlags: (.*?)\n", maps, re.DOTALL)[0]

    def fail_inside() -> None:
        with read_at_random(X[3:]):
            assert "rr" in flags().split()
            raise KeyError

    assert "rr" not in flags().split()
    with pytest.raises(KeyError):
        fail_inside()
    assert "rr" not in flags().split()
    with read_at_random(PIXELS), read_at_random(pd.DataFrame(TABLE)):
        pass


@pytest.mark.parametrize("kind", [PlainTrainer, FusedTrainer])
def test_trainers_do_not_care_where_images_are(kind: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    topologies = [
        Topology((8, 8, 1), cells, [Dense(4)], 3)
        for cells in ([], [ConvCell(3)], [ConvCell(3, "max"), ConvCell(2)])
    ]
    start = [Candidate(i, t, initial_weights(t, rng)) for i, t in enumerate(topologies)]
    places = torch.from_numpy(rng.permutation(N))
    stored, labels = torch.from_numpy(PIXELS[..., None]), torch.from_numpy(LABELS)
    in_file = images_of(mapped(tmp_path, PIXELS))

    def train(rows_of: Callable[[torch.Tensor], Rows]) -> list[Candidate]:
        data = TrainingData(
            rows_of(places[:100]), rows_of(places[100:]), PixelScaling(scale=(1 / 255,))
        )
        trainer = kind(data, resolve_optimizer("sgd", 0.1), lambda p: float(p[:, 0].mean()), 2)
        with one_thread():
            return trainer.train(start, [6, 6, 6], (0,))

    expected = train(lambda side: Rows(stored[side], labels[side]))
    for images in (stored, in_file):
        found = train(lambda side, images=images: Rows(images, labels[side], None, side))
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.evaluations == theirs.evaluations
            for name, value in theirs.weights.items():
                assert torch.equal(ours.weights[name], value)

"""Sparse rows give the bits of dense ones, and are made dense a batch at a time."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import census, not_if_brief, quick, watch_batches
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skectonas import PseudoImageTransformer
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.mapped import MappedImages

N = 120
LABELS = np.arange(N) % 3
RNG = np.random.default_rng(0)
DENSE = np.where(RNG.random((N, 30)) < 0.2, RNG.normal(size=(N, 30)), 0)
DENSE[:, :3] += np.eye(3)[LABELS]
FORMATS = ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]


def assert_same_fit(one: Any, other: Any) -> None:
    histories = (clf.history_.drop(columns="seconds") for clf in (one, other))
    pd.testing.assert_frame_equal(*histories)
    for ours, theirs in zip(
        one.network_.state_dict().values(), other.network_.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def images_in(shape: tuple[int, int], dtype: Any) -> np.ndarray:
    """Return flat images that are mostly black."""
    pixels = RNG.integers(1, 256, (N, *shape)) * (RNG.random((N, *shape)) < 0.3)
    pixels[np.arange(N), LABELS] = 255
    return pixels.reshape(N, -1).astype(dtype)


KINDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "float64": (DENSE, {}),
    "float32": (DENSE.astype(np.float32), {"column_order": "shuffled"}),
    "correlated": (DENSE, {"column_order": "correlation"}),
    "whole": ((DENSE * 10).astype(np.int64), {"scoring": "neg_log_loss"}),
    "yes or no": (DENSE > 0, {}),
    "bytes": ((DENSE > 0).astype(np.uint8), {"image_shape": (5, 8)}),
    "8-bit images": (images_in((6, 7), np.uint8), {"image_shape": (6, 7)}),
    "pixels": (images_in((6, 7), np.float64), {"image_shape": (6, 7), "start": "small_cnn"}),
    "pixels to scale": (images_in((6, 7), np.float32) - 9, {"image_shape": (6, 7)}),
    "minmax": (DENSE, {"column_scaling": "minmax"}),
    "gaps": (np.where(DENSE > 1, np.nan, DENSE), {"image_shape": (5, 13)}),
    "unit pixels": ((images_in((6, 7), np.float32) / 255), {"image_shape": (6, 7)}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bits_are_those_of_the_dense_array(kind: str, weighted: bool) -> None:
    X, settings = KINDS[kind]
    weights = np.arange(N) % 4.0 if weighted else None
    rows = sparse.csr_array(X)
    expected = quick(30, **settings).fit(X, LABELS, weights)
    found = quick(30, **settings).fit(rows, LABELS, weights)
    assert_same_fit(found, expected)
    assert found.encoder_.scaling_ == expected.encoder_.scaling_
    assert found.n_features_in_ == X.shape[1]
    for clf in (found, expected):
        for given in (X, rows):
            np.testing.assert_array_equal(clf.predict_proba(given), expected.predict_proba(X))
    assert found.score(rows, LABELS) == expected.score(X, LABELS)


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # of the test
@pytest.mark.parametrize("of", ["matrix", "array"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, of: str) -> None:
    X = getattr(sparse, f"{name}_{of}")(DENSE)
    expected = InputEncoder().fit(DENSE)
    found = InputEncoder().fit(X)
    np.testing.assert_array_equal(found.transform(X), expected.transform(DENSE))
    clf = quick(2, warmup_epochs=1).fit(X, LABELS)
    dense = quick(2, warmup_epochs=1).fit(DENSE, LABELS)
    np.testing.assert_array_equal(clf.predict_proba(X), dense.predict_proba(DENSE))
    assert X.format == name
    np.testing.assert_array_equal(X.toarray(), DENSE)


def test_zeros_and_entries_that_are_stored_twice() -> None:
    dense = np.array([[0.0, 3.0], [2.0, 0.0], [1.0, 0.0]])
    data, rows, columns = [1.0, 2.0, 2.0, 0.0, 1.0], [0, 0, 1, 1, 2], [1, 1, 0, 1, 0]
    coo = sparse.coo_array((data, (rows, columns)), shape=(3, 2))
    csr = sparse.csr_array((data, columns, [0, 2, 4, 5]), shape=(3, 2))
    for X in (coo, csr):
        assert X.nnz == 5
        np.testing.assert_array_equal(
            InputEncoder().fit(X).transform(X), InputEncoder().fit(dense).transform(dense)
        )
    yes = sparse.csr_array(([True] * 5, columns, [0, 2, 4, 5]), shape=(3, 2))
    found = quick(2, warmup_epochs=1).fit(sparse.vstack([yes] * 8), [0, 1, 1] * 8)
    assert found.encoder_.to_dict()["columns"]["knots"][:, -1].tolist() == [1, 1]


@pytest.mark.parametrize("order", ["given", "correlation"])
@pytest.mark.parametrize("rows", [None, np.array([5, 100, 7, *range(20, 60)])])
def test_the_size_of_the_parts_does_not_matter(order: str, rows: Any, monkeypatch: Any) -> None:
    X = sparse.csr_array(DENSE)
    whole = InputEncoder(column_order=order).fit(X, rows)
    expected = whole.transform(X, rows)
    monkeypatch.setattr("skectonas.inputs.rows._VALUES_AT_ONCE", 300)
    parts = InputEncoder(column_order=order).fit(X, rows)
    np.testing.assert_array_equal(parts.transform(X, rows), expected)
    dense = DENSE if rows is None else DENSE[rows]
    np.testing.assert_array_equal(parts.transform(dense), expected)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.where(DENSE.max() == DENSE, np.inf, DENSE), "Input X contains infinity"),
        (DENSE.astype(complex), "[Cc]omplex"),
        (DENSE[:1], "1 sample|inconsistent"),
        (DENSE[:, :0], "0 feature"),
    ],
)
def test_errors_are_those_of_the_dense_array(X: np.ndarray, message: str) -> None:
    clf = quick(2, warmup_epochs=1).fit(DENSE, LABELS)
    for given in (X, sparse.csc_array(X)):
        with pytest.raises(ValueError, match=message):
            quick().fit(given, LABELS[: len(X)])
        if len(X) > 1:
            with pytest.raises(ValueError, match=message):
                clf.predict(given)


@pytest.mark.parametrize("index", [-1, 10**6])
def test_indices_that_lead_outside_are_refused(index: int) -> None:
    X = sparse.csr_array(np.eye(20))
    X.indices[3] = index
    with pytest.raises(ValueError, match=r"X is no valid sparse array: .*ind"):
        quick(12).fit(X, np.arange(20) % 2)


def damaged(kind: str, damage: str) -> Any:
    """Return a sparse array of 20 x 20 that scipy takes for whole."""
    X = sparse.csr_array(np.eye(20)).asformat(kind)
    far = {"below": -1, "outside": 20, "far outside": 2**31 - 1}.get(damage, 0)
    if kind == "lil":
        X.rows[3] = [3, 4] if damage == "too many" else [far]
    elif kind == "dia":
        X.offsets = np.array([0, 1] if damage == "too many" else [far or 2**40])
    elif kind == "coo":
        places = np.append(X.row, 3) if damage == "too many" else X.row.copy()
        places[3] = far
        if hasattr(X, "coords"):
            X.coords = (places, X.col)
        else:  # scipy before 1.13
            X.row = places
    elif damage == "too many":
        X.indices = np.append(X.indices, 3)
        X.indptr = X.indptr + np.arange(21)
    else:
        X.indices[3] = far
    return X


DAMAGES = [
    (kind, damage)
    for kind in ("csr", "csc", "bsr", "coo", "lil", "dia")
    for damage in ("below", "outside", "far outside", "too many")
    if (kind, damage) != ("dia", "below")  # that is a diagonal below the main one
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES)
def test_damaged_arrays_are_refused(kind: str, damage: str) -> None:
    """Scipy would write outside of its memory."""
    y = np.arange(20) % 2
    clf = quick(2, warmup_epochs=1).fit(np.eye(20), y)
    for call in (lambda X: quick(12).fit(X, y), clf.predict):
        with pytest.raises(ValueError, match="X is no valid sparse array: "):
            call(damaged(kind, damage))


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "lil", "dia", "dok"])
def test_whole_arrays_are_not_refused(kind: str) -> None:
    X = sparse.csr_array(np.where(np.arange(20) % 3 == 0, np.eye(20) - np.eye(20, k=4), 0))
    y = np.arange(20) % 2
    for given in (X, X[:, :7], sparse.csr_array((20, 5))):
        expected = quick(2, warmup_epochs=1).fit(given.toarray(), y)
        found = quick(2, warmup_epochs=1).fit(given.asformat(kind), y)
        np.testing.assert_array_equal(
            found.predict_proba(given.asformat(kind)), expected.predict_proba(given.toarray())
        )


@pytest.mark.filterwarnings("ignore:The network that was found")
def test_flat_images_have_no_gaps() -> None:
    X = np.where(DENSE.max() == DENSE, np.nan, DENSE)
    clf = quick(2, warmup_epochs=1, image_shape=(5, 6)).fit(DENSE, LABELS)
    for given in (X, sparse.csc_array(X)):
        with pytest.raises(ValueError, match="images must have no missing values, got NaN"):
            quick(image_shape=(5, 6)).fit(given, LABELS)
        with pytest.raises(ValueError, match="images must have no missing values, got NaN"):
            clf.predict(given)


@pytest.mark.filterwarnings("ignore:The network that was found")
def test_other_rows_later() -> None:
    X = sparse.csr_array(DENSE)
    clf = quick(2, warmup_epochs=1).fit(X, LABELS)
    with pytest.raises(ValueError, match="X has 29 features, but ECToNASClassifier"):
        clf.predict(X[:, 1:])
    with pytest.raises(ValueError, match=r"X has images of shape \(5, 6\), but"):
        clf.predict(DENSE.reshape(N, 5, 6))
    on_images = quick(2, warmup_epochs=1).fit(DENSE.reshape(N, 5, 6), LABELS)
    with pytest.raises(ValueError, match=r"images of shape \(5, 6\), got 30 columns"):
        on_images.predict(X)
    frame, y = census(60)
    on_frame = quick(2, warmup_epochs=1).fit(frame, y)
    message = r"a data frame with 5 columns as in fit, got csr_array of shape \(60, 5\)"
    with pytest.raises(ValueError, match=message):
        on_frame.encoder_.transform(X[:60, :5])


def test_a_single_row_is_no_table() -> None:
    X = sparse.csr_array(DENSE)
    try:
        row = X[0]
    except NotImplementedError:
        pytest.skip("this scipy has no sparse arrays of one dimension")
    clf = quick(2, warmup_epochs=1).fit(X, LABELS)
    message = (
        r"X must be a 2-dimensional sparse array .* of shape \(30,\)\. X\.reshape\(1, -1\)"
    )
    with pytest.raises(ValueError, match=message):
        clf.predict(row)
    assert clf.predict(row.reshape(1, -1)) == clf.predict(X[[0]])


def test_only_two_dimensions_may_be_sparse() -> None:
    try:
        X = sparse.coo_array(DENSE.reshape(N, 5, 6))
    except (TypeError, ValueError):
        pytest.skip("this scipy has no sparse arrays of more dimensions")
    message = r"X must have two dimensions if it is sparse, got shape \(120, 5, 6\)"
    with pytest.raises(ValueError, match=message):
        quick().fit(X, LABELS)


def test_text_in_a_pipeline() -> None:
    texts = [f"{('red', 'green', 'blue')[i]} car number {n}" for n, i in enumerate(LABELS)]
    pipeline = make_pipeline(TfidfVectorizer(), quick(40))
    assert pipeline.fit(texts, LABELS).score(texts, LABELS) > 0.7
    grid = GridSearchCV(quick(12), {"alpha": [0.5, 1.0]}, cv=2)
    found = grid.fit(sparse.csr_array(DENSE), LABELS).cv_results_["mean_test_score"]
    expected = grid.fit(DENSE, LABELS).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adafactor"])
def test_in_processes(optimizer: str) -> None:
    expected = quick(30, optimizer=optimizer).fit(DENSE, LABELS)
    with joblib.parallel_config("loky"):
        found = quick(30, optimizer=optimizer, n_jobs=2).fit(sparse.csr_array(DENSE), LABELS)
    assert_same_fit(found, expected)


def test_a_scorer_sees_the_validation_rows_dense() -> None:
    seen = []

    def scorer(clf: Any, X: np.ndarray, y: np.ndarray) -> float:
        seen.append((type(X), X.shape[1:]))
        return float((clf.predict(X) == y).mean())

    found = quick(12, scoring=scorer).fit(sparse.csr_array(DENSE), LABELS)
    assert_same_fit(found, quick(12, scoring=scorer).fit(DENSE, LABELS))
    assert set(seen) == {(np.ndarray, (6, 6, 1))}


def test_a_warm_start_goes_on_with_rows_of_either_kind() -> None:
    expected = quick(12, warm_start=True).fit(DENSE, LABELS).fit(DENSE, LABELS)
    for first, second in ((DENSE, sparse.csr_array(DENSE)), (sparse.csc_array(DENSE), DENSE)):
        found = quick(12, warm_start=True).fit(first, LABELS).fit(second, LABELS)
        assert_same_fit(found, expected)


# --- memory ----------------------------------------------------------------------------------


def test_images_are_made_in_batches(monkeypatch: Any) -> None:
    taken = watch_batches(monkeypatch)
    X = sparse.vstack([sparse.csr_array(DENSE)] * 25)
    quick(12, validation_fraction=0.5).fit(X, np.tile(LABELS, 25))
    assert sum(taken) > 5 * 3_000
    assert max(taken) <= 1024


def test_images_of_sparse_rows() -> None:
    X = sparse.csr_array(DENSE)
    encoder = InputEncoder().fit(X)
    places, rows = torch.tensor([3, 0, 3]), np.array([9, 8, 7, 50])
    for some, expected in ((None, [3, 0, 3]), (rows, [50, 9, 50])):
        images = MappedImages(X, encoder.transform, some)
        assert len(images) == (N if some is None else 4)
        for same in (images, pickle.loads(pickle.dumps(images))):
            found = same.take(places)
            np.testing.assert_array_equal(found, encoder.transform(DENSE[expected]))
    moved = MappedImages(X, encoder.transform).to(torch.device("meta"))
    assert (moved.shape, moved.dtype) == ((N, 6, 6, 1), torch.float32)


LIMITED = """
import resource, sys
import numpy as np
from scipy import sparse
from skectonas import ECToNASClassifier

rows, columns = int(sys.argv[1]), int(sys.argv[2])
clf = ECToNASClassifier(
    budget=1, warmup_epochs=0.3, round_epochs=0.2, batch_size=256, start="small_ffnn",
    morphisms=["identity", "add_units"], random_state=0,
)
clf.fit(np.random.default_rng(0).normal(size=(40, columns)), np.arange(40) % 2)
places = np.random.default_rng(0).integers(0, columns, (rows, columns // 100)).ravel()
ends = np.arange(0, len(places) + 1, columns // 100)
X = sparse.csr_array((np.sqrt(places), places, ends), shape=(rows, columns)).tocsc()
status = open("/proc/self/status").read()
used = 1024 * int(status.partition("VmData:")[2].split()[0])
limit = used + rows * columns * 4 // 2
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    X.astype(np.float32).toarray()
except MemoryError:
    print("limited")
clf.fit(X, np.arange(rows) % 2)
print(clf.predict_proba(X).shape)
"""


@not_if_brief
@pytest.mark.skipif(sys.platform != "linux", reason="no limit of this kind")
def test_rows_that_would_not_fit_into_memory_can_be_fitted() -> None:
    rows, columns = 30_000, 2_000  # half of what they would take as float32 may be allocated
    command = [sys.executable, "-c", LIMITED, str(rows), str(columns)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"limited\n({rows}, 2)\n", done.stderr


# --- PseudoImageTransformer ------------------------------------------------------------------


@pytest.mark.parametrize("order", ["given", "shuffled", "correlation"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_pseudo_images_are_dense(order: str, dtype: Any) -> None:
    X = DENSE.astype(dtype)
    expected = PseudoImageTransformer(order=order, random_state=0).fit(X)
    for given in (sparse.csr_array(X), sparse.coo_matrix(X)):
        found = PseudoImageTransformer(order=order, random_state=0).fit(given)
        np.testing.assert_array_equal(found.pixel_index_, expected.pixel_index_)
        images = found.transform(given)
        assert type(images) is np.ndarray
        assert images.dtype == dtype
        np.testing.assert_array_equal(images, expected.transform(X))


def test_pseudo_images_as_frames() -> None:
    transformer = PseudoImageTransformer().set_output(transform="pandas")
    output = transformer.fit_transform(sparse.csr_array(DENSE))
    np.testing.assert_array_equal(output, transformer.fit_transform(DENSE))


def test_pseudo_images_of_values_that_are_not_finite() -> None:
    X = sparse.csr_array(np.where(DENSE.max() == DENSE, np.nan, DENSE))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        PseudoImageTransformer().fit(X)

"""What a classifier learns of its input: from the rows it trains on, and from nothing else."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import census, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from skectonas import ECToNASClassifier
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.rows import batches_of
from skectonas.training.holdout import split

N = 80
LABELS = np.arange(N) % 2
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(N, 5)) + LABELS[:, None]
GAPS = np.where(RNG.random((N, 5)) < [0, 0.1, 0.8, 0, 0.3], np.nan, TABLE)
PIXELS = RNG.integers(20, 200, (N, 6, 5, 3)) + 20 * LABELS[:, None, None, None]
WORDS = RNG.choice(["oak", "elm", "ash"], N)


def assert_same_encoder(found: InputEncoder, expected: InputEncoder) -> None:
    np.testing.assert_equal(found.to_dict(), expected.to_dict())


def brief(**settings: Any) -> ECToNASClassifier:
    return quick(2, warmup_epochs=1, **settings)


# --- the rows that are trained on ------------------------------------------------------------


def spoiled(X: Any, rows: np.ndarray) -> Any:
    """Return X with an outlier, a gap or something new in each of some rows."""
    if isinstance(X, pd.DataFrame):
        X = X.copy()
        X.iloc[rows, X.columns.get_loc("number")] = 1e9
        X.iloc[rows[::2], X.columns.get_loc("whole")] = np.nan
        X.iloc[rows, X.columns.get_loc("word")] = "a word that is nowhere else"
        X.iloc[rows, X.columns.get_loc("day")] = pd.Timestamp("2099-12-31 23:59")
        return X
    X = X.tolil() if sparse.issparse(X) else X.copy()
    X[rows] = 255 if X.dtype == np.uint8 else 1e9
    if X.ndim == 2 and not sparse.issparse(X):
        X[rows[::2], 0] = np.nan
    return X.tocsr() if sparse.issparse(X) else X


FRAME = pd.DataFrame(
    {
        "number": TABLE[:, 0],
        "whole": np.arange(N, dtype=float),
        "word": WORDS,
        "day": pd.date_range("2020-01-01", periods=N),
    }
)
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "table": (TABLE, {}),
    "minmax": (TABLE, {"column_scaling": "minmax"}),
    "correlated": (TABLE, {"column_order": "correlation"}),
    "sparse": (sparse.csr_array(TABLE), {}),
    "frame": (FRAME, {"column_order": "correlation"}),
    "8-bit images": (np.minimum(PIXELS, 250).astype(np.uint8), {"start": "medium_cnn"}),
    "images": (PIXELS / 7, {"start": "medium_cnn"}),
    "float32": ((PIXELS / 7).astype(np.float32), {"start": "medium_cnn"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_knows_nothing_of_the_rows_that_are_held_out(kind: str) -> None:
    X, settings = KINDS[kind]
    clf = brief(**settings).fit(X, LABELS)
    train, held_out = split(LABELS, clf.validation_fraction, clf.seed_)
    assert len(held_out) > 5
    other = brief(**settings).fit(spoiled(X, held_out), LABELS)
    assert_same_encoder(other.encoder_, clf.encoder_)
    assert_same_encoder(
        InputEncoder(random_state=clf.seed_, **encoding(settings)).fit(X, train), clf.encoder_
    )
    seen = brief(**settings).fit(spoiled(X, train[:3]), LABELS)
    with pytest.raises(AssertionError):
        assert_same_encoder(seen.encoder_, clf.encoder_)


def encoding(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name.startswith("column")}


def test_nor_of_rows_without_weight() -> None:
    weights = np.where(np.arange(N) < 60, 1.0, 0.0)
    gone = np.arange(60, N)
    for X, settings in KINDS.values():
        clf = brief(**settings).fit(spoiled(X, gone), LABELS, weights)
        assert_same_encoder(clf.encoder_, brief(**settings).fit(X[:60], LABELS[:60]).encoder_)


def test_a_second_fit_of_a_warm_start_keeps_the_encoder() -> None:
    clf = brief(warm_start=True).fit(TABLE, LABELS)
    before = clf.encoder_.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf.fit(TABLE * 3, LABELS)
    np.testing.assert_equal(clf.encoder_.to_dict(), before)


def test_batches_of_a_wide_frame_have_some_hundred_rows_unless_they_become_too_large() -> None:
    wide = pd.DataFrame(np.zeros((600, 20_000), dtype=np.int8))
    assert [len(batch) for batch in batches_of(wide)] == [256, 256, 88]
    assert len(next(batches_of(wide.to_numpy()))) == 2**20 // 20_000
    assert len(next(batches_of(wide, width=2**21))) == 4


# --- gaps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("column_scaling", ["quantile", "piecewise", "minmax"])
@pytest.mark.parametrize(
    "convert", [np.asarray, np.float32, sparse.csr_array, np.ndarray.tolist]
)
def test_gaps_in_plain_tables(column_scaling: Any, convert: Any) -> None:
    clf = quick(12, column_scaling=column_scaling).fit(convert(GAPS), LABELS)
    assert clf.n_features_in_ == 5
    names = clf.encoder_.feature_names_out_.tolist()
    assert [name for name in names if "missing" in name] == [
        *("x1_missing", "x2_missing", "x4_missing")
    ]
    probabilities = clf.predict_proba(convert(GAPS))
    assert np.isfinite(probabilities).all()
    images = clf.encoder_.transform(GAPS)
    np.testing.assert_array_equal(clf.encoder_.transform(GAPS[7:8]), images[7:8])
    np.testing.assert_allclose(clf.predict_proba(convert(GAPS[7:8])), probabilities[7:8], 1e-12)
    assert clf.predict_proba(np.full((2, 5), np.nan)).shape == (2, 2)


def test_a_frame_with_gaps_is_the_array_of_it() -> None:
    expected = brief().fit(GAPS, LABELS)
    found = brief().fit(pd.DataFrame(GAPS, columns=list("abcde")), LABELS)
    nullable = pd.DataFrame(GAPS, columns=list("abcde")).astype("Float64")
    for X in (pd.DataFrame(GAPS, columns=list("abcde")), nullable):
        np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(GAPS))


def test_that_a_value_is_missing_can_be_learned() -> None:
    X = np.where(LABELS[:, None] == [[1, 0]], np.nan, RNG.normal(size=(N, 2)))
    assert quick(40).fit(X, LABELS).score(X, LABELS) == 1


# --- arrays of objects -----------------------------------------------------------------------

OBJECTS = np.array(
    [[TABLE[i, 0], WORDS[i], None if i % 7 == 0 else TABLE[i, 1]] for i in range(N)],
    dtype=object,
)


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist])
def test_objects_are_the_frame_of_them(convert: Any) -> None:
    clf = brief().fit(convert(OBJECTS), LABELS)
    assert clf.n_features_in_ == 3
    assert not hasattr(clf, "feature_names_in_")
    assert clf.encoder_.feature_names_out_.tolist() == [
        *("0", "1_ash", "1_elm", "1_oak", "2", "2_missing")
    ]
    frame = pd.DataFrame(OBJECTS, columns=list("abc")).infer_objects()
    expected = brief().fit(frame, LABELS)
    for rows in (slice(None), slice(3, 4), slice(0, 1)):  # of one row, a column may be empty
        np.testing.assert_array_equal(
            clf.predict_proba(convert(OBJECTS[rows])), expected.predict_proba(frame[rows])
        )
    with pytest.raises(ValueError, match="3 features"):
        clf.predict(convert(OBJECTS[:, :2]))


def test_an_array_of_numbers_after_one_of_objects() -> None:
    rows = [["" if x is None else x for x in row] for row in OBJECTS[:, [0, 2]]]
    X = np.array(rows, dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = brief().fit(X, LABELS)
    numbers = np.array([[x or np.nan for x in row] for row in X], dtype=float)
    np.testing.assert_array_equal(clf.predict_proba(numbers), clf.predict_proba(X))


@pytest.mark.parametrize("features", [1.0, 2])
def test_objects_through_bagging(features: Any) -> None:
    bagging = BaggingClassifier(brief(), 3, max_features=features, random_state=0)
    probabilities = bagging.fit(OBJECTS, LABELS).predict_proba(OBJECTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    each = [
        clf.predict_proba(OBJECTS[:, columns])
        for clf, columns in zip(bagging.estimators_, bagging.estimators_features_, strict=True)
    ]
    np.testing.assert_allclose(probabilities, np.mean(each, axis=0))


def test_objects_of_a_column_transformer() -> None:
    X, y = census(80)
    columns = make_column_transformer(
        (SimpleImputer(), ["age"]), ("passthrough", ["job", "region", "married"])
    )
    pipeline = make_pipeline(columns, brief()).fit(X, y)
    handed_on = columns.fit_transform(X)
    assert handed_on.dtype == object
    assert pipeline[-1].encoder_.to_dict()["tables"] is not None
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), brief().fit(handed_on, y).predict_proba(handed_on)
    )
    as_frames = clone(pipeline).set_output(transform="pandas").fit(X, y)
    np.testing.assert_array_equal(as_frames.predict_proba(X), pipeline.predict_proba(X))
    assert np.isfinite(cross_val_score(pipeline, X, y, cv=2, error_score="raise")).all()


# --- data on another scale -------------------------------------------------------------------

IMAGES = PIXELS.astype(np.uint8)
EMPTY = np.where(np.arange(5) == 2, np.nan, TABLE)


@pytest.mark.parametrize("scaling", ["quantile", "piecewise", "minmax"])
def test_extreme_values_do_not_overflow(scaling: Any) -> None:
    X = np.random.default_rng(0).uniform(-1, 1, (40, 3)) * 1.7e308
    assert_silent(InputEncoder(column_scaling=scaling).fit(X), X[:30])


def assert_silent(encoder: InputEncoder, X: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.warn_if_scaled_differently(X)


@pytest.mark.parametrize(
    ("seen", "later"),
    [
        (IMAGES, IMAGES / 255),
        (IMAGES / 255, IMAGES),
        (IMAGES.astype(np.float32), (IMAGES / 255).astype(np.float32)),
        ((IMAGES / 255).astype(np.float32), IMAGES.astype(np.float32)),
        (IMAGES / 255, IMAGES * 257.0),
    ],
)
def test_images_on_another_scale(seen: np.ndarray, later: np.ndarray) -> None:
    for shape, image_shape in ((seen.shape, None), ((N, 90), (6, 5, 3))):
        encoder = InputEncoder(image_shape).fit(seen.reshape(shape))
        for n in (1, 5, N):
            with pytest.warns(UserWarning, match=r"X has pixels from .*another way\?"):
                encoder.warn_if_scaled_differently(later.reshape(shape)[:n])
            assert_silent(encoder, seen.reshape(shape)[:n])


@pytest.mark.parametrize(
    ("seen", "later"),
    [
        (TABLE, TABLE * 1000),
        (TABLE, TABLE / 1000),
        (TABLE, TABLE + 1000),
        (TABLE, TABLE - 1000),
        (GAPS, GAPS * 50),
        (np.exp(3 * TABLE), TABLE / 50),
        (TABLE, np.exp(9 * TABLE)),
        (EMPTY, EMPTY * 1000),
        (TABLE, EMPTY * 1000),
        (EMPTY, TABLE * 1000),
    ],
)
def test_tables_on_another_scale(seen: np.ndarray, later: np.ndarray) -> None:
    for column_scaling in ("quantile", "piecewise", "minmax"):
        encoder = InputEncoder(column_scaling=column_scaling).fit(seen)
        for X in (later, pd.DataFrame(later)):
            with pytest.warns(
                UserWarning, match=r"X has values in column \d, most of them from .*another"
            ):
                encoder.warn_if_scaled_differently(X)
        assert_silent(encoder, seen)
        assert_silent(encoder, seen[:20])
        assert_silent(encoder, later[:5])  # too few to tell


def test_a_grid_over_heavy_tails_is_on_the_same_scale() -> None:
    seen = np.random.default_rng(0).standard_t(1.2, (4000, 2))
    low, high = seen.min(axis=0) - 1, seen.max(axis=0) + 1
    encoder = InputEncoder().fit(seen)
    assert_silent(encoder, np.linspace(low, high, 100))
    wider = np.linspace(20 * low, 20 * high, 100)
    with pytest.warns(UserWarning, match="another way") as caught:
        encoder.warn_if_scaled_differently(wider)
    told = re.search(
        r"values in column 0, most of them from (\S+) to (\S+), .* from (\S+) to (\S+):",
        str(caught[0].message),
    )
    assert told is not None
    ranges = np.array(told.groups(), dtype=float)
    np.testing.assert_allclose(ranges[:2], wider[[5, 94], 0], rtol=1e-4)
    within = (seen[:, 0] > ranges[2]) & (seen[:, 0] < ranges[3])
    assert 0.8 < within.mean() < 0.98


@pytest.mark.parametrize("factor", [1 / 50, 50])
def test_skewed_columns_on_another_scale(factor: float) -> None:
    draw = np.random.default_rng(0).lognormal
    encoder = InputEncoder().fit(draw(sigma=2, size=(4000, 3)))
    assert_silent(encoder, draw(sigma=2, size=(100, 3)))
    with pytest.warns(UserWarning, match="another way"):
        encoder.warn_if_scaled_differently(factor * draw(sigma=2, size=(100, 3)))


SORTED = {
    "numbers": ["<LOD>"] * 40 + [f"{i}.5" for i in range(400)],
    "numbers first": [f"{i}.5" for i in range(400)] + ["<LOD>"] * 40,
    "dates": ["unknown"] * 9 + [f"{1900 + i}-01-02" for i in range(200)],
    "spans": [None] * 20 + [pd.Timedelta(hours=i) for i in range(50)] + ["late"] * 20,
    "categories": [*"aaaaaaaabbbbbbbbcccccccc"] * 9,
    "zones": [
        *pd.date_range("2020-01-01", periods=200, freq="h"),
        *pd.date_range("2020-01-01", periods=200, freq="h", tz="Asia/Tokyo"),
    ],
}


@pytest.mark.parametrize("kind", SORTED)
def test_what_is_new_is_judged_by_all_rows_and_not_by_batches(
    kind: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr("skectonas.inputs.rows._VALUES_AT_ONCE", 8)
    monkeypatch.setattr("skectonas.inputs.rows._ROWS_OF_FRAME", 8)
    X = pd.DataFrame({"x": pd.Series(SORTED[kind], dtype=object), "y": 1.0})
    X = X.sort_values("x") if kind == "categories" else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Column 'x'")
        clf = brief().fit(X, np.arange(len(X)) % 2)
        clf.predict(X)
        InputEncoder().fit(X[:100]).transform(X)


def test_what_is_new_in_all_batches_is_told_once(monkeypatch: Any) -> None:
    monkeypatch.setattr("skectonas.inputs.rows._VALUES_AT_ONCE", 8)
    monkeypatch.setattr("skectonas.inputs.rows._ROWS_OF_FRAME", 8)
    n = 60
    X = pd.DataFrame(
        {
            "number": [f"{i}.5" for i in range(n)],
            "word": [*"abc"] * (n // 3),
            "time": pd.date_range("2020-01-01", periods=n, freq="h"),
        }
    )
    new = pd.DataFrame(
        {
            "number": [None, *(f"{i},5" for i in range(n - 1))],
            "word": [*"ABC"] * (n // 3),
            "time": X["time"].dt.tz_localize("Asia/Tokyo"),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clf = brief(warm_start=True).fit(X, np.arange(n) % 2)
    for call in (clf.predict, clf.encoder_.transform, lambda X: clf.fit(X, np.arange(n) % 2)):
        with pytest.warns(UserWarning, match="Column '") as caught:
            call(new)
        told = [str(each.message) for each in caught if "Column '" in str(each.message)]
        assert [message.split("'")[1] for message in told] == ["number", "word", "time"]
        assert (
            f"got {n - 1} values none of which can be read as such, for example '0,5'"
            in told[0]
        )
        assert f"got {n} values none of which is among them, for example 'A'" in told[1]
        assert "got times in the time zone Asia/Tokyo" in told[2]
        assert {each.filename for each in caught} == {__file__}


def test_the_warning_comes_once_and_names_the_line_of_the_user() -> None:
    clf = brief().fit(IMAGES, LABELS)
    for call in (clf.predict, clf.predict_proba, lambda X: clf.score(X, LABELS)):
        with pytest.warns(UserWarning, match="another way") as caught:
            call(IMAGES / 255)
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(IMAGES)


def test_nothing_is_said_where_nothing_can_be_told() -> None:
    for X in (np.full((30, 2), 3.0), np.full((30, 2), [3.0, np.nan]), np.full((30, 2, 2), 3.0)):
        encoder = InputEncoder().fit(X)
        assert_silent(encoder, X)
        assert_silent(encoder, X[:0])
        if X.ndim == 2:
            assert_silent(encoder, np.full((30, 2), 9.0))
    encoder = InputEncoder().fit(IMAGES)
    assert_silent(encoder, np.full((1, 6, 5, 3), 7))  # a blank one
    assert_silent(encoder, IMAGES[:1] // 4)  # a dark one
    frame = InputEncoder().fit(FRAME)
    assert_silent(frame, FRAME.assign(number=1e9))
    assert_silent(InputEncoder().fit(TABLE), EMPTY)


DISTRIBUTIONS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "uniform": lambda rng, size: rng.random(size),
    "skewed": lambda rng, size: rng.lognormal(sigma=2, size=size),
    "heavy tails": lambda rng, size: rng.standard_t(2, size=size),
    "counts": lambda rng, size: rng.poisson(2, size=size),
    "rare": lambda rng, size: (rng.random(size) < 0.03).astype(float),
    "yes or no": lambda rng, size: rng.integers(0, 2, size),
    "two heaps": lambda rng, size: rng.normal(size=size) + 9 * rng.integers(0, 2, size),
}


@given(
    st.lists(st.sampled_from(sorted(DISTRIBUTIONS)), min_size=3, max_size=12),
    st.integers(0, 2**16),
    st.sampled_from([20, 32, 100, 500]),
    st.floats(0, 0.5),
    st.sampled_from(["quantile", "piecewise", "minmax"]),
)
def test_ordinary_rows_of_tables_are_on_the_same_scale(
    columns: list[str], seed: int, n: int, gaps: float, column_scaling: Any
) -> None:
    rng = np.random.default_rng(seed)
    X = np.stack([DISTRIBUTIONS[name](rng, 1000) * 1.0 for name in columns], axis=1)
    X = np.where(rng.random(X.shape) < gaps, np.nan, X)
    encoder = InputEncoder(column_scaling=column_scaling).fit(X[:500])
    assert_silent(encoder, X[500 : 500 + n])


@given(
    st.sampled_from(["normal", "uniform", "counts", "rare", "yes or no", "two heaps"]),
    st.integers(0, 2**16),
    st.sampled_from([1, 2, 20, 500]),
    st.sampled_from([np.uint8, np.float32, np.float64]),
)
def test_ordinary_images_are_on_the_same_scale(
    name: str, seed: int, n: int, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    X = DISTRIBUTIONS[name](rng, (1000, 8, 8))
    brightness = rng.uniform(0.3, 1, (1000, 1, 1))
    if dtype == np.uint8:
        X = 255 * (X - X.min()) / np.ptp(X)
    X = (X * brightness).astype(dtype)
    assert_silent(InputEncoder().fit(X[:500]), X[500 : 500 + n])

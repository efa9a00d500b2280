"""The estimator as its users meet it."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skectonas import (
    ConvCell,
    Dense,
    ECToNASClassifier,
    PseudoImageTransformer,
    Topology,
)
from skectonas.morphisms import AddCell
from skectonas.network import TopologyNetwork
from skectonas.training import PlainTrainer

HISTORY_COLUMNS = [
    "generation",
    "phase",
    "round",
    "bracket",
    "candidate",
    "parent",
    "morphism",
    "topology",
    "n_parameters",
    "epochs",
    "epochs_total",
    "budget_spent",
    "train_loss",
    "validation_loss",
    "validation_score",
    "fitness",
    "won",
    "seconds",
]


def quick(budget: float = 25, **settings: Any) -> ECToNASClassifier:
    return ECToNASClassifier(budget=budget, **{"random_state": 0, **settings})


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    return bunch.images[:300], bunch.target[:300]


@pytest.fixture(scope="module")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> ECToNASClassifier:
    return quick(60).fit(*digits)


def census(n: int = 200) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, n).astype(float)
    job = rng.choice(["clerk", "nurse", "smith"], n).astype(object)
    rich = age + 20 * (job == "nurse") + rng.normal(0, 5, n) > 60
    frame = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, age),
            "job": pd.Series(np.where(rng.random(n) < 0.1, None, job)),
            "married": rng.random(n) < 0.5,
            "region": pd.Categorical(rng.choice(list("NSEW"), n)),
            "constant": 1,
        }
    )
    return frame, pd.Series(np.where(rich, ">50K", "<=50K"))


# --- what fit leaves behind ---------------------------------------------------------------


def test_fitted_attributes(fitted: ECToNASClassifier) -> None:
    assert isinstance(fitted.best_topology_, Topology)
    assert isinstance(fitted.network_, TopologyNetwork)
    assert not fitted.network_.training
    assert fitted.network_.topology == fitted.best_topology_
    parameters = list(fitted.network_.parameters())
    assert fitted.n_parameters_ == sum(p.numel() for p in parameters)
    assert {p.device.type for p in parameters} == {"cpu"}
    assert fitted.n_features_in_ == 64
    assert fitted.image_shape_ == (8, 8, 1)
    assert fitted.classes_.tolist() == list(range(10))
    assert not hasattr(fitted, "feature_names_in_")
    lineage = fitted.lineage_
    assert lineage["morphism"].iloc[0] == "start"
    assert lineage["topology"].iloc[-1] == str(fitted.best_topology_)
    assert lineage["validation_score"].iloc[-1] == fitted.validation_score_


def test_network_gives_the_probabilities(fitted: ECToNASClassifier, digits: Any) -> None:
    X, _ = digits
    images = torch.from_numpy(fitted.encoder_.transform(X)).float()
    range_ = fitted.encoder_.range_
    with torch.no_grad():
        logits = fitted.network_((images - range_.offset) * range_.scale)
    np.testing.assert_allclose(logits.softmax(1), fitted.predict_proba(X), atol=1e-5)


def test_history(fitted: ECToNASClassifier) -> None:
    history = fitted.history_
    assert list(history.columns) == HISTORY_COLUMNS
    assert history["budget_spent"].iloc[-1] <= 60
    np.testing.assert_allclose(history["epochs"].cumsum(), history["budget_spent"])
    assert history["validation_score"].between(0, 1).all()
    assert (history["seconds"] > 0).all()
    warm_up = history.iloc[0]
    assert (warm_up["phase"], warm_up["generation"], warm_up["epochs"]) == ("warm-up", 0, 10)
    assert warm_up["parent"] is pd.NA
    assert history["won"].isna().equals(history["bracket"].isna())


def test_validation_score_is_that_of_the_network(digits: Any) -> None:
    X, y = digits
    clf = quick(12, score_window=1).fit(X, y)
    from skectonas.validation import draw_seed, split

    _, rows = split(y, 0.1, draw_seed(0))
    assert clf.validation_score_ == pytest.approx(clf.score(X[rows], y[rows]))


def test_it_learns_digits_and_crosses_to_a_cnn() -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    clf = ECToNASClassifier(
        budget=120, morphisms=["identity", AddCell(extra=(7,))], random_state=0
    )
    clf.fit(X_train, y_train)
    assert clf.score(X_test, y_test) > 0.94
    assert clf.best_topology_.is_cnn
    assert "add_cell" in set(clf.lineage_["morphism"])


def test_it_crosses_from_a_cnn_to_dense_layers(digits: Any) -> None:
    clf = quick(60, start="large_cnn", morphisms=["remove_cell"]).fit(*digits)
    dense = clf.history_["topology"].str.contains("conv") == False  # noqa: E712
    assert dense.any()


def test_balanced_search_finds_something_smaller() -> None:
    X, y = load_digits(return_X_y=True)
    clf = quick(180, alpha=0.3).fit(X, y)
    assert clf.n_parameters_ < Topology((8, 8, 1), [], [Dense(10)], 10).n_parameters


def test_a_table_beats_the_majority() -> None:
    X, y = census(400)
    clf = quick(40).fit(X[:300], y[:300])
    assert clf.score(X[300:], y[300:]) > 1.2 * y[300:].value_counts(normalize=True).max()
    assert set(clf.predict(X[300:])) == {">50K", "<=50K"}


# --- what goes in -------------------------------------------------------------------------


def test_kinds_of_images_give_the_same(digits: Any) -> None:
    X, y = digits
    X = np.round(X * 255 / 16)
    expected = quick(12).fit(X, y).predict_proba(X[:9])
    for same in (X.astype(np.uint8), X.astype(np.int64), X[..., None], X.astype(np.float32)):
        found = quick(12).fit(same, y).predict_proba(same[:9])
        np.testing.assert_allclose(found, expected, atol=1e-6)
    flat = X.reshape(len(X), -1)
    found = quick(12, image_shape=(8, 8)).fit(flat, y)
    np.testing.assert_allclose(found.predict_proba(flat[:9]), expected, atol=1e-6)


def test_colour_images() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (60, 7, 9, 3), dtype=np.uint8)
    y = np.where(X[..., 0].mean((1, 2)) > X[..., 1].mean((1, 2)), "red", "green")
    clf = quick(30, start="medium_cnn").fit(X, y)
    assert clf.image_shape_ == (7, 9, 3)
    assert clf.n_features_in_ == 189
    assert clf.predict_proba(X[:4]).shape == (4, 2)
    before = X.copy()
    clf.predict(X)
    assert (before == X).all()


def test_flat_rows_become_a_square_or_what_is_asked_for() -> None:
    X, y = load_iris(return_X_y=True)
    assert quick(12).fit(X[:, :3], y).image_shape_ == (2, 2, 1)
    assert quick(12, image_shape=(1, 7)).fit(X, y).image_shape_ == (1, 7, 1)
    assert quick(12, image_shape=(2, 3, 2)).fit(X, y).image_shape_ == (2, 3, 2)
    assert quick(12, column_order="correlation").fit(X, y).score(X, y) > 0.5


def test_frame_has_names_and_tolerates_what_is_new() -> None:
    X, y = census()
    clf = quick(12).fit(X, y)
    assert clf.feature_names_in_.tolist() == list(X.columns)
    strange = X[:5].copy()
    strange["job"] = "astronaut"
    strange["region"] = pd.Categorical(["X"] * 5)
    strange["constant"] = np.nan
    assert np.isfinite(clf.predict_proba(strange)).all()
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(X[X.columns[::-1]])


def test_lists_and_memory_maps(tmp_path: Any, digits: Any) -> None:
    X, y = digits
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = quick(12).fit(X, y).predict(X[:20])
    assert (quick(12).fit(mapped, y).predict(mapped[:20]) == expected).all()
    assert (quick(12).fit(X.tolist(), y.tolist()).predict(X[:20].tolist()) == expected).all()
    assert (quick(12).fit(np.asfortranarray(X), y).predict(X[:20]) == expected).all()


def test_labels_of_any_kind(digits: Any) -> None:
    X, y = digits
    expected = quick(12).fit(X, y).predict(X[:20])
    for convert in (
        lambda y: np.array([f"digit {i}" for i in y]),
        lambda y: np.array([f"digit {i}" for i in y], dtype=object),
        lambda y: pd.Series([f"digit {i}" for i in y], dtype="category"),
        lambda y: [f"digit {i}" for i in y],
    ):
        found = quick(12).fit(X, convert(y)).predict(X[:20])
        assert found.tolist() == [f"digit {i}" for i in expected]


def test_nullable_labels_keep_their_kind() -> None:
    for labels, kind in (
        (pd.Series([2**60, 2**60 + 1] * 10, dtype="Int64"), "i"),
        (pd.Series([True, False] * 10, dtype="boolean"), "b"),
        (pd.Series([True, False] * 10, dtype=object), "b"),
        (pd.Series([3, 7] * 10, dtype="int64[pyarrow]"), "i"),
    ):
        clf = quick(2, warmup_epochs=1).fit(X_GOOD, labels)
        assert clf.classes_.dtype.kind == kind
        assert sorted(clf.classes_) == sorted(set(labels))


def test_start_may_be_a_topology(digits: Any) -> None:
    start = Topology((8, 8, 1), [ConvCell(4, "max")], [Dense(6)], 10)
    clf = quick(12, start=start).fit(*digits)
    assert clf.lineage_["topology"].iloc[0] == str(start)


@pytest.mark.parametrize("budget", [0.3, 1, 3.5, 10, 11.7])
def test_small_budgets_give_a_result(digits: Any, budget: float) -> None:
    clf = quick(budget).fit(*digits)
    assert clf.history_["budget_spent"].iloc[-1] <= budget
    assert clf.predict_proba(digits[0][:2]).shape == (2, 10)


def test_all_starts_on_small_images(digits: Any) -> None:
    from skectonas.starts import STARTS

    for start in STARTS:
        clf = quick(11, start=start).fit(*digits)
        assert np.isfinite(clf.predict_proba(digits[0][:2])).all()


# --- weights ------------------------------------------------------------------------------


def test_sample_weights_shift_the_decision() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    weights = np.where(y == 1, 20.0, 1.0)
    plain = quick().fit(X, y).predict(X).mean()
    assert quick().fit(X, y, sample_weight=weights).predict(X).mean() > plain + 0.1
    assert quick(class_weight={0: 1, 1: 20}).fit(X, y).predict(X).mean() > plain + 0.1


def test_weights_count_up_to_a_factor_and_zero_means_absent(digits: Any) -> None:
    X, y = digits
    ones = np.ones(len(y))
    expected = quick(12).fit(X, y, sample_weight=ones).predict_proba(X)
    np.testing.assert_allclose(
        quick(12).fit(X, y, sample_weight=7 * ones).predict_proba(X), expected, atol=1e-6
    )
    for huge in (1e300, np.finfo(float).max):
        found = quick(12).fit(X, y, sample_weight=huge * ones).predict_proba(X)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    some = np.where(np.arange(len(y)) < 200, 1.0, 0.0)
    found = quick(12).fit(X, y, sample_weight=some).predict_proba(X)
    np.testing.assert_allclose(
        found, quick(12).fit(X[:200], y[:200], sample_weight=some[:200]).predict_proba(X)
    )


def test_sample_weight_by_metadata_routing(digits: Any) -> None:
    X, y = digits
    weights = np.where(y < 5, 3.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = quick(12).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(PseudoImageTransformer(), clf)
        pipeline.fit(X.reshape(len(X), -1), y, sample_weight=weights)
        scores = cross_val_score(
            clf.set_score_request(sample_weight=True),
            X,
            y,
            params={"sample_weight": weights},
            cv=2,
        )
    assert len(scores) == 2
    assert hasattr(pipeline[-1], "network_")


# --- in the ecosystem ---------------------------------------------------------------------


def test_pipeline_and_grid(digits: Any) -> None:
    X, y = digits
    pipeline = Pipeline([("scale", StandardScaler()), ("net", quick(12))])
    grid = GridSearchCV(pipeline, {"net__alpha": [0.5, 1.0]}, cv=2, n_jobs=2)
    grid.fit(X.reshape(len(X), -1), y)
    assert grid.best_score_ > 0.3
    parallel = grid.cv_results_["mean_test_score"]
    grid.set_params(n_jobs=1).fit(X.reshape(len(X), -1), y)
    np.testing.assert_array_equal(parallel, grid.cv_results_["mean_test_score"])


def test_grid_over_images_and_starts(digits: Any) -> None:
    grid = GridSearchCV(quick(11), {"start": ["small_ffnn", "small_cnn"]}, cv=2)
    grid.fit(*digits)
    assert grid.best_estimator_.image_shape_ == (8, 8, 1)


def test_pseudo_images_in_a_pipeline() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(
        MinMaxScaler(), PseudoImageTransformer(order="correlation"), quick(40)
    )
    assert pipeline.fit(X, y).score(X, y) > 0.9
    assert pipeline[-1].image_shape_ == (6, 6, 1)


@pytest.mark.parametrize("copy", [lambda e: pickle.loads(pickle.dumps(e)), None])
def test_saved_and_loaded(
    copy: Callable[[Any], Any] | None, fitted: ECToNASClassifier, digits: Any, tmp_path: Any
) -> None:
    if copy is None:
        joblib.dump(fitted, tmp_path / "clf.joblib")
        loaded = joblib.load(tmp_path / "clf.joblib")
    else:
        loaded = copy(fitted)
    X, _ = digits
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    pd.testing.assert_frame_equal(loaded.history_, fitted.history_)


def test_clone_and_set_params(fitted: ECToNASClassifier, digits: Any) -> None:
    start = Topology((8, 8, 1), [], [Dense(6)], 10)
    other = clone(fitted).set_params(alpha=0.5, start=start, morphisms=[AddCell(extra=(2,))])
    assert not hasattr(other, "network_")
    assert clone(other).get_params()["start"] == start
    assert clone(other).fit(*digits).alpha == 0.5


# --- the trainers -------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["small_ffnn", "medium_cnn"])
def test_fused_training_finds_what_plain_training_finds(
    digits: Any, monkeypatch: Any, start: str
) -> None:
    fused = quick(60, start=start).fit(*digits)
    monkeypatch.setattr(
        "skectonas.classifier.FusedTrainer",
        lambda data, optimizer, scorer, averaging, n_jobs: PlainTrainer(
            data, optimizer, scorer, averaging
        ),
    )
    plain = quick(60, start=start).fit(*digits)
    assert fused.best_topology_ == plain.best_topology_
    columns = ["candidate", "morphism", "topology", "epochs_total", "budget_spent"]
    pd.testing.assert_frame_equal(fused.history_[columns], plain.history_[columns])
    np.testing.assert_allclose(
        fused.predict_proba(digits[0]), plain.predict_proba(digits[0]), atol=0.02
    )


def test_bits_do_not_depend_on_n_jobs(digits: Any) -> None:
    first, second = (quick(60, start="medium_cnn", n_jobs=n).fit(*digits) for n in (None, 2))
    np.testing.assert_array_equal(
        first.predict_proba(digits[0]), second.predict_proba(digits[0])
    )


# --- determinism and global state ---------------------------------------------------------


def test_same_seed_same_bits(digits: Any) -> None:
    X, y = digits
    first, second = (quick(60, start="medium_cnn").fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    pd.testing.assert_frame_equal(
        first.history_.drop(columns="seconds"), second.history_.drop(columns="seconds")
    )
    for ours, theirs in zip(
        first.network_.state_dict().values(), second.network_.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    other = ECToNASClassifier(budget=60, start="medium_cnn", random_state=1).fit(X, y)
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))


def test_bits_do_not_depend_on_the_number_of_threads(digits: Any) -> None:
    X, y = digits
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(quick(60, start="medium_cnn").fit(X, y).predict_proba(X))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("random_state", [0, None])
def test_global_state_is_left_alone(digits: Any, random_state: int | None) -> None:
    def state() -> tuple[Any, ...]:
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            tuple(numpy_state[1]),
            numpy_state[2],
            random.getstate(),
            tuple(torch.get_rng_state().tolist()),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            tuple(np.geterr().items()),
        )

    before = state()
    clf = ECToNASClassifier(budget=25, start="small_cnn", random_state=random_state)
    clf.fit(*digits).predict(digits[0])
    assert state() == before


def test_threads_are_restored_after_an_error(digits: Any) -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="diverged"):
        quick(learning_rate=1e30).fit(*digits)
    assert torch.get_num_threads() == before


def test_predictions_do_not_depend_on_the_company(
    fitted: ECToNASClassifier, digits: Any
) -> None:
    X, _ = digits
    together = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(together[:20], alone, rtol=0, atol=1e-12)


def test_an_unfrozen_network_is_still_evaluated(digits: Any) -> None:
    clf = quick(12, start="medium_cnn").fit(*digits)
    expected = clf.predict_proba(digits[0])
    clf.network_.train()
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)


# --- output -------------------------------------------------------------------------------


def test_quiet_by_default_and_a_line_a_generation(digits: Any, capsys: Any) -> None:
    quick(60).fit(*digits)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    clf = quick(300, verbose=1).fit(*digits)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + clf.history_["generation"].max()
    assert lines[0].startswith("[ECToNASClassifier] generation 0: 10.0 of 300 epochs")


def test_nothing_is_written(digits: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    quick(12).fit(*digits)
    assert list(tmp_path.iterdir()) == []


# --- interruption -------------------------------------------------------------------------


class Interrupt:
    """A scorer that presses Ctrl-C once it has been asked so many times."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return float((estimator.predict(X) == y).mean())


def test_ctrl_c_keeps_the_best_so_far(digits: Any) -> None:
    with pytest.warns(UserWarning, match="interrupted"):
        clf = quick(200, scoring=Interrupt(40)).fit(*digits)
    assert clf.history_["budget_spent"].iloc[-1] < 200
    assert clf.predict(digits[0]).shape == (300,)


def test_ctrl_c_during_the_warm_up_is_passed_on(digits: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        quick(200, scoring=Interrupt(5)).fit(*digits)


def test_ctrl_c_stops_a_grid(digits: Any) -> None:
    grid = GridSearchCV(quick(200), {"scoring": [Interrupt(40)]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        grid.fit(*digits)


def test_ctrl_c_in_a_pipeline_keeps_the_best_so_far(digits: Any) -> None:
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), quick(200, scoring=Interrupt(40)))
    with pytest.warns(UserWarning, match="interrupted"):
        pipeline.fit(X.reshape(len(X), -1), y)
    assert pipeline.predict(X.reshape(len(X), -1)).shape == (300,)


# --- a failed refit -----------------------------------------------------------------------


def test_a_failed_fit_changes_nothing_and_fits_nothing(digits: Any) -> None:
    X, y = digits
    clf = quick(12).fit(X, y)
    expected = clf.predict_proba(X)
    other = np.where(y > 4, "high", "low")
    for broken in ({"scoring": "r2"}, {"learning_rate": 1e30}, {"scoring": Interrupt(3)}):
        clf.set_params(**broken)
        with pytest.raises((ValueError, KeyboardInterrupt)):
            clf.fit(X * 0.5, np.where(y > 4, np.nan, y) if "r2" in broken.values() else other)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)
        assert clf.classes_.tolist() == list(range(10))
        clf.set_params(scoring="accuracy", learning_rate=0.1)
    with pytest.raises(ValueError, match="scoring"):
        (failed := quick(scoring="no_such")).fit(X, y)
    with pytest.raises(NotFittedError):
        failed.predict(X)


def test_an_autocast_around_changes_nothing(digits: Any) -> None:
    X, y = digits
    expected = quick(12, start="medium_cnn").fit(X, y).predict_proba(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quick(12, start="medium_cnn").fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)


# --- scoring and optimisers ---------------------------------------------------------------


@pytest.mark.parametrize("scoring", ["neg_log_loss", "f1_macro", "balanced_accuracy"])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_scorings(digits: Any, scoring: str, alpha: float) -> None:
    clf = quick(60, scoring=scoring, alpha=alpha).fit(*digits)
    assert np.isfinite(clf.validation_score_)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "learning_rate": 0.003},
        {"optimizer": torch.optim.AdamW, "learning_rate": 0.003},
        {"optimizer_params": {"momentum": 0.9, "nesterov": True}, "learning_rate": 0.01},
    ],
)
def test_optimisers(digits: Any, settings: dict[str, Any]) -> None:
    X, y = digits
    assert quick(25, **settings).fit(X, y).score(X, y) > 0.5


# --- bad input ----------------------------------------------------------------------------


X_GOOD, Y_GOOD = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
IMAGES = np.random.default_rng(0).random((20, 6, 6))


@pytest.mark.parametrize(
    ("X", "y", "settings", "message"),
    [
        (X_GOOD[:1], Y_GOOD[:1], {}, "1 sample"),
        (IMAGES[:1], Y_GOOD[:1], {}, "1 sample"),
        (X_GOOD, np.zeros(20), {}, "one class only"),
        (X_GOOD, [1] + [0] * 19, {}, "1 has only 1 member"),
        (X_GOOD, Y_GOOD[:19], {}, "inconsistent numbers of samples"),
        (X_GOOD, None, {}, "requires y"),
        (X_GOOD, np.where(Y_GOOD, np.nan, 0), {}, "NaN"),
        (X_GOOD, np.linspace(0, 1, 20), {}, "continuous"),
        (X_GOOD, np.stack([Y_GOOD, Y_GOOD], 1), {}, "1d array"),
        (np.where(X_GOOD > 2, X_GOOD, np.nan), Y_GOOD, {}, "NaN"),
        (np.where(IMAGES > 0.9, np.nan, IMAGES), Y_GOOD, {}, "NaN"),
        (np.where(IMAGES > 0.9, np.inf, IMAGES), Y_GOOD, {}, "infinity"),
        (np.empty((0, 4)), [], {}, "0 sample"),
        (np.empty((20, 0)), Y_GOOD, {}, r"0 feature"),
        (np.empty((0, 6, 6)), [], {}, "0 sample"),
        (np.empty((20, 6, 0)), Y_GOOD, {}, "without pixels"),
        (np.float64(3), Y_GOOD, {}, "[Ss]calar|singleton"),
        (X_GOOD[0], Y_GOOD, {}, "1D array"),
        (np.ones((20, 2, 2, 2, 2)), Y_GOOD, {}, "5 dimensions"),
        (np.array([["a", "b"]] * 20, dtype=object), Y_GOOD, {}, "could not convert"),
        (np.full((20, 6, 6), "a", dtype=object), Y_GOOD, {}, "could not convert"),
        (X_GOOD.astype(complex), Y_GOOD, {}, "[Cc]omplex"),
        (pd.DataFrame(X_GOOD)[:0], [], {}, "0 sample"),
        (pd.DataFrame(X_GOOD)[[]], Y_GOOD, {}, "0 feature"),
        (pd.DataFrame({"a": [np.inf] * 20}), Y_GOOD, {}, "a"),
        (pd.DataFrame({"when": pd.date_range("2020", periods=20)}), Y_GOOD, {}, "when"),
        (X_GOOD, Y_GOOD, {"start": "no_such"}, "start must be one of"),
        (X_GOOD, Y_GOOD, {"start": "small_cnn"}, "start='small_cnn' does not fit"),
        (X_GOOD, Y_GOOD, {"start": Topology((3, 3, 1), [], [], 2)}, "start is a topology"),
        (X_GOOD, Y_GOOD, {"start": Topology((2, 2, 1), [], [], 3)}, "n_classes=3"),
        (X_GOOD, Y_GOOD, {"max_parameters": 5}, "max_parameters"),
        (X_GOOD, Y_GOOD, {"budget": 0}, "'budget'"),
        (X_GOOD, Y_GOOD, {"budget": 0.01}, "budget=0.01"),
        (X_GOOD, Y_GOOD, {"budget": np.nan}, "budget"),
        (X_GOOD, Y_GOOD, {"alpha": 1.1}, "'alpha'"),
        (X_GOOD, Y_GOOD, {"batch_size": 0}, "'batch_size'"),
        (X_GOOD, Y_GOOD, {"validation_fraction": 1.0}, "'validation_fraction'"),
        (X_GOOD, Y_GOOD, {"validation_fraction": 0.97}, "validation_fraction=0.97"),
        (X_GOOD, Y_GOOD, {"scoring": "no_such"}, "scoring"),
        (X_GOOD, Y_GOOD, {"scoring": "r2"}, None),
        (X_GOOD, Y_GOOD, {"optimizer": "no_such"}, "optimizer must be one of"),
        (X_GOOD, Y_GOOD, {"optimizer_params": {"no_such": 1}}, "optimizer_params"),
        (X_GOOD, Y_GOOD, {"device": "no_such"}, "device"),
        (X_GOOD, Y_GOOD, {"device": "meta"}, "device"),
        (X_GOOD, Y_GOOD, {"n_jobs": 0}, "'n_jobs'"),
        (X_GOOD, Y_GOOD, {"image_shape": (1, 3)}, "image_shape"),
        (X_GOOD, Y_GOOD, {"image_shape": (0, 9)}, "image_shape"),
        (IMAGES, Y_GOOD, {"image_shape": (4, 9)}, "image_shape"),
        (X_GOOD, Y_GOOD, {"column_order": "best"}, "'column_order'"),
        (X_GOOD, Y_GOOD, {"morphisms": ["no_such"]}, "morphisms"),
        (X_GOOD, Y_GOOD, {"class_weight": "heavy"}, "'class_weight'"),
        (X_GOOD, Y_GOOD, {"random_state": "x"}, "'random_state'"),
    ],
)
def test_bad_input(
    X: Any, y: Any, settings: dict[str, Any], message: str | None, monkeypatch: Any
) -> None:
    def trained(*arguments: Any) -> None:
        raise AssertionError("trained before the input was checked")

    monkeypatch.setattr("skectonas.population.FusedTrainer.train", trained)
    if message is None:
        with pytest.raises(AssertionError, match="trained"):
            quick(**settings).fit(X, y)
        return
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit(X, y)


def test_sparse_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        quick().fit(sparse.csr_matrix(X_GOOD), Y_GOOD)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(19), "sample_weight"),
        (-np.ones(20), "[Nn]egative"),
        (np.zeros(20), "zero"),
        (np.full(20, np.nan), "NaN"),
        (np.where(Y_GOOD == 0, 1.0, 0.0), "one class only"),
    ],
)
def test_bad_sample_weights(weights: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick().fit(X_GOOD, Y_GOOD, sample_weight=weights)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((2, 6, 7)), r"6, 7"),
        (np.ones((2, 4, 9)), r"4, 9"),
        (np.ones((2, 6, 6, 3)), r"6, 6, 3"),
        (np.full((2, 6, 6), np.nan), "NaN"),
        (np.ones((0, 6, 6)), "0 sample"),
    ],
)
def test_bad_images_at_predict(X: np.ndarray, message: str) -> None:
    clf = quick(2, warmup_epochs=1).fit(IMAGES, Y_GOOD)
    with pytest.raises(ValueError, match=message):
        clf.predict(X)


def test_bad_rows_at_predict() -> None:
    clf = quick(2, warmup_epochs=1).fit(X_GOOD, Y_GOOD)
    with pytest.raises(ValueError, match="X has 3 features, but ECToNASClassifier"):
        clf.predict(X_GOOD[:, :3])
    frame, y = census(60)
    clf = quick(2, warmup_epochs=1).fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that names are missing is said too
        with pytest.raises(ValueError, match="data frame"):
            clf.predict(np.ones((3, 5)))


def test_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        quick().predict(X_GOOD)

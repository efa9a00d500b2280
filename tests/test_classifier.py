"""The estimator as its users meet it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import as_table, census, not_if_brief, quick
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import train_test_split

from skectonas import (
    PAPER_SETTINGS,
    ConvCell,
    Dense,
    ECToNASClassifier,
    Topology,
)
from skectonas.candidate import Ancestor, Candidate
from skectonas.morphisms import AddCell
from skectonas.network import TopologyNetwork
from skectonas.search.ledger import Ledger
from skectonas.training.plain import PlainTrainer

# --- what fit leaves behind ------------------------------------------------------------------


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


def test_logarithms_of_probabilities(fitted: ECToNASClassifier, digits: Any) -> None:
    X, _ = digits
    logarithms = fitted.predict_log_proba(X)
    np.testing.assert_allclose(np.exp(logarithms), fitted.predict_proba(X), atol=1e-12)
    certain = deepcopy(fitted)
    with torch.no_grad():
        certain.network_.output.weight.mul_(1e4)
    assert (certain.predict_proba(X) == 0).any()
    assert np.isfinite(certain.predict_log_proba(X)).all()


def test_network_gives_the_probabilities(fitted: ECToNASClassifier, digits: Any) -> None:
    X, _ = digits
    images = fitted.encoder_.scaling_.apply(fitted.encoder_.transform(X))
    with torch.no_grad():
        logits = fitted.network_(torch.from_numpy(images).float())
    np.testing.assert_allclose(logits.softmax(1), fitted.predict_proba(X), atol=1e-5)


def test_history(fitted: ECToNASClassifier) -> None:
    history = fitted.history_
    assert list(history.columns) == list(Ledger(1, 1).to_frame().columns)
    assert history["budget_spent"].iloc[-1] <= 60
    np.testing.assert_allclose(history["epochs"].cumsum(), history["budget_spent"])
    assert history["validation_score"].between(0, 1).all()
    assert (history["seconds"] > 0).all()
    warm_up = history.iloc[0]
    assert (warm_up["phase"], warm_up["generation"], warm_up["epochs"]) == ("warm-up", 0, 5)
    assert warm_up["parent"] is pd.NA
    assert history["won"].isna().equals(history["bracket"].isna())


def test_validation_score_is_that_of_the_network(digits: Any) -> None:
    X, y = digits
    # Without a final training, which is on all rows.
    clf = quick(12, score_window=1, final_fraction=0).fit(X, y)
    from skectonas.estimators import draw_seed
    from skectonas.training.holdout import split

    _, rows = split(y, clf.validation_fraction, draw_seed(0))
    assert clf.validation_score_ == pytest.approx(clf.score(X[rows], y[rows]))


def test_it_learns_digits_and_crosses_to_a_cnn() -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    clf = ECToNASClassifier(
        budget=120,
        morphisms=["identity", AddCell(extra=(7,))],
        selection="score",
        random_state=0,
    )
    clf.fit(X_train, y_train)
    assert clf.score(X_test, y_test) > 0.8
    assert clf.best_topology_.is_cnn
    assert "add_cell" in set(clf.lineage_["morphism"])


def test_it_crosses_from_a_cnn_to_dense_layers(digits: Any) -> None:
    clf = quick(60, start="large_cnn", morphisms=["remove_cell"]).fit(*digits)
    assert not clf.history_["topology"].str.contains("conv").all()


def test_balanced_search_finds_something_smaller() -> None:
    X, y = load_digits(return_X_y=True)
    clf = quick(180, alpha=0.3, start="large_ffnn").fit(X, y)
    assert clf.n_parameters_ < clf.lineage_["n_parameters"].iloc[0]


def test_a_table_beats_the_majority() -> None:
    X, y = census(400)
    clf = quick(40).fit(X[:300], y[:300])
    assert clf.score(X[300:], y[300:]) > 1.2 * y[300:].value_counts(normalize=True).max()
    assert set(clf.predict(X[300:])) == {">50K", "<=50K"}


# --- what goes in ----------------------------------------------------------------------------


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
    with pytest.warns(UserWarning, match="They count as unknown") as caught:
        assert np.isfinite(clf.predict_proba(strange)).all()
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        "Column 'job'", "Column 'region'",
    ]  # fmt: skip
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


@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_nullable_labels_keep_their_kind() -> None:
    large = [2**62, 2**62 + 1] * 10
    for labels, kind in (
        (pd.Series(large, dtype="Int64"), "i"),
        (pd.array(large, dtype="Int64"), "i"),
        (pd.array(large, dtype="UInt64"), "u"),
        (pd.array(large, dtype="int64[pyarrow]"), "i"),
        (pd.Index(large, dtype="Int64"), "i"),
        (pd.DataFrame({"y": pd.array(large, dtype="Int64")}), "i"),
        (pd.Series([True, False] * 10, dtype="boolean"), "b"),
        (pd.Series([True, False] * 10, dtype=object), "b"),
        (pd.Series([3, 7] * 10, dtype="int64[pyarrow]"), "i"),
    ):
        X = np.random.default_rng(0).normal(size=(20, 4))
        clf = quick(2, warmup_epochs=1).fit(X, labels)
        assert clf.classes_.dtype.kind == kind
        assert sorted(clf.classes_) == sorted(set(np.ravel(np.array(labels, dtype=object))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_that_the_user_has_trained_on(dtype: torch.dtype, digits: Any) -> None:
    X, y = digits
    X = torch.tensor(X, dtype=dtype, requires_grad=True)  # digits have whole numbers, up to 16
    weights = torch.ones(len(y), requires_grad=True)
    clf = quick(12).fit(X, torch.tensor(y), sample_weight=weights)
    expected = clf.predict_proba(digits[0].astype(np.float32))
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    np.testing.assert_array_equal(clf.predict_proba(list(X)), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": np.uint8(60), "warmup_epochs": np.uint8(10), "round_epochs": np.uint8(5)},
        {"batch_size": np.int8(32), "averaging": np.uint8(8), "score_window": np.uint32(3)},
        {"max_growth": np.uint8(3), "max_parameters": np.uint16(60_000)},
        {"n_rounds": np.uint8(3), "n_parents": np.uint8(2), "n_jobs": np.int8(1)},
        {"alpha": np.float16(1), "validation_fraction": np.float16(0.125)},
    ],
)
def test_numbers_of_numpy_are_as_good_as_those_of_python(
    digits: Any, settings: dict[str, Any]
) -> None:
    plain = {name: value.item() for name, value in settings.items()}
    clf, expected = (quick(60).set_params(**s).fit(*digits) for s in (settings, plain))
    assert all(getattr(clf, name) is value for name, value in settings.items())
    pd.testing.assert_frame_equal(
        clf.history_.drop(columns="seconds"), expected.history_.drop(columns="seconds")
    )
    np.testing.assert_array_equal(
        clf.predict_proba(digits[0]), expected.predict_proba(digits[0])
    )


def test_numbers_of_numpy_within_parameters(digits: Any) -> None:
    adam = {"betas": (np.float32(0.75), np.float16(0.875)), "amsgrad": np.bool_(True)}
    plain = {"betas": (0.75, 0.875), "amsgrad": True}
    weights = {label: np.uint8(1 + label) for label in range(10)}
    found, expected = (
        quick(12, optimizer="Adam", optimizer_params=params, class_weight=w).fit(*digits)
        for params, w in ((adam, weights), (plain, {k: int(v) for k, v in weights.items()}))
    )
    assert found.optimizer_params is adam
    np.testing.assert_array_equal(
        found.predict_proba(digits[0]), expected.predict_proba(digits[0])
    )


@not_if_brief
@pytest.mark.parametrize("n_jobs", [10_000, 2**31, 2**40, -(2**40)])
def test_more_workers_than_there_is_to_do(n_jobs: int, digits: Any) -> None:
    found, expected = (quick(60, n_jobs=n).fit(*digits) for n in (n_jobs, None))
    np.testing.assert_array_equal(
        found.predict_proba(digits[0]), expected.predict_proba(digits[0])
    )


def test_start_may_be_a_topology(digits: Any) -> None:
    start = Topology((8, 8, 1), [ConvCell(4, "max")], [Dense(6)], 10)
    clf = quick(12, start=start).fit(*digits)
    assert clf.lineage_["topology"].iloc[0] == str(start)


@not_if_brief
@pytest.mark.parametrize("budget", [0.3, 1, 3.5, 10, 11.7])
def test_small_budgets_give_a_result(digits: Any, budget: float) -> None:
    clf = quick(budget).fit(*digits)
    assert clf.history_["budget_spent"].iloc[-1] <= budget
    assert clf.predict_proba(digits[0][:2]).shape == (2, 10)


def test_all_starts_on_small_images(digits: Any) -> None:
    from skectonas.topology import STARTS

    for start in STARTS:
        clf = quick(11, start=start).fit(*digits)
        assert np.isfinite(clf.predict_proba(digits[0][:2])).all()


# --- weights ---------------------------------------------------------------------------------


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
    with np.errstate(all="raise"):  # such weights are zero in float32
        tiny = quick(12).fit(X, y, sample_weight=np.where(some == 0, 1e-60, some))
    np.testing.assert_array_equal(tiny.predict_proba(X), found)


# --- the trainers ----------------------------------------------------------------------------


def train_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "skectonas.fitting.FusedTrainer",
        lambda data, optimizer, scorer, averaging, n_jobs: PlainTrainer(
            data, optimizer, scorer, averaging
        ),
    )


@not_if_brief
@pytest.mark.parametrize("start", ["small_ffnn", "medium_cnn"])
def test_fused_training_finds_what_plain_training_finds(
    digits: Any, monkeypatch: Any, start: str
) -> None:
    fused = quick(60, start=start, random_state=1).fit(*digits)
    train_plainly(monkeypatch)
    plain = quick(60, start=start, random_state=1).fit(*digits)
    assert fused.best_topology_ == plain.best_topology_
    columns = ["candidate", "morphism", "topology", "epochs_total", "budget_spent"]
    pd.testing.assert_frame_equal(fused.history_[columns], plain.history_[columns])
    # Rounding can decide which pixel is the largest, or whether a unit is active, and training
    # amplifies that: a few rows may be further off.
    apart = np.abs(fused.predict_proba(digits[0]) - plain.predict_proba(digits[0]))
    assert np.quantile(apart.max(axis=1), 0.9) < 0.01


@not_if_brief
@pytest.mark.parametrize("seed", range(5))
def test_all_digits_have_the_same_winner_by_both(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    digits = load_digits()
    # Momentum would let the roundings of the two drift further apart.
    clf = quick(40, **PAPER_SETTINGS | {"averaging": 8, "random_state": seed})
    fused = clone(clf).fit(digits.images, digits.target)
    train_plainly(monkeypatch)
    plain = clone(clf).fit(digits.images, digits.target)
    assert fused.best_topology_ == plain.best_topology_
    # Single precision rounds differently: a row or two near a border may change sides.
    assert fused.validation_score_ == pytest.approx(plain.validation_score_, abs=0.01)


def test_bits_do_not_depend_on_n_jobs(digits: Any) -> None:
    first, second = (quick(60, start="medium_cnn", n_jobs=n).fit(*digits) for n in (None, 2))
    np.testing.assert_array_equal(
        first.predict_proba(digits[0]), second.predict_proba(digits[0])
    )


# --- output ----------------------------------------------------------------------------------


def test_quiet_by_default_and_a_line_a_generation(digits: Any, capsys: Any) -> None:
    quick(60).fit(*digits)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    clf = quick(90, verbose=1).fit(*as_table(digits))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"[ECToNASClassifier] {task}"
        for task in ("warm-up", "generation 1", "control", "final")
    ]
    assert lines[0].startswith("[ECToNASClassifier] warm-up: 20.0 of 90 epochs, best 0.")
    assert f"parameters, {clf.best_topology_}; " in lines[-1]


def test_nothing_is_written(digits: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    quick(12).fit(*digits)
    assert list(tmp_path.iterdir()) == []


# --- scoring and optimisers ------------------------------------------------------------------


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


class Decayed(torch.optim.Optimizer):
    """An optimiser of somebody's own, whose steps need gradients to be switched on."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                [decay] = torch.autograd.grad(weight.square().sum(), weight)
                with torch.no_grad():
                    weight -= group["lr"] * (weight.grad + 1e-3 * decay)


@not_if_brief
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_an_optimiser_of_the_user_without_gradients_around(
    around: Any, n_jobs: int, digits: Any
) -> None:
    clf = quick(30, optimizer=Decayed, start="small_ffnn", n_jobs=n_jobs)
    with around():
        found = clf.fit(*digits).predict_proba(digits[0])
    clf.set_params(n_jobs=1)
    np.testing.assert_array_equal(found, clf.fit(*digits).predict_proba(digits[0]))


class Careless(Decayed):
    """An optimiser that only works where gradients are switched off."""

    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                weight -= group["lr"] * weight.grad


def test_an_optimiser_that_cannot_train_is_refused_before(digits: Any) -> None:
    with pytest.raises(ValueError, match=r"Careless cannot train .* leaf"), torch.no_grad():
        quick(60, optimizer=Careless).fit(*digits)


class Smallest:
    """A fitness that only looks at size."""

    def __call__(self, candidate: Candidate) -> float:
        return -candidate.n_parameters

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        return -candidate.n_parameters


def test_a_fitness_of_the_user(digits: Any) -> None:
    clf = quick(200, selection=Smallest()).fit(*digits)
    decided = clf.history_[clf.history_["phase"] == "phase 2"]
    assert (decided["fitness"] == -decided["n_parameters"]).all()
    # Phase 1 is greedy whatever the fitness; the smallest of those that are left at the end of
    # a generation wins.
    rounds = clf.history_[clf.history_["won"].notna()]
    last = rounds.groupby("generation")[["phase", "round"]].transform("last")
    left = rounds[(rounds[["phase", "round"]] == last).all(axis=1) & rounds["won"].astype(bool)]
    starts = clf.history_[clf.history_["phase"] == "warm-up"]
    sizes = [*left["n_parameters"], *starts["n_parameters"]]
    assert clf.n_parameters_ == min(sizes)


def test_a_note_on_the_estimator_only_where_the_user_has_it(
    digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("skectonas.classifier.warn_if_a_guess_is_as_good", fails)
    clf = quick(2, warmup_epochs=1)
    notes = {}
    for estimator in (clf, VotingClassifier([("one", clf)])):
        with pytest.raises(KeyboardInterrupt) as caught:
            estimator.fit(*digits)
        notes[estimator] = getattr(caught.value, "__notes__", [])
    assert [*notes.values()] == [["The estimator is fitted with the best network so far."], []]


@pytest.mark.parametrize("of", [int, bool, str])
def test_labels_in_an_array_of_objects_are_scored_as_they_are_fitted(
    digits: Any, of: type
) -> None:
    X, y = digits
    labels = np.array([of(label % 2) for label in y], dtype=object)
    clf = quick(12).fit(X, labels)
    assert clf.score(X, labels) == clf.score(X, labels.tolist()) > 0.5


def test_very_many_rounds_are_drawn_at_once(digits: Any) -> None:
    assert quick(120, n_rounds=10**18).fit(*digits).history_["round"].max() > 0

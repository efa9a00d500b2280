"""Scores against scikit-learn's metrics."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from helpers import as_table, examples, quick
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, roc_auc_score

from skectonas.training.scoring import _Predictions, make_scorer

RELAXED = examples(60)
CLASSES = np.array(["a", "b", "c"])
LABELS = np.array([0, 1, 2, 0, 1, 2, 2, 0])
WEIGHTS = np.array([1.0, 2.0, 0.5, 3.0, 0.0, 1.0, 0.25, 4.0])
IMAGES = np.arange(32).reshape(8, 2, 2, 1)


def probabilities(n: int, n_classes: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), n)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    n_classes = draw(st.integers(2, 4))
    # Any of the classes may be missing on the validation side.
    labels = np.array(draw(st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=12)))
    weights = None
    if draw(st.booleans()):
        some = st.floats(0.0, 5.0).map(lambda w: round(w, 2))
        weights = np.array(
            draw(st.lists(some, min_size=len(labels), max_size=len(labels)).filter(any))
        )
    seed = draw(st.integers(0, 1000))
    classes = draw(
        st.sampled_from([np.arange(n_classes) * 3, np.array(list("wxyz"))[:n_classes]])
    )
    return labels, weights, classes, probabilities(len(labels), n_classes, seed)


@RELAXED
@given(cases())
def test_accuracy(case: tuple[Any, ...]) -> None:
    labels, weights, classes, p = case
    score = make_scorer("accuracy", np.zeros((len(labels), 1, 1, 1)), labels, classes, weights)
    predicted = classes[[max(range(len(classes)), key=row.__getitem__) for row in p]]
    expected = accuracy_score(classes[labels], predicted, sample_weight=weights)
    assert score(p) == pytest.approx(expected, abs=1e-12)
    assert type(score(p)) is float


@RELAXED
@given(cases())
def test_neg_log_loss(case: tuple[Any, ...]) -> None:
    labels, weights, classes, p = case
    score = make_scorer(
        "neg_log_loss", np.zeros((len(labels), 1, 1, 1)), labels, classes, weights
    )
    expected = -log_loss(classes[labels], p, labels=classes, sample_weight=weights)
    assert score(p) == pytest.approx(expected, abs=1e-9)
    assert type(score(p)) is float


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_probability_of_zero_costs_much_but_not_all(dtype: type) -> None:
    score = make_scorer("neg_log_loss", IMAGES, LABELS, CLASSES, None)
    all_first = np.eye(3, dtype=dtype)[np.zeros(8, int)]  # right in three of eight
    one_more = all_first.copy()
    one_more[1] = [0, 1, 0]
    assert -np.inf < score(all_first) < -10
    assert score(one_more) == pytest.approx(score(all_first) * 4 / 5)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_f1_macro(weights: NDArray[np.float64] | None, dtype: type) -> None:
    p = probabilities(8, 3).astype(dtype)
    score = make_scorer("f1_macro", IMAGES, LABELS, CLASSES, weights)
    expected = f1_score(
        CLASSES[LABELS], CLASSES[p.argmax(1)], average="macro", sample_weight=weights
    )
    assert 0 < expected < 1
    assert score(p) == pytest.approx(expected, abs=1e-12)
    assert type(score(p)) is float


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("classes", [np.array([0, 1]), np.array(["no", "yes"])])
def test_roc_auc(weights: NDArray[np.float64] | None, classes: NDArray[Any]) -> None:
    labels, p = LABELS % 2, probabilities(8, 2, seed=6)
    score = make_scorer("roc_auc", IMAGES, labels, classes, weights)
    expected = roc_auc_score(labels, p[:, 1], sample_weight=weights)
    assert 0 < expected < 1
    assert expected != 0.5
    assert score(p) == pytest.approx(expected, abs=1e-12)


def test_a_score_that_is_ill_defined_on_the_trial_only() -> None:
    # Equal probabilities predict only the first class; this is harmless, as they are no result.
    p = np.eye(3)[LABELS]
    p[[0, 1]] = p[[1, 0]]
    score = make_scorer("precision_macro", IMAGES, LABELS, CLASSES, None)
    expected = precision_score(LABELS, p.argmax(1), average="macro")
    assert score(p) == pytest.approx(expected, abs=1e-12)


def plain(estimator: Any, X: Any, y: Any) -> float:
    assert X is IMAGES
    assert y.tolist() == CLASSES[LABELS].tolist()
    assert estimator.classes_.tolist() == CLASSES.tolist()
    return float((estimator.predict(X) == y).sum() + estimator.predict_proba(X).sum() / 100)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_callable_of_three_arguments(weights: NDArray[np.float64] | None) -> None:
    score = make_scorer(plain, IMAGES, LABELS, CLASSES, weights)
    p = probabilities(8, 3)
    assert score(p) == pytest.approx((p.argmax(1) == LABELS).sum() + 0.08, abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_scorer_of_scikit_learn_gets_the_weights(weights: NDArray[np.float64] | None) -> None:
    mine = sklearn.metrics.make_scorer(f1_score, average="micro", pos_label=None)
    score = make_scorer(mine, IMAGES, LABELS, CLASSES, weights)
    p = probabilities(8, 3)
    expected = f1_score(LABELS, p.argmax(1), average="micro", sample_weight=weights)
    assert score(p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr"])
def test_without_any_weight_on_these_rows_all_count_alike(scoring: str) -> None:
    p = probabilities(8, 3)
    weighted = make_scorer(scoring, IMAGES, LABELS, CLASSES, np.zeros(8))
    assert weighted(p) == make_scorer(scoring, IMAGES, LABELS, CLASSES, None)(p)


@pytest.mark.parametrize("scoring", ["no_such", "Accuracy", "", None, 3, ["accuracy"]])
def test_an_unknown_name(scoring: Any) -> None:
    with pytest.raises(ValueError, match="scoring"):
        make_scorer(scoring, IMAGES, LABELS, CLASSES, None)


def broken(estimator: Any, X: Any, y: Any) -> float:
    raise KeyError("my own")


def not_a_number(estimator: Any, X: Any, y: Any) -> float:
    return float("nan")


def a_word(estimator: Any, X: Any, y: Any) -> Any:
    return "good"


@pytest.mark.parametrize("scoring", ["f1", "average_precision_", broken, not_a_number, a_word])
def test_what_cannot_be_computed_is_found_out_before_training(scoring: Any) -> None:
    with pytest.raises(ValueError, match="scoring"):
        make_scorer(scoring, IMAGES, LABELS, CLASSES, None)


def of_a_column(estimator: Any, X: Any, y: Any) -> float:
    return float(X["a"].sum())


def test_what_a_callable_gets_is_said_if_it_fails() -> None:
    said = r"\(X holds the validation rows as images of shape \(8, 2, 2, 1\)\)"
    with pytest.raises(ValueError, match=f"indices {said}"):
        make_scorer(of_a_column, IMAGES, LABELS, CLASSES, None)
    scorer = sklearn.metrics.make_scorer(f1_score)  # of two classes
    with pytest.raises(ValueError, match="cannot be computed") as raised:
        make_scorer(scorer, IMAGES, LABELS, CLASSES, None)
    assert "as images" not in str(raised.value)


# scikit-learn 1.7 has no scorer of the second kind yet.
OF_PROBABILITIES = [
    name
    for name in ("neg_brier_score", "d2_log_loss_score", "top_k_accuracy")
    if name in sklearn.metrics.get_scorer_names()
]


@pytest.mark.parametrize("scoring", OF_PROBABILITIES)
def test_scores_of_probabilities_with_a_class_missing(scoring: str) -> None:
    p = probabilities(8, 3)
    metric = {
        "neg_brier_score": lambda y: -sklearn.metrics.brier_score_loss(y, p, labels=CLASSES),
        "d2_log_loss_score": lambda y: sklearn.metrics.d2_log_loss_score(y, p, labels=CLASSES),
        "top_k_accuracy": lambda y: sklearn.metrics.top_k_accuracy_score(y, p, labels=CLASSES),
    }[scoring]
    for labels in (LABELS, LABELS % 2):
        score = make_scorer(scoring, IMAGES, labels, CLASSES, None)
        assert score(p) == pytest.approx(metric(CLASSES[labels]))


@pytest.mark.parametrize("scoring", sklearn.metrics.get_scorer_names())
@pytest.mark.parametrize("classes", [np.array([0, 1]), np.array([0, 1, 2])])
def test_scores_of_other_tasks_are_refused_by_name(scoring: str, classes: Any) -> None:
    scorer = sklearn.metrics.get_scorer(scoring)
    labels, p = LABELS % len(classes), probabilities(8, len(classes))
    if "_regression" in module_of(scorer) or "cluster" in module_of(scorer):
        with pytest.raises(ValueError, match="must be a score of classifications"):
            make_scorer(scoring, IMAGES, labels, classes, None)
        if "gamma" in scoring or "poisson" in scoring:  # for positive numbers only
            return
        make_scorer(scorer, IMAGES, labels, classes, None)(p)  # who gives it means it
        return
    refusal = ""
    try:
        score = make_scorer(scoring, IMAGES, labels, classes, None)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert "cannot be computed" in refusal or "gives nan" in refusal
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert score(p) == pytest.approx(
            scorer(_Predictions(p, classes, IMAGES), IMAGES, classes[labels])
        )


def module_of(scorer: Any) -> str:
    return str(scorer._score_func.__module__)


def test_a_score_of_two_classes_with_the_third_missing() -> None:
    # Only one class in the rows: scikit-learn complains when it sees a third one predicted.
    with pytest.raises(ValueError, match=r"'f1' cannot be .* no row of .* \[0, 2\]"):
        make_scorer("f1", IMAGES, np.ones(8, int), np.arange(3), None)


def test_a_class_missing_on_the_validation_side_may_make_it_impossible() -> None:
    with pytest.raises(ValueError, match=r"'roc_auc_ovr' gives nan .* no row of .*'c'"):
        make_scorer("roc_auc_ovr", IMAGES, LABELS % 2, CLASSES, None)
    p = probabilities(8, 3)
    score = make_scorer("f1_macro", IMAGES, LABELS % 2, CLASSES, None)
    assert score(p) == pytest.approx(f1_score(LABELS % 2, p.argmax(1), average="macro"))


def accuracy(estimator: Any, X: Any, y: Any) -> float:
    """Return another score than that of this name."""
    return -float(estimator.predict_proba(X)[:, 0].mean())


def balanced_accuracy(estimator: Any, X: Any, y: Any) -> float:
    """Return the accuracy in percent."""
    return 100 * accuracy_score(y, estimator.predict(X))


def test_a_callable_with_the_name_of_a_score_is_another_one(digits: Any) -> None:
    X, y = as_table(digits)
    clf = quick(100, start="small_ffnn", scoring=accuracy).fit(X, y)
    assert clf.scoring_ == "accuracy()"
    history = clf.history_
    assert "control" not in set(history["phase"])
    decided = history[history["phase"] == "phase 2"]
    np.testing.assert_array_equal(decided["fitness"], decided["mean_score"])

    clf = quick(100, start="small_ffnn", warm_start=True).fit(X, y)
    with pytest.raises(
        ValueError, match=r"scoring must be as before, 'accuracy', got 'acc.*\(\)'"
    ):
        clf.set_params(scoring=accuracy).fit(X, y)


def test_no_value_of_a_callable_is_perfect(digits: Any) -> None:
    X, y = as_table(digits)
    settings = {"start": "small_ffnn", "n_iter_no_change": 2}
    named, plain = (
        quick(150, scoring=scoring, **settings).fit(X, y).history_["budget_spent"].iloc[-1]
        for scoring in (balanced_accuracy, lambda *given: balanced_accuracy(*given))
    )
    assert named == plain

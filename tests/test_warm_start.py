"""Continuing from a fitted network with a fresh budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import as_table, census, quick
from sklearn.datasets import make_classification

from skectonas import ECToNASClassifier
from skectonas.displays import EvolutionDisplay, LineageDisplay, ParetoDisplay
from skectonas.network import weights_of
from skectonas.search.fitness import Balanced
from skectonas.training.plain import PlainTrainer

# A rate that spoils a dense network, and leaves it finite.
RUINOUS = {"learning_rate": 1e4, "optimizer_params": {}}


def test_it_continues_from_the_fitted_weights(digits: Any, monkeypatch: Any) -> None:
    begun = []
    trainer = PlainTrainer

    class Spy(trainer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments[:4])

        def train(self, candidates: Any, n_steps: Any, key: Any, *rest: Any) -> Any:
            begun.append((list(candidates), key))
            return super().train(candidates, n_steps, key, *rest)

    clf = quick(60, warm_start=True).fit(*digits)
    before, topology = weights_of(clf.network_), clf.best_topology_
    monkeypatch.setattr("skectonas.fitting.FusedTrainer", Spy)
    clf.set_params(start="large_cnn", random_state=7).fit(*digits)
    [start], key = begun[0]
    assert start.topology == topology
    assert start.weights.keys() == before.keys()
    assert all(torch.equal(start.weights[name], before[name]) for name in before)
    assert key[:2] == (clf.seed_, start.generation)


def test_history_and_lineage_are_continued(digits: Any) -> None:
    # The first budget is so small that the second fit always finds something better.
    clf = quick(4, warm_start=True, keep_candidates="pareto").fit(*digits)
    history, lineage = clf.history_, clf.lineage_
    clf.set_params(budget=60).fit(*digits)
    pd.testing.assert_frame_equal(clf.history_.iloc[: len(history)], history)
    pd.testing.assert_frame_equal(clf.lineage_.iloc[: len(lineage)], lineage)
    assert clf.history_.dtypes.equals(history.dtypes)
    new = clf.history_.iloc[len(history) :]
    assert new["candidate"].min() > history["candidate"].max()
    assert new["generation"].min() == history["generation"].max() + 1
    assert new["morphism"].iloc[0] == "warm start"
    assert new["parent"].iloc[0] == lineage["candidate"].iloc[-1]
    assert new["epochs_total"].iloc[0] == lineage["epochs_total"].iloc[-1] + 5
    assert clf.history_["budget_spent"].is_monotonic_increasing
    assert clf.history_["budget_spent"].iloc[-1] == pytest.approx(clf.history_["epochs"].sum())
    assert 4 < clf.history_["budget_spent"].iloc[-1] <= 64
    assert clf.lineage_["morphism"].iloc[len(lineage)] == "warm start"
    # The front is that of the last fit, and each of its candidates has its whole lineage.
    assert set(clf.pareto_front_["candidate"]) <= set(new["candidate"])
    for candidate in clf.pareto_front_["candidate"]:
        chosen = clf.with_candidate(candidate)
        pd.testing.assert_frame_equal(chosen.lineage_.iloc[: len(lineage)], lineage)
        again = chosen.fit(*digits)
        assert again.lineage_["candidate"].tolist().count(candidate) == 1


def test_without_it_fit_begins_anew(digits: Any) -> None:
    once, twice = quick(40).fit(*digits), quick(40).fit(*digits).fit(*digits)
    np.testing.assert_array_equal(once.predict_proba(digits[0]), twice.predict_proba(digits[0]))
    first = quick(40, warm_start=True).fit(*digits)
    np.testing.assert_array_equal(once.predict_proba(digits[0]), first.predict_proba(digits[0]))


def test_the_same_seed_continues_with_the_same_bits(digits: Any) -> None:
    first, second = (quick(40, warm_start=True).fit(*digits).fit(*digits) for _ in range(2))
    np.testing.assert_array_equal(
        first.predict_proba(digits[0]), second.predict_proba(digits[0])
    )
    # The second fit does not depend on the parameter, which may draw fresh entropy.
    third = quick(40, warm_start=True).fit(*digits).set_params(random_state=None).fit(*digits)
    np.testing.assert_array_equal(
        first.predict_proba(digits[0]), third.predict_proba(digits[0])
    )


def test_the_same_rows_are_held_out(digits: Any) -> None:
    X, y = digits
    seen = []

    def scorer(estimator: Any, images: Any, labels: Any) -> float:
        seen.append(images)
        return float((estimator.predict(images) == labels).mean())

    clf = quick(12, warm_start=True, random_state=None, scoring=scorer).fit(X, y)
    first = seen[0]
    seen.clear()
    clf.fit(X, y)
    np.testing.assert_array_equal(seen[0], first)


def test_other_data_of_the_same_kind(digits: Any) -> None:
    X, y = digits
    clf = quick(40, warm_start=True).fit(X[:150], y[:150]).fit(X[150:], y[150:])
    epochs = clf.lineage_.loc[clf.lineage_["morphism"] == "warm start", "epochs_total"]
    assert (epochs > 10).all()
    assert clf.score(X, y) > 0.5


def test_frames_keep_their_encoding() -> None:
    X, y = census()
    clf = quick(30, warm_start=True).fit(X, y)
    encoder = clf.encoder_
    clf.fit(X.iloc[:100], y.iloc[:100])
    assert clf.encoder_ is encoder
    assert clf.predict(X).shape == (200,)
    with pytest.raises(ValueError, match="feature names"):
        clf.fit(X.rename(columns={"age": "years"}), y)


def test_a_saved_fit_can_be_continued(digits: Any, tmp_path: Any) -> None:
    pytest.importorskip("safetensors")
    clf = quick(40, warm_start=True).fit(*digits)
    clf.save(tmp_path / "half.safetensors")
    loaded = ECToNASClassifier.load(tmp_path / "half.safetensors").fit(*digits)
    np.testing.assert_array_equal(
        loaded.predict_proba(digits[0]), clf.fit(*digits).predict_proba(digits[0])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, np.where(y == 9, 8, y)), r"warm_start=True.*same classes.*\[0, 1"),
        (lambda X, y: (X.reshape(len(X), 64)[:, :63], y), "63 features"),
        (lambda X, y: (X.reshape(len(X), 4, 16), y), "images of shape"),
    ],
)
def test_what_does_not_fit_the_network_is_refused_and_nothing_is_lost(
    digits: Any, change: Any, message: str
) -> None:
    clf = quick(30, warm_start=True).fit(*digits)
    expected = clf.predict_proba(digits[0])
    with pytest.raises(ValueError, match=message):
        clf.fit(*change(*digits))
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)


def test_pictures_of_a_continued_search(digits: Any) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    clf = quick(4, warm_start=True).fit(*digits).set_params(budget=60).fit(*digits)
    assert "warm start" in clf.lineage_["morphism"].tolist()
    for display in (EvolutionDisplay, LineageDisplay):
        assert display.from_estimator(clf).figure_ is not None
    front = ParetoDisplay.from_estimator(clf).front
    assert front.index.tolist() == clf.pareto_front_["candidate"].tolist()


def test_the_fitted_network_stays_unless_a_better_one_is_found(digits: Any) -> None:
    clf = quick(40, start="small_ffnn", warm_start=True, keep_candidates="pareto")
    clf.set_params(morphisms=["identity", "add_units"])
    clf.fit(*digits)
    expected, lineage, topology = clf.predict_proba(digits[0]), clf.lineage_, clf.best_topology_
    with pytest.warns(UserWarning, match="worse than guessing"):
        clf.set_params(**RUINOUS, budget=12).fit(*digits)
    assert clf.history_["candidate"].max() > lineage["candidate"].max()
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)
    assert clf.best_topology_ == topology
    # It has been trained on the rows held out, so that it is not scored on them again.
    pd.testing.assert_frame_equal(clf.lineage_, lineage)
    assert clf.validation_score_ == lineage["validation_score"].iloc[-1]
    front = (
        pytest.importorskip("skectonas.displays")
        .ParetoDisplay(history=clf.history_, lineage=clf.lineage_)
        .front
    )
    assert front.index.tolist() == clf.pareto_front_["candidate"].tolist()
    # It can be continued as before.
    clf.set_params(learning_rate=0.03, optimizer_params=None, budget=60).fit(*digits)
    assert clf.history_["candidate"].is_monotonic_increasing is False
    assert clf.lineage_["candidate"].is_unique


def test_small_alpha_compares_with_the_first_start(digits: Any) -> None:
    clf = quick(60, alpha=0.2, warm_start=True).fit(*as_table(digits))
    assert clf.lineage_["candidate"].iloc[0] > 0  # the winner comes from another one
    first = clf.history_.iloc[0]
    assert first["candidate"] == 0
    begun = []

    class Watched(Balanced):
        def final(self, candidate: Any, start: Any) -> float:
            begun.append(start)
            return super().final(candidate, start)

    for _ in range(2):  # without a generation, whose children are compared with their parents
        clf.set_params(selection=Watched(0.2), budget=12).fit(*as_table(digits))
    assert {(a.id, a.score, a.n_parameters) for a in begun} == {
        (0, first["mean_score"], first["n_parameters"])
    }


@pytest.mark.parametrize("score_window", [1, 3])
def test_what_was_trained_on_is_compared_by_its_last_scores(score_window: int) -> None:
    X, y = make_classification(500, 20, n_informative=6, flip_y=0.2, random_state=0)
    clf = quick(40, warm_start=True, score_window=score_window)
    clf.set_params(morphisms=["identity", "add_units", "add_dense"]).fit(X, y)
    before = clf.lineage_["epochs_total"].iloc[-1]
    clf.fit(X, y)
    assert clf.lineage_["epochs_total"].iloc[-1] > before


def test_another_score_is_refused_and_nothing_is_lost(digits: Any) -> None:
    clf = quick(12, warm_start=True).fit(*digits)
    assert clf.scoring_ == "accuracy"
    with pytest.raises(ValueError, match=r"'accuracy', got 'neg_log_loss': .* compared"):
        clf.set_params(scoring="neg_log_loss").fit(*digits)
    assert clf.scoring_ == "accuracy"
    clf.set_params(warm_start=False).fit(*digits)
    assert clf.scoring_ == "neg_log_loss"
    assert (clf.lineage_["validation_score"] < 0).all()


@pytest.mark.parametrize("final_fraction", [0.0, 0.3])
@pytest.mark.parametrize("change", ["validation_fraction", "rows"])
def test_with_other_rows_held_out_the_fitted_network_stays_as_it_is(
    digits: Any, change: str, final_fraction: float
) -> None:
    X, y = digits
    clf = quick(12, start="small_ffnn", warm_start=True, final_fraction=final_fraction)
    clf.set_params(morphisms=["identity", "add_units"]).fit(X, y)
    first, history, score = clf.network_, clf.history_, clf.validation_score_
    if change == "rows":
        X, y = X[:200], y[:200]
    else:
        clf.set_params(validation_fraction=0.3)
    # Continuing with such a learning rate makes it worse.
    with pytest.warns(UserWarning, match="worse than guessing"):
        clf.set_params(**RUINOUS).fit(X, y)
    expected = weights_of(first).values()
    assert all(map(torch.equal, weights_of(clf.network_).values(), expected))
    # Earlier scores do not change.
    assert clf.validation_score_ == score
    pd.testing.assert_frame_equal(clf.history_.iloc[: len(history)], history)


def test_a_network_that_is_too_large_is_named(digits: Any) -> None:
    clf = quick(12, warm_start=True).fit(*digits)
    with pytest.raises(ValueError, match=f"fitted network has {clf.n_parameters_} parameters"):
        clf.set_params(max_parameters=10).fit(*digits)

"""Networks without hidden layers: their trainer and weight decay, and when they are a start."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import joblib
import numpy as np
import pytest
from helpers import as_table, examples, quick
from hypothesis import given
from hypothesis import strategies as st
from populations import assert_same_bits, candidate, scorer_for, training_data

from skectonas import Dense, ECToNASClassifier, Topology
from skectonas.candidate import Candidate
from skectonas.population import FusedTrainer
from skectonas.search import Search
from skectonas.training import ByDepth, OutOfTime, PlainTrainer, resolve_optimizer
from skectonas.training.defaults import MOMENTUM

SHAPE = (3, 3, 1)
LINEAR = Topology(SHAPE, [], [], 3)


def a_table(n: int, n_columns: int = 9) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).random((n, n_columns))
    return X, (X[:, 0] * 3).astype(int)


@examples(20)
@given(
    st.lists(st.lists(st.integers(1, 4), max_size=2), min_size=1, max_size=6),
    st.data(),
)
def test_each_is_trained_as_by_its_own_trainer(units: list[list[int]], data: Any) -> None:
    rows = training_data(SHAPE)
    kinds = [Topology(SHAPE, [], list(map(Dense, own)), 3) for own in units]
    candidates = [candidate(i, kind) for i, kind in enumerate(kinds)]
    n_steps = [data.draw(st.integers(0, 7)) for _ in units]
    deep, linear = (
        PlainTrainer(rows, resolve_optimizer("SGD", rate), scorer_for(rows), 1)
        for rate in (0.1, 0.01)
    )
    found = ByDepth(deep, linear).train(candidates, n_steps, (0, 1))
    for own, before, steps, trained in zip(units, candidates, n_steps, found, strict=True):
        expected = (deep if own else linear).train([before], [steps], (0, 1))
        assert_same_bits([trained], expected)


def test_workers_get_the_same_bits() -> None:
    rows = training_data(SHAPE)
    units: list[list[int]] = [[], [3], [], [2, 4], [5]]
    kinds = [Topology(SHAPE, [], list(map(Dense, own)), 3) for own in units]
    candidates = [candidate(i, kind) for i, kind in enumerate(kinds)]
    scorer = scorer_for(rows)

    def trained(n_jobs: int) -> list[Candidate]:
        deep, linear = (
            FusedTrainer(rows, resolve_optimizer("SGD", rate), scorer, 1, jobs)
            for rate, jobs in ((0.1, n_jobs), (0.01, 1))
        )
        return ByDepth(deep, linear).train(candidates, [7, 5, 3, 7, 2], (0, 1))

    with joblib.parallel_config("threading"):
        assert_same_bits(trained(2), trained(1))


def test_a_passed_deadline_ends_the_round() -> None:
    rows = training_data(SHAPE)
    trainer = FusedTrainer(rows, resolve_optimizer("SGD", 0.1), scorer_for(rows))
    both = ByDepth(trainer, trainer)
    for units in ([], [Dense(3)]):
        with pytest.raises(OutOfTime):
            both.train([candidate(0, Topology(SHAPE, [], units, 3))], [7], (0,), deadline=0)


@pytest.mark.parametrize("n", [150, 300])
@pytest.mark.parametrize("final_fraction", [0, 0.4])
def test_the_weight_decay_of_a_linear_network_depends_on_the_rows(
    n: int, final_fraction: float
) -> None:
    fit = partial(quick, 4, warmup_epochs=4, final_fraction=final_fraction)
    X, y = a_table(n)
    decays = {LINEAR: min(1 / n, 0.005), Topology(SHAPE, [], [Dense(4)], 3): 0.005}
    for start, weight_decay in decays.items():
        clf = fit(start=start).fit(X, y)
        params = {**MOMENTUM, "weight_decay": weight_decay}
        other = fit(start=start, optimizer_params=params).fit(X, y)
        assert np.array_equal(clf.predict_proba(X), other.predict_proba(X))
        stronger = fit(start=start, optimizer_params={**params, "weight_decay": 0.1}).fit(X, y)
        assert not np.array_equal(clf.predict_proba(X), stronger.predict_proba(X))
        assert clf.weight_decay_ == 0.005


def test_on_images_it_is_that_of_the_others() -> None:
    X, y = a_table(150)
    images = X.reshape(-1, *SHAPE[:2])
    fit = partial(quick, 20, start=LINEAR, warmup_epochs=20)
    clf = fit().fit(images, y)
    other = fit(optimizer_params={**MOMENTUM, "weight_decay": 0.005}).fit(images, y)
    assert np.array_equal(clf.predict_proba(images), other.predict_proba(images))


def starts_of(clf: ECToNASClassifier) -> list[Topology]:
    warm_up = clf.history_[clf.history_["phase"] == "warm-up"]
    return [Topology.from_string(text) for text in warm_up["topology"]]


@pytest.mark.parametrize("alpha", [1, 0.5])
@pytest.mark.parametrize("column_scaling", ["quantile", "piecewise", "minmax"])
def test_a_search_begins_with_one_if_columns_are_in_pieces(
    alpha: float, column_scaling: str
) -> None:
    clf = quick(12, warmup_epochs=1, alpha=alpha, column_scaling=column_scaling)
    n_linear = sum(start.is_linear for start in starts_of(clf.fit(*a_table(150))))
    assert n_linear == (alpha < 1 or column_scaling == "piecewise")


def test_a_search_on_images_does_not(digits: Any) -> None:
    assert not any(start.is_linear for start in starts_of(quick(12, alpha=0.5).fit(*digits)))
    X, y = a_table(150)
    small = quick(12, warmup_epochs=1, column_scaling="piecewise").fit(X.reshape(-1, 3, 3), y)
    assert not any(start.is_linear for start in starts_of(small))
    flat = quick(12, column_scaling="piecewise").fit(*as_table(digits))
    assert sum(start.is_linear for start in starts_of(flat)) == 1


def test_what_continues_it_has_its_weight_decay() -> None:
    pytest.importorskip("skorch")
    X, y = a_table(400)
    clf = quick(4, start=LINEAR, warmup_epochs=4, final_fraction=0, warm_start=True).fit(X, y)
    assert clf.to_skorch().get_params()["optimizer__weight_decay"] == 1 / 400
    deep = quick(4, start=Topology(SHAPE, [], [Dense(4)], 3), warmup_epochs=4).fit(X, y)
    assert deep.to_skorch().get_params()["optimizer__weight_decay"] == 0.005
    own = quick(4, start=LINEAR, optimizer_params={"weight_decay": 0.3}).fit(X, y)
    assert own.to_skorch().get_params()["optimizer__weight_decay"] == 0.3
    X, y = a_table(200)
    assert clf.fit(X, y).to_skorch().get_params()["optimizer__weight_decay"] == 1 / 200
    images = quick(4, start=LINEAR, warmup_epochs=4).fit(X.reshape(-1, 3, 3), y)
    for other in (images, copy(clf)):
        del other.n_samples_fit_  # as in a file of an earlier version
        assert other.to_skorch().get_params()["optimizer__weight_decay"] == 0.005


@pytest.mark.parametrize(
    "params", [{"optimizer": "Adam"}, {"optimizer_params": {}}, {"optimizer_params": MOMENTUM}]
)
def test_settings_of_the_user_are_for_all(
    params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[Any] = []
    run = Search.run

    def watched(self: Search, *others: Any) -> Any:
        trainers.extend([self.trainer, self.final and self.final.trainer])
        return run(self, *others)

    monkeypatch.setattr(Search, "run", watched)
    clf = quick(20, start=LINEAR, warmup_epochs=9, **params).fit(*a_table(150))
    assert clf.weight_decay_ is None
    assert not any(isinstance(trainer, ByDepth) for trainer in trainers)


def test_a_trial_of_a_linear_start_is_about_pieces_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes: list[tuple[int, ...]] = []
    trial = Search.trial

    def watched(self: Search, start: Topology, *others: Any) -> Any:
        shapes.append(start.input_shape)
        return trial(self, start, *others)

    monkeypatch.setattr(Search, "trial", watched)
    X, y = a_table(300)
    params = {"morphisms": "identity", "n_iter_no_change": 1, "final_fraction": 0}
    clf = quick(200, start=LINEAR, **params).fit(X, y)
    assert clf.weight_decay_ == 0.005
    assert len(set(shapes)) == len(shapes) == 2
    shapes.clear()
    quick(200, start=LINEAR, column_scaling="quantile", **params).fit(X, y)
    assert not shapes
    few = quick(200, alpha=0.5, max_parameters=50, column_scaling="quantile", **params)
    assert few.fit(X, y).best_topology_.is_linear
    assert not shapes

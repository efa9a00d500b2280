"""scikit-learn's callbacks: its own classes, driven by a search."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import as_table, failing_trainer, quick
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import ECToNASClassifier, PseudoImageTransformer

callback = pytest.importorskip("sklearn.callback", reason="new in scikit-learn 1.9")


class Watch:
    """Records all calls; stops at the end of a task if asked to."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.stop = stop
        self.events: list[str] = []
        self.begun: list[tuple[str, ...]] = []
        self.models: list[tuple[str, ECToNASClassifier]] = []
        self.data: list[tuple[Any, Any, Any]] = []

    def setup(self, estimator: Any, context: Any) -> None:
        self.events.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.begun.append(path(context))

    def on_fit_task_end(
        self,
        estimator: Any,
        context: Any,
        *,
        X: Any,
        y: Any,
        metadata: Any,
        fitted_estimator: Any,
    ) -> bool:
        self.events.append(context.task_name)
        self.data.append((X, y, metadata))
        if fitted_estimator is not None:
            self.models.append((context.task_name, fitted_estimator))
        return self.stop == (context.task_name, context.task_id)


class Propagated(Watch):
    """The same, passed on by meta-estimators."""

    max_propagation_depth = None


def path(context: Any) -> tuple[str, ...]:
    names = () if context.parent is None else path(context.parent)
    return (*names, context.task_name)


def test_a_fit_is_a_tree_of_generations_phases_and_rounds(digits: Any) -> None:
    watch = Watch()
    clf = quick(300).set_callbacks(watch).fit(*digits)
    history = clf.history_
    begun = Counter(watch.begun)
    assert begun["fit",] == begun["fit", "warm-up"] == 1
    assert begun["fit", "final"] == (history["phase"] == "final").sum()
    generations = history.loc[history["generation"] > 0, "generation"].nunique()
    assert begun["fit", "generation"] == generations > 1
    for phase in ("phase 1", "phase 2"):
        rounds = history[history["phase"] == phase].groupby(["generation", "round"]).ngroups
        assert begun["fit", "generation", phase, "round"] == rounds > generations
    assert watch.events[0] == "setup"
    assert watch.events[-2:] == ["fit", "teardown"]
    assert len(watch.begun) == len(watch.data)
    assert all(X is digits[0] and y is digits[1] and m is None for X, y, m in watch.data)


def test_callbacks_change_nothing_and_leave_nothing(digits: Any) -> None:
    plain, watched = quick(120).fit(*digits), quick(120).set_callbacks(Watch()).fit(*digits)
    np.testing.assert_array_equal(
        plain.predict_proba(digits[0]), watched.predict_proba(digits[0])
    )
    assert vars(watched).keys() - vars(plain).keys() == {"_skl_callbacks"}
    again = clone(watched).set_callbacks().fit(*digits)
    assert vars(again).keys() == vars(plain).keys()


def test_each_generation_comes_with_the_model_as_if_fit_had_stopped(digits: Any) -> None:
    watch = Watch()
    settings = {"final_fraction": 0.0, "keep_candidates": "pareto"}
    clf = quick(45, **settings).set_callbacks(watch).fit(*digits)
    assert [task for task, _ in watch.models] == ["warm-up", "generation", "final", "fit"]
    spent = [model.history_["budget_spent"].iloc[-1] for _, model in watch.models]
    assert spent == sorted(spent)
    assert spent[0] == 5
    start = watch.models[0][1]
    assert start.lineage_["morphism"].tolist() == ["start"]
    assert start.predict_proba(digits[0]).shape == (300, 10)
    for _, model in watch.models[-2:]:
        np.testing.assert_array_equal(
            model.predict_proba(digits[0]), clf.predict_proba(digits[0])
        )
        assert model.kept_.keys() == clf.kept_.keys()
    # A fit that ends there has the same network.
    shorter = quick(spent[1], **settings).fit(*digits)
    np.testing.assert_array_equal(
        shorter.predict_proba(digits[0]), watch.models[1][1].predict_proba(digits[0])
    )


@pytest.fixture(scope="module")
def whole_history(digits: Any) -> pd.DataFrame:
    """Return the history of a search that nothing stops."""
    history: pd.DataFrame = quick(600).fit(*digits).history_.drop(columns="seconds")
    return history


@pytest.mark.parametrize(
    ("stop", "generations"),
    [(("warm-up", 0), 0), (("round", 1), 1), (("phase 1", 1), 1), (("generation", 2), 2)],
)
def test_a_callback_stops_the_search(
    digits: Any, whole_history: pd.DataFrame, stop: tuple[str, int], generations: int
) -> None:
    watch = Watch(stop)
    clf = quick(600).set_callbacks(watch).fit(*digits)
    assert clf.history_["generation"].max() == generations
    assert clf.history_["budget_spent"].iloc[-1] < 500
    assert watch.events[-2:] == ["fit", "teardown"]
    pd.testing.assert_frame_equal(
        clf.history_.drop(columns="seconds"), whole_history.iloc[: len(clf.history_)]
    )
    assert clf.predict(digits[0]).shape == (300,)


def test_ctrl_c_ends_all_tasks_that_were_begun(digits: Any) -> None:
    watch = Watch()

    def scorer(estimator: Any, X: Any, y: Any) -> float:
        if ("fit", "generation", "phase 1", "round") in watch.begun:
            raise KeyboardInterrupt
        return float((estimator.predict(X) == y).mean())

    with pytest.warns(UserWarning, match="interrupted"):
        quick(200, scoring=scorer).set_callbacks(watch).fit(*digits)
    ended = [event for event in watch.events if event not in ("setup", "teardown")]
    assert sorted(ended) == sorted(names[-1] for names in watch.begun)
    assert ended[-1] == watch.models[-1][0] == "fit"


def test_sample_weights_are_passed_on(digits: Any) -> None:
    watch, weights = Watch(), np.linspace(0.5, 2, 300)
    quick(12).set_callbacks(watch).fit(*digits, sample_weight=weights)
    assert all(metadata["sample_weight"] is weights for *_, metadata in watch.data)


class Interrupted(Watch):
    """Presses Ctrl-C at the very end."""

    def on_fit_task_end(self, estimator: Any, context: Any, **given: Any) -> bool:
        if context.task_name == "fit":
            raise KeyboardInterrupt
        return False


def test_ctrl_c_in_the_last_callback_keeps_the_network(digits: Any) -> None:
    clf = quick(30)
    with pytest.raises(KeyboardInterrupt) as caught:
        clf.set_callbacks(Interrupted()).fit(*digits)
    assert "best network so far" in caught.value.__notes__[0]
    expected = quick(30).fit(*digits).predict_proba(digits[0])
    np.testing.assert_array_equal(clf.predict_proba(digits[0]), expected)


def test_ctrl_c_in_the_last_callback_counts_more_than_an_error(
    digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_trainer(monkeypatch, 2, RuntimeError("the machine is on fire"))
    with pytest.raises(KeyboardInterrupt):  # which a grid search does not turn into a score
        quick(60).set_callbacks(Interrupted()).fit(*digits)


@pytest.mark.parametrize("broken", [{"learning_rate": 1e30}, {"budget": 1e-9}])
def test_a_failed_fit_tears_down_what_it_set_up(digits: Any, broken: dict[str, Any]) -> None:
    watch = Watch()
    clf = quick(**broken).set_callbacks(watch)
    with pytest.raises(ValueError, match=r"diverged|budget"):
        clf.fit(*digits)
    assert watch.events.count("setup") == watch.events.count("teardown")
    assert not hasattr(clf, "network_")
    assert vars(clf).keys() - clf.get_params().keys() <= {"_skl_callbacks"}


def test_what_a_callback_raises_before_the_warm_up_comes_through(digits: Any) -> None:
    class Broken(Watch):
        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            raise RuntimeError(f"no {context.task_name}")

    clf = quick(60).set_callbacks(Broken())
    with pytest.raises(RuntimeError, match="no fit"):
        clf.fit(*digits)
    assert not hasattr(clf, "network_")


def test_what_a_callback_raises_later_does_not_end_the_search(digits: Any) -> None:
    class Broken(Watch):
        def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
            raise RuntimeError(f"no more of {context.task_name}")

    clf = quick(60).set_callbacks(Broken())
    with pytest.warns(UserWarning, match="callback raised RuntimeError: no more of") as caught:
        clf.fit(*digits)
    messages = [str(warning.message) for warning in caught]
    assert any("no more of round" in message for message in messages)
    assert any("no more of fit" in message for message in messages)
    expected = quick(60).fit(*digits)
    np.testing.assert_array_equal(
        clf.predict_proba(digits[0]), expected.predict_proba(digits[0])
    )


def test_scoring_monitor_records_a_score_for_each_generation(digits: Any) -> None:
    X, y = as_table(digits)
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    clf = quick(90).set_callbacks(monitor).fit(X, y)
    logs = monitor.get_logs().data_as_pandas
    scored = logs.dropna(subset="accuracy")
    tasks = scored["task_name"].tolist()
    assert sorted(tasks) == ["control", "final", "fit", "generation", "warm-up"]
    last = scored[scored["task_name"] == "fit"]
    assert last["accuracy"].item() == pytest.approx(clf.score(X, y))
    assert (scored["neg_log_loss"] < 0).all()


def test_progress_bar_of_a_single_fit(digits: Any, capsys: Any) -> None:
    pytest.importorskip("rich")
    clf = quick(120).set_callbacks(callback.ProgressBar()).fit(*digits)
    shown = capsys.readouterr().out
    for task in ("ECToNASClassifier - fit", "generation #1", "phase 1 #1", "100%"):
        assert task in shown
    assert clf.predict(digits[0]).shape == (300,)


def test_progress_bar_of_a_grid_of_pipelines(digits: Any, capsys: Any) -> None:
    pytest.importorskip("rich")
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), quick(60))
    grid = GridSearchCV(pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=2)
    grid.set_callbacks(callback.ProgressBar(max_propagation_depth=None))
    grid.fit(X.reshape(len(X), -1), y)
    shown = capsys.readouterr().out
    assert "GridSearchCV - fit" in shown
    assert "generation #1" in shown
    assert shown.count("ECToNASClassifier - fit") >= 1


def test_pseudo_images_in_a_pipeline_are_a_task_of_their_own(digits: Any) -> None:
    X, y = digits
    watch = Propagated()
    pipeline = make_pipeline(PseudoImageTransformer(), quick(12)).set_callbacks(watch)
    pipeline.fit(X.reshape(len(X), -1), y)
    assert sum(names[-1] == "warm-up" for names in watch.begun) == 1
    transformer = PseudoImageTransformer().set_callbacks(watch)
    watch.begun.clear()
    watch.events.clear()
    transformer.fit(X.reshape(len(X), -1))
    assert watch.begun == [("fit",)]
    assert watch.events == ["setup", "fit", "teardown"]
    [(name, model)] = watch.models[-1:]
    assert name == "fit"
    np.testing.assert_array_equal(model.transform(X.reshape(len(X), -1)), X[..., None])


def test_callbacks_reach_every_fit_of_a_grid(digits: Any) -> None:
    X, y = digits
    watch = Propagated()
    grid = GridSearchCV(quick(60), {"alpha": [0.5, 1.0]}, cv=2).set_callbacks(watch)
    grid.fit(X, y)
    assert sum(names[-1] == "warm-up" for names in watch.begun) == 5
    assert watch.events.count("setup") == watch.events.count("teardown") == 1


def test_a_fitted_classifier_with_callbacks_is_copied_and_saved(
    digits: Any, tmp_path: Any
) -> None:
    pytest.importorskip("safetensors")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = quick(60, keep_candidates="pareto").set_callbacks(monitor).fit(*digits)
    clf.save(tmp_path / "digits.safetensors")
    loaded = ECToNASClassifier.load(tmp_path / "digits.safetensors")
    smallest = clf.with_candidate(clf.pareto_front_["candidate"].iloc[0])
    assert smallest.n_parameters_ <= clf.n_parameters_
    np.testing.assert_array_equal(loaded.predict_proba(digits[0]), clf.predict_proba(digits[0]))


def test_a_copy_with_a_candidate_shares_the_callbacks(digits: Any) -> None:
    class Locked(Watch):
        """It cannot be copied, as one with an open file cannot."""

        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    watch = Locked()
    clf = quick(25, keep_candidates="all").set_callbacks(watch).fit(*digits)
    copy = clf.with_candidate(0)
    assert copy._skl_callbacks == [watch]
    assert clone(copy)._skl_callbacks == [watch]

"""The trial that comes before a search on a table: how to read it, and how to train on it."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from helpers import examples, not_if_brief, quick
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from test_checkpoint import bits, stopped_after

from skectonas import PAPER_SETTINGS, Dense, ECToNASClassifier, Topology, fitting
from skectonas import sample as rows_of_a_fit
from skectonas.inputs import InputEncoder
from skectonas.search import Clock, Search
from skectonas.training import OutOfTime
from skectonas.trial import Trial

# The choice


class FakeSearch:
    """A search whose start has these losses on the rows held out, after any training."""

    def __init__(self, losses: np.ndarray, shares: list[float]) -> None:
        self._losses, self._shares = losses, shares

    def trial(self, start: Any, n_steps: int, share_of_time: float) -> np.ndarray:
        assert n_steps == 10 * 3  # epochs and batches
        self._shares.append(share_of_time)
        return self._losses

    def losses(self, trained: np.ndarray) -> np.ndarray:
        return trained


DECAYS = (0.005, 0.01, 0.002, 0.001)


def fake_trial(
    losses: Callable[[str, float | None], np.ndarray],
    n_encoders: int,
    weight_decays: Sequence[float | None] = DECAYS,
) -> tuple[Trial, list[float]]:
    """Return a trial with such losses, and a list that collects its trainings."""
    shares: list[float] = []
    encoders = [
        SimpleNamespace(name=name, image_shape_=(2, 2, 1)) for name in ("plain", "in pieces")
    ]

    def begin(encoder: Any) -> Any:
        return SimpleNamespace(
            encoder=encoder,
            data=SimpleNamespace(steps_per_epoch=3),
            starts=["start"],
            search_with=lambda decay: FakeSearch(losses(encoder.name, decay), shares),
        )

    chosen: Any = encoders[:n_encoders]
    return Trial(chosen, weight_decays, begin, 200, Clock()), shares


def ahead_of(losses: np.ndarray, standard_errors: float, seed: int) -> np.ndarray:
    """Return losses that are lower by so many standard errors of the difference."""
    noise = np.random.default_rng(seed).normal(size=len(losses))
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return losses - noise - standard_errors / math.sqrt(len(losses))


leads = st.sampled_from([-9, -1.1, -0.9, 0, 1.9, 2.1, 2.9, 3.1, 4.9, 5.1, 9])


@not_if_brief
@given(
    st.integers(1, 2),
    st.booleans(),
    st.tuples(leads, leads, leads, leads),
    st.integers(2, 50),
    st.integers(0, 2**16),
)
@examples(300)
def test_a_trial_chooses_what_its_rules_say(
    n_encoders: int,
    tries_decays: bool,
    of: tuple[float, float, float, float],
    n_rows: int,
    seed: int,
) -> None:
    of_pieces, of_stronger, of_probed, of_probed_to_weaker = of
    plain = np.random.default_rng(seed).random(n_rows)
    in_pieces = ahead_of(plain, of_pieces, seed + 1)
    name = "in pieces" if n_encoders == 2 and of_pieces > 2 else "plain"
    usual = in_pieces if name == "in pieces" else plain
    known = {
        ("plain", 0.005): plain,
        ("in pieces", 0.005): in_pieces,
        (name, 0.01): ahead_of(usual, of_stronger, seed + 2),
        (name, 0.0005): ahead_of(usual, of_probed, seed + 3),
    }
    known[name, 0.002] = ahead_of(known[name, 0.0005], -of_probed_to_weaker, seed + 4)
    trial, shares = fake_trial(
        lambda name, decay: known[name, decay or 0], n_encoders, DECAYS[: 1 + 3 * tries_decays]
    )
    decay, n_trainings = 0.005, n_encoders if tries_decays or n_encoders == 2 else 0
    if tries_decays:
        if of_stronger > -1:
            decay, n_trainings = 0.01, n_trainings + 1
        elif of_probed < 5:
            n_trainings += 2
        else:
            decay = 0.001 if of_probed_to_weaker > 3 else 0.002
            n_trainings += 3
    choice = trial.run()
    assert choice.is_certain
    assert (choice.beginning.encoder.name, choice.weight_decay) == (name, decay)
    # Each training has a twentieth of the budget and of the time.
    assert choice.n_epochs == 10 * n_trainings == 10 * len(shares)
    assert shares == pytest.approx([0.05 * (i + 1) for i in range(n_trainings)])
    # A search that goes on knows how much was spent.
    assert choice.n_epochs == trial.choice(choice.beginning, choice.weight_decay).n_epochs


@pytest.mark.parametrize("n_encoders", [1, 2])
def test_a_network_that_diverges_is_not_chosen(n_encoders: int) -> None:
    losses, nothing = np.full(40, 0.5), np.full(40, np.nan)

    def of(name: str, decay: float | None) -> np.ndarray:
        return losses if (name, decay) == ("plain", 0.005) else nothing

    choice = fake_trial(of, n_encoders)[0].run()
    assert (choice.beginning.encoder.name, choice.weight_decay) == ("plain", 0.005)


def test_nothing_changes_if_all_is_the_same() -> None:
    choice = fake_trial(lambda *_: np.ones(40), 2)[0].run()
    assert (choice.beginning.encoder.name, choice.weight_decay) == ("plain", 0.005)


def test_without_a_usual_weight_decay_none_is_tried() -> None:
    trial, shares = fake_trial(lambda *_: np.ones(40), 2, [None])
    choice = trial.run()
    assert choice.weight_decay is None
    assert len(shares) == 2


# In a search


def bands(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Return a table whose classes are narrow bands of one column; the others are noise."""
    X = np.random.default_rng(0).random((n, 5))
    return X, (X[:, 0] * 8).astype(int) % 4


def noise(n: int = 900) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((n, 5)), rng.integers(0, 2, n)


@pytest.fixture(scope="module")
def in_bands() -> ECToNASClassifier:
    return quick(200).fit(*bands())


def test_a_search_reads_and_trains_as_the_trial_says(in_bands: ECToNASClassifier) -> None:
    assert in_bands.encoder_.column_scaling == "piecewise"
    assert in_bands.weight_decay_ == 0.001  # there is no noise
    usual = quick(200, column_scaling="quantile").fit(*bands())
    assert in_bands.score(*bands()) > usual.score(*bands())
    plain = quick(200).fit(*noise())
    assert plain.encoder_.column_scaling == "quantile"
    assert plain.image_shape_ == (3, 3, 1)
    assert plain.weight_decay_ == 0.01


def test_a_search_with_the_weight_decay_that_was_chosen_is_the_same(
    in_bands: ECToNASClassifier,
) -> None:
    X, y = bands()
    params = {"momentum": 0.9, "nesterov": True, "weight_decay": in_bands.weight_decay_}
    alone = quick(150, optimizer_params=params, column_scaling="piecewise").fit(X, y)
    assert alone.weight_decay_ is None
    assert np.array_equal(alone.predict_proba(X), in_bands.predict_proba(X))


def test_verbose_tells_of_the_trial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    params: dict[str, Any] = {"verbose": 1, "checkpoint": str(tmp_path / "search")}
    first = "[ECToNASClassifier] trial: "
    quick(200, **params).fit(*bands())
    found = first + "50 epochs, columns cut into pieces and a weight decay of 0.001; "
    assert capsys.readouterr().out.startswith(found)
    quick(200, verbose=1).fit(*noise())
    found = first + "30 epochs, columns not cut into pieces and a weight decay of 0.01; "
    assert capsys.readouterr().out.startswith(found)
    quick(200, verbose=1, optimizer="Adam", learning_rate=0.001).fit(*bands())
    assert capsys.readouterr().out.startswith(first + "20 epochs, columns cut into pieces; ")
    for clf in (quick(200, **params), quick(199, verbose=1)):  # neither tries again
        clf.fit(*bands())
        assert "trial" not in capsys.readouterr().out
    with mock.patch.object(Search, "trial", side_effect=OutOfTime):
        quick(200, verbose=1).fit(*bands())
    none = first + "cut off, columns not cut into pieces and a weight decay of 0.005; "
    assert capsys.readouterr().out.startswith(none)


def test_the_trial_is_paid_for(in_bands: ECToNASClassifier) -> None:
    spent = {
        clf: clf.history_["budget_spent"].iloc[-1]
        for clf in (in_bands, quick(200).fit(*noise()), quick(200, **CHOSEN).fit(*bands()))
    }
    for (clf, epochs), most in zip(spent.items(), (150, 170, 200), strict=True):
        assert most - 10 < epochs <= most, clf


Trained = tuple[str, float | None]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Trained]:
    """Collect the shapes of the inputs and the weight decays of the trials."""
    seen: list[Trained] = []
    trial = Search.trial

    def watched(self: Search, start: Topology, *others: Any) -> Any:
        trainer: Any = getattr(self.trainer, "deep", self.trainer)
        decay = trainer.optimizer.settings.get("weight_decay")
        seen.append(("x".join(map(str, start.input_shape)), decay))
        return trial(self, start, *others)

    monkeypatch.setattr(Search, "trial", watched)
    return seen


PLAIN, PIECES = "3x3x1", "8x8x1"
OF_BANDS = [(PLAIN, 0.005), *((PIECES, decay) for decay in (0.005, 0.01, 0.0005, 0.002))]
OF_NOISE = [(PLAIN, 0.005), (PIECES, 0.005), (PLAIN, 0.01)]
CHOSEN: dict[str, Any] = {
    "column_scaling": "quantile",
    "optimizer_params": {"weight_decay": 0.003},
}
WITHOUT: dict[str, dict[str, Any]] = {
    "a short budget": {"budget": 199},
    "few rows held out": {"validation_fraction": 0.03},
    "weights of classes": {"class_weight": "balanced"},
    "another score": {"scoring": "f1_macro"},
    "a selection by the score": {"selection": "score"},
    "choices of one's own": CHOSEN,
    "the paper's settings": dict(PAPER_SETTINGS),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_there_is_no_trial_with(name: str, trials: list[Trained]) -> None:
    clf = quick(200).set_params(**WITHOUT[name]).fit(*bands())
    assert not trials
    assert clf.encoder_.column_scaling in ("quantile", "minmax")
    assert clf.weight_decay_ == (None if name in list(WITHOUT)[-2:] else 0.005)


@pytest.mark.parametrize(
    "params",
    [
        {"image_shape": (3, 2)},
        {"column_scaling": "quantile"},
        {"max_parameters": 500},
        {"max_parameters": 6000},  # the first start would be a narrower one with pieces
    ],
    ids=str,
)
def test_columns_are_not_tried_in_pieces_with(
    params: dict[str, Any], trials: list[Trained]
) -> None:
    clf = quick(200, **params).fit(*bands())
    assert clf.encoder_.column_scaling == "quantile"
    shapes, decays = zip(*trials, strict=True)
    assert len(set(shapes)) == 1
    found = {2: [0.01], 3: [0.005], 4: [0.002, 0.001]}
    assert decays == (0.005, 0.01, 0.0005, 0.002)[: len(decays)]
    assert clf.weight_decay_ in found[len(decays)]


def test_weight_decays_are_not_tried_with_another_optimizer(trials: list[Trained]) -> None:
    clf = quick(200, optimizer="Adam", learning_rate=0.001).fit(*bands())
    assert trials == [(PLAIN, None), (PIECES, None)]
    assert clf.weight_decay_ is None


def test_there_is_no_trial_of_images(trials: list[Trained]) -> None:
    X, _ = bands(300)
    images = quick(200).fit(X[:, :4].reshape(-1, 2, 2), X[:, 0] > 0.5)
    assert not trials
    assert images.weight_decay_ == 0.005


def test_columns_are_not_tried_in_pieces_if_there_is_nothing_to_cut_or_too_much(
    trials: list[Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = bands(300)
    y = X[:, 0] > 0.5
    quick(200).fit((X > 0.5).astype(float), y)
    monkeypatch.setattr(fitting, "MOST_COLUMNS", 10)
    assert quick(200).fit(X, y).encoder_.column_scaling == "quantile"
    assert {shape for shape, _ in trials} == {PLAIN}
    trials.clear()
    monkeypatch.setattr(fitting, "MOST_COLUMNS", 100)
    quick(200).fit(X, y)
    assert len({shape for shape, _ in trials}) == 2


@pytest.mark.parametrize("n", [700, 900, 1800])
def test_a_topology_that_was_found_with_pieces_fits_other_rows(
    n: int, in_bands: ECToNASClassifier, trials: list[Trained]
) -> None:
    start = in_bands.best_topology_
    for budget in (20, 200):
        clf = quick(budget, start=start).fit(*bands(n))
        assert clf.encoder_.column_scaling == "piecewise"
        first = Topology.from_string(clf.lineage_["topology"].iloc[0])
        assert (first.cells, first.dense) == (start.cells, start.dense)
        shapes = {shape for shape, _ in trials}
        assert len(shapes) == (budget == 200)  # weight decays are tried, on pieces only


def test_a_topology_that_was_found_without_pieces_is_tried_with_them(
    trials: list[Trained],
) -> None:
    start = quick(20).fit(*bands()).best_topology_
    assert quick(20, start=start).fit(*bands()).image_shape_ == (3, 3, 1)
    assert not trials
    quick(200, start=start).fit(*bands())
    assert trials == OF_BANDS
    X, y = bands()
    for params in ({"column_scaling": "quantile"}, {"image_shape": (3, 3)}):
        with pytest.raises(ValueError, match=r"input_shape=\(8, 8, 1\), but the data have"):
            quick(20, start=replace(start, input_shape=(8, 8, 1)), **params).fit(X, y)


def test_a_topology_of_another_shape_is_told() -> None:
    start = Topology((28, 28, 1), [], [Dense(5)], 4)
    with pytest.warns(UserWarning, match=r"start has input_shape=\(28, 28, 1\), .*pieces"):
        quick(20, start=start).fit(*bands())


def test_the_same_bits_however_rows_come(in_bands: ECToNASClassifier, tmp_path: Path) -> None:
    X, y = bands()
    expected = bits(in_bands, X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for rows in (X, np.asfortranarray(X), sparse.csr_array(X), mapped):
        assert bits(quick(200, n_jobs=2).fit(rows, y), X) == expected
    frame = pd.DataFrame(X, columns=list("abcde"))
    assert np.array_equal(
        quick(200).fit(frame, y).predict_proba(frame), in_bands.predict_proba(X)
    )


def test_a_copy_predicts_alike(in_bands: ECToNASClassifier, tmp_path: Path) -> None:
    X, _ = bands()
    in_bands.save(tmp_path / "model")
    for copy in (
        pickle.loads(pickle.dumps(in_bands)),
        ECToNASClassifier.load(tmp_path / "model"),
    ):
        assert np.array_equal(copy.predict_proba(X), in_bands.predict_proba(X))
        assert copy.weight_decay_ == in_bands.weight_decay_


def test_a_search_that_was_stopped_needs_no_other_trial(
    in_bands: ECToNASClassifier, tmp_path: Path, trials: list[Trained]
) -> None:
    X, y = bands()
    path = tmp_path / "search"
    stopped_after(7, lambda: quick(200, checkpoint=path).fit(X, y))
    assert trials == OF_BANDS
    clf = quick(200, checkpoint=path).fit(X, y)
    assert trials == OF_BANDS
    assert bits(clf, X) == bits(in_bands, X)


def test_a_search_in_a_folder_needs_no_other_trial(
    in_bands: ECToNASClassifier, tmp_path: Path, trials: list[Trained]
) -> None:
    X, y = bands()
    for rows, budget, expected in ((bands(), 200, OF_BANDS), (noise(), 210, OF_NOISE)):
        trials.clear()
        stopped_after(7, lambda r=rows, b=budget: quick(b, checkpoint=tmp_path).fit(*r))
        assert trials == expected
        for _ in range(2):  # one that has ended is there, too
            clf = quick(budget, checkpoint=tmp_path).fit(*rows)
            assert trials == expected
    assert len(list(tmp_path.iterdir())) == 2
    assert clf.encoder_.column_scaling == "quantile"
    assert clf.weight_decay_ == 0.01
    assert bits(quick(200, checkpoint=tmp_path).fit(X, y), X) == bits(in_bands, X)


def test_a_checkpoint_that_is_impossible_is_found_before_the_trial(
    tmp_path: Path, trials: list[Trained]
) -> None:
    with pytest.raises(ValueError, match="in a folder that does not exist"):
        quick(200, checkpoint=tmp_path / "no" / "search").fit(*bands())
    (tmp_path / "search").write_text("notes")
    with pytest.raises(ValueError, match="is a damaged file"):
        quick(200, checkpoint=tmp_path / "search").fit(*bands())
    assert not trials


def cut_off_after(n_trials: int) -> Callable[..., Any]:
    """Return trials of which so many have time."""
    trial, left = Search.trial, iter(range(n_trials))

    def cut_off(self: Search, *arguments: Any) -> Any:
        trained = trial(self, *arguments)
        if next(left, None) is None:  # at the last moment
            raise OutOfTime
        return trained

    return cut_off


@pytest.mark.parametrize("n_trials", range(5))
def test_without_time_there_is_no_choice(
    n_trials: int, monkeypatch: pytest.MonkeyPatch, trials: list[Trained]
) -> None:
    monkeypatch.setattr(Search, "trial", cut_off_after(n_trials))
    clf = quick(200).fit(*bands())
    assert trials == OF_BANDS[: n_trials + 1]
    # What has been found out is used.
    assert clf.encoder_.column_scaling == ("quantile" if n_trials < 2 else "piecewise")
    assert clf.weight_decay_ == 0.005
    assert clf.history_["budget_spent"].iloc[-1] <= 200 - 10 * len(trials)


def test_a_choice_for_want_of_time_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_bands: ECToNASClassifier
) -> None:
    X, y = bands()
    for n_trials, scaling in ((0, "quantile"), (2, "piecewise")):
        for checkpoint in (tmp_path, tmp_path / "search"):
            with monkeypatch.context() as patch:
                patch.setattr(Search, "trial", cut_off_after(n_trials))
                with pytest.warns(UserWarning, match="is not written to the checkpoint"):
                    clf = quick(200, checkpoint=checkpoint).fit(X, y)
                assert clf.encoder_.column_scaling == scaling
                assert not list(tmp_path.iterdir())
    clf = quick(200, checkpoint=tmp_path / "search").fit(X, y)
    assert bits(clf, X) == bits(in_bands, X)


@pytest.mark.parametrize("params", [{"column_scaling": "minmax"}, {"optimizer": "Adam"}, {}])
def test_another_search_in_the_file_is_refused_before_the_trial(
    params: dict[str, Any], tmp_path: Path, trials: list[Trained]
) -> None:
    path = tmp_path / "search"
    quick(5, checkpoint=path, **params).fit(*bands())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds a search with other values of"):
        quick(200, checkpoint=path).fit(*bands())
    assert not trials
    assert path.read_bytes() == before


def test_rows_are_not_cut_into_pieces_if_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, trials: list[Trained]
) -> None:
    images_of, encoded = rows_of_a_fit._images, []

    def slow(encoder: InputEncoder, *others: Any) -> Any:
        encoded.append(encoder.column_scaling)
        time.sleep(0.5)
        return images_of(encoder, *others)

    monkeypatch.setattr(rows_of_a_fit, "_images", slow)
    clf = quick(200, time_limit=30).fit(*bands())
    assert encoded == ["quantile"]  # the other has seven times as many pixels
    assert clf.encoder_.column_scaling == "quantile"
    assert trials[:2] == [(PLAIN, 0.005), (PLAIN, 0.01)]  # other weight decays take no longer


def test_without_a_budget_there_is_a_trial(trials: list[Trained]) -> None:
    clf = quick(None, time_limit=4).fit(*bands(240))
    assert trials
    assert clf.history_["epochs_total"].max() > 0


@pytest.mark.parametrize("budget", [200.7, 333.3, 1000])
def test_the_budget_holds(budget: float, trials: list[Trained]) -> None:
    X, y = bands(240)
    for alpha in (1.0, 0.5):
        trials.clear()
        clf = quick(budget, alpha=alpha).fit(X, y)
        spent = clf.history_["budget_spent"].iloc[-1]
        assert spent <= budget - len(trials) * min(25, budget // 20)


def test_a_warm_start_keeps_what_was_chosen(
    trials: list[Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = bands()
    clf = quick(200, warm_start=True).fit(X, y)
    encoder, n_trials = clf.encoder_, len(trials)
    decays: set[float] = set()
    run = Search.run

    def watched(self: Search, *others: Any) -> Any:
        trainer: Any = getattr(self.trainer, "deep", self.trainer)
        decays.add(trainer.optimizer.settings["weight_decay"])
        return run(self, *others)

    monkeypatch.setattr(Search, "run", watched)
    clf.fit(X, y)
    assert len(trials) == n_trials
    assert clf.encoder_ is encoder
    assert clf.weight_decay_ == 0.001
    del clf.weight_decay_  # as in a file of an earlier version
    clf.fit(X, y)
    assert clf.weight_decay_ == 0.005
    clf.set_params(**CHOSEN).fit(X, y)
    assert clf.weight_decay_ is None
    assert decays == {0.001, 0.005, 0.003}


def test_to_skorch_has_the_weight_decay(in_bands: ECToNASClassifier) -> None:
    pytest.importorskip("skorch")
    assert in_bands.to_skorch().get_params()["optimizer__weight_decay"] == 0.001
    earlier = pickle.loads(pickle.dumps(in_bands))
    del earlier.weight_decay_  # as in a file of an earlier version
    assert earlier.to_skorch().get_params()["optimizer__weight_decay"] == 0.005


@pytest.mark.parametrize(
    "params", [{"final_fraction": 0}, {"final_fraction": 1}, {"alpha": 0.3}, {"n_jobs": 2}]
)
def test_what_was_chosen_does_not_depend_on_the_search(
    params: dict[str, Any], trials: list[Trained]
) -> None:
    clf = quick(200, **params).fit(*bands())
    assert trials == OF_BANDS
    assert (clf.encoder_.column_scaling, clf.weight_decay_) == ("piecewise", 0.001)
    assert clf.history_["budget_spent"].iloc[-1] <= 200 - 10 * len(trials)


def test_rows_without_weight_and_groups_may_be_there() -> None:
    X, y = bands()
    more = np.vstack([X, X[::-1]])
    weights = np.repeat([1.0, 0.0], len(X))
    clf = quick(200).fit(more, np.append(y, 3 - y[::-1]), sample_weight=weights)
    assert (clf.encoder_.column_scaling, clf.weight_decay_) == ("piecewise", 0.001)
    clf.fit(X, y, groups=np.arange(len(X)) // 3)
    assert clf.encoder_.column_scaling == "piecewise"


def test_ctrl_c_in_a_trial_leaves_the_estimator_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: Search, *arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "trial", interrupted)
    clf = quick(200)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*bands())
    assert not hasattr(clf, "network_")

"""The reserve for the final training, several starts, and brackets decided by the loss."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import as_table, not_if_brief, quick
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from test_search import SMALL, STEPS_PER_EPOCH, FakeTrainer, a_search, run

from skectonas import PAPER_SETTINGS, Augmentation, Dense, ECToNASClassifier, Topology
from skectonas.candidate import Candidate, Evaluation
from skectonas.morphisms import AddChannels, AddUnits
from skectonas.network import weights_of
from skectonas.population import FusedTrainer
from skectonas.search import AllRows, Balanced, Greedy, Ledger
from skectonas.search.checks import is_better_trained
from skectonas.search.costs import Costs
from skectonas.topology import multiplications, suitable_starts
from skectonas.training import (
    NO_AUGMENTATION,
    PlainTrainer,
    Recipe,
    Rows,
    TrainingData,
    split,
    training_weights,
)
from skectonas.training.defaults import SMALLEST_SHIFTED_SIDE

WIDE = Topology((6, 6, 1), [], [Dense(9)], 3)
NARROW = Topology((6, 6, 1), [], [Dense(2)], 3)
MIDDLE = Topology((6, 6, 1), [], [Dense(4)], 3)
LINEAR = Topology((6, 6, 1), [], [], 3)


@given(budget=st.floats(1, 300), warmup_epochs=st.floats(0.1, 10))
def test_a_start_that_is_trained_alone_has_no_children(
    budget: float, warmup_epochs: float
) -> None:
    outcome, history, _, _ = run(budget, final_fraction=1.0, warmup_epochs=warmup_epochs)
    assert set(history["phase"]) <= {"warm-up", "final"}
    assert outcome.winner.topology == SMALL


@pytest.mark.parametrize(
    ("budget", "fraction"), [(90, 0.7), (100, 0.29), (300, 0.57), (50, 0.58)]
)
def test_the_reserve_is_not_an_epoch_too_small(budget: float, fraction: float) -> None:
    settings = a_search(FakeTrainer(), final_fraction=fraction).settings
    ledger = Ledger(budget, STEPS_PER_EPOCH)
    assert Costs(settings, None).reserved(ledger) == round(fraction * budget) * STEPS_PER_EPOCH


@given(budget=st.floats(1, 300), fraction=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]))
def test_the_reserve_is_spent_on_the_best(budget: float, fraction: float) -> None:
    outcome, history, trainer, state = run(budget, final_fraction=fraction)
    final = history[history["phase"] == "final"]
    reserved = int(fraction * state.ledger.total / STEPS_PER_EPOCH)
    if state.ledger.total > STEPS_PER_EPOCH and reserved:
        assert len(final) == 1
        # The warm-up has a tenth, or a batch at least, whatever is reserved.
        least = min(reserved, int(0.9 * state.ledger.total / STEPS_PER_EPOCH))
        assert final["epochs"].iloc[0] >= least - 1
    assert state.ledger.left < STEPS_PER_EPOCH
    before = history[history["phase"] != "final"]
    most = max(budget - reserved, 0.1 * budget, 1 / STEPS_PER_EPOCH)
    assert before["epochs"].sum() <= most + 1e-9
    assert outcome.winner.n_steps == trainer.calls[-1][0][0].n_steps + trainer.calls[-1][1][
        0
    ] or (not len(final))


def test_only_the_final_training_anneals() -> None:
    augmentation = Augmentation(1)
    _, history, trainer, _ = run(150, final_fraction=0.3, augmentation=augmentation)
    *others, last = trainer.recipes
    assert history["phase"].iloc[-1] == "final"
    n_steps = round(history["epochs"].iloc[-1] * STEPS_PER_EPOCH)
    assert last == Recipe(n_steps, augmentation)
    assert set(others) == {Recipe(augmentation=augmentation)}
    # As in the paper, what is left is trained with a constant rate.
    assert set(run(150, final_fraction=0.0)[2].recipes) == {Recipe()}


@pytest.mark.parametrize("score", [0.4, 0.7])
@pytest.mark.parametrize(
    ("train_loss", "loss", "is_preferred"),
    [
        *((0.1, 0.3, True), (0.1, 0.4, True)),
        *((0.9, 0.2, False), (0.9, 0.3, False), (0.9, 0.4, False)),
        *((math.nan, 0.3, False), (math.nan, 0.2, False)),
    ],
)
def test_a_final_training_that_made_it_worse_does_not_count(
    score: float, train_loss: float, loss: float, is_preferred: bool
) -> None:
    class Last(FakeTrainer):
        def train(self, candidates: Any, n_steps: Any, key: Any, recipe: Any, _: Any) -> Any:
            trained = super().train(candidates, n_steps, key, recipe)
            values = (train_loss, loss, score) if recipe.annealing_steps else (0.5, 0.3, 0.5)
            evaluation = Evaluation(*values)
            return [replace(c, evaluations=(evaluation,)) for c in trained]

    outcome, history, _, _ = run(60, Last(), final_fraction=0.5, keep="pareto")
    assert history["phase"].iloc[-1] == "final"
    assert (outcome.winner.score == score) is is_preferred
    # The front has the winner as it is.
    own = [line[-1] for line in outcome.front if line[-1].id == outcome.winner.id]
    assert all(candidate is outcome.winner for candidate in own)


@pytest.mark.parametrize("train_loss", [0.4, 0.6, math.nan])
@pytest.mark.parametrize("loss", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("has_seen_all", [False, True])
def test_what_a_training_must_not_raise(
    train_loss: float, loss: float, has_seen_all: bool
) -> None:
    def candidate(train_loss: float, loss: float) -> Candidate:
        return Candidate(0, SMALL, {}, evaluations=(Evaluation(train_loss, loss, 0.5),))

    now = candidate(train_loss, loss)
    found = is_better_trained(now, candidate(0.5, 0.3), has_seen_all)
    assert found is (train_loss == 0.4 or (train_loss == 0.6 and has_seen_all and loss == 0.2))
    # The training loss of a network from an earlier fit is not known.
    found = is_better_trained(now, candidate(math.nan, 0.3), has_seen_all)
    assert found is (loss == 0.2)


class Watched(PlainTrainer):
    """Remembers what it trains on, with which recipe, and what comes of it."""

    made: ClassVar[list[Watched]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments[:4])
        self.calls: list[tuple[Any, ...]] = []
        self.made.append(self)

    def train(self, *arguments: Any) -> list[Candidate]:
        trained = super().train(*arguments)
        self.calls.append((*arguments, trained))
        return trained


@pytest.fixture
def watched(monkeypatch: Any) -> list[Watched]:
    """Return the trainers of the fits of a test, the one of the final training last."""
    monkeypatch.setattr(Watched, "made", [])
    monkeypatch.setattr("skectonas.fitting.FusedTrainer", Watched)
    return Watched.made


@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}])
def test_the_final_training_is_on_all_rows(digits: Any, watched: Any, params: Any) -> None:
    X, y = digits[0][:90], digits[1][:90]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    clf = quick(9, validation_fraction=0.3, **params).fit(X, y, weights)
    search, last = watched
    [([best], [n_steps], key, recipe, _, [trained])] = last.calls
    before = search.calls[-1][-1]
    # The plain loop, on all rows in the order of the split, gives the weights of the network.
    train, validation = split(y, 0.3, clf.seed_)
    order = np.concatenate([train, validation])
    in_loss = training_weights(weights, params.get("class_weight"), y)[order]
    rows = Rows(
        torch.from_numpy(clf.encoder_.transform(X[order])),
        torch.from_numpy(y[order]),
        torch.from_numpy(in_loss.astype(np.float32)),
    )
    data = TrainingData(rows, search.data.validation, clf.encoder_.scaling_)
    oracle = PlainTrainer(data, search.optimizer, search.scorer, averaging=8)
    [expected] = oracle.train([best], [n_steps], key, recipe)
    torch.testing.assert_close(weights_of(clf.network_), dict(expected.weights))
    # It is scored as it was before, and the budget counts its batches.
    assert any(best is candidate for candidate in before)
    assert expected.score == pytest.approx(trained.score)
    final = clf.history_.iloc[-1]
    assert final["phase"] == "final"
    assert clf.validation_score_ == final["validation_score"] == best.score
    assert (final["validation_loss"], final["mean_loss"]) == (best.loss, best.loss)
    assert final["train_loss"] == pytest.approx(expected.evaluations[-1].train_loss)
    assert n_steps % data.steps_per_epoch == 0
    assert final["epochs"] == n_steps / search.data.steps_per_epoch
    assert clf.history_["budget_spent"].iloc[-1] <= 9


BY_LOSS = Greedy("loss")


class BySize(FakeTrainer):
    """Gives a network a loss that depends on its size alone."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.sign = sign

    def train(self, *arguments: Any) -> list[Candidate]:
        return [
            replace(c, evaluations=(Evaluation(1.0, 1e5 + self.sign * c.n_parameters, 0.5),))
            for c in super().train(*arguments)
        ]


def controlled(sign: int, gain: float, fitness: Any = BY_LOSS) -> Any:
    """Search with networks that differ in size, and gain on all rows if they are larger."""
    noise = np.random.default_rng(0).normal(size=100)
    noise = (noise - noise.mean()) / noise.std()  # a standard error of 0.1

    def losses(candidate: Candidate) -> Any:
        return 3 + (noise - gain) * (candidate.n_parameters > SMALL.n_parameters)

    search = a_search(BySize(sign), fitness, final_fraction=0.5, measure="loss")
    all_rows = AllRows(BySize(sign), STEPS_PER_EPOCH + 2)
    search = replace(search, final=all_rows, losses=losses)
    outcome = search.run(search.initial_state([SMALL], Ledger(400, STEPS_PER_EPOCH)))
    return outcome, outcome.state.ledger.to_frame()


@pytest.mark.parametrize(("gain", "is_better"), [(0.21, True), (0.19, False), (-1, False)])
def test_a_larger_network_has_to_prove_that_it_is_better(gain: float, is_better: bool) -> None:
    outcome, history = controlled(-1, gain)
    [control] = history[history["phase"] == "control"].to_dict("records")
    last = history.iloc[-1]
    assert last["phase"] == "final"
    assert (control["candidate"] == last["candidate"]) is not is_better
    assert (outcome.winner.n_parameters > SMALL.n_parameters) is is_better
    assert outcome.winner.id == last["candidate"]
    # The control is the start, trained as long as the best candidate.
    before = history[history["phase"].isin(["phase 1", "phase 2"])]
    best = before.loc[before["mean_loss"].idxmin()]
    assert control["n_parameters"] == SMALL.n_parameters
    assert (control["morphism"], control["parent"]) == ("identity", 0)
    assert (
        control["epochs_total"]
        == before.loc[before["candidate"] == best["candidate"], "epochs_total"].max()
    )
    assert history["epochs"].sum() <= 400
    assert last["epochs"] >= 100


def test_what_needs_no_proof() -> None:
    for arguments in ((1, 0.0), (-1, 0.0, Greedy("score")), (-1, 0.0, Balanced(0.5, "loss"))):
        _, history = controlled(*arguments)
        assert "phase 1" in set(history["phase"])
        assert "control" not in set(history["phase"])
        assert history["phase"].iloc[-1] == "final"


def test_without_annealing_there_is_no_training_on_all_rows(digits: Any, watched: Any) -> None:
    clf = quick(12, final_fraction=0).fit(*digits)
    [only] = watched
    assert clf.history_["phase"].iloc[-1] == "final"
    assert len(only.data.train) < len(digits[1])


def test_the_best_starts_are_the_first_parents() -> None:
    sizes = {SMALL.n_parameters: 0.2, WIDE.n_parameters: 0.6, NARROW.n_parameters: 0.4}
    trainer = FakeTrainer(lambda c: sizes.get(c.n_parameters, 0.1))
    search = a_search(trainer, n_parents=2)
    state = search.initial_state([SMALL, WIDE, NARROW], Ledger(60, STEPS_PER_EPOCH))
    state = search.advance(state)
    assert [len(call[0]) for call in trainer.calls] == [3]
    assert [c.topology for c in state.survivors] == [WIDE, NARROW]
    assert state.best.topology == WIDE
    assert (state.reference.id, state.reference.score) == (0, 0.2)
    assert [c.id for c in state.front] or state.front == ()
    assert search.run(state).lineage[0].id == 1


class Ranked(FakeTrainer):
    """`WIDE` has the lowest loss, and `SMALL` the highest one."""

    def train(self, *arguments: Any) -> list[Candidate]:
        return [
            replace(c, evaluations=(Evaluation(1.0, loss, 1 - loss),))
            for c in super().train(*arguments)
            for loss in [{WIDE: 0.1, SMALL: 0.3}.get(c.topology, 0.2)]
        ]


@pytest.mark.parametrize("fraction", [0.5, 1.0])
@pytest.mark.parametrize(
    ("gain", "fitness", "expected"),
    [
        (0.19, BY_LOSS, NARROW),  # a lead of 1.9 standard errors
        (0.21, BY_LOSS, WIDE),
        (0.19, Greedy("score"), WIDE),
    ],
)
def test_a_larger_start_has_to_prove_that_it_is_better(
    gain: float, fitness: Any, expected: Topology, fraction: float
) -> None:
    noise = np.random.default_rng(0).normal(size=100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)

    def losses(candidate: Candidate) -> Any:
        return 3 + (noise - gain) * (candidate.topology == WIDE)

    search = a_search(Ranked(), fitness, final_fraction=fraction, measure="loss", n_parents=2)
    search = replace(search, final=AllRows(Ranked(), STEPS_PER_EPOCH), losses=losses)
    state = search.initial_state([SMALL, WIDE, NARROW], Ledger(400, STEPS_PER_EPOCH))
    state = search.advance(state)
    # The other parent is the best of the others.
    assert [c.topology for c in state.survivors] == sorted([WIDE, NARROW], key=expected.__ne__)
    assert state.best.topology == state.start.topology == expected
    if fraction == 1:
        assert search.run(state).winner.topology == expected
        return
    # So it is where the first generation is cut off: by Ctrl-C, by time, by a small budget.
    short = replace(state, ledger=replace(state.ledger, budget=60))
    assert search.advance(short).best.topology == expected
    for _ in range(2):
        assert state.step in ("mutation", "recovery")
        assert search.outcome(state).winner.topology == expected
        ended = search._without_time(state)
        assert ended.best.topology == search.run(ended).winner.topology == expected
        state = search.advance(state)


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.09, LINEAR), (0.11, MIDDLE), (0.19, MIDDLE), (0.21, WIDE)]
)
def test_a_start_with_hidden_layers_needs_a_smaller_lead_over_one_without(
    gain: float, expected: Topology
) -> None:
    noise = np.random.default_rng(0).normal(size=100)
    noise = (noise - noise.mean()) / noise.std(ddof=1)

    def losses(candidate: Candidate) -> Any:
        return 3 + (noise - gain) * (candidate.topology == WIDE)

    search = a_search(Ranked(), BY_LOSS, measure="loss")
    search = replace(search, losses=losses)
    state = search.initial_state([WIDE, MIDDLE, LINEAR], Ledger(400, STEPS_PER_EPOCH))
    assert search.advance(state).best.topology == expected


def test_a_start_that_diverges_is_dropped() -> None:
    class Broken(FakeTrainer):
        def train(self, *arguments: Any) -> list[Candidate]:
            first, second = super().train(*arguments)
            return [replace(first, evaluations=(Evaluation(np.nan, np.inf, -np.inf),)), second]

    search = a_search(Broken())
    state = search.initial_state([SMALL, WIDE], Ledger(60, STEPS_PER_EPOCH))
    state = search.advance(state)
    assert [c.topology for c in state.survivors] == [WIDE]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n_batches", [1, 2, 3])
def test_a_budget_of_few_batches_is_not_exceeded(n_batches: int, fraction: float) -> None:
    trainer = FakeTrainer()
    search = a_search(trainer, final_fraction=fraction)
    ledger = Ledger(n_batches / STEPS_PER_EPOCH, STEPS_PER_EPOCH)
    outcome = search.run(search.initial_state([SMALL, WIDE], ledger))
    assert 1 <= outcome.state.ledger.spent <= n_batches


def test_phase_1_by_the_loss() -> None:
    class Opposed(FakeTrainer):
        """Has a loss that is better where the score is worse."""

        def train(self, *arguments: Any) -> Any:
            rng = np.random.default_rng(len(self.calls))
            trained = super().train(*arguments)
            values = rng.random(len(trained)).tolist()
            return [
                replace(c, evaluations=(Evaluation(1.0, value, value),))
                for c, value in zip(trained, values, strict=True)
            ]

    _, history, _, _ = run(200, Opposed(), fitness=Greedy("loss"), measure="loss")
    for phase in ("phase 1", "phase 2"):
        rounds = history[history["phase"] == phase]
        assert len(rounds)
        for _, bracket in rounds.groupby(["generation", "round", "bracket"]):
            best = bracket["mean_loss"].idxmin()
            assert bracket.loc[best, "won"]
            assert bracket.loc[best, "fitness"] == -bracket.loc[best, "mean_loss"]


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(2, 9), st.booleans()
)
def test_starts_that_suit_the_data(
    height: int, width: int, channels: int, n_classes: int, is_image: bool
) -> None:
    has_cells = is_image and min(height, width) >= 4
    starts = suitable_starts((height, width, channels), n_classes, is_image)
    more = suitable_starts((height, width, channels), n_classes, is_image, smaller=True)
    of_pieces = suitable_starts((height, width, channels), n_classes, is_image, in_pieces=True)
    assert of_pieces == (starts if has_cells else more)
    assert len(starts) == (1 if has_cells else 4)
    assert len(set(more)) == len(more)
    assert more[: len(starts)] == starts
    first, (half, quarter, *linear) = starts[0], more[1 if has_cells else 2 :]
    assert first.n_parameters > half.n_parameters > quarter.n_parameters
    assert [len(topology.dense) for topology in linear] == ([] if has_cells else [0])
    for topology in more:
        assert (topology.input_shape, topology.n_classes) == (
            (height, width, channels),
            n_classes,
        )
        assert bool(topology.cells) is has_cells


def test_starts_of_images_and_tables(digits: Any) -> None:
    X, y = digits
    assert ECToNASClassifier(budget=2).fit(X, y).lineage_["topology"].str.contains("conv").all()
    table = ECToNASClassifier(budget=2).fit(*as_table(digits))
    assert not table.lineage_["topology"].str.contains("conv").any()
    limited = ECToNASClassifier(budget=2, max_parameters=3000).fit(X, y)
    assert limited.n_parameters_ <= 3000
    with pytest.raises(ValueError, match="max_parameters=50"):
        ECToNASClassifier(budget=2, max_parameters=50).fit(X, y)


@pytest.mark.parametrize(
    ("is_table", "few", "times"), [(True, 300, 4), (False, 300, 1.5), (False, 299, 2)]
)
def test_no_network_needs_many_times_the_work(
    digits: Any, monkeypatch: Any, is_table: bool, few: int, times: float
) -> None:
    monkeypatch.setattr("skectonas.fitting.FEW_IMAGES", few)
    X, y = as_table(digits) if is_table else digits
    widen = AddUnits(fraction=1.5) if is_table else AddChannels(fraction=0.3)
    clf = quick(60, morphisms=["identity", widen]).fit(X, y)
    starts = clf.history_.loc[clf.history_["phase"] == "warm-up", "topology"]
    work = max(map(work_of, starts))
    most = times * work
    assert len(X) == 300
    # No two of the limits are the same for these networks.
    less = {4: 2, 2: 1.5, 1.5: 1}[times] * work
    assert less < max(map(work_of, clf.history_["topology"])) <= most
    # The start of a user says nothing about the data.
    own = quick(60, morphisms=["identity", widen], start=Topology.from_string(starts.iloc[0]))
    assert max(map(work_of, own.fit(X, y).history_["topology"])) > most
    # A further fit has the same limit.
    clf.set_params(warm_start=True).fit(X, y)
    assert max(map(work_of, clf.history_["topology"])) <= most


def test_a_network_above_the_limit_has_children(digits: Any, monkeypatch: Any) -> None:
    """Those that need no more multiplications than it does."""
    X, y = digits
    clf = quick(60, morphisms=["identity", AddChannels(fraction=0.3)]).fit(X, y)
    work, before = work_of(str(clf.best_topology_)), len(clf.history_)
    monkeypatch.setattr("skectonas.fitting.MOST_WORK_FOR_FEW_IMAGES", 0.1)
    clf.set_params(warm_start=True).fit(X, y)
    added = clf.history_.iloc[before:]
    assert (added["phase"] == "phase 1").any()
    assert set(map(work_of, added["topology"])) == {work}


def work_of(topology: str) -> int:
    return multiplications(Topology.from_string(topology))


@pytest.mark.parametrize("side", [SMALLEST_SHIFTED_SIDE - 1, SMALLEST_SHIFTED_SIDE])
@pytest.mark.parametrize("given", ["auto", None, Augmentation(flip=True)])
def test_which_images_are_changed(monkeypatch: Any, side: int, given: Any) -> None:
    y = np.arange(12) % 2
    X = np.random.default_rng(0).random((12, side, side))
    searches = []
    monkeypatch.setattr("skectonas.search.Search.run", lambda *args: searches.append(args[0]))
    with pytest.raises(AttributeError):  # there is no outcome
        quick(2, augmentation=given).fit(X, y)
    with pytest.raises(AttributeError):
        quick(199, final_fraction=0.5, augmentation=given).fit(X, y)
    with pytest.raises(AttributeError):
        quick(200, final_fraction=0.5, augmentation=given).fit(X, y)
    with pytest.raises(AttributeError):
        quick(None, final_fraction=0.5, augmentation=given, time_limit=60).fit(X, y)
    plain, erasing = Augmentation(1), Augmentation(1, erase=round(0.4 * side))
    for search, automatic in zip(searches, (plain, plain, erasing, plain), strict=True):
        if side < SMALLEST_SHIFTED_SIDE:
            automatic = NO_AUGMENTATION
        expected = {"auto": automatic, None: NO_AUGMENTATION}.get(given, given)
        assert search.settings.augmentation == expected


@pytest.mark.parametrize(("n_rows", "erase"), [(10_000, 6), (10_001, 0)])
def test_many_images_stay_whole(monkeypatch: Any, n_rows: int, erase: int) -> None:
    X = np.zeros((n_rows, 16, 16), dtype=np.uint8)
    searches = []
    monkeypatch.setattr("skectonas.search.Search.run", lambda *args: searches.append(args[0]))
    with pytest.raises(AttributeError):  # there is no outcome
        quick(200, final_fraction=0.5).fit(X, np.arange(n_rows) % 2)
    assert searches[0].settings.augmentation == Augmentation(1, erase=erase)


@pytest.mark.parametrize("n_rows", [1999, 2000, 2001, 5000])
@pytest.mark.parametrize("is_image", [True, False])
def test_the_decay_of_many_images_is_weaker(
    monkeypatch: Any, n_rows: int, is_image: bool
) -> None:
    X = np.random.default_rng(0).random((n_rows, 3, 3) if is_image else (n_rows, 9))
    searches = []
    monkeypatch.setattr("skectonas.search.Search.run", lambda *args: searches.append(args[0]))
    with pytest.raises(AttributeError):  # there is no outcome
        quick(2).fit(X, np.arange(n_rows) % 2)
    expected = 10 / n_rows if is_image and n_rows > 2000 else 0.005
    search = searches[0]
    for trainer in (search.trainer, search.final.trainer):
        deep = trainer if is_image else trainer.deep
        assert deep.optimizer.settings["weight_decay"] == expected
        if not is_image:
            assert trainer.linear.optimizer.settings["weight_decay"] == 1 / n_rows


@not_if_brief
@pytest.mark.parametrize("final_fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("warmup_epochs", [0.5, 1, 5])
@pytest.mark.parametrize("budget", [0.2, 1, 3, 10, 60])
def test_no_start_is_trained_for_less_than_an_epoch(
    digits: Any, budget: float, warmup_epochs: float, final_fraction: float
) -> None:
    clf = ECToNASClassifier(
        alpha=0.5, budget=budget, warmup_epochs=warmup_epochs, final_fraction=final_fraction
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is too little to train
        history = clf.fit(*as_table(digits)).history_
    epochs = history.loc[history["phase"] == "warm-up", "epochs"]
    assert 1 <= len(epochs) <= 5
    assert len(epochs) == 1 or (epochs > min(warmup_epochs, 1) - 0.1).all()  # whole batches
    assert history["epochs"].sum() <= budget


@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.5, 0.0])
def test_the_first_parents_have_the_best_fitness(digits: Any, alpha: float) -> None:
    clf = ECToNASClassifier(alpha=alpha, budget=100, random_state=0).fit(*as_table(digits))
    warm_up = clf.history_[clf.history_["phase"] == "warm-up"].set_index("candidate")
    assert len(warm_up) == (4 if alpha == 1 else 5)
    loss, size = warm_up["mean_loss"], warm_up["n_parameters"]
    gain, growth = 1 - loss / loss[0], size / size[0] - 1
    best = (alpha * gain - (1 - alpha) * growth).nlargest(2).index
    parents = clf.history_.loc[clf.history_["generation"] == 1, "parent"]
    if alpha < 1:
        assert set(parents) == set(best)
    else:  # a smaller start may take the place of the second one
        assert best[0] in set(parents)
        assert all(size[[*set(parents) - set(best)]] < size[best[0]])
    assert clf.lineage_["candidate"].iloc[0] in set(parents)


@pytest.mark.parametrize(
    ("params", "measure"),
    [
        ({}, "loss"),
        ({"scoring": "balanced_accuracy"}, "score"),
        ({"class_weight": "balanced"}, "score"),
        ({"class_weight": "balanced", "selection": "loss"}, "loss"),
        ({"selection": "score"}, "score"),
    ],
)
def test_what_decides_brackets(digits: Any, params: dict[str, Any], measure: str) -> None:
    clf = quick(60, **params).fit(*digits)
    rounds = clf.history_.dropna(subset=["fitness"])
    sign, column = (-1, "mean_loss") if measure == "loss" else (1, "mean_score")
    assert len(rounds)
    assert (rounds["fitness"] == sign * rounds[column]).all()


def test_the_final_training_is_scored_once(digits: Any) -> None:
    """On all rows, nothing is held out that a score could be of."""
    n_calls = 0

    def score(estimator: Any, X: Any, y: Any) -> float:
        nonlocal n_calls
        n_calls += 1
        return float((estimator.predict(X) == y).mean())

    clf = quick(40, scoring=score, final_fraction=1.0).fit(*digits)
    first, last = clf.history_.to_dict("records")
    assert (first["epochs"], last["phase"]) == (4, "final")
    assert last["epochs"] > 20
    assert n_calls == 1 + 4 + 1  # the first is a trial
    assert last["validation_score"] == first["validation_score"]
    assert last["train_loss"] < first["train_loss"]


def test_the_settings_of_the_paper(digits: Any) -> None:
    clf = ECToNASClassifier(**PAPER_SETTINGS, budget=60, random_state=0).fit(*digits)
    history = clf.history_
    assert history["epochs"].iloc[0] == 10
    assert history.loc[history["phase"] == "phase 1", "epochs"].iloc[0] == 5
    assert str(history["topology"].iloc[0]) == "8x8x1 > dense 10 > 10 classes"


def test_all_candidates_are_kept(digits: Any) -> None:
    clf = quick(60, keep_candidates="all").fit(*digits)
    assert set(clf.kept_) == set(clf.history_["candidate"])
    table = clf.leaderboard()
    winner = int(clf.lineage_["candidate"].iloc[-1])
    for row in table.itertuples():
        copy = clf.with_candidate(row.candidate)
        assert copy.n_parameters_ == row.n_parameters
        assert copy.predict(digits[0]).shape == (len(digits[1]),)
        if row.candidate != winner:
            assert copy.validation_score_ == row.mean_score
    assert clf.with_candidate(winner).validation_score_ == clf.validation_score_


@pytest.mark.parametrize("factor", [math.nan, 1])
def test_candidates_that_diverged_are_not_kept(
    factor: float, digits: Any, tmp_path: Path
) -> None:
    bad = int(quick(60).fit(*digits).history_["candidate"].iloc[-2])

    def diverging(self: FusedTrainer, candidates: Any, *others: Any) -> list[Candidate]:
        trained = train(self, candidates, *others)
        return [lost(c) if c.id == bad else c for c in trained]

    def lost(candidate: Candidate) -> Candidate:
        weights = {name: value * factor for name, value in candidate.weights.items()}
        return replace(candidate.failed(), weights=weights)

    train = FusedTrainer.train
    with mock.patch.object(FusedTrainer, "train", diverging):
        clf = quick(60, keep_candidates="all").fit(*digits)
    assert set(clf.history_["candidate"]) - set(clf.kept_) == {bad}
    with pytest.raises(ValueError, match="diverged or failed, are dropped"):
        clf.with_candidate(bad)
    clf.save(tmp_path / "model")
    assert ECToNASClassifier.load(tmp_path / "model").kept_.keys() == clf.kept_.keys()


def test_the_leaderboard(digits: Any) -> None:
    clf = quick(60).fit(*digits)
    table = clf.leaderboard()
    assert sorted(table["candidate"]) == sorted(set(clf.history_["candidate"]))
    keys = list(zip(-table["mean_score"], table["mean_loss"], strict=True))
    assert keys == sorted(keys)
    last = clf.history_.groupby("candidate")["epochs_total"].max()
    assert (table.set_index("candidate")["epochs_total"] == last.loc[table["candidate"]]).all()


@pytest.mark.parametrize("seed", [3, 4])
def test_a_final_training_that_was_rejected_is_not_on_the_leaderboard(seed: int) -> None:
    X, y = load_iris(return_X_y=True)
    clf = quick(30, final_fraction=0, learning_rate=1.0, scoring="neg_log_loss")
    clf.set_params(keep_candidates="all", random_state=seed).fit(X, y)
    way, table = clf.lineage_.iloc[-1], clf.leaderboard().set_index("candidate")
    assert clf.history_["epochs_total"].iloc[-1] > way["epochs_total"]  # it was rejected
    for number in table.index:
        of_candidate = clf.with_candidate(number)
        assert table["mean_score"][number] == of_candidate.validation_score_
        assert table["epochs_total"][number] == of_candidate.lineage_["epochs_total"].iloc[-1]
        pd.testing.assert_frame_equal(of_candidate.leaderboard(), clf.leaderboard())


def test_the_leaderboard_is_that_of_the_last_fit(digits: Any) -> None:
    clf = quick(12, start="small_ffnn", warm_start=True).fit(*digits)
    clf.fit(*digits)
    assert clf.leaderboard()["candidate"].tolist() == [1]

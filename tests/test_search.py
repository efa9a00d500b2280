"""The search with a trainer that costs nothing, and its rules as properties."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Ancestor, Candidate, Evaluation
from skectonas.morphisms import (
    MORPHISMS,
    Activations,
    AddCell,
    AddUnits,
    Identity,
    RemoveUnits,
)
from skectonas.search.algorithm import Search
from skectonas.search.fitness import Balanced, Fitness, Greedy, Random
from skectonas.search.ledger import Ledger
from skectonas.search.settings import Settings
from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import Observer
from skectonas.training import NO_AUGMENTATION, PLAIN_RECIPE, Recipe
from skectonas.training.plain import Key, Trainer

STEPS_PER_EPOCH = 7
GREEDY = Greedy()
SMALL = Topology((6, 6, 1), [], [Dense(4)], 3)
DEFAULTS: dict[str, Any] = {
    "warmup_epochs": 10,
    "round_epochs": 5,
    "n_rounds": 3,
    "n_parents": 2,
    "max_growth": 3.0,
    "max_parameters": 8_000_000,
    "score_window": 3,
    "n_iter_no_change": None,
    "perfect_score": math.inf,
    "morphisms": MORPHISMS,
    "keep": None,
    "final_fraction": 0.0,
    "augmentation": NO_AUGMENTATION,
    "measure": "score",
}


class FakeTrainer:
    """Trains nothing, scores by a formula, and records its calls."""

    def __init__(self, score=lambda candidate: candidate.n_steps / 1e4) -> None:
        self.score = score
        self.calls: list[tuple[list[Candidate], list[int], Key]] = []
        self.recipes: list[Recipe] = []

    def train(
        self,
        candidates: Sequence[Candidate],
        n_steps: Sequence[int],
        key: Key,
        recipe: Recipe = PLAIN_RECIPE,
        deadline: float = math.inf,
    ) -> list[Candidate]:
        self.calls.append((list(candidates), list(n_steps), key))
        self.recipes.append(recipe)
        assert min(n_steps) >= 1
        trained = []
        for candidate, steps in zip(candidates, n_steps, strict=True):
            longer = replace(candidate, n_steps=candidate.n_steps + steps)
            evaluation = Evaluation(1.0, 1.0, self.score(longer))
            trained.append(replace(longer, evaluations=(*candidate.evaluations, evaluation)))
        return trained


def a_search(
    trainer: Trainer,
    fitness: Fitness = GREEDY,
    shape: tuple[int, int, int] = SMALL.input_shape,
    seed: int = 0,
    **settings: Any,
) -> Search:
    images = torch.from_numpy(np.random.default_rng(0).random((20, *shape)))
    return Search(trainer, fitness, images.float(), seed, Settings(**(DEFAULTS | settings)))


def run(
    budget: float,
    trainer: FakeTrainer | None = None,
    fitness: Fitness = GREEDY,
    topology: Topology | Candidate = SMALL,
    seed: int = 0,
    observers: Sequence[Observer] = (),
    **settings: Any,
) -> tuple[Outcome, pd.DataFrame, FakeTrainer, SearchState]:
    trainer = trainer or FakeTrainer()
    shape = getattr(topology, "topology", topology).input_shape
    search = a_search(trainer, fitness, shape, seed, **settings)
    start = topology if isinstance(topology, Candidate) else [topology]
    state = search.initial_state(start, Ledger(budget, STEPS_PER_EPOCH))
    outcome = search.run(state, observers)
    return outcome, outcome.state.ledger.to_frame(), trainer, outcome.state


@given(
    budget=st.one_of(st.sampled_from([1, 3.5, 10, 10.2, 13, 60]), st.floats(0.2, 400)),
    start=st.sampled_from(
        [
            Topology((6, 6, 1), [], [Dense(4)], 3),
            Topology((7, 5, 2), [ConvCell(3, "max")], [Dense(4), Dense(3)], 2),
            Topology((4, 4, 1), [], [], 2),
        ]
    ),
    n_parents=st.integers(1, 3),
    n_rounds=st.integers(1, 3),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_budget_is_a_hard_limit(
    budget: float, start: Topology, n_parents: int, n_rounds: int, alpha: float
) -> None:
    fitness = Greedy() if alpha == 1 else Balanced(alpha)
    outcome, history, trainer, state = run(
        budget, fitness=fitness, topology=start, n_parents=n_parents, n_rounds=n_rounds
    )
    spent = sum(sum(steps) for _, steps, _ in trainer.calls)
    assert spent == state.ledger.spent
    assert spent / STEPS_PER_EPOCH <= budget + 1e-9
    assert np.isclose(history["budget_spent"].iloc[-1], spent / STEPS_PER_EPOCH)
    # What was too little for a round trained the best candidate, except for part of an epoch.
    assert state.ledger.left < STEPS_PER_EPOCH
    assert np.isfinite(outcome.winner.score)


def test_chance_decides_both_phases() -> None:
    fitness = Random(3)
    _, history, _, _ = run(300, fitness=fitness)
    brackets = history.dropna(subset="bracket")
    assert set(brackets["phase"]) == {"phase 1", "phase 2"}
    drawn = [
        np.random.default_rng([3, candidate, round(epochs * STEPS_PER_EPOCH)]).random()
        for candidate, epochs in zip(
            brackets["candidate"], brackets["epochs_total"], strict=True
        )
    ]
    np.testing.assert_array_equal(brackets["fitness"], drawn)
    for _, bracket in brackets.groupby(["generation", "phase", "round", "bracket"]):
        assert bracket.loc[bracket["fitness"].idxmax(), "won"]


def test_the_last_round_is_shortened_equally() -> None:
    _, history, trainer, state = run(55)
    candidates, steps, _ = trainer.calls[-1]
    assert history["phase"].iloc[-1] == "phase 1"
    assert len(candidates) == 6
    assert len(set(steps)) == 1
    assert STEPS_PER_EPOCH <= steps[0] < 5 * STEPS_PER_EPOCH
    assert state.ledger.left < len(candidates)


def test_what_is_too_little_for_a_round_trains_the_best() -> None:
    outcome, history, trainer, state = run(45)
    candidates, steps, _ = trainer.calls[-1]
    assert history["phase"].iloc[-1] == "final"
    assert len(candidates) == 1
    assert steps == [3 * STEPS_PER_EPOCH]
    assert state.ledger.left < STEPS_PER_EPOCH
    assert outcome.winner.n_steps == candidates[0].n_steps + steps[0]


def test_no_round_is_played_that_is_shorter_than_an_epoch() -> None:
    for budget in range(12, 60):
        _, history, _, _ = run(budget)
        rounds = history.dropna(subset=["bracket"])
        assert (rounds["epochs"] >= 1).all()
        if set(history["phase"]) == {"warm-up", "final"}:
            assert budget < 10 + 6 + 3


def test_generation_follows_algorithm_1() -> None:
    _, history, _, _ = run(170)
    assert history["phase"].iloc[0] == "warm-up"
    assert history["epochs"].iloc[0] == 10
    first = history[history["generation"] == 1]
    recovery = first[first["phase"] == "recovery"].set_index("morphism")["epochs"]
    assert recovery.index.tolist() == [
        "identity",
        "add_dense",
        "remove_dense",
        "add_units",
        "remove_units",
        "add_cell",
    ]
    assert recovery["identity"] == recovery["add_units"] == 1 / STEPS_PER_EPOCH
    assert recovery["remove_units"] == recovery["add_cell"] == 2 / STEPS_PER_EPOCH
    for phase in ("phase 1", "phase 2"):
        rounds = first[first["phase"] == phase].groupby("round")
        assert (rounds["epochs"].unique().explode() == 5).all()
        for _, rows in rounds:
            assert (rows.groupby("bracket")["won"].sum() == 1).all()
    assert first[first["phase"] == "phase 1"]["round"].nunique() == 3
    last = first[(first["phase"] == "phase 2") & (first["round"] == 2)]
    assert last["won"].sum() == 2
    parents = set(history[history["generation"] == 2]["parent"])
    assert parents == set(last["candidate"])


def test_winner_of_each_bracket_is_the_fittest() -> None:
    def score(candidate: Candidate) -> float:
        return float(np.random.default_rng([candidate.id, candidate.n_steps]).random())

    for fitness in (Greedy(), Balanced(0.3)):
        _, history, _, _ = run(600, FakeTrainer(score), fitness)
        decided = history.dropna(subset=["bracket"])
        for _, rows in decided.groupby(["generation", "phase", "round", "bracket"]):
            assert rows.loc[rows["won"], "fitness"].item() == rows["fitness"].max()
        phase_1 = decided[decided["phase"] == "phase 1"]
        kinds = phase_1.groupby(["generation", "round", "bracket"])["morphism"].nunique()
        assert (kinds == 1).all()


def test_phase_1_is_greedy_and_phase_2_balanced() -> None:
    smaller_is_better = Balanced(0.0)
    _, history, _, _ = run(300, fitness=smaller_is_better)
    phase_1 = history[history["phase"] == "phase 1"]
    assert (phase_1["fitness"] > 0).all()  # the score itself
    phase_2 = history[(history["phase"] == "phase 2") & (history["round"] == 2)]
    first = phase_2[phase_2["generation"] == 1]
    assert set(first["morphism"]) & {"remove_units", "remove_dense", "add_cell"}


def test_competitors_of_a_round_share_the_batch_order() -> None:
    _, _, trainer, _ = run(300)
    keys = [key for _, _, key in trainer.calls]
    assert len(set(keys)) == len(keys)


def test_score_ties_are_broken_by_loss_then_size() -> None:
    class Losses(FakeTrainer):
        def train(self, *arguments):
            return [
                replace(c, evaluations=(Evaluation(1.0, float(c.n_parameters), 0.5),))
                for c in super().train(*arguments)
            ]

    outcome, _, _, _ = run(200, Losses())
    sizes = [candidate.n_parameters for candidate in outcome.lineage]
    assert outcome.winner.n_parameters == min(sizes) < sizes[0]


def test_lineage_leads_from_the_start_to_the_winner() -> None:
    outcome, history, _, _ = run(500)
    line = outcome.lineage
    assert line[0].parent is None
    assert line[-1].id == outcome.winner.id
    for parent, child in pairwise(line):
        assert child.parent is not None
        assert child.parent.id == parent.id
        assert child.n_steps > parent.n_steps
    assert {c.id for c in line} <= set(history["candidate"])


def test_degenerate_children_are_rejected() -> None:
    start = Topology((6, 6, 1), [ConvCell(3)], [Dense(4)], 3)
    _, history, _, _ = run(300, topology=start, max_parameters=start.n_parameters)
    assert (history["n_parameters"] <= start.n_parameters).all()
    _, history, _, _ = run(300, topology=start, max_growth=0.1)
    sizes = history.groupby("candidate")["n_parameters"].first()
    for _, row in history.dropna(subset=["parent"]).iterrows():
        assert row["n_parameters"] <= 1.1 * sizes[row["parent"]]


def test_a_child_with_weights_that_are_not_finite_dies_before_training() -> None:
    class Poison(AddUnits):
        def carry(self, *arguments):
            child = super().carry(*arguments)
            return {key: value * np.nan for key, value in child.items()}

    _, history, _, _ = run(100, morphisms=(Identity(), Poison()))
    assert set(history["morphism"]) == {"start", "identity"}


def test_children_of_one_parent_share_what_it_sees_and_then_it_is_forgotten() -> None:
    seen: list[weakref.ref[Activations]] = []

    class Watched(AddUnits):
        name = "watched"

        def carry(self, weights, old, new, site, context):
            assert context.parent.weights is weights
            assert context.activations(weights, old) is context.parent
            assert all(ref() is None or ref() is context.parent for ref in seen)
            seen.append(weakref.ref(context.parent))
            return super().carry(weights, old, new, site, context)

    class Watching(FakeTrainer):
        def train(self, *arguments):
            assert all(ref() is None for ref in seen)
            return super().train(*arguments)

    run(400, Watching(), morphisms=(AddUnits(), AddCell(), Watched()))
    assert len(seen) > 4


def test_diverged_children_lose_and_a_diverged_start_is_an_error() -> None:
    def score(candidate: Candidate) -> float:
        return -np.inf if candidate.morphism == "add_units" else candidate.n_steps / 1e4

    for fitness in (Greedy(), Balanced(0.0), Random(3)):
        outcome, _, _, _ = run(400, FakeTrainer(score), fitness)
        assert "add_units" not in [c.morphism for c in outcome.lineage]

    class Diverging(FakeTrainer):
        def train(self, *arguments):
            infinite = Evaluation(np.inf, np.inf, -np.inf)
            return [replace(c, evaluations=(infinite,)) for c in super().train(*arguments)]

    with pytest.raises(ValueError, match="learning_rate"):
        run(100, Diverging())


def test_a_generation_that_diverges_is_not_the_end() -> None:
    class Once(FakeTrainer):
        def train(self, candidates: Any, *rest: Any) -> list[Candidate]:
            infinite = Evaluation(np.inf, np.inf, -np.inf)
            return [
                replace(c, evaluations=(infinite,)) if c.generation == 2 else c
                for c in super().train(candidates, *rest)
            ]

    outcome, history, _, _ = run(900, Once())
    assert history["generation"].max() > 3
    assert 2 not in [c.generation for c in outcome.lineage]


@pytest.mark.parametrize("seed", range(5))
def test_recovery_alone_decides_nothing(seed: int) -> None:
    class Noisy(FakeTrainer):
        def train(self, candidates: Any, n_steps: Any, *rest: Any) -> list[Candidate]:
            return [
                replace(c, evaluations=(Evaluation(1, 1, noise_of(c)),))
                for c in super().train(candidates, n_steps, *rest)
            ]

    def noise_of(candidate: Candidate) -> float:
        return float(np.random.default_rng([candidate.id, candidate.n_steps]).normal())

    class StopAfterRecovery:
        def begin(self, *_: Any) -> None:
            pass

        def end(self, search: Search, state: SearchState, task: str) -> bool:
            return task == "recovery" and state.generation == 2

    stop = StopAfterRecovery()
    outcome, history, *_ = run(400, Noisy(), seed=seed, observers=[stop], score_window=1)
    assert history["phase"].iloc[-1] == "recovery"
    phases = history["phase"][history["candidate"] == outcome.winner.id]
    assert phases.isin(["warm-up", "phase 1", "phase 2"]).any()


def test_a_generation_may_end_with_phase_1() -> None:
    settings = {"n_parents": 1, "n_iter_no_change": 2, "final_fraction": 0.3}
    outcome, history, _, _ = run(200, morphisms=(AddUnits(),), **settings)
    assert history["generation"].max() > 2
    assert "phase 2" not in set(history["phase"])
    assert outcome.winner.n_parameters > SMALL.n_parameters


def test_best_of_all_generations_is_kept() -> None:
    def score(candidate: Candidate) -> float:  # everything gets worse with training
        return 1 / candidate.n_steps

    outcome, _, _, _ = run(400, FakeTrainer(score))
    assert outcome.winner.morphism == "start"


def test_no_possible_change_ends_the_search() -> None:
    start = Topology((6, 6, 1), [], [Dense(1)], 3)
    outcome, history, _, _ = run(100, topology=start, morphisms=(RemoveUnits(),))
    assert history["phase"].tolist() == ["warm-up", "final"]
    assert history["epochs"].tolist() == [10, 90]
    assert outcome.winner.topology == start


def test_morphisms_can_be_chosen_and_set() -> None:
    wide = (AddUnits(fraction=2.0, recovery_epochs=3), AddCell(extra=(4,)))
    _, history, _, _ = run(100, morphisms=wide)
    recovery = history[history["phase"] == "recovery"].iloc[0]
    assert recovery["topology"] == "6x6x1 > dense 12 > 3 classes"
    assert recovery["epochs"] == 3
    assert "6x6x1 > conv 5" in history["topology"].str.cat(sep="|")


def test_same_seed_same_run_other_seed_other_run() -> None:
    first, second, third = (
        run(300, seed=seed)[1].drop(columns="seconds") for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(third)


def test_interruption_keeps_the_best_so_far() -> None:
    class Interrupted(FakeTrainer):
        def train(self, *arguments):
            if len(self.calls) == 4:
                raise KeyboardInterrupt
            return super().train(*arguments)

    outcome, history, _, _ = run(500, Interrupted())
    assert outcome.interrupted
    assert outcome.winner.id in set(history["candidate"])
    assert outcome.winner.evaluations

    class AtOnce(FakeTrainer):
        def train(self, *arguments):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(500, AtOnce())


class Log:
    """An observer that records its calls, and stops at a task if asked to."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.stop = stop
        self.open: list[tuple[str, int]] = []  # with how many more subtasks may come
        self.ended: list[str] = []

    def begin(self, search: Search, state: SearchState, task: str, n_subtasks: int) -> None:
        if self.open:
            parent, n_left = self.open[-1]
            assert n_left, f"{task} is one too many in {parent}"
            self.open[-1] = parent, n_left - 1
        self.open.append((task, n_subtasks))

    def end(self, search: Search, state: SearchState, task: str) -> bool:
        assert self.open.pop()[0] == task
        self.ended.append(task)
        assert search.outcome(state).winner.score >= state.best.score
        return self.stop == (task, state.generation)


def without_times(state: SearchState) -> pd.DataFrame:
    return state.ledger.to_frame().drop(columns="seconds")


@pytest.mark.parametrize("n_rounds", [1, 3])
@pytest.mark.parametrize("budget", [1, 3.5, 10, 13, 60, 600])
def test_observers_see_the_whole_tree_of_tasks_and_change_nothing(
    budget: float, n_rounds: int
) -> None:
    log = Log()
    *_, state = run(budget, observers=[log], n_rounds=n_rounds)
    assert not log.open
    *_, unseen = run(budget, n_rounds=n_rounds)
    pd.testing.assert_frame_equal(without_times(state), without_times(unseen))
    history = state.ledger.to_frame()
    played = history[history["phase"].isin(["phase 1", "phase 2"])]
    phases = played.groupby(["generation", "phase"]).ngroups
    assert log.ended.count("round") == played.groupby(["generation", "phase", "round"]).ngroups
    assert log.ended.count("phase 1") + log.ended.count("phase 2") >= phases
    generations = history.loc[history["phase"] == "recovery", "generation"].nunique()
    assert log.ended.count("generation") == log.ended.count("recovery") == generations
    assert log.ended.count("final") == (history["phase"] == "final").sum()


@pytest.mark.parametrize(
    ("task", "generation"),
    [
        ("warm-up", 0),
        ("recovery", 1),
        ("round", 2),
        ("phase 1", 1),
        ("phase 2", 2),
        ("generation", 2),
    ],
)
def test_an_observer_can_stop_the_search_after_any_task(task: str, generation: int) -> None:
    log, other = Log((task, generation)), Log()
    outcome, history, _, state = run(2000, observers=[log, other])
    assert state.generation == generation
    assert log.open == other.open == []
    assert not outcome.interrupted
    assert log.ended == other.ended
    assert (task in ("warm-up", "generation")) == (log.ended[-1] == task)
    # The rest is not spent on the best.
    assert state.ledger.spent < state.ledger.total / 2
    assert "final" not in set(history["phase"])
    *_, whole = run(2000)
    pd.testing.assert_frame_equal(
        without_times(state), without_times(whole).iloc[: len(history)]
    )


def test_a_search_continues_from_a_candidate() -> None:
    first, *_ = run(60)
    weights = first.winner.weights
    start = Candidate(
        70, first.winner.topology, weights, 5, "warm start", Ancestor(3, 0.5, 9), n_steps=11
    )
    outcome, history, trainer, _ = run(200, topology=start)
    [begun], _, key = trainer.calls[0]
    assert begun is start
    assert key[:2] == (0, 5)
    assert history["generation"].min() == 5
    assert history["candidate"].min() == 70
    assert outcome.lineage[0].id == 70
    assert outcome.winner.n_steps > 11
    # Another generation, other draws: nothing is repeated.
    *_, again = run(200, topology=replace(start, generation=0))
    assert not again.ledger.to_frame()["topology"].equals(history["topology"])

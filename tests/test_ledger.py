"""The ledger of the budget is never overdrawn and does not round."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from fractions import Fraction

import pandas as pd
import pytest
from helpers import examples
from hypothesis import given
from hypothesis import strategies as st

from skectonas.search.ledger import Entry, Ledger

ENTRY = Entry(
    generation=1,
    phase="phase 1",
    round=0,
    bracket=2,
    candidate=5,
    parent=0,
    morphism="add_units",
    topology="2x2x1 > 2 classes",
    n_parameters=10,
    n_steps=3,
    n_steps_total=13,
    train_loss=0.5,
    validation_loss=0.75,
    validation_score=0.25,
    mean_loss=0.875,
    mean_score=0.1875,
    fitness=0.125,
    won=True,
    seconds=1.5,
)
START = replace(
    ENTRY, generation=0, phase="warm-up", bracket=None, parent=None, fitness=None, won=None
)
COLUMNS = [
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
    "mean_loss",
    "mean_score",
    "fitness",
    "won",
    "seconds",
]
TEXT = pd.Series(["text"]).dtype
DTYPES = {
    "generation": "int64",
    "phase": TEXT,
    "round": "int64",
    "bracket": "Int64",
    "candidate": "int64",
    "parent": "Int64",
    "morphism": TEXT,
    "topology": TEXT,
    "n_parameters": "int64",
    "epochs": "float64",
    "epochs_total": "float64",
    "budget_spent": "float64",
    "train_loss": "float64",
    "validation_loss": "float64",
    "validation_score": "float64",
    "mean_loss": "float64",
    "mean_score": "float64",
    "fitness": "float64",
    "won": "boolean",
    "seconds": "float64",
}


def costing(*steps: int) -> list[Entry]:
    return [replace(ENTRY, n_steps=n) for n in steps]


@examples(200)
@given(
    hundredths=st.lists(st.integers(1, 2000), min_size=1, max_size=4),
    steps_per_epoch=st.integers(1, 300),
    charges=st.lists(st.lists(st.integers(1, 400), max_size=4), max_size=12),
)
def test_never_overdrawn(
    hundredths: list[int], steps_per_epoch: int, charges: list[list[int]]
) -> None:
    budget = sum(part / 100 for part in hundredths)  # with the rounding errors that people have
    exact = Fraction(sum(hundredths), 100) * steps_per_epoch
    if exact < 1:
        with pytest.raises(ValueError, match="budget="):
            Ledger(budget, steps_per_epoch)
        return
    ledger = Ledger(budget, steps_per_epoch)
    left = exact.numerator // exact.denominator
    assert ledger.left == ledger.total == left
    accepted: list[int] = []
    for steps in charges:
        before = ledger.entries
        if sum(steps) <= left:
            ledger = ledger.charge(costing(*steps))
            left -= sum(steps)
            accepted += steps
        else:
            with pytest.raises(ValueError, match=f"{sum(steps)} batches .* {left} were left"):
                ledger.charge(costing(*steps))
            assert ledger.entries == before
        assert ledger.left == left >= 0
        assert ledger.spent == sum(accepted) <= exact
        assert [entry.n_steps for entry in ledger.entries] == accepted
    if accepted:
        frame = ledger.to_frame()
        assert frame["budget_spent"].iloc[-1] == pytest.approx(sum(accepted) / steps_per_epoch)
        assert frame["budget_spent"].iloc[-1] <= budget + 1e-9


@pytest.mark.parametrize(
    ("budget", "steps_per_epoch", "batches"),
    [
        (0.1 + 0.2, 10, 3),
        (0.7 + 0.1, 10, 8),
        (1.1 * 3, 10, 33),
        (3.5, 4, 14),
        (3.5, 3, 10),
        (1, 7, 7),
        (1000, 1875, 1_875_000),
        (0.29, 100, 29),
        (0.57, 100, 57),
    ],
)
def test_fractions(budget: float, steps_per_epoch: int, batches: int) -> None:
    ledger = Ledger(budget, steps_per_epoch)
    assert ledger.left == batches
    assert ledger.spent == 0
    ledger = ledger.charge(costing(batches))
    assert ledger.left == 0
    with pytest.raises(ValueError, match="only 0 were left"):
        ledger.charge(costing(1))


@pytest.mark.parametrize(("budget", "steps_per_epoch"), [(0.1, 9), (0.999, 1), (0, 5), (-1, 5)])
def test_a_budget_below_one_batch(budget: float, steps_per_epoch: int) -> None:
    with pytest.raises(ValueError, match=f"budget={budget} .* {steps_per_epoch} batches"):
        Ledger(budget, steps_per_epoch)


def test_a_refusal_is_atomic() -> None:
    ledger = Ledger(2, 5)
    ledger = ledger.charge(iter(costing(4)))  # any iterable, read once
    with pytest.raises(ValueError, match="7 batches were trained, but only 6"):
        ledger.charge(iter(costing(1, 6)))
    assert (ledger.left, ledger.spent, len(ledger.entries)) == (6, 4, 1)
    ledger = ledger.charge(costing(6))
    assert ledger.left == 0


def test_append_only() -> None:
    ledger = Ledger(2, 5)
    ledger = ledger.charge(costing(4))
    entries = ledger.entries
    assert isinstance(entries, tuple)
    with pytest.raises(FrozenInstanceError):
        entries[0].n_steps = 0
    for name in ("entries", "left", "spent"):
        with pytest.raises(AttributeError):
            setattr(ledger, name, 0)
    ledger = ledger.charge(costing(2))
    assert [entry.n_steps for entry in ledger.entries] == [4, 2]
    assert len(entries) == 1


def test_frame() -> None:
    ledger = Ledger(budget=10, steps_per_epoch=4)
    ledger = ledger.charge([replace(START, n_steps=6, n_steps_total=6)])
    ledger = ledger.charge(
        [
            replace(ENTRY, n_steps=2, n_steps_total=8),
            replace(ENTRY, candidate=6, n_steps=1, n_steps_total=7, won=False, bracket=None),
        ]
    )
    frame = ledger.to_frame()
    assert list(frame.columns) == COLUMNS
    assert dict(frame.dtypes.items()) == DTYPES
    assert frame["epochs"].tolist() == [1.5, 0.5, 0.25]
    assert frame["epochs_total"].tolist() == [1.5, 2.0, 1.75]
    assert frame["budget_spent"].tolist() == [1.5, 2.0, 2.25]
    assert frame["parent"].isna().tolist() == [True, False, False]
    assert frame["bracket"].isna().tolist() == [True, False, True]
    assert frame["won"].isna().tolist() == [True, False, False]
    assert frame["won"].tolist()[1:] == [True, False]
    assert frame["fitness"].isna().tolist() == [True, False, False]
    assert frame["candidate"].tolist() == [5, 5, 6]
    for name in (
        "phase",
        "morphism",
        "topology",
        "n_parameters",
        "validation_score",
        "seconds",
    ):
        assert frame[name].tolist() == [getattr(entry, name) for entry in ledger.entries]
    assert frame.index.equals(pd.RangeIndex(3))


@pytest.mark.parametrize("entry", [ENTRY, START])
def test_dtypes_do_not_depend_on_the_rows(entry: Entry) -> None:
    ledger = Ledger(10, 4)
    ledger = ledger.charge([entry])
    frame = ledger.to_frame()
    assert dict(frame.dtypes.items()) == DTYPES


def test_empty_frame() -> None:
    frame = Ledger(1, 1).to_frame()
    assert len(frame) == 0
    assert list(frame.columns) == COLUMNS
    numbers = {name: dtype for name, dtype in DTYPES.items() if dtype != TEXT}
    assert {name: frame.dtypes[name] for name in numbers} == numbers


def test_the_frame_is_a_copy() -> None:
    ledger = Ledger(10, 4)
    ledger = ledger.charge([ENTRY])
    frame = ledger.to_frame()
    frame["epochs"] = 99.0
    assert ledger.to_frame()["epochs"].tolist() == [0.75]


def test_columns_are_the_documented_fields() -> None:
    names = [field.name for field in fields(Entry)]
    renamed = {"epochs": "n_steps", "epochs_total": "n_steps_total"}
    assert [renamed.get(name, name) for name in COLUMNS if name != "budget_spent"] == names

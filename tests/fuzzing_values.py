"""Good and odd values of everything that `fit` takes, for the fuzzer in `fuzzing`."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from skectonas import Dense, Topology

N = 30
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(N, 4))
IMAGES = RNG.random((N, 6, 6))
LABELS = np.arange(N) % 2
LARGE = 2**62


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": np.where(LABELS, np.nan, TABLE[:, 0]),
            "job": pd.Series(["clerk", "nurse", None] * 10, dtype=object),
            "when": pd.date_range("2020-01-01", periods=N),
            "kind": pd.Categorical(["a", "b", "c"] * 10),
            "truth": LABELS == 1,
        }
    )


def _with(array: Any, value: Any) -> Any:
    changed = np.array(array, dtype=np.result_type(array, type(value)))
    changed.flat[7] = value
    return changed


def _objects(value: Any) -> Any:
    array = TABLE.astype(object)
    array[3, 1] = value
    return array


def _broken_sparse() -> Any:
    X = sparse.csr_array(TABLE)
    X.indices[3] = 77
    return X


GOOD_X: list[Callable[[], Any]] = [
    lambda: TABLE,
    lambda: IMAGES,
    lambda: (IMAGES * 255).astype(np.uint8),
    lambda: TABLE.astype(np.float32),
    lambda: TABLE.tolist(),
    lambda: pd.DataFrame(TABLE),
    _frame,
    lambda: sparse.csr_array(TABLE),
    lambda: torch.tensor(TABLE, requires_grad=True),
    lambda: np.where(TABLE > 1, np.nan, TABLE),
]
ODD_X: list[Callable[[], Any]] = [
    lambda: _with(TABLE, np.inf),
    lambda: _with(IMAGES, np.nan),
    lambda: _with(IMAGES, -np.inf),
    lambda: np.full_like(TABLE, np.nan),
    lambda: TABLE[:0],
    lambda: TABLE[:1],
    lambda: TABLE[:, :0],
    lambda: TABLE[:-1],
    lambda: TABLE[:, 0],
    lambda: TABLE.reshape(N, 1, 1, 2, 2),
    lambda: IMAGES[:, :0],
    lambda: IMAGES[:, :1, :1],
    lambda: None,
    lambda: 3.0,
    lambda: "text",
    lambda: {"a": 1},
    lambda: object(),
    lambda: [[1, 2], [3]] * (N // 2),
    lambda: [[10**400, 1.0]] * N,
    lambda: [[object()]] * N,
    lambda: TABLE * 1j,
    lambda: TABLE.astype("M8[s]"),
    lambda: TABLE.astype("m8[D]"),
    lambda: IMAGES.astype("M8[D]"),
    lambda: TABLE.astype(str),
    lambda: TABLE.astype("S"),
    lambda: TABLE > 0,
    lambda: TABLE.astype(np.float16),
    lambda: TABLE.astype(np.longdouble) * np.longdouble("1e4000"),
    lambda: TABLE * 1e307,
    lambda: TABLE * 5e-324,
    lambda: np.zeros((N, 3)),
    lambda: _objects(10**400),
    lambda: _objects("x"),
    lambda: _objects(None),
    lambda: _objects([1]),
    lambda: _objects(Decimal(3)),
    lambda: _objects(datetime.date(2020, 1, 1)),
    lambda: _frame().assign(odd=[{"a": 1}] * N),
    lambda: _frame().assign(odd=[datetime.time(1)] * N),
    lambda: _frame().assign(odd=[Decimal(2)] * N),
    lambda: _frame().assign(odd=np.inf),
    lambda: _frame().assign(odd=pd.period_range("2020", periods=N)),
    lambda: _frame()[["job", "job"]],
    lambda: _frame().iloc[:0],
    lambda: pd.DataFrame(index=range(N)),
    lambda: pd.DataFrame({"a": [None] * N}),
    lambda: pd.concat({"a": _frame()}, axis=1),
    lambda: pd.Series(TABLE[:, 0]),
    lambda: _broken_sparse(),
    lambda: sparse.csr_array(TABLE).asformat("coo"),
    lambda: sparse.csr_array((N, 3)),
    lambda: torch.ones(N, 3, device="meta"),
    lambda: torch.ones(N, 3).to_sparse(),
    lambda: torch.ones(N, 3, dtype=torch.bfloat16),
    lambda: [torch.ones(3, requires_grad=True)] * N,
    lambda: np.ma.masked_greater(TABLE, 0),
    lambda: np.zeros(N, dtype=[("a", int), ("b", float)]),
]
GOOD_Y: list[Callable[[], Any]] = [
    lambda: LABELS,
    lambda: LABELS.tolist(),
    lambda: np.array(["no", "yes"])[LABELS],
    lambda: pd.Series(LABELS, dtype="Int64"),
    lambda: pd.Series(np.array(["no", "yes"])[LABELS], dtype="category"),
    lambda: LABELS == 1,
    lambda: torch.tensor(LABELS),
]
ODD_Y: list[Callable[[], Any]] = [
    lambda: None,
    lambda: 3,
    lambda: "text",
    lambda: set(LABELS.tolist()),
    lambda: LABELS[:-1],
    lambda: LABELS[:0],
    lambda: LABELS[:, None],
    lambda: np.stack([LABELS] * 2, 1),
    lambda: np.zeros(N),
    lambda: np.arange(N),
    lambda: TABLE[:, 0],
    lambda: _with(LABELS, np.nan),
    lambda: _with(LABELS, np.inf),
    lambda: LABELS * 1j,
    lambda: LABELS + LARGE,
    lambda: pd.Series(LABELS + LARGE, dtype="Int64"),
    lambda: [10**400, 1] * (N // 2),
    lambda: [5.0, LARGE, LARGE + 1] * (N // 3),
    lambda: [-1, 2**63 + 1] * (N // 2),
    lambda: [1, "a"] * (N // 2),
    lambda: [None, "a"] * (N // 2),
    lambda: [(1,), (2,)] * (N // 2),
    lambda: [[1], [1, 2]] * (N // 2),
    lambda: [Decimal(1), Decimal(2)] * (N // 2),
    lambda: [b"a", b"b"] * (N // 2),
    lambda: LABELS.astype(object),
    lambda: LABELS.astype("M8[D]"),
    lambda: LABELS.astype(np.longdouble),
    lambda: LABELS.astype(np.float16),
    lambda: np.array([True, 2] * (N // 2), dtype=object),
    lambda: pd.MultiIndex.from_arrays([LABELS, LABELS]),
    lambda: pd.Series([1, None] * (N // 2), dtype="Int64"),
    lambda: pd.period_range("2020", periods=2).repeat(N // 2),
    lambda: pd.DataFrame({"a": LABELS}),
    lambda: sparse.csr_array(LABELS[:, None]),
    lambda: torch.tensor(LABELS * 1.0, requires_grad=True),
    lambda: torch.ones(N, device="meta"),
    lambda: [torch.tensor(float(label), requires_grad=True) for label in LABELS],
]
WEIGHTS: list[Callable[[], Any]] = [
    lambda: np.ones(N),
    lambda: np.arange(N),
    lambda: np.full(N, 1e308),
    lambda: np.full(N, 5e-324),
    lambda: 2,
    lambda: (np.arange(N) < 20).astype(float),
    lambda: -np.ones(N),
    lambda: np.zeros(N),
    lambda: np.ones(N - 1),
    lambda: np.ones((N, 2)),
    lambda: _with(np.ones(N), np.nan),
    lambda: _with(np.ones(N), np.inf),
    lambda: np.arange(N).astype("M8[s]"),
    lambda: [10**400] * N,
    lambda: ["1"] * N,
    lambda: "balanced",
    lambda: {0: 1},
    lambda: np.ones(N) * 1j,
    lambda: pd.Series(np.ones(N)),
    lambda: torch.ones(N, requires_grad=True),
    lambda: sparse.csr_array(np.ones((N, 1))),
    lambda: np.where(LABELS == 0, 1.0, 0.0),
]
GROUPS: list[Callable[[], Any]] = [
    lambda: np.arange(N) // 4,
    lambda: np.arange(N),
    lambda: (np.arange(N) // 4).tolist(),
    lambda: ["a", "b", "c"] * (N // 3),
    lambda: pd.Series(["a", "b", None] * (N // 3)),
    lambda: pd.Series(np.arange(N) % 3, dtype="category"),
    lambda: pd.date_range("2020-01-01", periods=N),
    lambda: torch.arange(N) // 2,
    lambda: LABELS,
    lambda: np.zeros(N),
    lambda: np.arange(N - 1),
    lambda: np.zeros((N, 2)),
    lambda: [[1]] * N,
    lambda: [[1], [1, 2]] * (N // 2),
    lambda: [(1,), (2, 3)] * (N // 2),
    lambda: [1, "a", None] * (N // 3),
    lambda: [{"a": 1}] * N,
    lambda: np.full(N, np.nan),
    lambda: 3,
    lambda: "text",
    lambda: set(range(N)),
    lambda: sparse.csr_array(np.ones((N, 1))),
    lambda: torch.ones(N, device="meta"),
    lambda: pd.MultiIndex.from_arrays([LABELS, LABELS]),
    lambda: np.zeros(N, dtype=[("a", int), ("b", float)]),
    lambda: [10**400] * N,
]
NUMBERS: list[Any] = [
    *(0, 1, 2, 3, -1, 0.5, 1e-300, 1e300, 10**18, 10**400, 2**31, 2**40),
    *(float("nan"), float("inf"), -float("inf"), True, None, "3", [3], (3,), 2j),
    *(np.uint8(3), np.int8(-1), np.float16(0.5), np.float32(2), np.longdouble(2)),
    *(np.array(3), np.bool_(True), Decimal(2), torch.tensor(2.0)),
]
PARAMETERS: dict[str, list[Any]] = {
    "alpha": [*NUMBERS, 0.5, np.float64(1)],
    # Without those that would be trained for ever.
    "budget": [n for n in NUMBERS if not (isinstance(n, int) and 100 < n < 10**100)] + [None],
    # Without those that are over at once, which only training can show, and without long ones.
    "time_limit": [n for n in NUMBERS if not (isinstance(n, Real) and (0 < n < 1 or n > 3))],
    "checkpoint": ["/missing/x", "\0", b"x", 3, Path(__file__), Path(__file__) / "x"],
    "n_iter_no_change": NUMBERS,
    "start": [
        "medium_ffnn",
        "medium_cnn",
        "x",
        None,
        3,
        Topology((6, 6, 1), [], [Dense(3)], 2),
    ],
    "scoring": [
        "neg_log_loss",
        "roc_auc",
        "r2",
        "x",
        None,
        int,
        lambda *a: "x",
        lambda *a: 1.0,
    ],
    "validation_fraction": [*NUMBERS, 0.3, 0.99],
    "optimizer": ["adam", "LBFGS", "x", None, int, torch.optim.Optimizer, torch.optim.RMSprop],
    "optimizer_params": [
        *({"momentum": 0.9}, {"lr": 1}, {"x": 1}, {1: 1}, {"momentum": 10**400}, [], "x"),
        *({"momentum": np.float32(0.5)}, {"momentum": float("nan")}, {"differentiable": True}),
    ],
    "learning_rate": [*NUMBERS, 20.0],
    "batch_size": NUMBERS,
    "class_weight": [
        *("balanced", "x", {0: 1, 1: 2}, {0: -1}, {0: "a"}, {0: 10**400}, {7: 1}, {}, 3, []),
    ],
    "image_shape": [
        *((2, 2), (2, 3), (1, 1), (0, 9), (2.0, 2), ("a", 2), (10**9, 10**9), (10**400, 1)),
        *((np.uint8(2), np.uint8(3)), [6, 6], (6, 6, 1), (2,), "x", 3, (), (-2, -3)),
    ],
    "column_order": ["shuffled", "correlation", "x", None, 1],
    "column_scaling": ["piecewise", "minmax", "x", None, 1],
    "morphisms": [
        *([], "x", ["identity"], ["identity"] * 2, [3], None, 3, np.array(["identity"])),
        ["add_units", "x"],
    ],
    "averaging": NUMBERS,
    "round_epochs": NUMBERS,
    "n_rounds": NUMBERS,
    "n_parents": NUMBERS,
    "score_window": NUMBERS,
    "max_growth": NUMBERS,
    "max_parameters": NUMBERS,
    "selection": ["random", "x", None, int, lambda c: 1.0],
    "keep_candidates": ["pareto", "x", 1],
    "n_jobs": NUMBERS,
    "device": ["cpu", "hpu", "meta", "cuda:99", "x", None, 3, torch.device("cpu")],
    "random_state": [*NUMBERS, np.random.RandomState(0), np.random.default_rng(0)],
    "warm_start": [True, 1, "x", None, np.bool_(True)],
}

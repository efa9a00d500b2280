"""The plain trainer against steps written by hand in numpy."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Ancestor, Candidate, Evaluation
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import build, initial_weights
from skectonas.training.data import BatchOrder, Rows, TrainingData
from skectonas.training.plain import (
    PlainTrainer,
    evaluate,
    resolve_optimizer,
    snapshot_steps,
)
from skectonas.training.scoring import make_scorer

Array = NDArray[np.float64]

FFNN = Topology((3, 2, 1), [], [Dense(5), Dense(4)], 3)
CNN = Topology((5, 4, 2), [ConvCell(3), ConvCell(2, "max")], [Dense(4)], 3)
KEY = (3, 1, 2, 0)
N_TRAIN, N_VALIDATION, BATCH = 22, 9, 8  # three batches of eight: the last is filled up


def take_rows(n: int, topology: Topology, weighted: bool, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, topology.n_classes, n))
    images = rng.integers(0, 256, (n, *topology.input_shape)).astype(np.uint8)
    weights = torch.from_numpy(rng.uniform(0.1, 3, n)) if weighted else None
    return Rows(torch.from_numpy(images), labels, weights)


def some_data(topology: Topology, weighted: bool = False) -> TrainingData:
    return TrainingData(
        take_rows(N_TRAIN, topology, weighted, 1),
        take_rows(N_VALIDATION, topology, weighted, 2),
        PixelScaling((20.0,), (1 / 200,)),
        batch_size=BATCH,
    )


def a_trainer(
    data: TrainingData, optimizer: Any = "sgd", lr: float = 0.1, **params: Any
) -> PlainTrainer:
    rows = data.validation
    scorer = make_scorer(
        "accuracy",
        rows.images.numpy(),
        rows.labels.numpy(),
        np.arange(3),
        None if rows.weights is None else rows.weights.numpy(),
    )
    return PlainTrainer(data, resolve_optimizer(optimizer, lr, params), scorer)


def a_candidate(
    topology: Topology, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Candidate:
    weights = initial_weights(topology, np.random.default_rng(seed))
    return Candidate(seed, topology, {name: value.to(dtype) for name, value in weights.items()})


def same_weights(one: Candidate, other: Candidate) -> bool:
    assert set(one.weights) == set(other.weights)
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


class ByHand:
    """A dense network, trained by SGD with hand-written gradients."""

    def __init__(self, candidate: Candidate, lr: float) -> None:
        names = [f"dense.{i}" for i in range(len(candidate.topology.dense))] + ["output"]
        self.names = names
        self.W = [candidate.weights[f"{name}.weight"].numpy().copy() for name in names]
        self.b = [candidate.weights[f"{name}.bias"].numpy().copy() for name in names]
        self.lr = lr

    def forward(self, x: Array) -> tuple[list[Array], Array]:
        seen = [x]
        for W, b in zip(self.W[:-1], self.b[:-1], strict=True):
            seen.append(np.maximum(seen[-1] @ W.T + b, 0))
        logits = seen[-1] @ self.W[-1].T + self.b[-1]
        p = np.exp(logits - logits.max(1, keepdims=True))
        return seen, p / p.sum(1, keepdims=True)

    def step(self, x: Array, labels: NDArray[np.int64], weights: Array) -> float:
        seen, p = self.forward(x)
        n = len(x)
        loss = float(np.sum(-np.log(p[np.arange(n), labels]) * weights) / n)
        delta = p.copy()
        delta[np.arange(n), labels] -= 1
        delta *= weights[:, None] / n
        for i in reversed(range(len(self.W))):
            dW, db = delta.T @ seen[i], delta.sum(0)
            delta = (delta @ self.W[i]) * (seen[i] > 0)
            self.W[i] -= self.lr * dW
            self.b[i] -= self.lr * db
        return loss

    def evaluation(self, train_loss: float, x: Array, rows: Rows) -> Evaluation:
        _, p = self.forward(x)
        labels = rows.labels.numpy()
        weights = np.ones(len(x)) if rows.weights is None else rows.weights.numpy()
        losses = -np.log(p[np.arange(len(x)), labels])
        right = p.argmax(1) == labels
        total = weights.sum()
        return Evaluation(
            train_loss, float(losses @ weights / total), float(right @ weights / total)
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_the_steps_are_those_by_hand(weighted: bool) -> None:
    data, candidate, lr = some_data(FFNN, weighted), a_candidate(FFNN), 0.3
    hand = ByHand(candidate, lr)
    images = [
        (rows.images.numpy().astype(float).reshape(len(rows), -1) - 20.0) / 200
        for rows in (data.train, data.validation)
    ]
    labels = data.train.labels.numpy()
    weights = data.train.weights.numpy() if weighted else np.ones(N_TRAIN)
    expected, losses = [], []
    for step, batch in enumerate(BatchOrder(N_TRAIN, BATCH, 8, KEY)[:].numpy(), 1):
        losses.append(hand.step(images[0][batch], labels[batch], weights[batch]))
        if step % 3 == 0 or step == 8:  # the ends of the epochs, and of the training
            expected.append(hand.evaluation(np.mean(losses), images[1], data.validation))
            losses = []

    [trained] = a_trainer(data, lr=lr).train([candidate], [8], KEY)

    for name, W, b in zip(hand.names, hand.W, hand.b, strict=True):
        np.testing.assert_allclose(trained.weights[f"{name}.weight"], W, rtol=0, atol=1e-9)
        np.testing.assert_allclose(trained.weights[f"{name}.bias"], b, rtol=0, atol=1e-9)
        assert not np.allclose(candidate.weights[f"{name}.weight"], W, rtol=0, atol=1e-3)
    for found, wanted in zip(trained.evaluations, expected, strict=True):
        for name in ("train_loss", "validation_loss", "validation_score"):
            assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-9)


def test_evaluations_do_not_disturb_the_training() -> None:
    data, candidate = some_data(CNN), a_candidate(CNN)
    network = build(CNN, candidate.weights)  # its batch norms see the batches, to the end
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for batch in BatchOrder(N_TRAIN, BATCH, 8, KEY)[:].numpy():
        images = (data.train.images.numpy()[batch].astype(float) - 20.0) / 200
        logits = network(torch.from_numpy(images))
        own = logits.log_softmax(1)[torch.arange(len(batch)), data.train.labels[batch]]
        optimizer.zero_grad()
        (-own.mean()).backward()
        optimizer.step()
    [trained] = a_trainer(data).train([candidate], [8], KEY)
    for name, value in network.named_parameters():
        torch.testing.assert_close(trained.weights[name], value.detach(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("n_steps", "n_evaluations"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3)]
)
def test_one_evaluation_for_every_epoch_and_for_the_end(
    n_steps: int, n_evaluations: int
) -> None:
    before = Evaluation(1.0, 2.0, 0.5)
    candidate = replace(a_candidate(CNN), n_steps=5, evaluations=(before,))
    [trained] = a_trainer(some_data(CNN)).train([candidate], [n_steps], KEY)
    assert len(trained.evaluations) == 1 + n_evaluations
    assert trained.evaluations[0] == before
    assert trained.n_steps == 5 + n_steps
    values = [v for e in trained.evaluations for v in vars(e).values()]
    assert np.isfinite(values).all()
    assert all(type(value) is float for value in values)


def test_competitors_keep_their_order_and_their_lengths() -> None:
    candidates = [
        replace(
            a_candidate(topology, seed=i),
            id=10 + i,
            generation=2,
            morphism="add_units",
            parent=Ancestor(1, 0.5, 9),
            score_window=i + 1,
        )
        for i, topology in enumerate([CNN, CNN, replace(CNN, dense=())])
    ]
    lengths = [4, 2, 7]
    trainer = a_trainer(some_data(CNN))
    together = trainer.train(candidates, lengths, KEY)
    for before, after, n_steps in zip(candidates, together, lengths, strict=True):
        [alone] = trainer.train([before], [n_steps], KEY)
        assert same_weights(alone, after)
        assert after.evaluations == alone.evaluations
        assert after.n_steps == n_steps
        kept = replace(after, weights=before.weights, evaluations=(), n_steps=0)
        assert vars(kept) == vars(before)


def test_as_many_lengths_as_competitors() -> None:
    with pytest.raises(ValueError, match=r"zip|length"):
        a_trainer(some_data(FFNN)).train([a_candidate(FFNN)], [1, 1], KEY)


def test_a_check_before_every_batch() -> None:
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 12:
            raise KeyError

    trainer = a_trainer(some_data(FFNN))
    candidates = [a_candidate(FFNN)] * 2
    trainer.train(candidates, [4, 3], KEY, check=check)
    assert len(calls) == 7
    with pytest.raises(KeyError):
        trainer.train(candidates, [4, 3], KEY, check=check)
    assert len(calls) == 12


@pytest.mark.parametrize("topology", [FFNN, CNN])
def test_competitors_are_left_as_they_are(topology: Topology) -> None:
    candidate = a_candidate(topology)
    before = {name: value.clone() for name, value in candidate.weights.items()}
    [trained] = a_trainer(some_data(topology)).train([candidate], [4], KEY)
    for name, value in candidate.weights.items():
        assert torch.equal(value, before[name])
        assert not value.requires_grad
        assert not torch.equal(trained.weights[name], value)
        assert trained.weights[name].data_ptr() != value.data_ptr()
        assert not trained.weights[name].requires_grad
    assert candidate.n_steps == 0
    assert candidate.evaluations == ()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_key_gives_the_same_bits(optimizer: str) -> None:
    params = {"momentum": 0.9} if optimizer == "sgd" else {}
    trainer = a_trainer(some_data(CNN), optimizer, 0.01, **params)
    candidate = a_candidate(CNN, torch.float32)
    [one], [again] = (trainer.train([candidate], [5], KEY) for _ in range(2))
    assert same_weights(one, again)
    assert one.evaluations == again.evaluations
    [other] = trainer.train([candidate], [5], (*KEY[:3], 1))
    assert not same_weights(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("topology", [FFNN, CNN])
def test_the_precision_stays(topology: Topology, dtype: torch.dtype, weighted: bool) -> None:
    trainer = a_trainer(some_data(topology, weighted))
    [trained] = trainer.train([a_candidate(topology, dtype)], [4], KEY)
    assert {value.dtype for value in trained.weights.values()} == {dtype}
    [reference] = trainer.train([a_candidate(topology)], [4], KEY)
    for name, value in trained.weights.items():
        torch.testing.assert_close(
            value.double(), reference.weights[name], rtol=1e-3, atol=1e-4
        )


def test_running_statistics_are_those_of_the_final_weights() -> None:
    data = some_data(CNN)
    [trained] = a_trainer(data).train([a_candidate(CNN)], [4], KEY)
    network = build(CNN, trained.weights)
    with torch.no_grad():
        images = (data.train.images.double() - 20.0) / 200
        evaluated = network.eval()(images)
        as_one_batch = network.train()(images)
    torch.testing.assert_close(evaluated, as_one_batch, rtol=0, atol=1e-9)


def test_scores_are_those_of_the_returned_weights() -> None:
    data = some_data(CNN)
    [trained] = a_trainer(data).train([a_candidate(CNN)], [4], KEY)
    with torch.no_grad():
        images = (data.validation.images.double() - 20.0) / 200
        logits = build(CNN, trained.weights).eval()(images).numpy()
    labels = data.validation.labels.numpy()
    assert trained.evaluations[-1].validation_score == np.mean(logits.argmax(1) == labels)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(N_VALIDATION), labels]
    assert trained.evaluations[-1].validation_loss == pytest.approx(losses.mean(), abs=1e-9)


@pytest.mark.parametrize("topology", [FFNN, CNN])
@pytest.mark.parametrize("lr", [1e8, 1e30])
@pytest.mark.parametrize("weighted", [False, True])
def test_diverging_is_a_bad_score_and_no_exception(
    topology: Topology, lr: float, weighted: bool
) -> None:
    data = some_data(topology, weighted)
    [trained] = a_trainer(data, lr=lr).train([a_candidate(topology, torch.float32)], [12], KEY)
    last = trained.evaluations[-1]
    network = build(topology, trained.weights).eval()
    with torch.no_grad():
        finite = network(data.scaled(data.validation.images, torch.float32)).isfinite().all()
    if lr == 1e30:
        assert not finite
    if not finite:
        assert last.validation_score == trained.score == -np.inf
        assert last.validation_loss == trained.loss == np.inf
    assert not np.isnan([last.validation_loss, last.validation_score]).any()


def test_evaluate_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    images = torch.zeros(3, 1, 1, 1)
    losses = np.log1p(np.exp([-2.0, -1.0, 3.0]))

    def first(p: Array) -> float:
        return float(p[0, 0])

    found = evaluate(logits, Rows(images, labels), first, 0.5)
    assert found.train_loss == 0.5
    assert found.validation_loss == pytest.approx(losses.mean(), abs=1e-12)
    assert found.validation_score == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-12)
    weights = torch.tensor([1.0, 4.0, 0.0], dtype=torch.float64)
    found = evaluate(logits, Rows(images, labels, weights), first, 0.5)
    assert found.validation_loss == pytest.approx((losses[0] + 4 * losses[1]) / 5, abs=1e-12)


def test_a_row_without_weight_cannot_spoil_the_loss() -> None:
    logits = torch.tensor(
        [[2.0, 0.0], [0.0, 1.0], [3e38, -3e38]]
    )  # finite, the last is hopeless
    weights = torch.tensor([1.0, 4.0, 0.0])
    rows = Rows(torch.zeros(3, 1, 1, 1), torch.tensor([0, 1, 1]), weights)
    found = evaluate(logits, rows, lambda p: float(p[0, 0]), 0.5)
    expected = (np.log1p(np.exp(-2.0)) + 4 * np.log1p(np.exp(-1.0))) / 5
    assert found.validation_loss == pytest.approx(expected, abs=1e-6)


def test_evaluate_without_any_weight_on_these_rows() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    rows = Rows(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), torch.zeros(2))
    expected = np.log1p(np.exp([-2.0, -1.0])).mean()
    found = evaluate(logits, rows, lambda p: float(p[0, 0]), 0.5)
    assert found.validation_loss == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_evaluate_what_is_not_finite(wrong: float) -> None:
    def never(p: Array) -> float:
        raise AssertionError

    logits = torch.zeros(3, 2)
    logits[1, 0] = wrong
    rows = Rows(torch.zeros(3, 1, 1, 1), torch.tensor([0, 1, 1]))
    assert evaluate(logits, rows, never, 1.5) == Evaluation(1.5, float("inf"), float("-inf"))


def test_global_generators_are_left_alone() -> None:
    trainer, candidate = a_trainer(some_data(CNN)), a_candidate(CNN)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state()
    trainer.train([candidate], [4], KEY)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    now = np.random.get_state()
    assert all(np.array_equal(a, b) for a, b in zip(now, numpy_state, strict=True))


OFFERED = [
    name
    for name in (
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "ASGD",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SGD",
    )
    if hasattr(torch.optim, name)  # older versions of torch have not all of them
]
REFUSED = [name for name in ("LBFGS", "SparseAdam", "Muon") if hasattr(torch.optim, name)]


@pytest.mark.parametrize("name", OFFERED)
def test_every_optimiser_trains(name: str) -> None:
    cls = getattr(torch.optim, name)
    given: list[str | type] = [name, name.lower(), name.upper(), name.title(), cls]
    specs = [resolve_optimizer(optimizer, 0.01) for optimizer in given]
    assert {spec.cls for spec in specs} == {cls}
    made = specs[0]([torch.nn.Parameter(torch.zeros(2))])
    assert type(made) is cls
    assert float(made.param_groups[0]["lr"]) == pytest.approx(0.01)
    candidate = a_candidate(CNN, torch.float32)
    [trained] = a_trainer(some_data(CNN), name, 0.01).train([candidate], [4], KEY)
    assert trained.is_finite
    assert not same_weights(trained, candidate)


class MySGD(torch.optim.SGD):
    """An optimiser of the user."""


def test_own_classes_and_settings() -> None:
    spec = resolve_optimizer(MySGD, 0.5, {"momentum": 0.9, "nesterov": True})
    group = spec([torch.nn.Parameter(torch.zeros(2))]).param_groups[0]
    assert spec.cls is MySGD
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.5, 0.9, True)
    one, other = (spec([torch.nn.Parameter(torch.zeros(2))]) for _ in range(2))
    assert one is not other


@pytest.mark.parametrize(
    "optimizer",
    [
        "no_such",
        "",
        "optimizer",
        "lr_scheduler",
        3,
        None,
        torch.optim.Optimizer,
        torch.nn.Linear,
        int,
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]),
        *REFUSED,
        *(name.lower() for name in REFUSED),
        *(getattr(torch.optim, name) for name in REFUSED),
    ],
)
def test_what_is_no_optimiser_for_this_is_refused(optimizer: Any) -> None:
    with pytest.raises(ValueError, match=r"optimizer (must be one of .*SGD|\w+ cannot train)"):
        resolve_optimizer(optimizer, 0.1)


@pytest.mark.parametrize(
    ("optimizer", "lr", "params"),
    [
        ("sgd", -1.0, None),
        ("sgd", 0.1, {"momentum": -1}),
        ("sgd", 0.1, {"betas": (0.9, 0.99)}),
        ("adam", 0.1, {"betas": (2, 3)}),
        ("adam", 0.1, {1: 2}),
        ("adam", 0.1, {"fused": True, "foreach": True}),
        ("adam", 0.1, {"fused": True, "differentiable": True}),
    ],
)
def test_settings_that_are_not_taken_are_refused(
    optimizer: str, lr: float, params: dict[Any, Any] | None
) -> None:
    with pytest.raises(ValueError, match="optimizer"):
        resolve_optimizer(optimizer, lr, params)


@pytest.mark.parametrize(("n_steps", "due"), [(3, [2, 3]), (6, [5, 6]), (4, [4]), (1, [1])])
def test_what_is_kept_is_the_mean_of_snapshots_of_the_last_epoch(
    n_steps: int, due: list[int]
) -> None:
    """Against trainings without averaging that end at the snapshots; all share the order."""
    data, candidate = some_data(CNN), a_candidate(CNN)
    assert data.steps_per_epoch == 3

    def trained(n_steps: int, averaging: int) -> Candidate:
        trainer = a_trainer(data, lr=0.3)
        trainer.averaging = averaging
        [result] = trainer.train([candidate], [n_steps], KEY)
        return result

    found = trained(n_steps, averaging=2)
    raw = [trained(step, averaging=1).weights for step in due]
    for name, value in found.weights.items():
        if "running" not in name:  # those are measured, of the means
            expected = torch.stack([weights[name] for weights in raw]).mean(0)
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    network = build(CNN, found.weights)
    network.calibrate(data.scaled(data.calibration, torch.float64))
    for name, value in network.state_dict().items():
        if "running" in name:
            assert torch.equal(found.weights[name], value)
    network.eval()
    logits = network(data.scaled(data.validation.images, torch.float64)).detach()
    expected_evaluation = evaluate(logits, data.validation, a_trainer(data).scorer, 0.0)
    assert found.evaluations[-1].validation_loss == expected_evaluation.validation_loss


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20))
def test_snapshot_steps(n_steps: int, per_epoch: int, averaging: int) -> None:
    steps = snapshot_steps(n_steps, per_epoch, averaging)
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == n_steps
    if n_steps <= per_epoch:
        assert len(steps) <= averaging
    assert snapshot_steps(n_steps, per_epoch, 1)[-1] == n_steps

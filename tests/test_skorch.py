"""The skorch net: the estimator's network, ready for further training."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from helpers import census, quick, rows_of_all_kinds
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping, LoadInitState, LRScheduler
from skorch.hf import AccelerateMixin
from skorch.history import History
from torch.optim.lr_scheduler import OneCycleLR

from skectonas import PAPER_SETTINGS, ConvCell, ECToNASClassifier, Topology
from skectonas.estimators import check_device
from skectonas.network import weights_of
from skectonas.training.holdout import split

KINDS = rows_of_all_kinds()


@pytest.fixture(autouse=True)
def _one_thread_and_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):  # skorch shuffles by torch's own generator
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def searched(digits: Any) -> ECToNASClassifier:
    """Return a classifier with a lineage; tests do not change it."""
    # A network that can still be trained further.
    clf = quick(200, **PAPER_SETTINGS | {"start": "medium_cnn"}).fit(*digits)
    assert len(clf.lineage_) > 1
    return clf


@pytest.mark.parametrize("kind", KINDS)
def test_the_probabilities_are_the_same(kind: str) -> None:
    X, y, parameters = KINDS[kind]
    clf = quick(11, **parameters).fit(X, y)
    net = clf.to_skorch()
    assert type(net) is NeuralNetClassifier
    assert net.initialized_
    np.testing.assert_allclose(net.predict_proba(X), clf.predict_proba(X), rtol=0, atol=1e-6)
    assert len(net.partial_fit(X, y, epochs=1).history) > 1


def test_a_frame_is_encoded_beforehand(digits: Any) -> None:
    X, y = census()
    clf = quick(30).fit(X, y)
    net = make_pipeline(
        FunctionTransformer(clf.encoder_.transform), clf.to_skorch(warm_start=True)
    )
    np.testing.assert_allclose(net.predict_proba(X), clf.predict_proba(X), rtol=0, atol=1e-6)
    indices = np.searchsorted(clf.classes_, y)
    before = len(net[-1].history)
    assert len(net.fit(X, indices)[-1].history) == before + 10  # trained on, for warm_start
    assert (clf.classes_[net.predict(X)] == y).mean() > 0.65  # the larger class has .53


def test_labels_of_text(digits: Any) -> None:
    X, y = digits
    names = np.array([*"abcdefghij"])[y]
    clf = quick(60).fit(X, names)
    net = clf.to_skorch()
    np.testing.assert_array_equal(clf.classes_[net.predict(X)], clf.predict(X))
    net.partial_fit(X, np.searchsorted(clf.classes_, names))
    assert (clf.classes_[net.predict(X)] == names).mean() > 0.7


@pytest.mark.parametrize("labels", [[1, 2], ["no", "yes"]], ids=str)
@pytest.mark.parametrize("scoring", ["average_precision", "f1", "roc_auc", "neg_log_loss"])
def test_scores_by_name_are_right(digits: Any, scoring: str, labels: list[Any]) -> None:
    X, y = digits
    X, indices = X[y < 2], y[y < 2]
    clf = quick(12).fit(X, np.array(labels)[indices])
    found = get_scorer(scoring)(clf.to_skorch(), X, indices)
    # The same network, and labels that all scorers know.
    expected = get_scorer(scoring)(quick(12).fit(X, indices), X, indices)
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_last_batch_may_be_a_single_row(digits: Any) -> None:
    X, y = (each[:65] for each in digits)
    one_pixel = Topology((8, 8, 1), [ConvCell(4, "max")] * 3, [], len(np.unique(y)))
    clf = quick(5, start=one_pixel, morphisms=["identity"]).fit(X, y)
    net = clf.to_skorch(max_epochs=2, train_split=None).partial_fit(X, y)
    assert np.isfinite(net.predict_proba(X)).all()


def test_training_on_begins_with_the_winner(searched: ECToNASClassifier, digits: Any) -> None:
    X, y = digits
    loss = searched.history_["train_loss"].iloc[0]
    for net in (
        searched.to_skorch(max_epochs=1, lr=1e-9).partial_fit(X, y),
        searched.to_skorch(max_epochs=1, lr=1e-9).fit(X, y),
        clone(searched.to_skorch(max_epochs=1, lr=1e-9)).fit(X, y),
    ):
        assert net.history[-1]["train_loss"] < loss / 2
    fresh = searched.to_skorch(max_epochs=1, lr=1e-9).set_params(module__weights=None)
    with torch.random.fork_rng():
        assert fresh.fit(X, y).history[-1]["train_loss"] > 2


def test_training_on_gets_better(searched: ECToNASClassifier, digits: Any) -> None:
    X, y = digits
    net = searched.to_skorch(lr=0.02, max_epochs=20)
    before = net.history[-1, "train_loss"]
    net.partial_fit(X, y)
    assert net.history[-1, "train_loss"] < 0.8 * before
    again = searched.to_skorch().module_.network  # the estimator is as it was
    for name, weight in weights_of(again).items():
        assert torch.equal(weight, searched.network_.state_dict()[name])
        assert not torch.equal(weight, net.module_.network.state_dict()[name])


def test_settings_are_those_of_the_estimator(digits: Any) -> None:
    X, y = digits
    adam = {"betas": (0.8, 0.9)}
    clf = quick(
        11, optimizer="adam", optimizer_params=adam, learning_rate=0.003, batch_size=20
    ).fit(X, y)
    net = clf.to_skorch()
    assert type(net.optimizer_) is torch.optim.Adam
    [group] = net.optimizer_.param_groups
    assert (group["lr"], group["betas"]) == (0.003, (0.8, 0.9))
    assert net.get_iterator(net.get_dataset(X, y), training=True).batch_size == 20
    assert net.verbose == 0
    assert net.device == str(check_device("auto"))
    # The settings that None stands for are those of the search, too.
    [group] = quick(2).fit(X, y).to_skorch().optimizer_.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.005)
    many = quick(2).fit(np.resize(X, (4000, 8, 8)), np.resize(y, 4000))
    assert many.n_samples_fit_ == 4000
    assert many.to_skorch().optimizer_.param_groups[0]["weight_decay"] == 10 / 4000
    # Another optimiser has other settings.
    other = clf.to_skorch(optimizer=torch.optim.SGD, optimizer__momentum=0.9, batch_size=7)
    [group] = other.optimizer_.param_groups
    assert (group["lr"], group["momentum"]) == (NeuralNetClassifier(None).lr, 0.9)
    assert other.batch_size == 7


def test_the_rows_held_out_are_those_of_the_search(
    searched: ECToNASClassifier, digits: Any
) -> None:
    X, y = digits
    net = searched.to_skorch()
    train, validation = net.train_split(net.get_dataset(X, y), y)
    seed = searched.encoder_.random_state
    for part, expected in zip((train, validation), split(y, 0.1, seed), strict=True):
        np.testing.assert_array_equal(part.indices, expected)
    # The rows that the winner was scored on give the loss and the score that it had.
    chosen = net.predict_proba(X)[validation.indices, y[validation.indices]]
    assert -np.log(chosen).mean() == pytest.approx(net.history[-1, "valid_loss"], abs=1e-5)
    with pytest.raises(ValueError, match="needs y"):
        net.train_split(net.get_dataset(X, y), None)
    # Of other rows too, each class that has two is held out.
    rare = np.array([0] * 298 + [2] * 2)
    train, validation = net.train_split(net.get_dataset(X, rare), rare)
    assert rare[train.indices].max() == rare[validation.indices].max() == 2


def test_the_history_is_that_of_the_lineage(searched: ECToNASClassifier) -> None:
    history = searched.to_skorch().history
    assert isinstance(history, History)
    assert history[:, "epoch"] == list(range(1, len(history) + 1))
    rows = searched.history_
    expected = []
    for ancestor in searched.lineage_.itertuples():
        own = rows[rows["candidate"] == ancestor.candidate]
        expected += own[own["epochs_total"] <= ancestor.epochs_total].to_dict("records")
    assert history[:, "train_loss"] == [row["train_loss"] for row in expected]
    assert history[:, "valid_loss"] == [row["validation_loss"] for row in expected]
    assert history[:, "valid_acc"] == [row["validation_score"] for row in expected]
    assert history[:, "dur"] == [row["seconds"] for row in expected]
    assert history[-1, "topology"] == str(searched.best_topology_)
    assert sum(history[:, "epochs"]) == pytest.approx(
        searched.lineage_["epochs_total"].iloc[-1]
    )
    for name, worst in (("train_loss", np.inf), ("valid_loss", np.inf), ("valid_acc", -np.inf)):
        for value, best in history[:, (name, f"{name}_best")]:
            assert best is bool(value > worst if name == "valid_acc" else value < worst)
            worst = value if best else worst
    assert History(json.loads(json.dumps(history))) == history


def test_a_score_that_is_no_accuracy_is_not_called_one(digits: Any) -> None:
    net = quick(11, scoring="neg_log_loss").fit(*digits).to_skorch()
    assert "valid_acc" not in net.history[-1]
    net.partial_fit(*digits, epochs=1)
    assert net.history[-1, "valid_acc"] > 0


def test_callbacks(searched: ECToNASClassifier, digits: Any, tmp_path: Path) -> None:
    X, y = digits
    checkpoint = Checkpoint(dirname=tmp_path, monitor="train_loss_best", load_best=True)
    stopping = EarlyStopping(monitor="train_loss", patience=3, threshold=0.1)
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5, last_epoch=-1)
    net = searched.to_skorch(max_epochs=30, callbacks=[schedule, checkpoint, stopping])
    before = len(net.history)
    net.partial_fit(X, y)
    epochs = len(net.history) - before
    assert 3 <= epochs < 30  # stopped, because the learning rate has become too low
    assert net.history[:, "event_lr"] == [0.1 * 0.5**k for k in range(epochs)]
    [*_, best] = np.flatnonzero(net.history[:, "event_cp"])
    assert best >= before
    # Another net continues from the checkpoint, including its history.
    other = searched.to_skorch(max_epochs=1, callbacks=[LoadInitState(checkpoint)])
    other.partial_fit(X, y)
    assert other.history[: best + 1, "train_loss"] == net.history[: best + 1, "train_loss"]
    assert len(other.history) == best + 2
    # From a fresh start the first epoch would be far above; the rate is the first one again.
    assert other.history[-1, "train_loss"] < 2 * net.history[int(best), "train_loss"]


@pytest.mark.parametrize(
    ("policy", "arguments"),
    [
        ("StepLR", {"step_size": 1}),
        ("ExponentialLR", {"gamma": 0.5}),
        ("CosineAnnealingLR", {"T_max": 100}),
        ("LambdaLR", {"lr_lambda": lambda epoch: 1 / (1 + epoch)}),
        ("ReduceLROnPlateau", {"patience": 1}),
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "last_epoch": -1}),
        (OneCycleLR, {"max_lr": 0.1, "total_steps": 5, "last_epoch": -1}),
    ],
)
def test_schedules(
    searched: ECToNASClassifier, digits: Any, policy: Any, arguments: dict[str, Any]
) -> None:
    schedule = LRScheduler(policy, **arguments)
    net = searched.to_skorch(max_epochs=2, callbacks=[schedule])
    net.partial_fit(*digits).partial_fit(*digits, epochs=1)
    rates = net.history[:, "event_lr"]
    assert len(rates) == 3
    assert len(set(rates)) > 1 or policy == "ReduceLROnPlateau"


def test_checkpoints_of_safetensors(
    searched: ECToNASClassifier, digits: Any, tmp_path: Path
) -> None:
    X, y = digits
    net = searched.to_skorch(max_epochs=1).partial_fit(X, y)
    net.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    other = searched.to_skorch()
    assert not np.array_equal(other.predict_proba(X), net.predict_proba(X))
    other.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


def test_pickle(searched: ECToNASClassifier, digits: Any) -> None:
    X, y = digits
    net = pickle.loads(pickle.dumps(searched.to_skorch(max_epochs=1)))
    np.testing.assert_array_equal(net.predict_proba(X), searched.to_skorch().predict_proba(X))
    assert net.history == searched.to_skorch().history
    before = len(net.history)
    assert len(net.partial_fit(X, y).history) == before + 1


def test_grid(searched: ECToNASClassifier, digits: Any) -> None:
    net = searched.to_skorch(max_epochs=2, train_split=None)
    grid = GridSearchCV(net, {"lr": [0.01, 0.1]}, cv=2, scoring="accuracy").fit(*digits)
    assert grid.best_score_ > 0.8  # each of them begins with the winner's weights
    assert len(grid.best_estimator_.history) == 2


def test_grid_of_pipelines() -> None:
    X, y = census()
    clf = quick(30).fit(X, y)
    pipeline = Pipeline(
        [
            ("encode", FunctionTransformer(clf.encoder_.transform)),
            ("net", clf.to_skorch(max_epochs=1, lr=1e-9)),
        ]
    )
    indices = np.searchsorted(clf.classes_, y)
    grid = GridSearchCV(
        pipeline, {"net__module__weights": [None, pipeline[-1].module__weights]}
    )
    with torch.random.fork_rng():
        grid.fit(X, indices)
    fresh, winner = grid.cv_results_["mean_test_score"]
    assert winner > fresh
    assert winner == pytest.approx(clf.score(X, y), abs=0.02)


class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
    """As in skorch's documentation."""


def test_accelerate(searched: ECToNASClassifier, digits: Any) -> None:
    X, y = digits
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    net = searched.to_skorch(AcceleratedNet, accelerator=accelerator, device=None, max_epochs=2)
    assert type(net) is AcceleratedNet
    network = net.module_.network
    weights = weights_of(network)
    precisions = set()
    network.output.register_forward_hook(lambda *step: precisions.add(step[-1].dtype))
    before = len(net.history)
    net.partial_fit(X, y)
    assert len(net.history) == before + 2
    # Two epochs of half precision give other results on every processor.
    assert precisions == {torch.bfloat16}
    assert np.isfinite(net.history[-2:, "train_loss"]).all()
    for name, value in weights_of(network).items():
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        assert not torch.equal(value, weights[name]), name
    assert np.isfinite(net.predict_proba(X)).all()


def test_a_compiled_module_has_the_weights_too(
    searched: ECToNASClassifier, digits: Any
) -> None:
    net = searched.to_skorch(compile=True, compile__backend="eager")
    expected = searched.predict_proba(digits[0])
    np.testing.assert_allclose(net.predict_proba(digits[0]), expected, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_on_a_gpu(searched: ECToNASClassifier, digits: Any) -> None:
    net = searched.to_skorch(device="cuda", max_epochs=1)
    expected = searched.predict_proba(digits[0])
    np.testing.assert_allclose(net.predict_proba(digits[0]), expected, rtol=0, atol=1e-5)
    before = len(net.history)
    assert len(net.partial_fit(*digits).history) == before + 1


def test_nothing_global_is_moved(searched: ECToNASClassifier, capsys: Any) -> None:
    before = torch.get_rng_state()
    net = searched.to_skorch()
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr().out == ""
    assert "tensor(" not in repr(clone(net))


@pytest.mark.parametrize("net_class", [NeuralNet, "NeuralNetClassifier", int])
def test_no_net_class(searched: ECToNASClassifier, net_class: Any) -> None:
    with pytest.raises(ValueError, match=r"net_class must be a subclass of skorch"):
        searched.to_skorch(net_class)


def test_no_argument_of_skorch(searched: ECToNASClassifier) -> None:
    with pytest.raises(ValueError, match="no_such"):
        searched.to_skorch(no_such=1)


def test_what_is_not_installed_is_named(
    searched: ECToNASClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skorch", None)
    with pytest.raises(ImportError, match=r"skorch .*skectonas\[skorch\]"):
        searched.to_skorch()


def test_an_estimator_that_is_not_fitted_has_no_net() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        quick().to_skorch()

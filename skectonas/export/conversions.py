"""A fitted estimator as a module of torch, a file of ONNX, a net of skorch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from skectonas.callers import no_warnings
from skectonas.estimators import check_device
from skectonas.export.portable import NamedWeights, PortableNetwork
from skectonas.extras import import_extra
from skectonas.files import target_of, write_file
from skectonas.inputs import InputEncoder
from skectonas.network import weights_of
from skectonas.training import (
    linear_weight_decay,
    split,
    usual_optimizer,
    usual_weight_decay,
)


def to_torch(estimator: BaseEstimator) -> PortableNetwork:
    """Return the network with its input scaling: see `ECToNASClassifier.to_torch`."""
    weights = weights_of(estimator.network_)
    return PortableNetwork(estimator.best_topology_, estimator.encoder_, weights).eval()


def to_onnx(estimator: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write the network with its input scaling: see `ECToNASClassifier.to_onnx`."""
    onnx = import_extra("onnx", "onnx")
    import_extra("onnxscript", "onnx")
    target_of(path)  # the export takes seconds
    with _silent_exporter():
        program = torch.onnx.export(
            _WithProbabilities(to_torch(estimator)).eval(),
            (_example(estimator.encoder_),),
            dynamo=True,
            opset_version=20,  # older ones pool the last window of an odd side differently
            verbose=False,
            input_names=["X"],
            output_names=["probabilities", "logits"],
            dynamic_shapes={"X": {0: "batch"}},
        )
    assert program is not None  # torch returns None only if it writes the file itself
    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, graph):
        # They name folders and lines of the Python source.
        part.ClearField("metadata_props")
    onnx.helper.set_model_props(model, metadata_of(estimator))
    write_file(path, model.SerializeToString())


def metadata_of(estimator: BaseEstimator) -> dict[str, str]:
    """Return what a model of ONNX says about itself, as texts of JSON."""
    about = {
        "classes": estimator.classes_.tolist(),
        "topology": estimator.best_topology_.to_dict(),
    }
    return {name: json.dumps(value, default=str) for name, value in about.items()}


def to_skorch(
    estimator: BaseEstimator, net_class: type | None, settings: dict[str, Any]
) -> Any:
    """Return the network as a net of skorch: see `ECToNASClassifier.to_skorch`."""
    skorch = import_extra("skorch", "skorch")
    if net_class is None:
        net_class = skorch.NeuralNetClassifier
    if not (isinstance(net_class, type) and issubclass(net_class, skorch.NeuralNetClassifier)):
        raise ValueError(
            f"net_class must be a subclass of skorch.NeuralNetClassifier, got {net_class!r}."
        )
    defaults = {
        "module__topology": estimator.best_topology_,
        "module__encoder": estimator.encoder_,
        "module__weights": NamedWeights(weights_of(estimator.network_)),
        "criterion": nn.CrossEntropyLoss,
        "batch_size": estimator.batch_size,
        "iterator_train__shuffle": True,
        "train_split": SearchSplit(estimator.validation_fraction, estimator.seed_),
        # What `predict` of skorch returns, and what `y` holds.
        "classes": np.arange(len(estimator.classes_)),
        "verbose": estimator.verbose,
    }
    if "optimizer" not in settings:  # its settings would not fit another optimiser
        defaults |= _optimizer(estimator)
    if "device" not in settings:
        defaults["device"] = str(check_device(estimator.device))
    net = net_class(PortableNetwork, **(defaults | settings)).initialize()
    for epoch in _lineage_epochs(estimator):
        net.history.new_epoch()
        net.history.new_batch()  # callbacks read the last batch
        for name, value in epoch.items():
            net.history.record(name, value)
    for group in net.optimizer_.param_groups:
        # A schedule that continues a history starts from this.
        group["initial_lr"] = group["lr"]
    return net


@dataclass(frozen=True)
class SearchSplit:
    """Hold out the same rows as the search, if the rows are those of the search.

    What skorch calls ``train_split``. Other rows are split in the same way, stratified.

    Parameters
    ----------
    validation_fraction : float or "auto"
        Share of the rows that is held out, see `skectonas.training.split`.
    seed : int
        What the split depends on.
    """

    validation_fraction: float | Literal["auto"]
    seed: int

    def __call__(
        self, dataset: Dataset[Any], y: Any = None, **params: Any
    ) -> tuple[Subset[Any], Subset[Any]]:
        """Return the part to train on and the part to validate on.

        Parameters
        ----------
        dataset : Dataset
            All rows.
        y : array-like of shape (n,)
            Class indices.
        **params : dict
            Ignored.
        """
        if y is None:
            raise ValueError("A stratified split needs y: give it, or train_split=None.")
        train, validation = split(np.asarray(y), self.validation_fraction, self.seed)
        return Subset(dataset, train.tolist()), Subset(dataset, validation.tolist())


class _WithProbabilities(nn.Module):
    """What the file of ONNX puts out."""

    def __init__(self, network: PortableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(X)
        return logits.softmax(1), logits


def _example(encoder: InputEncoder) -> Tensor:
    """Return an input of the shape and dtype that fit saw, or that a frame is encoded to."""
    known = encoder.to_dict()
    if known["input_dtype"] is None:
        return torch.zeros(2, *known["image_shape_"], dtype=torch.float32)
    # A dtype that torch lacks, such as numpy's longdouble, becomes float64.
    dtype = getattr(torch, known["input_dtype"], torch.float64)
    return torch.zeros(2, *known["input_shape"], dtype=dtype)


@contextmanager
def _silent_exporter() -> Iterator[None]:
    """Keep quiet about what the exporter of torch tells its own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with no_warnings():
            yield
    finally:
        logger.setLevel(level)


def _optimizer(estimator: BaseEstimator) -> dict[str, Any]:
    given = estimator.optimizer, estimator.learning_rate, estimator.optimizer_params
    # Files of earlier versions do not say which weight decay, or how many rows, there were.
    n_rows = getattr(estimator, "n_samples_fit_", None)
    takes_images = estimator.encoder_.takes_images
    if estimator.best_topology_.is_linear and n_rows and not takes_images:
        weight_decay = linear_weight_decay(n_rows)
    else:
        usual = usual_weight_decay(n_rows if takes_images else None)
        weight_decay = getattr(estimator, "weight_decay_", None) or usual
    spec = usual_optimizer(*given, weight_decay)
    settings = {f"optimizer__{name}": value for name, value in spec.settings.items()}
    return {"optimizer": spec.cls, "lr": settings.pop("optimizer__lr"), **settings}


def _lineage_epochs(estimator: BaseEstimator) -> Iterator[dict[str, Any]]:
    """Yield what skorch would have recorded of the way to the winner, a training a line."""
    lineage = estimator.lineage_.set_index("candidate")["epochs_total"]
    history = estimator.history_
    # Training that did not make the winner better is not part of it.
    kept = history["epochs_total"] <= history["candidate"].map(lineage)
    measured = {"train_loss": "train_loss", "valid_loss": "validation_loss"}
    if estimator.scoring_ == "accuracy":
        measured["valid_acc"] = "validation_score"
    best = dict.fromkeys(measured, np.inf)
    for number, row in enumerate(history[kept].to_dict("records"), 1):
        epoch = {
            "epoch": number,
            "dur": row["seconds"],
            "topology": row["topology"],
            "epochs": row["epochs"],
            "event_cp": False,  # without it, skorch would count past these entries
        }
        for name, column in measured.items():
            epoch[name] = row[column]
            cost = -row[column] if name == "valid_acc" else row[column]
            epoch[f"{name}_best"] = cost < best[name]
            best[name] = min(best[name], cost)
        yield epoch

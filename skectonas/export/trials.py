"""Whether what a file holds can be a fitted estimator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from skectonas.callers import no_warnings
from skectonas.inputs import InputEncoder
from skectonas.network import TopologyNetwork
from skectonas.topology import Topology

KINDS: dict[str, type | tuple[type, ...]] = {
    "best_topology_": Topology,
    "network_": TopologyNetwork,
    "history_": pd.DataFrame,
    "lineage_": pd.DataFrame,
    "pareto_front_": pd.DataFrame,
    "validation_score_": (int, float),
    "n_parameters_": int,
    "classes_": np.ndarray,
    "image_shape_": tuple,
    "n_features_in_": int,
    "encoder_": InputEncoder,
    "seed_": int,
    "scoring_": str,
    "kept_": dict,
}
"""The attributes that every fitted estimator has."""

COLUMNS = {"candidate", "generation", "morphism", "n_parameters", "epochs_total"}
"""Columns of a lineage that a warm start reads."""

HISTORY_COLUMNS = COLUMNS | {"mean_score", "mean_loss", "budget_spent"}
"""Columns of a history that it reads."""

MOST_PIXELS = 2**24
"""Of the image of a row of a table, which is made whenever something is predicted."""


def check_fitted(cls: type, attributes: Mapping[str, Any]) -> None:
    """Check that these can be the attributes of a fitted estimator.

    Parameters
    ----------
    cls : type
        Class of the estimator.
    attributes : mapping of str to object
        What a file has in their place.

    Raises
    ------
    ValueError
        If one is missing, of a wrong kind, shadows a method, or does not fit the others; or if
        a weight is not finite.
    """
    for name in attributes:
        if name.startswith("_") or not name.endswith("_") or hasattr(cls, name):
            raise ValueError(f"{name!r} is no attribute of a fitted estimator")
    for name, kind in KINDS.items():
        value = attributes.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is missing, or of a wrong type: {type(value).__name__}")
    topology, network = attributes["best_topology_"], attributes["network_"]
    encoder = attributes["encoder_"]
    for name, found, expected in (
        ("the topology of network_", network.topology, topology),
        ("n_parameters_", attributes["n_parameters_"], topology.n_parameters),
        ("image_shape_", attributes["image_shape_"], topology.input_shape),
        ("the image shape of encoder_", encoder.image_shape_, topology.input_shape),
        ("the shape of classes_", attributes["classes_"].shape, (topology.n_classes,)),
    ):
        if found != expected:
            raise ValueError(f"{name} is {found}, where best_topology_ needs {expected}")
    history = attributes["history_"]
    if history.empty or not HISTORY_COLUMNS.issubset(history.columns):
        raise ValueError("history_ is empty or has other columns")
    _check_model(network, attributes["lineage_"])
    kept = attributes["kept_"]
    if not all(map(_is_model, kept.values())):
        raise ValueError("kept_ holds something other than models")
    for model in kept.values():
        _check_model(model["network"], model["lineage"])
        for name in ("input_shape", "n_classes"):
            if getattr(model["network"].topology, name) != getattr(topology, name):
                raise ValueError(f"kept_ has a network with another {name}")
    _try(attributes)


def _is_model(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"network", "lineage"}
        and isinstance(value["network"], TopologyNetwork)
        and isinstance(value["lineage"], pd.DataFrame)
    )


def _check_model(network: TopologyNetwork, lineage: pd.DataFrame) -> None:
    """Check that a network can compute, and that there is something to say of it."""
    if lineage.empty or not COLUMNS.issubset(lineage.columns):
        raise ValueError("a lineage is empty or has other columns")
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the weight {name} has the type {value.dtype}")
        negative = name.endswith("running_var") and bool((value < 0).any())
        if negative or not value.isfinite().all():
            raise ValueError(f"the weight {name} has values that no network can have")


def _try(attributes: Mapping[str, Any]) -> None:
    """Try the encoder and the network on rows of the kind that they are for."""
    encoder: InputEncoder = attributes["encoder_"]
    plain = encoder.to_dict()
    shape, pixels = tuple(plain["input_shape"]), math.prod(encoder.image_shape_)
    tables, columns = plain["tables"], plain["columns"]
    if columns is not None and pixels > MOST_PIXELS:
        raise ValueError(f"a row of a table becomes an image of {pixels} pixels")
    if columns is None and math.prod(shape) != pixels:
        raise ValueError(f"rows of the shape {shape} become images of {pixels} pixels")
    n_features = attributes["n_features_in_"]
    if math.prod(shape) != n_features:
        raise ValueError(f"n_features_in_ is {n_features} for rows of the shape {shape}")
    if columns is not None:
        knots = columns["knots"].shape
        if columns["scores"].shape != knots or columns["missing"].shape != knots[:1]:
            raise ValueError(f"the scaling of the columns has knots of the shape {knots}")
    rows: Any
    if tables is not None:
        columns = pd.Index(tables["labels"], dtype=object)
        rows = pd.DataFrame(None, range(2), columns, dtype=object)
    else:
        rows = np.zeros((2, *shape))
    with no_warnings():  # these rows may well look strange
        encoder.warn_if_scaled_differently(rows)
    images = torch.from_numpy(encoder.scaling_.apply(encoder.transform(rows)))
    with torch.no_grad():
        network = attributes["network_"]
        outputs = network(images.to(network.output.weight.dtype))
    if outputs.shape != (2, len(attributes["classes_"])) or not outputs.isfinite().all():
        raise ValueError("the network gives no probabilities of the classes")

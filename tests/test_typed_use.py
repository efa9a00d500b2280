"""User code with types: mypy and pyright check the types, pytest checks the behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from skectonas import ConvCell, Dense, ECToNASClassifier, PseudoImageTransformer, Topology
from skectonas.candidate import Ancestor, Candidate
from skectonas.export.portable import PortableNetwork
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.scaling import ColumnScaling, PixelScaling
from skectonas.inputs.tables import TableEncoder
from skectonas.morphisms import MORPHISMS, AddCell, Context, Identity, Morphism
from skectonas.network import TopologyNetwork, Weights


class Mine(ECToNASClassifier):
    """A subclass keeps its own type."""


@dataclass(frozen=True)
class Nothing:
    """A user's morphism."""

    recovery_epochs: float = 0.1
    name = "nothing"
    preserves_function = True

    def sites(self, topology: Topology) -> Sequence[int]:
        return [0]

    def rewrite(self, topology: Topology, site: int, rng: np.random.Generator) -> Topology:
        return topology

    def carry(
        self, weights: Weights, old: Topology, new: Topology, site: int, context: Context
    ) -> dict[str, Tensor]:
        return dict(weights)


class Smallest:
    """A user's fitness."""

    def __call__(self, candidate: Candidate) -> float:
        return -candidate.n_parameters

    def final(self, candidate: Candidate, start: Ancestor) -> float:
        return self(candidate)


def digits() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    bunch: Any = load_digits()
    return bunch.data, bunch.target


def test_parts_of_a_user() -> None:
    own: Morphism = Nothing()
    built_in: Sequence[Morphism] = [AddCell(), *MORPHISMS]
    assert {part.recovery_epochs > 0 for part in [own, *built_in]} == {True}
    mixed = ECToNASClassifier(morphisms=["identity", AddCell()])
    assert mixed.morphisms == ["identity", AddCell()]
    X, y = digits()
    clf = ECToNASClassifier(
        budget=9,
        start="small_ffnn",
        morphisms=["remove_units", own],
        selection=Smallest(),
        warmup_epochs=1,
    )
    assert {"start", "nothing"} <= set(clf.fit(X, y).history_["morphism"])


def test_the_estimator(tmp_path: Path) -> None:
    X, y = digits()
    start = Topology((8, 8, 1), [ConvCell(4, "max")], [Dense(12)], 10)
    clf = ECToNASClassifier(
        0.9,
        2,
        start,
        image_shape=(8, 8),
        warmup_epochs=1,
        column_scaling="minmax",
        morphisms=["add_units", AddCell(extra=(0, 5)), Identity()],
        keep_candidates="pareto",
        random_state=0,
    )
    fitted = clf.fit(X, y, sample_weight=np.ones(len(y)), groups=np.arange(len(y)))
    assert_type(fitted, ECToNASClassifier)
    assert_type(Mine(budget=2, warmup_epochs=1).fit(X, y), Mine)
    assert fitted is clf
    assert isinstance(assert_type(fitted.predict(X), NDArray[Any]), np.ndarray)
    probabilities = assert_type(fitted.predict_proba(X), NDArray[np.float64])
    assert probabilities.dtype == np.float64
    assert isinstance(assert_type(fitted.best_topology_, Topology), Topology)
    assert isinstance(assert_type(fitted.network_, TopologyNetwork), TopologyNetwork)
    assert isinstance(assert_type(fitted.history_, pd.DataFrame), pd.DataFrame)
    assert isinstance(assert_type(fitted.lineage_, pd.DataFrame), pd.DataFrame)
    assert isinstance(assert_type(fitted.pareto_front_, pd.DataFrame), pd.DataFrame)
    assert isinstance(assert_type(fitted.n_parameters_, int), int)
    assert isinstance(assert_type(fitted.validation_score_, float), float)
    assert isinstance(assert_type(fitted.classes_, NDArray[Any]), np.ndarray)
    assert assert_type(fitted.image_shape_, tuple[int, int, int]) == (8, 8, 1)
    assert assert_type(fitted.n_features_in_, int) == 64
    assert isinstance(assert_type(fitted.seed_, int), int)
    kept = assert_type(fitted.kept_, dict[int, dict[str, Any]])
    assert all(isinstance(number, int) for number in kept)
    assert isinstance(assert_type(fitted.summary(), pd.DataFrame), pd.DataFrame)
    candidate = int(fitted.lineage_["candidate"].iloc[-1])
    assert_type(fitted.with_candidate(candidate), ECToNASClassifier)
    encoder = assert_type(fitted.encoder_, InputEncoder)
    assert isinstance(assert_type(encoder.scaling_, PixelScaling), PixelScaling)
    assert isinstance(assert_type(encoder.transform(X), NDArray[Any]), np.ndarray)
    assert isinstance(assert_type(fitted.to_torch(), PortableNetwork), PortableNetwork)
    path = tmp_path / "digits.safetensors"
    fitted.save(path)
    again = assert_type(ECToNASClassifier.load(path), ECToNASClassifier)
    assert isinstance(again, ECToNASClassifier)
    assert isinstance(assert_type(Topology.from_string(str(start)), Topology), Topology)
    assert assert_type(start.n_parameters, int) > 0


def test_the_transformers() -> None:
    X = np.arange(6.0).reshape(2, 3)
    transformer = PseudoImageTransformer(order="correlation").fit(X)
    assert_type(transformer, PseudoImageTransformer)
    assert assert_type(transformer.image_shape_, tuple[int, int, int]) == (2, 2, 1)
    assert assert_type(transformer.pixel_index_, NDArray[np.intp]).dtype == np.intp
    assert assert_type(transformer.column_order_, NDArray[np.intp]).dtype == np.intp
    back = transformer.inverse_transform(transformer.transform(X))
    np.testing.assert_array_equal(assert_type(back, NDArray[Any]), X)
    names = assert_type(transformer.get_feature_names_out(), NDArray[np.object_])
    assert names.dtype == object
    scaling = assert_type(PixelScaling.of([X[:, None, :, None]]), PixelScaling)
    assert scaling.offset == (2.5,)
    columns = assert_type(ColumnScaling.fit(X), ColumnScaling)
    assert assert_type(columns.scale(X), NDArray[np.float64]).shape == (2, 3)
    frame = pd.DataFrame({"a": [1, 2], "b": ["p", "q"]})
    encoder = assert_type(TableEncoder().fit(frame), TableEncoder)
    encoded = assert_type(encoder.transform(frame), NDArray[np.float64])
    assert encoded.dtype == np.float64

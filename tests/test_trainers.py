"""The contract of every trainer; add a new one to `TRAINERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from skectonas import ConvCell, Dense, Topology
from skectonas.candidate import Candidate, Evaluation
from skectonas.inputs.scaling import PixelScaling
from skectonas.network import build, initial_weights
from skectonas.population import FusedTrainer
from skectonas.training.by_depth import ByDepth
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import PlainTrainer, Trainer, resolve_optimizer
from skectonas.training.scoring import Scorer, make_scorer


def by_depth(*arguments: Any) -> Trainer:
    return ByDepth(FusedTrainer(*arguments), PlainTrainer(*arguments))


TRAINERS: list[Callable[..., Trainer]] = [PlainTrainer, FusedTrainer, by_depth]

SHAPE = (7, 6, 2)
TOPOLOGIES = [
    Topology(SHAPE, [], [], 3),
    Topology(SHAPE, [], [Dense(5)], 3),
    Topology(SHAPE, [], [Dense(7)], 3),
    Topology(SHAPE, [ConvCell(3), ConvCell(2, "max")], [Dense(4), Dense(3)], 3),
    Topology(SHAPE, [ConvCell(5), ConvCell(4, "max")], [Dense(3), Dense(6)], 3),
    Topology(SHAPE, [ConvCell(4, "max")], [], 3),
]
KEY = (5, 1, 2, 0)


def rows(n: int, seed: int, *, weighted: bool) -> Rows:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (n, *SHAPE), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(0, 3, n))
    weights = torch.from_numpy(rng.uniform(0.1, 2, n)) if weighted else None
    return Rows(images, labels, weights)


def trainer_of(
    kind: Callable[..., Trainer],
    averaging: int,
    *,
    weighted: bool,
    scorer: Scorer | None = None,
) -> Trainer:
    train, validation = rows(50, 1, weighted=weighted), rows(13, 2, weighted=weighted)
    data = TrainingData(train, validation, PixelScaling((10.0,), (1 / 200,)), batch_size=12)
    images, labels = validation.images.numpy(), validation.labels.numpy()
    scorer = scorer or make_scorer("accuracy", images, labels, np.arange(3), None)
    return kind(data, resolve_optimizer("SGD", 0.1), scorer, averaging)


def candidates() -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [
        Candidate(
            i,
            topology,
            {name: value.double() for name, value in initial_weights(topology, rng).items()},
            n_steps=i,
            evaluations=(Evaluation(1.0, 2.0, 0.3),),
        )
        for i, topology in enumerate(TOPOLOGIES)
    ]


@pytest.mark.parametrize("kind", TRAINERS)
class TestTrainer:
    def test_it_gives_what_the_plain_loop_gives(self, kind: Any) -> None:
        for averaging, weighted in ((1, False), (3, True)):
            expected, found = (
                trainer_of(k, averaging, weighted=weighted).train(candidates(), [12] * 6, KEY)
                for k in (PlainTrainer, kind)
            )
            for ours, theirs in zip(found, expected, strict=True):
                for name, value in theirs.weights.items():
                    torch.testing.assert_close(ours.weights[name], value, rtol=0, atol=1e-8)
                for one, other in zip(ours.evaluations, theirs.evaluations, strict=True):
                    assert one.train_loss == pytest.approx(other.train_loss, abs=1e-8)
                    assert one.validation_loss == pytest.approx(other.validation_loss, abs=1e-8)
                    assert one.validation_score == other.validation_score

    @pytest.mark.parametrize("score", [np.inf, -np.inf, np.nan])
    def test_a_score_that_is_not_finite_is_the_worst(self, kind: Any, score: float) -> None:
        trainer = trainer_of(kind, 1, weighted=False, scorer=lambda _: score)
        for candidate in trainer.train(candidates(), [5] * 6, KEY):
            assert candidate.score == -np.inf
            assert np.isfinite(candidate.evaluations[-1].validation_loss)

    def test_records_and_order(self, kind: Any) -> None:
        steps = [1, 5, 6, 10, 11, 3]  # an epoch has five
        given = candidates()
        found = trainer_of(kind, 2, weighted=False).train(given, steps, KEY)
        assert [c.id for c in found] == [c.id for c in given]
        assert [c.n_steps for c in found] == [i + n for i, n in enumerate(steps)]
        assert [len(c.evaluations) for c in found] == [2, 2, 3, 3, 4, 2]
        assert all(c.evaluations[0] == given[0].evaluations[0] for c in found)
        for candidate in found:
            assert build(candidate.topology, candidate.weights).output.weight.dtype == (
                torch.float64
            )

    def test_candidates_are_left_as_they_are(self, kind: Any) -> None:
        given, untouched = candidates(), candidates()
        trainer_of(kind, 1, weighted=False).train(given, [5] * 6, KEY)
        for ours, theirs in zip(given, untouched, strict=True):
            for name, value in theirs.weights.items():
                assert torch.equal(ours.weights[name], value)

    def test_no_steps_change_nothing(self, kind: Any) -> None:
        given = candidates()
        found = trainer_of(kind, 1, weighted=False).train(given, [0, 5, 0, 5, 0, 0], KEY)
        assert [found[i] is given[i] for i in range(6)] == [
            True,
            False,
            True,
            False,
            True,
            True,
        ]

    def test_same_key_same_bits_other_key_other_weights(self, kind: Any) -> None:
        trainer = trainer_of(kind, 1, weighted=False)
        first, again, other = (
            trainer.train(candidates(), [5] * 6, key) for key in (KEY, KEY, (5, 1, 2, 1))
        )
        for a, b, c in zip(first, again, other, strict=True):
            assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
            assert not torch.equal(a.weights["output.weight"], c.weights["output.weight"])

"""The trial: short trainings of the start tell how to read a table, and how to train on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skectonas.inputs import InputEncoder
from skectonas.search import Clock, Search, is_ahead
from skectonas.topology import Topology
from skectonas.training import OutOfTime, Scorer, TrainingData

SHARE_OF_BUDGET, LONGEST = 0.05, 25
"""The share of the budget for each training, and the epochs that are enough."""

SHARE_OF_TIME = 0.05
"""The share of a time limit that each training may take."""

TIE = 1.0
"""Standard errors by which the loss with the stronger weight decay may be higher: the rule of
one standard error of Breiman et al. (1984)."""

PROBED = 0.5
"""The weight decay that is tried before the weaker ones, as a share of the weakest. The
trainings of a search are longer than those of the trial, so that networks overfit more."""

LEADS = (5.0, 3.0)
"""Standard errors. The usual weight decay is kept unless the probe's loss is lower by the first
number of them. The weakest is chosen if the probe's loss is also lower than that of the weaker
one, by the second number, and otherwise the weaker one."""

TRAININGS = (2, 1, 3, 3)
"""Trainings with other weight decays after which the usual, stronger, weaker or weakest one is
chosen."""


class Beginning(NamedTuple):
    """A search before its first step, and before its weight decay is known.

    Parameters
    ----------
    encoder : InputEncoder
        What turns X into images.
    data : TrainingData
        The images.
    scorer : callable
        Maps the probabilities of the validation rows to a score.
    starts : list of Topology
        What the search begins with.
    search_with : callable
        Takes a weight decay and returns the search.
    digest : callable
        Returns the digest of the rows.
    """

    encoder: InputEncoder
    data: TrainingData
    scorer: Scorer
    starts: list[Topology]
    search_with: Callable[[float | None], Search]
    digest: Callable[[], str]


class Choice(NamedTuple):
    """What a trial has chosen.

    Parameters
    ----------
    beginning : Beginning
        How the search begins.
    weight_decay : float or None
        The weight decay of networks with hidden layers.
    n_epochs : int
        Epochs of all trainings of the trial.
    is_certain : bool, default=True
        Whether there was enough time to find out.
    """

    beginning: Beginning
    weight_decay: float | None
    n_epochs: int
    is_certain: bool = True


@dataclass
class Trial:
    """Short trainings of the start, all of the same length.

    Parameters
    ----------
    encoders : sequence of InputEncoder
        The usual one, and maybe another one that is chosen if it is better beyond doubt: more
        columns can be no more than noise, and what they add to a network then makes it worse.
    weight_decays : sequence of float or None
        The usual one, and maybe a stronger, a weaker and the weakest one. The usual one is None
        if the optimiser has settings of the user.
    begin : callable
        Takes an encoder and returns how a search begins with it.
    budget : float
        Epochs of the whole fit.
    clock : Clock
        Its time.
    """

    encoders: Sequence[InputEncoder]
    weight_decays: Sequence[float | None]
    begin: Callable[[InputEncoder], Beginning]
    budget: float
    clock: Clock

    _n_begun: int = field(default=0, init=False)

    @property
    def is_needed(self) -> bool:
        """Whether there is something to choose."""
        return len(self.encoders) > 1 or len(self.weight_decays) > 1

    def choice(self, beginning: Beginning, weight_decay: float | None) -> Choice:
        """Return a choice as it is without a limit of time, with the epochs that it takes."""
        n_trainings = len(self.encoders) if self.is_needed else 0
        if len(self.weight_decays) > 1:
            n_trainings += TRAININGS[self.weight_decays.index(weight_decay)]
        return Choice(beginning, weight_decay, n_trainings * self._n_epochs)

    def run(self) -> Choice:
        """Train, and choose."""
        began, weight_decay = self.clock.elapsed, self.weight_decays[0]
        chosen, is_certain = self.begin(self.encoders[0]), True
        if not self.is_needed:
            return self.choice(chosen, weight_decay)
        try:
            losses = self._losses_of(chosen, weight_decay)
            for encoder in self.encoders[1:]:
                pixels = [math.prod(e.image_shape_) for e in (encoder, chosen.encoder)]
                expected = pixels[0] / pixels[1] * (self.clock.elapsed - began)
                if expected > self.clock.left((self._n_begun + 1) * SHARE_OF_TIME):
                    is_certain = False
                    continue
                other = self.begin(encoder)
                others_losses = self._losses_of(other, weight_decay)
                if is_ahead(others_losses, losses):
                    chosen, losses = other, others_losses
            weight_decay = self._weight_decay_for(chosen, losses)
        except OutOfTime:
            is_certain = False
        return Choice(chosen, weight_decay, self._n_begun * self._n_epochs, is_certain)

    def _weight_decay_for(
        self, beginning: Beginning, losses: NDArray[np.float64]
    ) -> float | None:
        """Return the weight decay, where the usual one has led to these losses."""
        usual, *others = self.weight_decays
        if not others:
            return usual
        stronger, weaker, weakest = others
        if is_ahead(self._losses_of(beginning, stronger), losses, -TIE):
            return stronger
        assert weakest is not None
        probed = self._losses_of(beginning, PROBED * weakest)
        if not is_ahead(probed, losses, LEADS[0]):
            return usual
        losses = self._losses_of(beginning, weaker)
        return weakest if is_ahead(probed, losses, LEADS[1]) else weaker

    def _losses_of(
        self, beginning: Beginning, weight_decay: float | None
    ) -> NDArray[np.float64]:
        """Return the losses of the start after the next training."""
        self._n_begun += 1
        search = beginning.search_with(weight_decay)
        trained = search.trial(
            beginning.starts[0],
            self._n_epochs * beginning.data.steps_per_epoch,
            self._n_begun * SHARE_OF_TIME,
        )
        assert search.losses is not None
        return search.losses(trained)

    @property
    def _n_epochs(self) -> int:
        return int(min(LONGEST, SHARE_OF_BUDGET * self.budget))

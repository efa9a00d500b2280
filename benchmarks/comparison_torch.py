"""What a user of skorch writes for the comparison: a network, and a callback or two."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch.callbacks import Callback
from torch import Tensor, nn


class FlatNetwork(nn.Module):
    """A dense network for anything that can be flattened."""

    def __init__(
        self, n_inputs: int = 1, n_outputs: int = 2, scale: float = 1.0, n_units: int = 100
    ) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(n_inputs, n_units), nn.ReLU(), nn.Linear(n_units, n_outputs)
        )

    def forward(self, X: Tensor) -> Tensor:
        return self.layers(X.float() / self.scale)


class ShapeSetter(Callback):
    """Tell the network how large the data are, as skorch's documents recommend."""

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **rest: Any) -> None:
        sizes = {
            "module__n_inputs": int(np.prod(X.shape[1:])),
            "module__n_outputs": len(set(y)),
        }
        if any(net.get_params().get(name) != size for name, size in sizes.items()):
            net.set_params(**sizes)


class Recorder(Callback):
    """Call a function at the end of every epoch."""

    def __init__(self, record: Any) -> None:
        self.record = record

    def on_epoch_end(self, net: Any, **rest: Any) -> None:
        self.record(net)

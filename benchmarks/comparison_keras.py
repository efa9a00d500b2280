"""What a user of scikeras writes for the comparison: a network, and a callback."""

from __future__ import annotations

from typing import Any

import keras


def flat_network(meta: dict[str, Any], scale: float = 1.0, n_units: int = 100) -> keras.Model:
    """Return a dense network for anything that can be flattened."""
    regression = "n_classes_" not in meta
    output = {"units": 1} if regression else {"units": meta["n_classes_"]}
    activation = "linear" if regression else "softmax"
    return keras.Sequential(
        [
            keras.Input(meta["X_shape_"][1:]),
            keras.layers.Rescaling(1 / scale),
            keras.layers.Flatten(),
            keras.layers.Dense(n_units, activation="relu"),
            keras.layers.Dense(**output, activation=activation),
        ]
    )


def recorder(record: Any) -> type[keras.callbacks.Callback]:
    """Return a class of callbacks that call `record` at the end of every epoch."""

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            record(self.model)

    return Recorder

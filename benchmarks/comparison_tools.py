"""The tools that are compared, used as their users would, and nothing cleverer.

A tool is imported when it is used, since each has an environment of its own. If a tool lacks a
feature, it is called all the same by the name that skectonas or scikit-learn uses, and fails
with the tool's own error. skorch and scikeras train a network that the user writes: here one
hidden layer after a layer that flattens and scales the input.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

WHITE = 255  # value of the brightest pixel of images


class Tool(ABC):
    """A tool; the methods below are for those that do it as scikit-learn does."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]  # what one installs to use it
    module: ClassVar[str]  # what one imports
    grid: ClassVar[dict[str, list[Any]]]  # two settings for a grid search
    settles: ClassVar[float] = 10  # seconds after which it surely trains
    column_targets: ClassVar[bool] = False  # a regressor takes y as (n, 1)
    names_classes: ClassVar[bool] = False  # partial_fit has to be told all classes

    @abstractmethod
    def make(self, shape: tuple[int, ...], seed: int | None = None) -> Any:
        """Return what is fitted, with a short training and else its defaults."""

    @abstractmethod
    def long(self, shape: tuple[int, ...]) -> Any:
        """Return one that trains for hours."""

    def brief(self, shape: tuple[int, ...]) -> Any:
        """Return one that reads the data once or twice."""
        return self.make(shape)

    def unfinished(self, shape: tuple[int, ...]) -> Any:
        """Return one that stops before the training loss has settled."""
        return self.make(shape)

    @abstractmethod
    def regressor(self, shape: tuple[int, ...]) -> Any:
        """Return what is fitted to numbers, or fail as the tool does that has none."""

    def fit(self, model: Any, X: Any, y: Any, **arguments: Any) -> Any:
        return model.fit(X, y, **arguments)

    def predict(self, model: Any, X: Any) -> np.ndarray:
        return np.ravel(model.predict(X))

    def probabilities(self, model: Any, X: Any) -> np.ndarray:
        return np.asarray(model.predict_proba(X))

    def fit_with_class_weight(self, model: Any, X: Any, y: Any, weights: dict) -> Any:
        return self.fit(model.set_params(class_weight=weights), X, y)

    def train_on(self, model: Any, X: Any, y: Any) -> Any:
        return model.set_params(warm_start=True).fit(X, y)

    def with_callback(self, model: Any, record: Any) -> Any:
        """Have `record` called while the model trains."""
        return model.set_callbacks(scikit_learn_callback(record))

    def save(self, model: Any, path: Path) -> None:
        model.save(path)

    def load(self, path: Path, model: Any) -> Any:
        """Return what can predict; `model` is how the saved one was made, not fitted."""
        return type(model).load(path)

    def to_onnx(self, model: Any, X: np.ndarray, path: Path) -> None:
        model.to_onnx(path)

    def to_torch(self, model: Any) -> Any:
        return model.to_torch()

    def architectures(self, model: Any) -> set[str]:
        """Return the different networks, or pipelines, that one fit has tried."""
        return set(model.history_["topology"])

    def candidates(self, model: Any) -> Any:
        """Return a table with a line, or more, for each candidate."""
        return model.history_

    def front(self, model: Any) -> Any:
        return model.pareto_front_

    @abstractmethod
    def training(self, X: Any, y: Any) -> tuple[float, float]:
        """Fit; return the limit of the training that was set, and what was done."""


class Skectonas(Tool):
    name = "skectonas"
    packages = ("skectonas",)
    module = "skectonas"
    grid: ClassVar = {"budget": [12, 15]}

    def make(self, shape, seed=None):
        from skectonas import ECToNASClassifier

        return ECToNASClassifier(budget=40, random_state=seed)

    def long(self, shape):
        return self.make(shape).set_params(budget=1e6)

    def brief(self, shape):
        return self.make(shape).set_params(
            budget=2, warmup_epochs=0.25, round_epochs=0.1, n_rounds=1
        )

    def unfinished(self, shape):
        return self.make(shape).set_params(budget=5)

    def regressor(self, shape):
        import skectonas

        return skectonas.ECToNASRegressor(budget=40)

    def training(self, X, y):
        model = self.make(X.shape[1:]).fit(X, y)
        return model.budget, model.history_["epochs"].sum()


class MLP(Tool):
    name = "MLPClassifier"
    packages = ("scikit-learn",)
    module = "sklearn.neural_network"
    names_classes = True
    grid: ClassVar = {"max_iter": [10, 20]}

    def make(self, shape, seed=None):
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(max_iter=100, random_state=seed)

    def long(self, shape):
        return self.make(shape).set_params(max_iter=10**6, tol=0, n_iter_no_change=10**6)

    def brief(self, shape):
        return self.make(shape).set_params(max_iter=2)

    def regressor(self, shape):
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(max_iter=100)

    def save(self, model, path):
        import skops.io

        skops.io.dump(model, path)

    def load(self, path, model):
        import skops.io

        unknown = skops.io.get_untrusted_types(file=path)
        return skops.io.load(path, trusted=[t for t in unknown if t.startswith("sklearn.")])

    def to_onnx(self, model, X, path):
        from skl2onnx import to_onnx

        path.write_bytes(to_onnx(model, X[:1]).SerializeToString())

    def architectures(self, model):
        return {str([weights.shape for weights in model.coefs_])}

    def training(self, X, y):
        model = self.make(X.shape[1:]).set_params(max_iter=10).fit(X, y)
        return model.max_iter, model.n_iter_


class Boosting(MLP):
    name = "HistGradientBoosting"
    module = "sklearn.ensemble"

    def make(self, shape, seed=None):
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_iter=20, random_state=seed)

    def long(self, shape):
        return self.make(shape).set_params(max_iter=10**6)

    def regressor(self, shape):
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor()

    def train_on(self, model, X, y):
        return model.set_params(warm_start=True, max_iter=2 * model.max_iter).fit(X, y)

    def architectures(self, model):
        return {f"{model.n_iter_} iterations"}


class Skorch(Tool):
    name = "skorch"
    packages = ("skorch", "torch")
    module = "skorch"
    grid: ClassVar = {"max_epochs": [1, 2]}
    column_targets = True

    def make(self, shape, seed=None, **settings):
        import torch
        from comparison_torch import FlatNetwork, ShapeSetter
        from skorch import NeuralNetClassifier

        if seed is not None:
            torch.manual_seed(seed)  # it has no parameter for it
        settings = {
            "max_epochs": 20,
            "lr": 0.1,
            "criterion": torch.nn.CrossEntropyLoss,
            "callbacks": [("shape", ShapeSetter())],
        } | settings
        return NeuralNetClassifier(FlatNetwork, module__scale=scale_of(shape), **settings)

    def long(self, shape):
        return self.make(shape, max_epochs=10**6)

    def brief(self, shape):
        return self.make(shape, max_epochs=2)

    def regressor(self, shape):
        from comparison_torch import FlatNetwork
        from skorch import NeuralNetRegressor

        sizes = {"module__n_inputs": int(np.prod(shape)), "module__n_outputs": 1}
        return NeuralNetRegressor(FlatNetwork, **sizes, max_epochs=20, lr=0.1)

    def fit_with_class_weight(self, model, X, y, weights):
        import torch

        tensor = torch.tensor([weights[label] for label in sorted(weights)])
        return model.set_params(criterion__weight=tensor.float()).fit(X, y)

    def train_on(self, model, X, y):
        return model.partial_fit(X, y)

    def with_callback(self, model, record):
        from comparison_torch import Recorder

        return model.set_params(callbacks=[*model.callbacks, ("own", Recorder(record))])

    def save(self, model, path):
        model.save_params(f_params=path, use_safetensors=True)

    def load(self, path, model):
        n_features, n_classes = 64, 10
        model.set_params(module__n_inputs=n_features, module__n_outputs=n_classes)
        model.initialize().load_params(f_params=path, use_safetensors=True)
        return model

    def to_onnx(self, model, X, path):
        import torch

        batch = {"X": {0: "batch"}}
        example = (torch.from_numpy(X[:2]),)
        torch.onnx.export(
            self.to_torch(model), example, path, input_names=["X"], dynamic_shapes=batch
        )

    def to_torch(self, model):
        return model.module_.eval()

    def architectures(self, model):
        return {str(model.module_)}

    def candidates(self, model):
        return model.candidates_

    def training(self, X, y):
        model = self.make(X.shape[1:]).fit(X, y)
        return model.max_epochs, len(model.history)


class Scikeras(Tool):
    name = "scikeras"
    packages = ("scikeras", "tensorflow-cpu")
    module = "scikeras.wrappers"
    grid: ClassVar = {"epochs": [1, 2]}
    settles = 20

    def make(self, shape, seed=None, kind="KerasClassifier", **settings):
        import scikeras.wrappers
        from comparison_keras import flat_network

        settings = {"loss": "sparse_categorical_crossentropy", "epochs": 20} | settings
        wrapper = getattr(scikeras.wrappers, kind)
        return wrapper(
            flat_network, scale=scale_of(shape), random_state=seed, optimizer="adam", **settings
        )

    def long(self, shape):
        return self.make(shape, epochs=10**6)

    def brief(self, shape):
        return self.make(shape, epochs=2)

    def regressor(self, shape):
        return self.make(shape, kind="KerasRegressor", loss="mse")

    def train_on(self, model, X, y):
        for _ in range(model.epochs):  # each call is an epoch
            model.partial_fit(X, y)
        return model

    def with_callback(self, model, record):
        from comparison_keras import recorder

        return model.set_params(callbacks=recorder(record))

    def save(self, model, path):
        model.model_.save(path.with_suffix(".keras"))

    def load(self, path, model):
        import keras

        return keras.saving.load_model(path.with_suffix(".keras"))

    def to_onnx(self, model, X, path):
        model.model_.export(path, format="onnx", verbose=False)

    def architectures(self, model):
        return {json.dumps(model.model_.get_config(), default=str)}

    def candidates(self, model):
        return [model.history_]

    def training(self, X, y):
        model = self.make(X.shape[1:]).fit(X, y)
        return model.epochs, len(model.history_["loss"])


class AutoKeras(Tool):
    name = "AutoKeras"
    packages = ("autokeras", "tensorflow-cpu")
    module = "autokeras"
    grid: ClassVar = {"max_trials": [1, 2]}
    settles = 40
    epochs = 5

    def make(self, shape, seed=None, **settings):
        import autokeras

        # Without `overwrite` it reuses what an earlier fit has left in the folder.
        settings = {"seed": seed, "overwrite": True} | settings
        if len(shape) > 1:  # its second network for images is a large one
            return autokeras.ImageClassifier(**({"max_trials": 1} | settings))
        return autokeras.StructuredDataClassifier(**({"max_trials": 2} | settings))

    def long(self, shape):
        return self.make(shape, max_trials=10_000)

    def regressor(self, shape):
        import autokeras

        return autokeras.StructuredDataRegressor(max_trials=2)

    def fit(self, model, X, y, **arguments):
        model.fit(X, y, epochs=self.epochs, **arguments)
        return model

    def probabilities(self, model, X):
        return np.asarray(model.export_model().predict(X))

    def fit_with_class_weight(self, model, X, y, weights):
        return self.fit(model, X, y, class_weight=weights)

    def train_on(self, model, X, y):
        return self.fit(model, X, y)

    def with_callback(self, model, record):
        from comparison_keras import recorder

        fit = model.fit
        model.fit = lambda X, y, **rest: fit(X, y, callbacks=[recorder(record)()], **rest)
        return model

    def save(self, model, path):
        model.export_model().save(path.with_suffix(".keras"))

    def load(self, path, model):
        import autokeras
        import keras

        return keras.saving.load_model(
            path.with_suffix(".keras"), custom_objects=autokeras.CUSTOM_OBJECTS
        )

    def to_onnx(self, model, X, path):
        model.export_model().export(path, format="onnx", verbose=False)

    def architectures(self, model):
        return {json.dumps(trial["values"]) for trial in self.candidates(model)}

    def candidates(self, model):
        trials = model.tuner.oracle.trials.values()
        return [trial.hyperparameters.get_config() for trial in trials]

    def training(self, X, y):
        ends = []
        model = self.with_callback(self.make(X.shape[1:]), ends.append)
        self.fit(model, X, y)
        return model.tuner.oracle.max_trials * self.epochs, len(ends)


TOOLS = {tool.name: tool for tool in (Skectonas, MLP, Boosting, Skorch, Scikeras, AutoKeras)}


def scale_of(shape: tuple[int, ...]) -> float:
    return WHITE if len(shape) > 1 else 1.0


def scikit_learn_callback(record: Any) -> Any:
    """Return a callback of scikit-learn that calls `record` with the estimator."""

    class Recorder:
        max_propagation_depth = None

        def setup(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            record(estimator)

        def teardown(self, estimator, context):
            pass

    return Recorder()

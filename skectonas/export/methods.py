"""Methods that export a fitted estimator."""

from __future__ import annotations

import os
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from skectonas.export.conversions import to_onnx, to_skorch, to_torch
from skectonas.export.portable import PortableNetwork
from skectonas.export.saving import load, plain_state, restored_state, save


class ExportMixin:
    """Methods that export the network, and define the state for pickles."""

    def to_torch(self) -> PortableNetwork:
        """Return the network with its input scaling as a plain torch module.

        Returns
        -------
        PortableNetwork
            A copy, on the CPU and in evaluation mode, from X to the logits. X is a tensor of
            any dtype in the shape that `fit` saw: raw images, or rows of a numeric table. For a
            data frame, it is the output of ``encoder_.transform(X)``.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> digits = load_digits()
        >>> clf = ECToNASClassifier(budget=12, random_state=0).fit(digits.images, digits.target)
        >>> clf.to_torch()(torch.from_numpy(digits.images)).shape
        torch.Size([1797, 10])
        """
        check_is_fitted(self, "network_")
        return to_torch(self)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network with its input scaling as an ONNX model.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        Raises
        ------
        ImportError
            If the packages of the extra ``onnx`` are not installed.
        OSError
            If the file cannot be written.

        Notes
        -----
        The input ``X`` has the shape and dtype of the X that `fit` saw, with any number of
        rows: raw images, or rows of a numeric table; of a data frame, it is what
        ``encoder_.transform(X)`` gives. Booleans are uint8, and longdouble is float64. The
        outputs are ``probabilities`` and ``logits``, (n, n_classes), float32. The model's
        metadata hold ``classes`` and ``topology`` as JSON.

        Examples
        --------
        >>> import tempfile
        >>> import onnxruntime
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> digits = load_digits()
        >>> clf = ECToNASClassifier(budget=12, random_state=0).fit(digits.images, digits.target)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.to_onnx(f"{folder}/digits.onnx")
        ...     session = onnxruntime.InferenceSession(f"{folder}/digits.onnx")
        >>> session.run(["probabilities"], {"X": digits.images[:3]})[0].shape
        (3, 10)
        """
        check_is_fitted(self, "network_")
        to_onnx(self, path)

    def to_skorch(self, net_class: type | None = None, **settings: Any) -> Any:
        """Return an initialised skorch net that holds the winner's weights and history.

        Parameters
        ----------
        net_class : type or None, default=None
            A subclass of `skorch.NeuralNetClassifier` to make it of, such as one with skorch's
            ``AccelerateMixin``; None takes that class itself.
        **settings : dict
            Arguments of the net, such as ``max_epochs``, ``callbacks`` or ``device``. They take
            the place of what comes from this estimator: optimiser, learning rate, batch size,
            validation split, device and verbosity.

        Returns
        -------
        skorch.NeuralNetClassifier
            Its module is that of `to_torch`, so X is the input described there, as an array.
            `y` has to hold class indices, ``np.searchsorted(clf.classes_, y)``. `predict` also
            returns class indices, whose labels are ``clf.classes_[net.predict(X)]``.

        Raises
        ------
        ImportError
            If skorch, which the extra ``skorch`` installs, is missing.
        ValueError
            If `net_class` is not a subclass of `skorch.NeuralNetClassifier`.

        Notes
        -----
        `partial_fit` trains on and appends to the history, which has an entry for each training
        of the winner and of its ancestors. A schedule of the learning rate takes these for
        epochs that have passed, unless it is given ``last_epoch=-1``. As always with skorch,
        `fit` begins from the initial state, and so does a grid search. Here, this state is the
        winner's weights and an empty history. After ``set_params(module__weights=None)``, the
        weights are fresh.

        On the rows that this estimator was fitted on, the net holds out the same ones for
        validation, if there were no `groups` and no weights of zero. skorch moves the running
        statistics of the batch normalisation step by step, and knows of no `averaging`,
        `class_weight` or `sample_weight`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = ECToNASClassifier(budget=12, random_state=0).fit(X, y)
        >>> net = clf.to_skorch(max_epochs=2)
        >>> np.allclose(net.predict_proba(X), clf.predict_proba(X), atol=1e-5)
        True
        >>> before = len(net.history)
        >>> net = net.partial_fit(X, np.searchsorted(clf.classes_, y))
        >>> len(net.history) - before
        2
        """
        check_is_fitted(self, "network_")
        return to_skorch(self, net_class, settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file of JSON and tensors, for `load`.

        Parameters
        ----------
        path : str or path-like
            The file to write, by custom with the ending ``.safetensors``. It is written as a
            whole or not at all.

        Raises
        ------
        ImportError
            If safetensors, which the extra ``save`` installs, is missing.
        ValueError
            If a fitted attribute holds what cannot be written.

        Warns
        -----
        UserWarning
            If parameters are left out because they are not plain data: functions, your own
            morphisms and fitnesses, generators. Predictions do not depend on them.

        Notes
        -----
        The file holds what `pickle` would write, except for the device, the callbacks, the
        metadata requests and the private attributes of other packages. Loading it runs no code.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = ECToNASClassifier(budget=12, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(f"{folder}/digits.safetensors")
        ...     again = ECToNASClassifier.load(f"{folder}/digits.safetensors")
        >>> np.array_equal(again.predict_proba(X), clf.predict_proba(X))
        True
        """
        check_is_fitted(self, "network_")
        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a fitted estimator from a file that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file. None of its contents is run as code.

        Returns
        -------
        ECToNASClassifier
            It predicts the same; on the same machine, the same bits.

        Raises
        ------
        ImportError
            If safetensors, which the extra ``save`` installs, is missing.
        OSError
            If the file cannot be opened.
        ValueError
            If it is damaged, truncated, of another kind, or of a format that this version does
            not know.

        Warns
        -----
        UserWarning
            If parameters have their defaults because the file does not have them, or if it has
            parameters that this version does not know.
        """
        return load(cls, path)

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return plain_state(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        parent: Any = super()
        parent.__setstate__(restored_state(state))

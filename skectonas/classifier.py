"""The estimator."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skectonas.callers import inside_another_estimator
from skectonas.candidate import Ancestor, Candidate
from skectonas.estimators import (
    CallbackSupportMixin,
    VersionedStateMixin,
    all_or_nothing,
    check_device,
    check_parameters,
    draw_seed,
    with_plain_numbers,
)
from skectonas.export import (
    PortableNetwork,
    load,
    plain_state,
    save,
    to_onnx,
    to_skorch,
    to_torch,
    whole_state,
)
from skectonas.inputs import (
    Data,
    InputEncoder,
    MappedImages,
    batches_of,
    check_classes,
    check_weights,
    check_X,
    check_y,
    mapping_of,
    read_at_random,
)
from skectonas.morphisms import GREEDY_MORPHISMS, MORPHISMS, Morphism
from skectonas.network import TopologyNetwork, build, weights_of
from skectonas.population import FusedTrainer
from skectonas.search import (
    Balanced,
    CallbackTasks,
    Fitness,
    Greedy,
    Ledger,
    Observer,
    Outcome,
    Printer,
    Random,
    Search,
    Settings,
    Start,
    check_morphisms,
    model_attributes,
)
from skectonas.surroundings import undisturbed
from skectonas.topology import Topology, starting_topology
from skectonas.training import (
    Rows,
    Scorer,
    TrainingData,
    evaluate,
    make_scorer,
    name_of,
    resolve_optimizer,
    split,
    training_weights,
)

PREDICTION_ROWS = 1024  # rows in float64 at a time: bounds the memory of predict


class ECToNASClassifier(
    CallbackSupportMixin, ClassifierMixin, VersionedStateMixin, BaseEstimator
):
    """Classifier that finds the shape of a small neural network while it trains it.

    A population of small sequential networks (dense layers, convolutional cells) is changed by
    morphisms that carry the trained weights over, and competes in brackets while it trains,
    until a budget of epochs is spent: evolutionary cross-topology neural architecture search
    (ECToNAS).

    Parameters
    ----------
    alpha : float, default=1.0
        Greediness, from 0 to 1. With 1 only the validation score counts; below it, a network
        that is smaller than its parent by some fraction may score lower: Eq. 2 of the paper.
    budget : float, default=1000
        Epochs to train, over all candidates together; never exceeded.
    start : str or Topology, default="small_ffnn"
        Where the search begins: "small_ffnn", "medium_ffnn", "large_ffnn", "small_cnn",
        "medium_cnn" or "large_cnn" (the paper's Table 6), or a `Topology` that fits the data.
    scoring : str or callable, default="accuracy"
        What candidates are compared by on the validation rows: "accuracy", "neg_log_loss", any
        other scorer name of scikit-learn for classifications, or a callable, called as
        ``scorer(estimator, X, y)``, whose X are the validation rows as images; higher is
        better.
    validation_fraction : float, default=0.1
        Share of the rows that candidates are scored on and not trained on, stratified; at least
        one row of each class that has two.
    optimizer : str or class, default="SGD"
        An optimiser of `torch.optim`, by name or class.
    optimizer_params : dict or None, default=None
        Further arguments of the optimiser, such as ``{"momentum": 0.9}``.
    learning_rate : float, default=0.1
        Learning rate of the optimiser.
    batch_size : int, default=32
        Rows of a batch, at the most.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the training loss, as in scikit-learn.
    image_shape : tuple of int or None, default=None
        Shape, (height, width) or (height, width, channels), that flat rows are laid out in. A
        flat array with exactly so many columns holds flattened images, and one scale serves
        for all their pixels. With None, a table becomes the smallest square that holds it.
    column_order : {"given", "shuffled", "correlation"}, default="given"
        How the columns of a table are laid out as pixels, see `PseudoImageTransformer`.
    column_scaling : {"quantile", "minmax"}, default="quantile"
        How the columns of a table are scaled. With "quantile", a value becomes the normal score
        of its rank, so that neither outliers nor skewness matter. With "minmax", the smallest
        value becomes 0 and the largest 1, as in the paper.
    morphisms : "all" or sequence, default="all"
        The changes to choose from, by name or as objects, such as
        ``["identity", "add_units", AddCell(extra=(0, 5))]``. New cells are wide, or with
        `alpha` below 1 sometimes narrow, which makes a network smaller.
    averaging : int, default=8
        A network is scored and kept with the mean of so many snapshots of its weights, taken
        during the last epoch. With 1 it is kept as the last batch leaves it, as in the paper.
    warmup_epochs : float, default=10
        Training of the start before the first generation.
    round_epochs : float, default=5
        Training of each competitor in a round.
    n_rounds : int, default=3
        Rounds of each of the two competition phases of a generation.
    n_parents : int, default=2
        Winners of a generation, which are the parents of the next.
    score_window : int, default=3
        The score is the mean over so many last evaluations; there is one after each epoch and
        at the end of each training.
    max_growth : float, default=3.0
        A child may have so many times its parent's parameters more.
    max_parameters : int, default=8_000_000
        And no more than this in all.
    selection : {"fitness", "random"} or Fitness, default="fitness"
        Who wins a bracket: by Eq. 2 of the paper, by chance (the paper's ablation, not meant
        for use), or by an object of your own, see `skectonas.search.Fitness`.
    keep_candidates : {"pareto"} or None, default=None
        Whose weights are kept besides the winner's: with "pareto" those of the candidates in
        `pareto_front_`, so that `with_candidate` can make each of them the model.
    n_jobs : int or None, default=None
        Workers that train parts of the population side by side, as in scikit-learn; the results
        do not depend on it.
    device : str or torch.device, default="auto"
        Where to train; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        The same number gives the same bits. None draws fresh entropy. Global random state is
        neither read nor changed.
    verbose : int, default=0
        With 1, a line a generation is printed; with 0 nothing is.
    warm_start : bool, default=False
        Whether `fit`, called again, goes on from the network at hand with a fresh budget. Then
        X has to be like that of the first fit, and `y` to hold the same classes; `start`,
        `image_shape`, `column_order` and `column_scaling` do not count, and `seed_` takes the
        place of `random_state`, so that on the same data the same rows are held out. The
        network at hand is scored anew on the rows that are held out now, and remains the model
        unless a better one is found. `scoring` has to be as before; scores of earlier fits stay
        in `history_` and `lineage_` as they were measured. What `keep_candidates` kept of the
        fit before is dropped.

    Attributes
    ----------
    best_topology_ : Topology
        The topology that won.
    network_ : TopologyNetwork
        The trained network, a `torch.nn.Module` on the CPU, in evaluation mode. Its input are
        the scaled images, ``encoder_.scaling_.apply(encoder_.transform(X))`` as float32, its
        output the logits.
    history_ : pandas.DataFrame
        A row for every training round of every candidate; the columns are described in
        `skectonas.search.Entry`.
    lineage_ : pandas.DataFrame
        A row for the start and for each of its descendants down to the winner.
    pareto_front_ : pandas.DataFrame
        The candidates that no other beats, the smallest first, with the columns of
        `lineage_`. A candidate beats another that has no fewer parameters and no higher
        ``validation_score``, the score that selection goes by: the mean over the last
        `score_window` evaluations, after the last training of the candidate. Training at the
        end of the budget counts only if it raised the score. The winner may be missing: who
        lost a bracket to one that got worse later on may beat it.
    kept_ : dict of int to dict
        With ``keep_candidates="pareto"``, the network and the lineage of the winner and of each
        candidate in `pareto_front_`, by its number; see `with_candidate`.
    validation_score_ : float
        The winner's score on the validation rows: the mean over the last `score_window`
        evaluations.
    scoring_ : str
        What the scores are: the name that was given as `scoring`, or that of the callable.
    n_parameters_ : int
        The winner's number of trained weights.
    classes_ : ndarray of shape (n_classes,)
        The classes.
    image_shape_ : tuple of int
        Height, width and channels of what the network sees.
    n_features_in_ : int
        Number of features; of images, the number of values.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X is a data frame whose column names are all strings.
    encoder_ : InputEncoder
        What turns X into images.
    seed_ : int
        Drawn from `random_state`; all other draws depend on it, those of a warm start too.

    See Also
    --------
    PseudoImageTransformer : Lays the columns of a table out as an image.
    sklearn.neural_network.MLPClassifier : A dense network of a fixed shape.

    Notes
    -----
    The pixels of images get a mean of zero and the same standard deviation in every channel.
    Tables are scaled column by column, see `column_scaling`; what lies outside of the range
    seen in `fit` counts as the nearer end. In a table values may be missing: NaN becomes the
    middle of its column, and the column gets an indicator. The columns of a data frame are
    encoded by what they hold: numbers, categories, dates, text; so are those of an array of
    objects. All of this is learned from the rows that are trained on. Sparse rows become dense
    a batch at a time; on a GPU all of them do.

    Ctrl-C ends the search and keeps the best so far, with a warning; inside a meta-estimator
    such as `GridSearchCV` it is passed on.

    References
    ----------
    E. J. Schiessler, R. C. Aydin and C. J. Cyron, "ECToNAS: Evolutionary Cross-Topology Neural
    Architecture Search", arXiv:2403.05123, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skectonas import ECToNASClassifier
    >>> digits = load_digits()
    >>> clf = ECToNASClassifier(budget=40, random_state=0)
    >>> clf.fit(digits.images[:1000], digits.target[:1000]).score(
    ...     digits.images[1000:], digits.target[1000:]
    ... ) > 0.8
    True
    >>> print(clf.lineage_["topology"].iloc[0])
    8x8x1 > dense 10 > 10 classes
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "budget": [Interval(Real, 0, None, closed="neither")],
        "start": [str, Topology],
        "scoring": [str, callable],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "optimizer": [str, type],
        "optimizer_params": [dict, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "image_shape": [tuple, list, None],
        "column_order": [StrOptions({"given", "shuffled", "correlation"})],
        "column_scaling": [StrOptions({"quantile", "minmax"})],
        "morphisms": [str, "array-like"],
        "averaging": [Interval(Integral, 1, None, closed="left")],
        "warmup_epochs": [Interval(Real, 0, None, closed="neither")],
        "round_epochs": [Interval(Real, 0, None, closed="neither")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_parents": [Interval(Integral, 1, None, closed="left")],
        "score_window": [Interval(Integral, 1, None, closed="left")],
        "max_growth": [Interval(Real, 0, None, closed="both")],
        "max_parameters": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"fitness", "random"}), HasMethods(["__call__", "final"])],
        "keep_candidates": [StrOptions({"pareto"}), None],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "device": [str, torch.device],
        "random_state": ["random_state", np.random.Generator],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
    }

    best_topology_: Topology
    network_: TopologyNetwork
    history_: pd.DataFrame
    lineage_: pd.DataFrame
    pareto_front_: pd.DataFrame
    kept_: dict[int, dict[str, Any]]
    validation_score_: float
    scoring_: str
    n_parameters_: int
    classes_: NDArray[Any]
    image_shape_: tuple[int, int, int]
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    encoder_: InputEncoder
    seed_: int

    def __init__(
        self,
        alpha: float = 1.0,
        budget: float = 1000,
        start: str | Topology = "small_ffnn",
        *,
        scoring: str | Callable[..., float] = "accuracy",
        validation_fraction: float = 0.1,
        optimizer: str | type[torch.optim.Optimizer] = "SGD",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate: float = 0.1,
        batch_size: int = 32,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        image_shape: tuple[int, ...] | None = None,
        column_order: Literal["given", "shuffled", "correlation"] = "given",
        column_scaling: Literal["quantile", "minmax"] = "quantile",
        morphisms: Literal["all"] | Sequence[str | Morphism] = "all",
        averaging: int = 8,
        warmup_epochs: float = 10,
        round_epochs: float = 5,
        n_rounds: int = 3,
        n_parents: int = 2,
        score_window: int = 3,
        max_growth: float = 3.0,
        max_parameters: int = 8_000_000,
        selection: Literal["fitness", "random"] | Fitness = "fitness",
        keep_candidates: Literal["pareto"] | None = None,
        n_jobs: int | None = None,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.budget = budget
        self.start = start
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.column_order = column_order
        self.column_scaling = column_scaling
        self.morphisms = morphisms
        self.averaging = averaging
        self.warmup_epochs = warmup_epochs
        self.round_epochs = round_epochs
        self.n_rounds = n_rounds
        self.n_parents = n_parents
        self.score_window = score_window
        self.max_growth = max_growth
        self.max_parameters = max_parameters
        self.selection = selection
        self.keep_candidates = keep_candidates
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    @all_or_nothing
    @check_parameters
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Find and train a network.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Images of shape (n, height, width) or (n, height, width, channels), flat rows of
            shape (n, n_features), or a raw data frame of n rows: of pandas, polars, Arrow, or
            any other that has `to_pandas` and speaks the Arrow or interchange protocol.
        y : array-like of shape (n,)
            Class labels: at least two classes, one of them with at least two rows.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows, in the training loss and in the validation score. Rows with
            weight zero are left out.

        Returns
        -------
        self : ECToNASClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not valid, before any training; or if the training
            of the start diverges. Whatever is raised, the estimator is as it was before.
        TypeError
            If X is a lazy frame.
        ImportError
            If X is a frame of polars and pyarrow, which the extra ``polars`` installs, is
            missing.

        Warns
        -----
        UserWarning
            If the shape of images suggests that the channels come first, or if a class has a
            single row: it is trained on, and no candidate is scored by it. If the warm-up makes
            the start far worse than guessing, as a learning rate that is too large does.
        """
        given = X, y, sample_weight
        go_on = self.warm_start and hasattr(self, "network_")
        X = check_X(self, X, reset=not go_on)
        labels = check_y(self, X, y)
        weights = check_weights(sample_weight, X)
        rows = None
        if weights is not None and not weights.all():
            rows = np.flatnonzero(weights)
            labels, weights = labels[rows], weights[rows]
        device = check_device(self.device)
        try:
            with undisturbed(device):
                plain = with_plain_numbers(self)
                search, start = plain._prepare(X, rows, labels, weights, device, go_on)
                observers: list[Observer] = (
                    [Printer(type(self).__name__)] if self.verbose else []
                )
                tasks = None
                if hasattr(self, "_init_callback_context"):
                    tasks = CallbackTasks(self, *given, partial(self._fitted, start))
                    observers.append(tasks)
                with read_at_random(X):
                    state = search.initial_state(
                        start.candidate, start.ledger, start.at_hand, start.origin
                    )
                    outcome = search.run(state, observers)
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()  # what the search held is for others to use
        if outcome.interrupted:
            self._report_interruption()
        self.__dict__.update(self._fitted(start, outcome))
        if tasks is not None:
            tasks.finish()
        return self

    def summary(self) -> pd.DataFrame:
        """Return the layers of the network as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each layer, with its name in ``layer`` (that of its weights in
            `network_`), its ``kind``, its ``output_shape`` for one row of X, channels last, and
            its ``n_parameters``, which add up to `n_parameters_`.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = ECToNASClassifier(budget=5, start="medium_cnn", random_state=0).fit(X, y)
        >>> print(clf.summary().to_string(index=False))
           layer                                         kind output_shape  n_parameters
         cells.0 conv 3x3, average pooling, batch norm, relu    (4, 4, 3)            33
         cells.1 conv 3x3, average pooling, batch norm, relu    (2, 2, 6)           174
         dense.0                                 dense, relu        (10,)           250
         dense.1                                 dense, relu        (10,)           110
          output                              dense, softmax        (10,)           110
        """
        check_is_fitted(self, "network_")
        columns = ["layer", "kind", "output_shape", "n_parameters"]
        return pd.DataFrame(self.best_topology_.layers, columns=columns)

    def with_candidate(self, candidate: int) -> Self:
        """Return a copy that has another candidate of the search as its model.

        Parameters
        ----------
        candidate : int
            Its number in `pareto_front_`, or that of the model at hand.

        Returns
        -------
        ECToNASClassifier
            A fitted estimator, whose `network_`, `best_topology_`, `n_parameters_`,
            `validation_score_` and `lineage_` are those of the candidate. The rest is as here,
            and this estimator stays as it is.

        Raises
        ------
        ValueError
            If there was no such candidate, or its weights were not kept.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = ECToNASClassifier(budget=60, keep_candidates="pareto", random_state=0)
        >>> front = clf.fit(X, y).pareto_front_
        >>> smallest = clf.with_candidate(front["candidate"].iloc[0])
        >>> assert smallest.n_parameters_ == front["n_parameters"].min()
        >>> smallest.predict(X).shape
        (1797,)
        """
        check_is_fitted(self, "network_")
        if candidate not in self.kept_ and candidate != self.lineage_["candidate"].iloc[-1]:
            known = set(self.history_["candidate"])
            if candidate not in known:
                raise ValueError(
                    f"candidate must be one of those in history_, 0 to {max(known)}, "
                    f"got {candidate!r}."
                )
            raise ValueError(
                f"The weights of candidate {candidate!r} were not kept: with keep_candidates="
                f"{self.keep_candidates!r}, those of {sorted(self.kept_)} were, and with "
                f'"pareto" those of {self.pareto_front_["candidate"].tolist()} would be. '
                "Those of the fits before a warm start are dropped."
            )
        copy = deepcopy(self)
        if candidate in self.kept_:
            copy.__dict__.update(model_attributes(deepcopy(self.kept_[candidate])))
        return copy

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Rows of the kind and shape that `fit` saw.

        Returns
        -------
        ndarray of shape (n, n_classes)
            Computed in float64, so that they do not depend on which rows are asked for
            together.
        """
        check_is_fitted(self, "network_")
        X = check_X(self, X, reset=False)
        self.encoder_.warn_of_another_scale(X)
        probabilities = np.empty((X.shape[0], len(self.classes_)))
        done = 0
        with undisturbed(), torch.no_grad():
            network = deepcopy(self.network_).double().eval()
            for images in self._images_of(X):
                scaled = self.encoder_.scaling_.apply(images)
                part = probabilities[done : done + len(images)]
                # In memory of torch, whose place does not show in the last bits.
                part[:] = network(torch.from_numpy(scaled).clone()).softmax(1).numpy()
                done += len(images)
        return probabilities

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Rows of the kind and shape that `fit` saw.

        Returns
        -------
        ndarray of shape (n,)
            Labels out of `classes_`.
        """
        chosen = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def to_torch(self) -> PortableNetwork:
        """Return the network with its input scaling as a plain module of torch.

        Returns
        -------
        PortableNetwork
            A copy, on the CPU and in evaluation mode, from X to the logits. X is a tensor of
            any dtype in the shape that `fit` saw: raw images, or rows of a numeric table; of a
            data frame, what ``encoder_.transform(X)`` gives.

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
        """Write the network with its input scaling as a model of ONNX.

        Parameters
        ----------
        path : str or path-like
            The file to write.

        Raises
        ------
        ImportError
            If the packages of the extra ``onnx`` are not installed.

        Notes
        -----
        The input ``X`` has the shape and dtype of the X that `fit` saw, with any number of
        rows: raw images, or rows of a numeric table; of a data frame, it is what
        ``encoder_.transform(X)`` gives. The outputs are ``probabilities`` and ``logits``,
        (n, n_classes), float32. The model's metadata hold ``classes`` and ``topology`` as JSON.

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
        """Return an initialised net of skorch that holds the winner's weights and history.

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
            Its module is that of `to_torch`, so that X is what it is there, as an array. `y`
            are the indices of the classes, ``np.searchsorted(clf.classes_, y)``, and so is what
            its `predict` gives.

        Raises
        ------
        ImportError
            If skorch, which the extra ``skorch`` installs, is missing.
        ValueError
            If `net_class` is no such class.

        Notes
        -----
        `partial_fit` trains on and appends to the history, which has an entry for each training
        of the winner and of its ancestors. A schedule of the learning rate takes these for
        epochs that have passed, unless it is given ``last_epoch=-1``. `fit`, and so a grid
        search, begins as always with skorch from the initial state: here the winner's weights,
        with an empty history; after ``set_params(module__weights=None)``, fresh ones.

        On the rows that this estimator was fitted on, the net holds out the same ones for
        validation. skorch moves the running statistics of the batch normalisation step by step,
        and knows of no `averaging`, `class_weight` or `sample_weight`.

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
            If parameters are left out because they are no plain data: functions, morphisms and
            fitnesses of your own, generators. Predictions do not depend on them.

        Notes
        -----
        The file has what `pickle` would write, but no code in it is run on loading, and neither
        the device nor private attributes of other packages are in it.

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
            If parameters have their defaults because the file does not have them.
        """
        return load(cls, path)

    def __getstate__(self) -> dict[str, Any]:
        return plain_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(whole_state(state))

    def _images_of(self, X: Data) -> Iterator[NDArray[Any]]:
        """Yield X as images, a few rows at a time."""
        for batch in batches_of(X, width=math.prod(self.image_shape_)):
            images = self.encoder_.transform(batch)
            for part in gen_batches(len(images), PREDICTION_ROWS):
                yield images[part]

    def _prepare(
        self,
        X: Data,
        rows: NDArray[np.intp] | None,
        labels: NDArray[Any],
        weights: NDArray[np.float64] | None,
        device: torch.device,
        go_on: bool,
    ) -> tuple[Search, Start]:
        """Check all that can be checked before training, and set the search up."""
        classes, indices = check_classes(labels)
        if go_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "With warm_start=True, y must hold the same classes as before, "
                f"{self.classes_.tolist()}, got {classes.tolist()}."
            )
        scoring = name_of(self.scoring)
        if go_on and scoring != self.scoring_:
            raise ValueError(
                f"With warm_start=True, scoring must be as before, {self.scoring_!r}, got "
                f"{scoring!r}: the scores of the fits could not be compared. Fit anew, for "
                "example with start=best_topology_."
            )
        seed = self.seed_ if go_on else draw_seed(self.random_state)
        optimizer = resolve_optimizer(self.optimizer, self.learning_rate, self.optimizer_params)
        settings = self._settings()
        train, validation = split(indices, self.validation_fraction, seed)
        if go_on:
            encoder, topology = self.encoder_, self.best_topology_
        else:
            encoder = InputEncoder(
                self.image_shape, self.column_order, self.column_scaling, seed
            ).fit(X, train if rows is None else rows[train])
            topology = starting_topology(self.start, encoder.image_shape_, len(classes))
        if topology.n_parameters > self.max_parameters:
            raise ValueError(
                f"{'The network at hand' if go_on else 'start'} has {topology.n_parameters} "
                f"parameters, more than max_parameters={self.max_parameters}."
            )
        images = _images(encoder, X, rows)
        in_loss = training_weights(weights, self.class_weight, labels)
        data = TrainingData(
            _rows(images, indices, in_loss, train),
            _rows(images, indices, weights, validation),
            encoder.scaling_,
            self.batch_size,
        )
        seen = None
        if callable(self.scoring):  # it may look at the rows
            seen = next(data.validation.chunks(len(validation))).numpy()
        scorer = make_scorer(
            self.scoring,
            seen,
            indices[validation],
            classes,
            None if weights is None else weights[validation],
        )
        ledger = Ledger(self.budget, data.steps_per_epoch)
        search = Search(
            FusedTrainer(data.to(device), optimizer, scorer, self.averaging, self.n_jobs),
            self._fitness(seed),
            data.scaled(data.calibration, torch.float32),
            seed,
            settings,
        )
        if not go_on:
            return search, Start(topology, encoder, classes, seed, ledger)
        at_hand, first = self._at_hand(data, scorer), self.lineage_.iloc[0]
        start = replace(
            at_hand,
            id=int(self.history_["candidate"].max()) + 1,
            generation=int(self.history_["generation"].max()) + 1,
            morphism="warm start",
            parent=at_hand.as_ancestor(),
            evaluations=(),
        )
        origin = Ancestor(
            int(first["candidate"]),
            float(first["validation_score"]),
            int(first["n_parameters"]),
        )
        earlier = self.history_, self.lineage_
        return search, Start(start, encoder, classes, seed, ledger, at_hand, origin, *earlier)

    def _at_hand(self, data: TrainingData, scorer: Scorer) -> Candidate:
        """Return the model as a candidate, with its score on the validation rows."""
        last, weights = self.lineage_.iloc[-1], weights_of(self.network_)
        network, rows = build(self.best_topology_, weights).eval(), data.validation
        with torch.no_grad():
            logits = [
                network(data.scaled(part, torch.float32))
                for part in rows.chunks(PREDICTION_ROWS)
            ]
        return Candidate(
            id=int(last["candidate"]),
            topology=self.best_topology_,
            weights=weights,
            generation=int(last["generation"]),
            morphism=str(last["morphism"]),
            n_steps=round(last["epochs_total"] * data.steps_per_epoch),
            evaluations=(evaluate(torch.cat(logits), rows, scorer, train_loss=math.nan),),
            score_window=self.score_window,
        )

    def _settings(self) -> Settings:
        return Settings(
            warmup_epochs=self.warmup_epochs,
            round_epochs=self.round_epochs,
            n_rounds=self.n_rounds,
            n_parents=self.n_parents,
            max_growth=self.max_growth,
            max_parameters=self.max_parameters,
            score_window=self.score_window,
            keep_front=self.keep_candidates is not None,
            morphisms=check_morphisms(
                self.morphisms, GREEDY_MORPHISMS if self.alpha == 1 else MORPHISMS
            ),
        )

    def _fitness(self, seed: int) -> Fitness:
        if not isinstance(self.selection, str):
            return self.selection
        if self.selection == "random":
            return Random(seed)
        return Greedy() if self.alpha == 1 else Balanced(self.alpha)

    def _fitted(self, start: Start, outcome: Outcome) -> dict[str, Any]:
        """Return the fitted attributes that go with an outcome."""
        start = start._replace(ledger=outcome.state.ledger)
        kept = [outcome.lineage, *outcome.front] if self.keep_candidates else []
        return {
            "kept_": {line[-1].id: start.model_of(line) for line in kept},
            "classes_": start.classes,
            "scoring_": name_of(self.scoring),
            "encoder_": start.encoder,
            "image_shape_": start.encoder.image_shape_,
            "seed_": start.seed,
            "history_": start.history(),
            "pareto_front_": start.table_of([line[-1] for line in outcome.front]),
            **model_attributes(start.model_of(outcome.lineage)),
        }

    def _report_interruption(self) -> None:
        if inside_another_estimator():
            raise KeyboardInterrupt
        warnings.warn(
            "The search was interrupted; the best network so far is kept.", stacklevel=5
        )

    def _html_repr(self) -> str:
        """Return what a notebook shows: scikit-learn's diagram and what was found."""
        diagram: str = super()._html_repr()
        if not hasattr(self, "network_"):
            return diagram
        from skectonas.displays.notebook import beside  # only where it is shown

        history = self.history_
        found = {
            "Topology": str(self.best_topology_),
            "Parameters": f"{self.n_parameters_:,}",
            f"Validation score ({self.scoring_})": f"{self.validation_score_:.4f}",
            "Candidates": f"{history['candidate'].nunique():,}",
            "Epochs spent": f"{history['budget_spent'].iloc[-1]:,.1f}",
        }
        return beside(diagram, found, self.summary())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        return tags


def _images(
    encoder: InputEncoder, X: Data, rows: NDArray[np.intp] | None
) -> torch.Tensor | MappedImages:
    """Return X, or some of its rows, as images, which stay where they are if they can."""
    if sparse.issparse(X) or mapping_of(X) is not None:
        return MappedImages(X, encoder.transform, rows)
    images = encoder.transform(X, rows)
    with warnings.catch_warnings():
        # Nobody writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def _rows(
    images: torch.Tensor | MappedImages,
    indices: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    chosen: NDArray[np.int64],
) -> Rows:
    return Rows(
        images,
        torch.from_numpy(indices[chosen]),
        None if weights is None else torch.from_numpy(weights[chosen].astype(np.float32)),
        torch.from_numpy(chosen),
    )

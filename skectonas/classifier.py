"""The estimator."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skectonas.callers import inside_another_estimator
from skectonas.estimators import (
    CallbackSupportMixin,
    VersionedStateMixin,
    all_or_nothing,
    check_device,
    check_parameters,
    with_plain_numbers,
)
from skectonas.export import (
    ExportMixin,
)
from skectonas.fitting import Sample, first_fit, further_fit
from skectonas.inputs import (
    Data,
    InputEncoder,
    batches_of,
    check_weights,
    check_X,
    check_y,
    read_at_random,
)
from skectonas.morphisms import Morphism
from skectonas.network import TopologyNetwork
from skectonas.search import (
    CallbackTasks,
    Fitness,
    Observer,
    Printer,
    model_attributes,
)
from skectonas.surroundings import undisturbed
from skectonas.topology import Topology

PREDICTION_ROWS = 1024  # rows in float64 at a time: bounds the memory of predict


class ECToNASClassifier(
    ExportMixin, CallbackSupportMixin, ClassifierMixin, VersionedStateMixin, BaseEstimator
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
        Shape of the images that flat rows are laid out in: (height, width) or (height, width,
        channels). A flat array with exactly as many columns as pixels holds flattened images,
        whose pixels share one scale. With None, a table becomes the smallest square that holds
        it.
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
        Number of snapshots of the weights during the last epoch. A network is scored and kept
        with their mean. With 1 it is kept as the last batch leaves it, as in the paper.
    warmup_epochs : float, default=10
        Training of the start before the first generation.
    round_epochs : float, default=5
        Training of each competitor in a round.
    n_rounds : int, default=3
        Rounds of each of the two competition phases of a generation.
    n_parents : int, default=2
        Winners of a generation, which are the parents of the next.
    score_window : int, default=3
        Number of last evaluations that the score is the mean of. There is one evaluation after
        each epoch and one at the end of each training.
    max_growth : float, default=3.0
        Parameters that a child may add, as a multiple of its parent's.
    max_parameters : int, default=8_000_000
        Parameters that a network may have at most.
    selection : {"fitness", "random"} or Fitness, default="fitness"
        What decides a bracket: Eq. 2 of the paper, chance (the paper's ablation, not meant for
        use), or an object of your own, see `skectonas.search.Fitness`.
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
        Whether another call of `fit` continues from the fitted network, with a fresh budget.
        Then X has to be like that of the first fit, and `y` to hold the same classes; `start`,
        `image_shape`, `column_order` and `column_scaling` do not count, and `seed_` takes the
        place of `random_state`, so that on the same data the same rows are held out. The
        fitted network is scored anew on the rows that are held out now, and remains the model
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
        is_further = self.warm_start and hasattr(self, "network_")
        X = check_X(self, X, reset=not is_further)
        labels = check_y(self, X, y)
        weights = check_weights(sample_weight, X)
        device = check_device(self.device)
        prepare = further_fit if is_further else first_fit
        try:
            with undisturbed(device):
                sample = Sample.of(X, labels, weights)
                search, state, basis = prepare(with_plain_numbers(self), sample, device)
                attributes = partial(basis.attributes, keep_front=search.settings.keep_front)
                observers: list[Observer] = (
                    [Printer(type(self).__name__)] if self.verbose else []
                )
                tasks = None
                if hasattr(self, "_init_callback_context"):
                    tasks = CallbackTasks(self, *given, attributes)
                    observers.append(tasks)
                with read_at_random(X):
                    outcome = search.run(state, observers)
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()  # what the search held is for others to use
        if outcome.interrupted:
            self._report_interruption()
        self.__dict__.update(attributes(outcome))
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
            Its number in `pareto_front_`, or that of the current model.

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

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Rows of the kind and shape that `fit` saw.
        y : array-like of shape (n,)
            Labels, of any kind that `fit` takes.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        float
            Share of the rows, or of their weights, whose predicted class is right.
        """
        labels = check_y(self, X, y)
        return float(accuracy_score(labels, self.predict(X), sample_weight=sample_weight))

    def _images_of(self, X: Data) -> Iterator[NDArray[Any]]:
        """Yield X as images, a few rows at a time."""
        for batch in batches_of(X, width=math.prod(self.image_shape_)):
            images = self.encoder_.transform(batch)
            for part in gen_batches(len(images), PREDICTION_ROWS):
                yield images[part]

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

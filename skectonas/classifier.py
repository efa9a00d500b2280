"""The estimator."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
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

from skectonas.callers import inside_another_estimator, level_of_user
from skectonas.estimators import (
    CallbackSupportMixin,
    FittedDespiteError,
    VersionedStateMixin,
    all_or_nothing,
    check_device,
    check_parameters,
    with_plain_numbers,
)
from skectonas.export import ExportMixin
from skectonas.fitting import SELECTIONS, Prepared, first_fit, further_fit
from skectonas.guessing import warn_if_a_guess_is_as_good
from skectonas.inputs import (
    METHODS,
    ORDERS,
    Data,
    InputEncoder,
    check_groups,
    check_weights,
    check_X,
    check_y,
    read_at_random,
)
from skectonas.morphisms import Morphism
from skectonas.network import TopologyNetwork
from skectonas.sample import Sample
from skectonas.search import (
    CallbackTasks,
    Clock,
    Fitness,
    Observer,
    Outcome,
    Printer,
    model_attributes,
    of_last_fit,
    standings,
)
from skectonas.surroundings import terminated_as_interrupted, undisturbed
from skectonas.topology import Topology
from skectonas.training import Augmentation

PREDICTION_ROWS = 1024  # rows in float64 at a time: bounds the memory of predict


class ECToNASClassifier(
    ExportMixin, CallbackSupportMixin, ClassifierMixin, VersionedStateMixin, BaseEstimator
):
    """Classifier that finds the shape of a small neural network while it trains it.

    A population of small sequential networks (dense layers, convolutional cells) competes in
    brackets while it is trained, until a budget of epochs is spent. Morphisms change the
    networks and carry the trained weights over. The method is evolutionary cross-topology
    neural architecture search (ECToNAS).

    Parameters
    ----------
    alpha : float, default=1.0
        Greediness, from 0 to 1. With 1, size decides between equals only. With a lower value,
        a network that is smaller than its parent may have a lower score (Eq. 2 of the paper).
    budget : float or None, default=1000
        Number of epochs to train, over all candidates together. It is never exceeded. The trial
        described in the notes is included, and takes up to a quarter of it, or 125 epochs if
        that is less. None is no limit, and needs a `time_limit`.
    start : str or Topology, default="auto"
        Where the search begins: "small_ffnn", "medium_ffnn", "large_ffnn", "small_cnn",
        "medium_cnn" or "large_cnn" (the paper's Table 6), or a `Topology` that fits the data.
        With "auto", topologies of sizes that suit the data are trained in the warm-up, a
        convolutional one for images and four dense ones for tables, and the best of them become
        the first parents. Where only the loss counts, a larger one is preferred only if its
        loss is lower by two standard errors, or by one if the smaller has no hidden layers.
        With `alpha` below 1, there are narrower ones for images, too. For tables there is one
        without hidden layers, if `alpha` is below 1 or the columns are in pieces. With pieces
        it is an additive model. The number of multiplications of a network is limited, and so
        is the time of an epoch. The limit is four times that of the largest start, twice for
        images, and one and a half times for up to 10,000 images. The number of pieces of
        columns depends on the rows, so a topology that was found with pieces fits every table
        with pieces.
    scoring : str or callable, default="accuracy"
        The score that candidates are compared by on the validation rows: "accuracy",
        "neg_log_loss", any other name of a classification scorer of scikit-learn, or a callable
        ``scorer(estimator, X, y)``, where X holds the validation rows as images. Higher is
        better. See also `selection`.
    validation_fraction : float or "auto", default="auto"
        Fraction of the rows that are held out to score the candidates. With "auto", it is a
        tenth. Of fewer than 2,000 rows, 200 are held out, but at most a fifth. It is less if
        many classes have a single row.
        The split is stratified and holds out at least one row of each class that has two.
    optimizer : str or class, default="SGD"
        An optimiser of `torch.optim`, by name or class.
    optimizer_params : dict or None, default=None
        Further arguments of the optimiser. With SGD, None stands for Nesterov momentum of 0.9
        and a weight decay of 0.005. For more than 2,000 images the decay is 10 divided by their
        number; for a table a trial may choose 0.01, 0.002 or 0.001, see the notes. A network
        without hidden layers has 1 divided by the number of rows of a table, but at most 0.005.
        With other optimisers, None stands for no further arguments.
    learning_rate : float, default=0.03
        Learning rate of the optimiser. It is constant in the search and falls to zero in the
        final training.
    batch_size : int, default=32
        Maximum number of rows in a batch.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the training loss, as in scikit-learn.
    image_shape : tuple of int or None, default=None
        Shape of the images that flat rows are turned into: (height, width) or (height, width,
        channels). A flat array with exactly as many columns as pixels is treated as flattened
        images, whose pixels share one scale. With None, a table becomes the smallest square
        that holds it.
    column_order : {"given", "shuffled", "correlation"}, default="given"
        How the columns of a table are laid out as pixels, see `PseudoImageTransformer`.
    column_scaling : {"auto", "quantile", "piecewise", "minmax"}, default="auto"
        How the columns of a table are scaled. With "quantile", a value is replaced by the
        normal score of its rank, so that neither outliers nor skewness matter. With
        "piecewise", there are also up to 32 pieces of each column, so that a network can treat
        the parts of its range differently. With "auto", a trial decides about pieces, see the
        notes; there are none with `image_shape`, or if there would be more than 300 columns.
        With "minmax", the smallest value becomes 0 and the largest 1, as in the paper.
    morphisms : "all" or sequence, default="all"
        The changes to use, by name or as objects, such as
        ``["identity", "add_units", AddCell(extra=(0, 5))]``. The names are "identity",
        "add_units", "remove_units", "add_dense", "remove_dense", "add_channels",
        "remove_channels", "add_cell" and "remove_cell". With "all" or a name, new cells are
        wide if `alpha` is 1, and narrower if it is below 1.
    augmentation : "auto", Augmentation or None, default="auto"
        Random changes of the training images. With "auto", images are shifted by up to a
        pixel. A square of each is erased (cutout) if there are at most 10,000 images and
        `final_fraction` of the `budget` is 100 epochs or more. Nothing is erased with
        ``budget=None``. Tables, and images with a side of less than 16 pixels, are not changed.
        None changes nothing.
        ``Augmentation(shift=1, flip=True)`` shifts and mirrors images, which helps where left
        and right mean the same.
    averaging : int, default=8
        Maximum number of snapshots of the weights in the last epoch of a training. A network
        is scored and kept with their mean.
        With 1, the weights after the last batch are kept, as in the paper.
    warmup_epochs : float, default=5
        Number of epochs to train each start before the first generation.
    round_epochs : float, default=1
        Number of epochs to train each competitor in a round.
    n_rounds : int, default=2
        Number of rounds in each of the two competition phases of a generation.
    n_parents : int, default=2
        Number of winners of a generation, which are the parents of the next.
    n_iter_no_change : int or None, default=None
        Number of generations without a better candidate after which the search ends. Then
        comes the final training, and the rest of the budget is not spent. With ``alpha=1``,
        nothing is better than a candidate with a validation accuracy of 1. With None, the
        search goes on.
    final_fraction : float, default=0.3
        Fraction of the budget that is reserved for the final training of the best candidate on
        all rows, those held out included, in which the learning rate falls to zero as half a
        cosine. It also pays for the control, which a network larger than the start has to beat
        before that. With 0, the best candidate is trained on the training
        rows with a constant rate for what is left of the budget, as in the paper. With 1, there
        is no search: this is the baseline, a start that is trained alone, after a warm-up with
        about a tenth of the budget, or more if the budget is a few epochs.
    score_window : int, default=1
        Number of evaluations over which the score is averaged. A network is evaluated after
        each epoch and at the end of each training. In the final training on all rows, it is
        evaluated at the end only.
    max_growth : float, default=3.0
        Maximum increase of the number of parameters from a parent to its child, as a multiple
        of the parent's number.
    max_parameters : int, default=8_000_000
        Maximum number of parameters of a network. Each takes four bytes.
    selection : {"auto", "score", "loss", "random"} or Fitness, default="auto"
        What decides a bracket: Eq. 2 of the paper with the score, or with the validation loss;
        chance (the paper's ablation, not meant for use); or your own object, see
        `skectonas.search.Fitness`. With "auto", it is the loss if `scoring` is "accuracy" and
        `class_weight` is None, because the accuracy on few validation rows is mostly noise, and
        otherwise the score.
    keep_candidates : {"pareto", "all"} or None, default=None
        Which weights are kept besides the winner's: those of the candidates in
        `pareto_front_`, or of all whose training neither diverged nor failed, so that
        `with_candidate` can make each of them the model. "all" takes as much memory and room in
        files as all networks together.
    n_jobs : int or None, default=None
        Number of workers that train parts of the population in parallel, as in scikit-learn.
        The results do not depend on it.
    device : str or torch.device, default="auto"
        Where to train; "auto" uses a GPU if there is one.
    random_state : int, RandomState or Generator instance of numpy, or None, default=None
        Seed of all random draws. The same number gives the same bits on the same machine with
        the same versions, and None draws fresh entropy. The global random state is neither
        read nor changed.
    verbose : int, default=0
        With 1, a line is printed for each generation, with the time so far and an estimate of
        what is left; with 2, for each round as well; with 0, nothing is printed.
    time_limit : float or None, default=None
        Number of seconds after which `fit` has to end. The search gets what `final_fraction`
        leaves of it. The control gets up to half of the rest, and the final training takes as
        long as the remaining time allows. The round that is cut off is lost. Up to there, the
        same `random_state` gives the same search, and `history_` shows how far it got. Each
        training of the trial may take a twentieth of the time. If that is too short, the search
        continues with what the trial has found so far.
    checkpoint : str, path-like or None, default=None
        A file that the state of the search is written to after every round. Another call of
        `fit` with the same parameters and data continues from it, and the result is the same,
        to the bit, as without the interruption. If it is a folder that exists, each search has
        a file of its own there, as is needed in a grid search. A finished search is in the file
        as well, so that it is not repeated. After `time_limit` or Ctrl-C, the search can be
        continued as it was then, without its final training. Only `n_jobs`, `time_limit` and
        `verbose` may differ. Nothing is written if the time is too short for the trial.
    warm_start : bool, default=False
        Whether another call of `fit` continues from the fitted network, with a fresh budget. X
        must then be like that of the first fit, and `y` must have the same classes. `start`,
        `image_shape`, `column_order` and `column_scaling` are ignored, there is no trial, and
        `seed_` is used instead of `random_state`, so that on the same data the same rows are
        held out. The fitted network has been trained on these rows too, so it competes only
        with the new winner, after the final training. It remains the model unless the new
        winner has a better fitness. `scoring` must not change; scores of earlier fits stay in
        `history_` and `lineage_` as they were measured. The candidates that `keep_candidates`
        kept in the previous fit are dropped.

    Attributes
    ----------
    best_topology_ : Topology
        The topology that won.
    network_ : TopologyNetwork
        The trained network, a `torch.nn.Module` on the CPU, in evaluation mode. It takes the
        scaled images, ``encoder_.scaling_.apply(encoder_.transform(X))`` as float32, and
        returns the logits.
    history_ : pandas.DataFrame
        A row for every training round of every candidate; the columns are described in
        `skectonas.search.Entry`.
    lineage_ : pandas.DataFrame
        A row for the start and for each of its descendants down to the winner: the
        ``generation`` it was born in, its number ``candidate``, the ``morphism`` that made it,
        ``topology``, ``n_parameters``, the ``epochs_total`` that its weights were trained for,
        those of its ancestors included, and its ``validation_score``.
    pareto_front_ : pandas.DataFrame
        The candidates that no other beats, the smallest first, with the columns of `lineage_`.
        A candidate beats another that has no fewer parameters and no higher
        ``validation_score``. This is the score used for selection: the mean over the last
        `score_window` evaluations, after the last training of the candidate. The winner may be
        missing, because a candidate that lost a bracket may beat one whose score fell later.
    kept_ : dict of int to dict
        The network and the lineage of the winner and of each candidate that `keep_candidates`
        asks to keep, by its number; see `with_candidate`. Empty if it is None.
    validation_score_ : float
        The winner's score on the validation rows, by which it was chosen: the mean over the
        last `score_window` evaluations before the final training, which uses these rows too
        (with `final_fraction=0` it does not, and its evaluations count).
    scoring_ : str
        Name of the score: that given as `scoring`, or that of the callable.
    n_parameters_ : int
        The winner's number of trained weights.
    classes_ : ndarray of shape (n_classes,)
        The classes.
    image_shape_ : tuple of int
        Height, width and channels of the images that the network takes.
    n_features_in_ : int
        Number of features; for images, the number of values.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X is a data frame whose column names are all strings.
    n_samples_fit_ : int
        Number of rows that were fitted, those that were held out included.
    encoder_ : InputEncoder
        The encoder that turns X into images.
    weight_decay_ : float or None
        Weight decay that a rule or the trial has chosen for networks with hidden layers; None
        if `optimizer_params` or another optimiser than SGD was given.
    seed_ : int
        The seed drawn from `random_state`. All other draws depend on it, also those of a warm
        start. Given as `random_state`, it would give another seed.

    See Also
    --------
    PseudoImageTransformer : Lays out the columns of a table as an image.
    sklearn.neural_network.MLPClassifier : A dense network of a fixed shape.

    Notes
    -----
    Images are scaled to a mean of zero and the same standard deviation in every channel.
    Tables are scaled column by column, see `column_scaling`; values outside the range seen in
    `fit` are clipped to it. Tables may have missing values: NaN becomes the middle of its
    column, and the column gets an indicator. The columns of a data frame, or of an array of
    objects, are encoded according to their content: numbers, categories, dates or text. All of
    this is learned from the training rows. Sparse rows are made dense a batch at a time; on a
    GPU they are all made dense at once.

    A search on a table begins with a trial, which chooses what the defaults of `column_scaling`
    and `optimizer_params` stand for, the latter for networks with hidden layers. It has at most
    five short trainings of the first start. Each of them takes 5% of the budget, or 25 epochs
    if that is less. The first two have the columns as they are, and in pieces. Pieces are used
    if the loss on the validation rows is lower by two standard errors. The third has a weight
    decay of 0.01, which is used if the loss is at most one standard error higher. Otherwise the
    fourth has a weight decay of 0.0005. If its loss is not lower by five standard errors, 0.005
    is used. If it is, a fifth training has a weight decay of 0.002. If the loss of the fifth is
    higher than that of the fourth by three standard errors, 0.001 is used, and otherwise 0.002.
    Both are stronger than 0.0005, because a search trains longer. No weight decay is tried if
    the first start has no hidden layers.
    There is no trial with a budget of less than 200 epochs, with fewer than 30 validation rows,
    with class weights, or if something else than the loss decides the brackets (see
    `selection`).

    Ctrl-C ends the search and keeps the best network so far, with a warning; so does SIGTERM,
    if `fit` runs in the main thread. Inside a meta-estimator such as `GridSearchCV`, the
    interruption is passed on. An error in the middle of the search is raised, but the estimator
    is fitted with the best network so far. Errors of scorers and callbacks are only warned of.

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
    8x8x1 > conv 12 max > ... > 10 classes
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "budget": [Interval(Real, 0, None, closed="neither"), None],
        "start": [str, Topology],
        "scoring": [str, callable],
        "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "optimizer": [str, type],
        "optimizer_params": [dict, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "image_shape": [tuple, list, None],
        "column_order": [StrOptions(set(ORDERS))],
        "column_scaling": [StrOptions({"auto", *METHODS})],
        "morphisms": [str, "array-like"],
        "augmentation": [StrOptions({"auto"}), Augmentation, None],
        "averaging": [Interval(Integral, 1, None, closed="left")],
        "warmup_epochs": [Interval(Real, 0, None, closed="neither")],
        "round_epochs": [Interval(Real, 0, None, closed="neither")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_parents": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "final_fraction": [Interval(Real, 0, 1, closed="both")],
        "score_window": [Interval(Integral, 1, None, closed="left")],
        "max_growth": [Interval(Real, 0, None, closed="both")],
        "max_parameters": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"auto", *SELECTIONS}), HasMethods(["__call__", "final"])],
        "keep_candidates": [StrOptions({"pareto", "all"}), None],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "device": [str, torch.device],
        "random_state": ["random_state", np.random.Generator],
        "verbose": ["verbose"],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "checkpoint": [str, os.PathLike, None],
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
    weight_decay_: float | None
    classes_: NDArray[Any]
    image_shape_: tuple[int, int, int]
    n_features_in_: int
    n_samples_fit_: int
    feature_names_in_: NDArray[np.object_]
    encoder_: InputEncoder
    seed_: int

    def __init__(
        self,
        alpha: float = 1.0,
        budget: float | None = 1000,
        start: str | Topology = "auto",
        *,
        scoring: str | Callable[..., float] = "accuracy",
        validation_fraction: float | Literal["auto"] = "auto",
        optimizer: str | type[torch.optim.Optimizer] = "SGD",
        optimizer_params: dict[str, Any] | None = None,
        learning_rate: float = 0.03,
        batch_size: int = 32,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        image_shape: tuple[int, ...] | None = None,
        column_order: Literal["given", "shuffled", "correlation"] = "given",
        column_scaling: Literal["auto", "quantile", "piecewise", "minmax"] = "auto",
        morphisms: Literal["all"] | Sequence[str | Morphism] = "all",
        augmentation: Literal["auto"] | Augmentation | None = "auto",
        averaging: int = 8,
        warmup_epochs: float = 5,
        round_epochs: float = 1,
        n_rounds: int = 2,
        n_parents: int = 2,
        n_iter_no_change: int | None = None,
        final_fraction: float = 0.3,
        score_window: int = 1,
        max_growth: float = 3.0,
        max_parameters: int = 8_000_000,
        selection: Literal["auto", "score", "loss", "random"] | Fitness = "auto",
        keep_candidates: Literal["pareto", "all"] | None = None,
        n_jobs: int | None = None,
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | np.random.Generator | None = None,
        verbose: int = 0,
        time_limit: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
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
        self.augmentation = augmentation
        self.averaging = averaging
        self.warmup_epochs = warmup_epochs
        self.round_epochs = round_epochs
        self.n_rounds = n_rounds
        self.n_parents = n_parents
        self.n_iter_no_change = n_iter_no_change
        self.final_fraction = final_fraction
        self.score_window = score_window
        self.max_growth = max_growth
        self.max_parameters = max_parameters
        self.selection = selection
        self.keep_candidates = keep_candidates
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.time_limit = time_limit
        self.checkpoint = checkpoint
        self.warm_start = warm_start

    @all_or_nothing
    @check_parameters
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Find and train a network.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Images of shape (n, height, width) or (n, height, width, channels), flat rows of
            shape (n, n_features), or a raw data frame of n rows from pandas, polars, Arrow, or
            any other library with `to_pandas` and the Arrow or interchange protocol.
        y : array-like of shape (n,)
            Class labels. There must be at least two classes, one of them with two rows or more.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows, in the training loss and in the validation score. Rows with
            weight zero are left out.
        groups : array-like of shape (n,), default=None
            Labels of groups of rows that belong together, such as the rows of one patient. All
            rows of a group are trained on, or all are held out to score the candidates. There
            must be at least two groups, and each class must be in two of them. The part that is
            held out is then only about `validation_fraction`, and hardly less than a twentieth.

        Returns
        -------
        self : ECToNASClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are not valid, which is checked before any training, or
            if the training of the start diverges or finds no time. After this or any error
            before the end of the warm-up, the estimator is as it was before.
        TypeError
            If X is a lazy frame or a sparse tensor, or holds values that are not numbers.
        MemoryError
            If the start does not fit in the memory.
        ImportError
            If X is a frame of polars and pyarrow, which the extra ``polars`` installs, is
            missing.

        Warns
        -----
        UserWarning
            If the shape of images suggests that the channels come first; if columns of a frame
            are dropped, or read as something else than their dtype says; if a class has a
            single row, which is only trained on; if the warm-up makes the start far worse than
            guessing, as happens if the learning rate is too large; if there are 20 or more
            validation rows, and the network that was found is no better on them than always
            predicting the most frequent class;
            if the search is interrupted; if a candidate does not fit in the memory, or a
            scorer or a callback raises an error, which does not end the search; or if the time
            is too short to write a `checkpoint`.
        """
        given = X, y, sample_weight
        plain = with_plain_numbers(self)
        if plain.budget is None and plain.time_limit is None:
            raise ValueError("budget=None needs a time_limit, or the search would never end.")
        if plain.checkpoint is not None and not os.fspath(plain.checkpoint):
            raise ValueError("checkpoint must be the path of a file or a folder, got ''.")
        clock = Clock(math.inf if plain.time_limit is None else plain.time_limit)
        is_further = self.warm_start and hasattr(self, "network_")
        X = check_X(self, X, reset=not is_further)
        labels = check_y(self, X, y)
        weights = check_weights(sample_weight, X)
        group_numbers = check_groups(groups, X)
        device = check_device(self.device)
        prepare = further_fit if is_further else first_fit
        try:
            with undisturbed(device), self._ending_with_sigterm(), read_at_random(X):
                sample = Sample.of(X, labels, weights, group_numbers)
                prepared = prepare(plain, sample, device, clock)
                basis, checkpoint = prepared.basis, prepared.checkpoint
                observers: list[Observer] = []
                if self.verbose:
                    observers.append(Printer(type(self).__name__, self.verbose > 1))
                tasks = None
                if hasattr(self, "_init_callback_context"):
                    tasks = CallbackTasks(self, *given, basis.attributes)
                    observers.append(tasks)
                keep = None if checkpoint is None else checkpoint.keep
                outcome = prepared.search.run(prepared.state, observers, keep)
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()  # return the memory of the search
        self.__dict__.update(basis.attributes(outcome))
        error: BaseException | None = outcome.error
        endings: list[Callable[[], None]] = [] if checkpoint is None else [checkpoint.finish]
        endings += [partial(self._warn_of, outcome, prepared)]
        endings += [] if tasks is None else [tasks.finish]
        for ending in endings:
            try:
                ending()
            except KeyboardInterrupt as raised:
                error = raised
            except Exception as raised:  # a warning that the user has made an error
                error = error or raised
        if error is not None:
            if not inside_another_estimator():  # which has fitted a copy that is lost
                error.add_note("The estimator is fitted with the best network so far.")
            raise FittedDespiteError(error)
        return self

    def summary(self) -> pd.DataFrame:
        """Return the layers of the network as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each layer, with its name in ``layer`` (as for its weights in `network_`),
            its ``kind``, its ``output_shape`` for one row of X, channels last, and its
            ``n_parameters``, which add up to `n_parameters_`.

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

    def leaderboard(self) -> pd.DataFrame:
        """Return all candidates of the search, the best first.

        Returns
        -------
        pandas.DataFrame
            A row for each candidate of the last fit as it was after its last training, sorted
            by ``mean_score``, then by ``mean_loss``, with the columns ``candidate``,
            ``mean_score``, ``mean_loss``, ``n_parameters``, ``epochs_total``, ``generation``,
            ``morphism`` and ``topology`` of `history_`. A final training that was rejected does
            not count.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skectonas import ECToNASClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = ECToNASClassifier(budget=60, random_state=0).fit(X, y)
        >>> table = clf.leaderboard()
        >>> assert len(table) == clf.history_["candidate"].nunique()
        >>> assert table["mean_score"].is_monotonic_decreasing
        """
        check_is_fitted(self, "network_")
        columns = [
            "candidate", "mean_score", "mean_loss", "n_parameters", "epochs_total",
            "generation", "morphism", "topology",
        ]  # fmt: skip
        history = of_last_fit(self.history_)
        finalists = history["candidate"][history["phase"] == "final"]
        # The present model may be another one: see `with_candidate`.
        kept = self.kept_.get(-1 if finalists.empty else int(finalists.iloc[-1]))
        lineage = self.lineage_ if kept is None else kept["lineage"]
        last = standings(history, lineage).reset_index()[columns]
        by = ["mean_score", "mean_loss", "n_parameters"]
        return last.sort_values(by, ascending=[False, True, True], ignore_index=True)

    def with_candidate(self, candidate: int) -> Self:
        """Return a copy that has another candidate of the search as its model.

        Parameters
        ----------
        candidate : int
            Its number in `history_`. Its weights must have been kept, as `keep_candidates`
            asked for, or be those of the current model.

        Returns
        -------
        ECToNASClassifier
            A fitted estimator whose `network_`, `best_topology_`, `n_parameters_`,
            `validation_score_` and `lineage_` are those of the candidate. Everything else is
            the same, and this estimator does not change.

        Raises
        ------
        ValueError
            If there is no such candidate, or its weights were not kept.

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
        known = set(self.history_["candidate"])
        if not isinstance(candidate, Real) or candidate not in known:
            raise ValueError(
                f"candidate must be one of those in history_, 0 to {max(known)}, "
                f"got {candidate!r}."
            )
        if candidate not in self.kept_ and candidate != self.lineage_["candidate"].iloc[-1]:
            raise ValueError(
                f"The weights of candidate {candidate!r} were not kept: with keep_candidates="
                f"{self.keep_candidates!r}, those of {sorted(self.kept_)} were, and with "
                f'"pareto" those of {self.pareto_front_["candidate"].tolist()} would be. '
                "Those of the fits before a warm start, and of trainings that diverged or "
                "failed, are dropped."
            )
        # Callbacks are shared, as by `clone`: they may hold what cannot be copied.
        callbacks = vars(self).get("_skl_callbacks")
        copy = deepcopy(self, {} if callbacks is None else {id(callbacks): callbacks})
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
            The probabilities. They are computed in float64, so that the other rows change
            those of a row by no more than the last bits.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X does not have the shape, or the columns, that `fit` saw.

        Warns
        -----
        UserWarning
            If the values seem to have other units than those in `fit`, or if a column holds
            nothing that can be read as it was in `fit`.
        """
        return self._outputs(X, partial(torch.softmax, dim=1))

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Rows of the kind and shape that `fit` saw.

        Returns
        -------
        ndarray of shape (n, n_classes)
            The logarithms, which are finite also where a probability is rounded to zero.

        Raises
        ------
        NotFittedError, ValueError
            As `predict_proba`, with the same warnings.
        """
        return self._outputs(X, partial(torch.log_softmax, dim=1))

    def _outputs(
        self, X: Any, activation: Callable[[torch.Tensor], torch.Tensor]
    ) -> NDArray[np.float64]:
        """Return the outputs of the network in float64, each batch after an activation."""
        check_is_fitted(self, "network_")
        X = check_X(self, X, reset=False)
        self.encoder_.warn_if_scaled_differently(X)
        outputs = np.empty((X.shape[0], len(self.classes_)))
        done = 0
        with undisturbed(), torch.no_grad():
            network = deepcopy(self.network_).double().eval()
            for images in self._images_of(X):
                scaled = self.encoder_.scaling_.apply(images)
                part = outputs[done : done + len(images)]
                # Cloned into torch's memory, whose alignment does not change the last bits.
                part[:] = activation(network(torch.from_numpy(scaled).clone())).numpy()
                done += len(images)
        return outputs

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame
            Rows of the kind and shape that `fit` saw.

        Returns
        -------
        ndarray of shape (n,)
            The predicted labels.

        Raises
        ------
        NotFittedError, ValueError
            As `predict_proba`, with the same warnings.
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
            Labels of any kind that `fit` accepts.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        float
            Fraction of the rows, or of their weights, whose class is predicted correctly.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X does not have the shape, or the columns, that `fit` saw, or if the rows of X,
            y and the weights are not as many.
        """
        predicted = self.predict(X)
        labels = check_y(self, predicted, y)
        return float(accuracy_score(labels, predicted, sample_weight=sample_weight))

    def _images_of(self, X: Data) -> Iterator[NDArray[Any]]:
        """Yield X as images, a few rows at a time."""
        for images in self.encoder_.in_batches(X):
            for part in gen_batches(len(images), PREDICTION_ROWS):
                yield images[part]

    def _ending_with_sigterm(self) -> AbstractContextManager[None]:
        """Return a context in which SIGTERM keeps the best so far, where Ctrl-C would."""
        return nullcontext() if inside_another_estimator() else terminated_as_interrupted()

    def _warn_of(self, outcome: Outcome, prepared: Prepared) -> None:
        """Warn of a search that was interrupted, or has found nothing."""
        if outcome.interrupted:
            if inside_another_estimator():
                raise KeyboardInterrupt
            warnings.warn(
                "The search was interrupted; the best network so far is kept.",
                stacklevel=level_of_user(),
            )
        if self.class_weight is None:  # with weights, it is meant to name rare classes
            has_seen_all_rows = outcome.winner is outcome.state.finalist
            warn_if_a_guess_is_as_good(
                outcome.winner,
                prepared.validation,
                prepared.scorer,
                has_seen_all_rows and prepared.search.final is not None,
            )

    def _html_repr(self) -> str:
        """Return what a notebook shows: scikit-learn's diagram and the result."""
        diagram: str = super()._html_repr()
        if not hasattr(self, "network_"):
            return diagram
        from skectonas.displays.notebook import beside  # only needed here

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

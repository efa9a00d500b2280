"""From checked data and parameters to a search and its initial state."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skectonas.callers import level_of_user
from skectonas.candidate import Ancestor, Candidate
from skectonas.estimators import draw_seed
from skectonas.fingerprint import digest_of_rows, fingerprint_of, text_of
from skectonas.inputs import InputEncoder
from skectonas.morphisms import GREEDY_MORPHISMS, MORPHISMS, Morphism
from skectonas.network import build, weights_of
from skectonas.population import FusedTrainer
from skectonas.sample import Sample
from skectonas.search import (
    AllRows,
    Balanced,
    Basis,
    Checkpoint,
    Clock,
    Fitness,
    Greedy,
    Ledger,
    Measure,
    Printer,
    Random,
    Search,
    SearchState,
    Settings,
    check_fitness,
    check_morphisms,
    fingerprint_in,
    seed_in,
)
from skectonas.topology import (
    STARTS,
    Topology,
    multiplications,
    starting_topology,
    suitable_starts,
)
from skectonas.training import (
    ByDepth,
    OptimizerSpec,
    Rows,
    Scorer,
    Trainer,
    TrainingData,
    check_scoring,
    evaluate,
    has_usual_settings,
    linear_weight_decay,
    name_of,
    usual_augmentation,
    usual_optimizer,
    usual_weight_decay,
    weighted_losses,
)
from skectonas.trial import Beginning, Choice, Trial

SELECTIONS = ("score", "loss", "random")
"""Names of the ways to decide a bracket."""

ACCURACIES = ("accuracy", "balanced_accuracy")
"""Scores of which nobody expects more than 1."""

SHORTEST_WITH_TRIAL, FEWEST_ROWS = 200, 30
"""The budget, and the rows that are held out, from which on there is a trial."""

MOST_COLUMNS, MOST_VALUES = 300, 2**26
"""Columns, pieces included, and values of all rows, up to which it is tried out whether to cut
the columns of a table into pieces. More columns take long to train on, and each one matters
less."""

MOST_WORK, MOST_WORK_FOR_IMAGES, MOST_WORK_FOR_FEW_IMAGES = 4, 2, 1.5
"""How many times the multiplications of the starts a network may need, if they were chosen for
the data. The start for images needs more of them than those for tables. Without a limit, one
of eight searches on digits ended with 727 channels, took 24 times as long, and was no better.
"""

FEW_IMAGES = 10_000
"""Number of images up to which the lower limit holds. On digits, and on 5,000 images of
Fashion-MNIST, searches with it are as good and take less time."""

SCALING, WEIGHT_DECAY = "the scaling of the columns", "the weight decay"
"""What the fingerprint of a search calls them."""

OTHER_DECAYS = (0.01, 0.002, 0.001)
"""Weight decays for a table that a trial may choose in place of the usual one."""

SEEN_BY_MORPHISMS = 1024
"""Training rows that morphisms look at. With fewer, layers are fitted worse after a cell was
added; with more, the regressions take longer than the recovery."""

SCORED_ROWS = 1024  # per forward pass, when the fitted network is scored again


class Prepared(NamedTuple):
    """A search that is ready to run.

    Parameters
    ----------
    search : Search
        The search.
    state : SearchState
        The state that it begins with.
    basis : Basis
        What the fitted attributes need besides its outcome.
    validation : Rows
        The rows that are held out.
    scorer : callable
        Maps their probabilities to a score.
    checkpoint : Checkpoint or None, default=None
        Where its states are kept.
    """

    search: Search
    state: SearchState
    basis: Basis
    validation: Rows
    scorer: Scorer
    checkpoint: Checkpoint | None = None


def first_fit(
    estimator: BaseEstimator, sample: Sample, device: torch.device, clock: Clock
) -> Prepared:
    """Set up a search that begins with a topology.

    Raises
    ------
    ValueError
        If a parameter does not fit the data.
    """
    _check_names(estimator)
    seed = _seed_of(estimator)
    train, validation = sample.split(estimator.validation_fraction, seed)
    method = estimator.column_scaling
    encoder = InputEncoder(
        estimator.image_shape,
        estimator.column_order,
        "quantile" if method == "auto" else method,
        seed,
    ).fit(sample.X, sample.numbers_in_X(train))

    weighting = estimator.class_weight, estimator.batch_size

    def begin(encoder: InputEncoder) -> Beginning:
        settings = _settings_of(estimator, encoder, sample)
        starts = _starts_of(estimator, encoder, len(sample.classes))
        _check_size("start", starts[0], settings)
        data, all_rows = sample.training_data(encoder, train, validation, *weighting)
        scorer = sample.scorer(estimator.scoring, data, validation)
        search_with = _searches(
            estimator, data, all_rows, encoder, sample, scorer, settings, seed, device, clock
        )
        digest = cache(partial(digest_of_rows, data))
        return Beginning(encoder, data, scorer, starts, search_with, digest)

    can_tell = _can_tell(estimator, len(validation))
    weight_decays = [_usual_weight_decay(estimator, encoder, sample)]
    is_usual = weight_decays[0] is not None and not encoder.takes_images
    if can_tell and is_usual and not _is_linear(estimator, encoder, sample):
        weight_decays += OTHER_DECAYS
    trial = Trial(
        _encoders(estimator, sample, encoder, train, can_tell),
        weight_decays,
        begin,
        _budget_of(estimator),
        clock,
    )
    earlier = _chosen_before(estimator, sample, seed, trial)
    choice = earlier or trial.run()
    if estimator.verbose and trial.is_needed and not earlier:
        n_epochs = choice.n_epochs if choice.is_certain else None
        Printer(type(estimator).__name__).print_trial(n_epochs, _findings(choice), clock)
    prepared = _prepared(estimator, sample, seed, choice)
    if choice.is_certain:
        return _continued(estimator, choice.beginning.digest, prepared)
    if estimator.checkpoint is not None:
        warnings.warn(
            f"time_limit={clock.limit:g} is too short for the trial, which tells how to read a "
            f"table and how to train on it. The search goes on with {_findings(choice)}, and "
            "is not written to the checkpoint, because with more time the search might be "
            "another one. Allow more time, or set what the trial chooses: column_scaling and "
            "optimizer_params.",
            stacklevel=level_of_user(),
        )
    return prepared


def _prepared(estimator: BaseEstimator, sample: Sample, seed: int, choice: Choice) -> Prepared:
    """Return a search as it was chosen, before its first step."""
    beginning = choice.beginning
    search = beginning.search_with(choice.weight_decay)
    budget = _budget_of(estimator) - choice.n_epochs
    state = search.initial_state(
        beginning.starts, Ledger(budget, beginning.data.steps_per_epoch)
    )
    basis = Basis(
        beginning.encoder,
        choice.weight_decay,
        sample.classes,
        len(sample.indices),
        seed,
        name_of(estimator.scoring),
    )
    return Prepared(search, state, basis, beginning.data.validation, beginning.scorer)


def _findings(choice: Choice) -> str:
    """Return what a trial has found, in words."""
    is_cut = choice.beginning.encoder.column_scaling == "piecewise"
    columns = f"columns {'' if is_cut else 'not '}cut into pieces"
    if choice.weight_decay is None:
        return columns
    return f"{columns} and a weight decay of {choice.weight_decay:g}"


def _can_tell(estimator: BaseEstimator, n_validation: int) -> bool:
    """Return whether a trial can tell what is better, by the loss on the validation rows."""
    return (
        _budget_of(estimator) >= SHORTEST_WITH_TRIAL
        and n_validation >= FEWEST_ROWS
        and _measure_of(estimator) == "loss"
        and estimator.class_weight is None
    )


def _encoders(
    estimator: BaseEstimator,
    sample: Sample,
    plain: InputEncoder,
    train: NDArray[np.int64],
    can_tell: bool,
) -> list[InputEncoder]:
    """Return the encoders to choose from: without pieces of columns, with pieces, or both."""
    names, start = plain.feature_names_out_, estimator.start
    if estimator.column_scaling != "auto" or estimator.image_shape is not None:
        return [plain]
    if names is None or len(names) > MOST_COLUMNS:
        return [plain]
    has_other_shape = isinstance(start, Topology) and start.input_shape != plain.image_shape_
    if not (can_tell or has_other_shape):
        return [plain]
    in_pieces = plain.in_pieces(sample.X, sample.numbers_in_X(train), MOST_COLUMNS)
    if in_pieces is None or in_pieces.feature_names_out_ is None:
        return [plain]
    if len(in_pieces.feature_names_out_) == len(names):
        return [plain]
    if has_other_shape:  # it was found with pieces
        share = math.prod(start.input_shape) / math.prod(in_pieces.image_shape_)
        if not 2 / 3 <= share <= 1.5:  # other rows have a few pieces more or less
            warnings.warn(
                f"start has input_shape={start.input_shape}, and the columns have "
                f"{plain.image_shape_}. It is taken for one that was found with columns in "
                f"pieces, which have {in_pieces.image_shape_} here. Set column_scaling to "
                '"piecewise" if it is, or give start another input_shape.',
                stacklevel=level_of_user(),
            )
        return [in_pieces]
    if len(sample.indices) * math.prod(in_pieces.image_shape_) > MOST_VALUES:
        return [plain]
    # Pieces add inputs, so that the first start may be too large with them.
    first, first_in_pieces = (
        _starts_of(estimator, encoder, len(sample.classes))[0] for encoder in (plain, in_pieces)
    )
    fits = first_in_pieces.n_parameters <= estimator.max_parameters
    is_same = first_in_pieces.dense == first.dense
    return [plain, in_pieces] if fits and is_same else [plain]


def _chosen_before(
    estimator: BaseEstimator, sample: Sample, seed: int, trial: Trial
) -> Choice | None:
    """Return the choice of the search in a checkpoint, or None if there is none to continue."""
    path = estimator.checkpoint
    if path is None or not trial.is_needed:
        return None
    is_folder = Path(path).is_dir()
    known = {} if is_folder else fingerprint_in(path)
    if not (is_folder or known):
        return None

    def is_kept(choice: Choice) -> bool:
        prepared = _prepared(estimator, sample, seed, choice)
        return _checkpoint(estimator, choice.beginning.digest, prepared).read() is not None

    found = None
    for encoder in trial.encoders:
        if known and known.get(SCALING) != encoder.column_scaling:
            continue
        beginning = trial.begin(encoder)
        for weight_decay in trial.weight_decays:
            found = trial.choice(beginning, weight_decay)
            is_chosen = is_folder or known.get(WEIGHT_DECAY) == repr(weight_decay)
            if is_chosen and is_kept(found):
                return found
    if not is_folder:
        # Another search that is in the file is an error, which should come before the trial.
        is_kept(found or trial.choice(trial.begin(trial.encoders[0]), trial.weight_decays[0]))
    return None


def further_fit(
    estimator: BaseEstimator, sample: Sample, device: torch.device, clock: Clock
) -> Prepared:
    """Set up a search that begins with the network of a fitted estimator.

    Raises
    ------
    ValueError
        If a parameter does not fit the data, or the classes or the scoring have changed.
    """
    _check_names(estimator)
    _check_same_task(estimator, sample)
    seed, encoder = estimator.seed_, estimator.encoder_
    settings = _settings_of(estimator, encoder, sample)
    train, validation = sample.split(estimator.validation_fraction, seed)
    _check_size("The fitted network", estimator.best_topology_, settings)
    weighting = estimator.class_weight, estimator.batch_size
    data, all_rows = sample.training_data(encoder, train, validation, *weighting)
    scorer = sample.scorer(estimator.scoring, data, validation)
    weight_decay = _usual_weight_decay(estimator, encoder, sample)
    if weight_decay is not None and not encoder.takes_images:
        # Files of earlier versions know of none.
        weight_decay = getattr(estimator, "weight_decay_", None) or weight_decay
    search_with = _searches(
        estimator, data, all_rows, encoder, sample, scorer, settings, seed, device, clock
    )
    search = search_with(weight_decay)
    incumbent, history = _incumbent(estimator, data, scorer), estimator.history_
    start = replace(
        incumbent,
        id=int(history["candidate"].max()) + 1,
        generation=int(history["generation"].max()) + 1,
        morphism="warm start",
        parent=incumbent.as_ancestor(),
        evaluations=(),
    )
    ledger = Ledger(_budget_of(estimator), data.steps_per_epoch)
    state = search.initial_state(start, ledger, incumbent, _first_start(estimator))
    basis = Basis(
        encoder,
        weight_decay,
        sample.classes,
        len(sample.indices),
        seed,
        estimator.scoring_,
        history,
        estimator.lineage_,
    )
    digest = partial(digest_of_rows, data)
    prepared = Prepared(search, state, basis, data.validation, scorer)
    return _continued(estimator, digest, prepared)


def _check_names(estimator: BaseEstimator) -> None:
    """Check the parameters that take names or objects, before the data cost any time."""
    names = ["auto", *STARTS]
    if isinstance(estimator.start, str) and estimator.start not in names:
        raise ValueError(
            f"start must be one of {names} or a Topology, got {estimator.start!r}."
        )
    _optimizer_of(estimator, None)
    _morphisms_of(estimator)
    _fitness_of(estimator, 0)
    check_scoring(estimator.scoring)
    if estimator.checkpoint is not None:
        Checkpoint(estimator.checkpoint, {}, 0)


def _seed_of(estimator: BaseEstimator) -> int:
    """Return the seed of all random draws: drawn anew, or that of the search to continue."""
    path = estimator.checkpoint
    if path is not None and estimator.random_state is None:
        if Path(path).is_dir():
            raise ValueError(
                f"checkpoint={str(path)!r} is a folder, where a search is found by its "
                "parameters: set random_state, or name a file."
            )
        earlier = seed_in(path)
        if earlier is not None:
            return earlier
    return draw_seed(estimator.random_state)


def _budget_of(estimator: BaseEstimator) -> float:
    return math.inf if estimator.budget is None else estimator.budget


def _checkpoint(
    estimator: BaseEstimator, digest: Callable[[], str], prepared: Prepared
) -> Checkpoint:
    """Return where the states of a search are kept; `digest` returns that of its rows."""
    state, basis = prepared.state, prepared.basis
    rows = f"{digest()} of {text_of(basis.classes)}"
    fingerprint = fingerprint_of(estimator, rows, basis.seed, state) | {
        SCALING: basis.encoder.column_scaling,
        WEIGHT_DECAY: repr(basis.weight_decay),
    }
    return Checkpoint(estimator.checkpoint, fingerprint, basis.seed)


def _continued(
    estimator: BaseEstimator, digest: Callable[[], str], prepared: Prepared
) -> Prepared:
    """Let a search continue from its checkpoint, if it has one."""
    path = estimator.checkpoint
    if path is None:
        return prepared
    checkpoint = _checkpoint(estimator, digest, prepared)
    earlier = checkpoint.read()
    if earlier is None:
        try:
            checkpoint.write(prepared.state)  # rather than find out later that it is impossible
        except OSError as error:
            raise ValueError(f"checkpoint={str(path)!r} cannot be written: {error}") from error
    return prepared._replace(state=earlier or prepared.state, checkpoint=checkpoint)


def _check_same_task(estimator: BaseEstimator, sample: Sample) -> None:
    if not np.array_equal(sample.classes, estimator.classes_):
        raise ValueError(
            "With warm_start=True, y must hold the same classes as before, "
            f"{estimator.classes_.tolist()}, got {sample.classes.tolist()}."
        )
    scoring = name_of(estimator.scoring)
    if scoring != estimator.scoring_:
        raise ValueError(
            f"With warm_start=True, scoring must be as before, {estimator.scoring_!r}, got "
            f"{scoring!r}: the scores of the fits could not be compared. Fit anew, for "
            "example with start=best_topology_."
        )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _starts_of(
    estimator: BaseEstimator, encoder: InputEncoder, n_classes: int
) -> list[Topology]:
    """Return the topologies that the search begins with."""
    shape = encoder.image_shape_
    is_auto = _is_auto(estimator.start)
    if is_auto:
        starts = suitable_starts(
            shape,
            n_classes,
            encoder.takes_images,
            smaller=estimator.alpha < 1,
            in_pieces=encoder.column_scaling == "piecewise" and not encoder.takes_images,
        )
        fitting = [t for t in starts if t.n_parameters <= estimator.max_parameters]
        if fitting:
            return fitting
    start = "small_ffnn" if is_auto else estimator.start
    if isinstance(start, Topology) and encoder.column_scaling == "piecewise":
        # How many pieces there are depends on the rows.
        start = replace(start, input_shape=shape)
    return [starting_topology(start, shape, n_classes)]


def _is_linear(estimator: BaseEstimator, encoder: InputEncoder, sample: Sample) -> bool:
    """Return whether the first start has no hidden layers, with columns in pieces or not."""
    start = estimator.start
    if not isinstance(start, Topology):
        start = _starts_of(estimator, encoder, len(sample.classes))[0]
    return bool(start.is_linear)


def _check_size(name: str, topology: Topology, settings: Settings) -> None:
    if topology.n_parameters > settings.max_parameters:
        raise ValueError(
            f"{name} has {topology.n_parameters} parameters, more than "
            f"max_parameters={settings.max_parameters}."
        )


def _incumbent(estimator: BaseEstimator, data: TrainingData, scorer: Scorer) -> Candidate:
    """Return the fitted network as a candidate, scored on the rows that are held out now."""
    last = estimator.lineage_.iloc[-1]
    candidate = Candidate(
        id=int(last["candidate"]),
        topology=estimator.best_topology_,
        weights=weights_of(estimator.network_),
        generation=int(last["generation"]),
        morphism=str(last["morphism"]),
        n_steps=round(last["epochs_total"] * data.steps_per_epoch),
        score_window=estimator.score_window,
    )
    evaluation = evaluate(_logits(candidate, data), data.validation, scorer, math.nan)
    return replace(candidate, evaluations=(evaluation,))


@torch.no_grad()
def _logits(candidate: Candidate, data: TrainingData) -> torch.Tensor:
    """Return the outputs of a candidate for the rows that are held out, on the CPU."""
    network = build(candidate.topology, candidate.weights).eval()
    parts = data.validation.chunks(SCORED_ROWS)
    return torch.cat([network(data.scaled(part, torch.float32)) for part in parts])


def _losses(candidate: Candidate, data: TrainingData) -> NDArray[np.float64]:
    """Return the losses of a candidate on the rows that are held out."""
    losses = weighted_losses(_logits(candidate, data), data.validation)
    return losses.numpy().astype(np.float64)


def _first_start(estimator: BaseEstimator) -> Ancestor:
    """Return the first start of the first fit, which all candidates are compared with."""
    first = estimator.history_.iloc[0]
    return Ancestor(
        int(first["candidate"]),
        float(first["mean_score"]),
        int(first["n_parameters"]),
        float(first["mean_loss"]),
    )


def _searches(
    estimator: BaseEstimator,
    data: TrainingData,
    all_rows: Rows,
    encoder: InputEncoder,
    sample: Sample,
    scorer: Scorer,
    settings: Settings,
    seed: int,
    device: torch.device,
    clock: Clock,
) -> Callable[[float | None], Search]:
    """Return what makes a search with a weight decay of networks with hidden layers."""
    there = data.to(device)
    whole = replace(there, train=all_rows.sharing(there.train))
    seen = data.scaled(next(data.train.chunks(SEEN_BY_MORPHISMS)), torch.float32)
    others = scorer, estimator.averaging
    of_linear = _optimizer_of(estimator, linear_weight_decay(len(sample.indices)))
    has_own_decay = not encoder.takes_images and _has_usual_settings(estimator)

    def trainer_on(data: TrainingData, weight_decay: float | None) -> Trainer:
        optimizer = _optimizer_of(estimator, weight_decay)
        trainer = FusedTrainer(data, optimizer, *others, estimator.n_jobs)
        if not has_own_decay:
            return trainer
        # One worker is enough for them, and other processes need not have the rows once more.
        return ByDepth(trainer, FusedTrainer(data, of_linear, *others, 1))

    def search_with(weight_decay: float | None) -> Search:
        trainer, final = trainer_on(there, weight_decay), None
        if settings.final_fraction > 0:
            final = AllRows(trainer_on(whole, weight_decay), whole.steps_per_epoch)
        fitness = _fitness_of(estimator, seed)
        losses = partial(_losses, data=data)
        return Search(trainer, fitness, seen, seed, settings, clock, final, losses)

    return search_with


def _usual_weight_decay(
    estimator: BaseEstimator, encoder: InputEncoder, sample: Sample
) -> float | None:
    """Return the weight decay that a rule gives, or None if there is one of the user's."""
    if not _has_usual_settings(estimator):
        return None
    return usual_weight_decay(len(sample.indices) if encoder.takes_images else None)


def _has_usual_settings(estimator: BaseEstimator) -> bool:
    return has_usual_settings(estimator.optimizer, estimator.optimizer_params)


def _optimizer_of(estimator: BaseEstimator, weight_decay: float | None) -> OptimizerSpec:
    given = estimator.optimizer, estimator.learning_rate, estimator.optimizer_params
    return usual_optimizer(*given, weight_decay)


def _settings_of(estimator: BaseEstimator, encoder: InputEncoder, sample: Sample) -> Settings:
    return Settings(
        warmup_epochs=estimator.warmup_epochs,
        round_epochs=estimator.round_epochs,
        n_rounds=estimator.n_rounds,
        n_parents=estimator.n_parents,
        max_growth=estimator.max_growth,
        max_parameters=estimator.max_parameters,
        score_window=estimator.score_window,
        n_iter_no_change=estimator.n_iter_no_change,
        keep=estimator.keep_candidates,
        morphisms=_morphisms_of(estimator),
        final_fraction=estimator.final_fraction,
        augmentation=usual_augmentation(
            estimator.augmentation,
            encoder.image_shape_,
            encoder.takes_images,
            n_epochs=estimator.final_fraction * _budget_of(estimator),
            n_images=len(sample.indices),
        ),
        measure=_measure_of(estimator),
        perfect_score=1.0 if name_of(estimator.scoring) in ACCURACIES else math.inf,
        max_multiplications=_most_work(estimator, encoder, sample),
    )


def _morphisms_of(estimator: BaseEstimator) -> tuple[Morphism, ...]:
    known = GREEDY_MORPHISMS if estimator.alpha == 1 else MORPHISMS
    return check_morphisms(estimator.morphisms, known)


def _most_work(estimator: BaseEstimator, encoder: InputEncoder, sample: Sample) -> float:
    """Return how many multiplications for an image a network may need."""
    if not _is_auto(estimator.start):
        return math.inf
    starts = suitable_starts(encoder.image_shape_, len(sample.classes), encoder.takes_images)
    most: float = MOST_WORK
    if starts[0].is_cnn:
        are_few = len(sample.indices) <= FEW_IMAGES
        most = MOST_WORK_FOR_FEW_IMAGES if are_few else MOST_WORK_FOR_IMAGES
    return most * max(map(multiplications, starts))


def _measure_of(estimator: BaseEstimator) -> Measure:
    """Return what the brackets of phase 1 are decided by."""
    if estimator.selection == "loss":
        return "loss"
    is_plain = name_of(estimator.scoring) == "accuracy" and estimator.class_weight is None
    return "loss" if _is_auto(estimator.selection) and is_plain else "score"


def _fitness_of(estimator: BaseEstimator, seed: int) -> Fitness:
    if not isinstance(estimator.selection, str):
        return check_fitness(estimator.selection)
    if estimator.selection == "random":
        return Random(seed)
    measure = _measure_of(estimator)
    return Greedy(measure) if estimator.alpha == 1 else Balanced(estimator.alpha, measure)

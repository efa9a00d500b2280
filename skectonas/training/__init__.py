"""Training networks one by one, and what every trainer needs.

`plain` has the `Trainer` protocol and the plain loop that every other trainer must equal.
`data` has the rows and the order of the batches, `holdout` the split into training and
validation rows, `recipe` the learning rate and the changes of the images, `scoring` the score
of a prediction, `defaults` the parameters that are left to a rule, and `by_depth` a trainer of
two others.
"""

from skectonas.training.by_depth import ByDepth
from skectonas.training.data import BatchOrder, Rows, TrainingData
from skectonas.training.defaults import (
    has_usual_settings,
    linear_weight_decay,
    usual_augmentation,
    usual_optimizer,
    usual_weight_decay,
)
from skectonas.training.holdout import split, split_by_groups, training_weights
from skectonas.training.plain import (
    PLAIN_ROWS_AT_ONCE,
    Key,
    OptimizerSpec,
    OutOfTime,
    PlainTrainer,
    Trainer,
    evaluate,
    resolve_optimizer,
    snapshot_steps,
    weighted_losses,
)
from skectonas.training.recipe import NO_AUGMENTATION, PLAIN_RECIPE, Augmentation, Recipe
from skectonas.training.scoring import Scorer, check_scoring, make_scorer, name_of

__all__ = [
    "NO_AUGMENTATION",
    "PLAIN_RECIPE",
    "PLAIN_ROWS_AT_ONCE",
    "Augmentation",
    "BatchOrder",
    "ByDepth",
    "Key",
    "OptimizerSpec",
    "OutOfTime",
    "PlainTrainer",
    "Recipe",
    "Rows",
    "Scorer",
    "Trainer",
    "TrainingData",
    "check_scoring",
    "evaluate",
    "has_usual_settings",
    "linear_weight_decay",
    "make_scorer",
    "name_of",
    "resolve_optimizer",
    "snapshot_steps",
    "split",
    "split_by_groups",
    "training_weights",
    "usual_augmentation",
    "usual_optimizer",
    "usual_weight_decay",
    "weighted_losses",
]

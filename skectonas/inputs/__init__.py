"""From what a user gives to what a network sees.

`checks` refuses what cannot be learned from. `frames` turns the frames of other libraries into
those of pandas. `InputEncoder` turns every kind of X into images: `tables` encodes the columns
of a frame as numbers, with what `column_kinds` makes of each kind and `likeness` knows of what
texts look like, `scaling` scales columns and pixels, `pieces` cuts columns into pieces,
and `layout` gives each column of a table its pixel. `rows` takes X in batches. `mapped` reads
the rows of files and sparse arrays when a batch needs them.
"""

from skectonas.inputs.checks import (
    check_classes,
    check_groups,
    check_weights,
    check_X,
    check_y,
)
from skectonas.inputs.encoder import InputEncoder
from skectonas.inputs.layout import ORDERS, PseudoImageTransformer
from skectonas.inputs.mapped import MappedImages, mapping_of, read_at_random
from skectonas.inputs.pieces import ColumnPieces
from skectonas.inputs.rows import Data, batches_of
from skectonas.inputs.scaling import METHODS, UNSCALED, ColumnScaling, PixelScaling
from skectonas.inputs.tables import TableEncoder

__all__ = [
    "METHODS",
    "ORDERS",
    "UNSCALED",
    "ColumnPieces",
    "ColumnScaling",
    "Data",
    "InputEncoder",
    "MappedImages",
    "PixelScaling",
    "PseudoImageTransformer",
    "TableEncoder",
    "batches_of",
    "check_X",
    "check_classes",
    "check_groups",
    "check_weights",
    "check_y",
    "mapping_of",
    "read_at_random",
]

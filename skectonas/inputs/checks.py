"""X, y and sample weights as they come in, checked once; inside they are plain."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import (
    Bunch,
    assert_all_finite,
    check_array,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, validate_data

from skectonas.callers import level_of_user
from skectonas.inputs.encoder import MISSING_PIXELS, are_flattened_images
from skectonas.inputs.frames import to_pandas
from skectonas.inputs.layout import check_image_shape
from skectonas.inputs.rows import Data, batches_of

Array: TypeAlias = NDArray[Any]
Fit = TypeVar("Fit", bound=Callable[..., Any])
Estimator = TypeVar("Estimator", bound=BaseEstimator)

NUMPY_FLOATS = {torch.float16, torch.float32, torch.float64}
"""Types of tensors that numpy has, too."""

OF_ARRAYS = ("shape", "__array__", "__getitem__")
"""Attributes of arrays and of what can be read as one."""

FEWEST_PIXELS = 16
"""Fewer columns of small whole numbers may be anything."""

INFINITE_PIXELS = "X: images must have finite values, got infinity among the pixels"

EXACT_IN_FLOATS = 2.0**53
"""From here on, different whole numbers can become the same float."""


def check_X(estimator: BaseEstimator, X: Any, *, reset: bool) -> Data:
    """Return X as an array of 2 to 4 dimensions, a sparse one, or a pandas frame.

    Arrays are not copied: what comes back shares memory, or a file, with what came. Sparse ones
    come back in the CSR format, of which rows can be taken. Arrays of text, times, or objects
    that are not all numbers become frames. Only in tables values may be missing.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` if `reset`, else X is checked by them.
        Images count one feature for each value.
    X : array-like, sparse matrix or data frame
        What the user gave.
    reset : bool
        Whether this is `fit`.

    Raises
    ------
    TypeError
        If X is a lazy frame.
    ValueError
        If X has no rows and columns, is empty, holds infinities or images with missing values,
        or does not fit the estimator.

    Warns
    -----
    UserWarning
        If the channels of the images seem to come first, or if a frame seems to hold images.
    """
    X = to_pandas(_to_numpy(X, "X"), "X")
    with _naming("X"):
        # In a part of the rows, all objects may be numbers.
        X = _by_rows(X, keeps_objects=not (reset or estimator.encoder_.takes_numbers))
    if isinstance(X, pd.DataFrame):
        return _check_frame(estimator, X, reset)
    shape: tuple[int, ...] = np.shape(X) if hasattr(X, "ndim") else ()
    if len(shape) > 4:
        raise ValueError(
            "X must be a table (n, d) or images (n, height, width[, channels]), got an array "
            f"of {len(shape)} dimensions, shape {shape}."
        )
    if not reset:
        _refuse_a_single_image(estimator, shape)
    check = _check_images if len(shape) > 2 else _check_table
    with _naming("X"):
        array = check(estimator, X, reset)
    if array.dtype.kind in "mM":
        raise ValueError(
            f"X must hold numbers, got an array of {array.dtype}: take differences to some "
            "time and divide them by a unit of time."
        )
    if array.dtype == object:
        raise ValueError("X must hold numbers, got an array of objects: give a data frame.")
    _check_values(estimator, array, reset)
    if isinstance(array, np.ndarray) and array.dtype == bool:
        return array.view(np.uint8)
    return array


def _by_rows(X: Any, keeps_objects: bool) -> Any:
    """Return lists, and arrays of objects, as arrays of numbers or frames."""
    is_series = isinstance(X, pd.Series)
    if is_series and X.dtype == object:  # of images, perhaps
        X = X.to_numpy()
    _refuse_other_types(X)
    if isinstance(X, list | tuple) or _is_array_of_arrays(X):
        X = _stacked(X, keeps_objects)
    _refuse_a_single_dimension(X, is_series)
    return _frame_of(X, keeps_objects) if _is_table_of_objects(X) else X


def _refuse_other_types(X: Any) -> None:
    """Refuse what scikit-learn would take for one value, or print as a whole."""
    got = f"an object of type {type(X).__name__}"
    if isinstance(X, Bunch) and "data" in X:
        advice = "give X.data, and y=X.target"
    elif isinstance(X, Mapping) and not sparse.issparse(X):  # as one of the kinds is
        is_a_row = all(map(pd.api.types.is_scalar, X.values()))
        advice = f"give pandas.DataFrame({'[X]' if is_a_row else 'X'})"
    elif isinstance(X, np.ndarray) and X.dtype.names is not None:
        got, advice = "an array of records", "give pandas.DataFrame(X)"
    elif (isinstance(X, list | tuple) or _is_array_of_arrays(X)) and _begins_with_a_mapping(X):
        got, advice = f"rows of type {type(X[0]).__name__}", "give pandas.DataFrame(list(X))"
    elif isinstance(X, str | os.PathLike):
        advice = "read the file first"
    elif isinstance(X, Iterable) and not any(hasattr(X, name) for name in OF_ARRAYS):
        advice = "give a list or an array of the rows"
    else:
        return
    raise ValueError(f"X must be an array or a data frame, got {got}: {advice}.")


def _begins_with_a_mapping(X: Sequence[Any] | Array) -> bool:
    return len(X) > 0 and isinstance(X[0], Mapping)


def _refuse_a_single_dimension(X: Any, is_series: bool) -> None:
    """Refuse a vector, except one of numbers, for which scikit-learn has its own advice."""
    if sparse.issparse(X) and len(X.shape) == 1:
        raise ValueError(
            "X must be a 2-dimensional sparse array with a row per sample, got one of shape "
            f"{X.shape}. X.reshape(1, -1) is one row."
        )
    holds_numbers = getattr(getattr(X, "dtype", None), "kind", "f") in "biufc"
    if getattr(X, "ndim", 0) != 1 or (holds_numbers and not is_series):
        return
    if is_series:
        came = f"a Series of {len(X)} values: frame.iloc[[0]] is one row, frame[['name']]"
    else:
        came = f"{len(X)} values in one dimension: pandas.DataFrame([X]) is one row, "
        came += "pandas.DataFrame(X)"
    raise ValueError(
        f"X must have a row per sample and a column per feature, got {came} one column."
    )


def _least_rows(reset: bool) -> int:
    return 2 if reset else 1


def _check_frame(estimator: BaseEstimator, X: pd.DataFrame, reset: bool) -> Data:
    minima = ((len(X), "sample", _least_rows(reset)), (X.shape[1], "feature", 1))
    for side, name, minimum in minima:
        if side < minimum:
            raise ValueError(
                f"Found a data frame with {side} {name}(s) (shape={X.shape}) while a "
                f"minimum of {minimum} is required by {type(estimator).__name__}."
            )
    twice = X.columns[X.columns.duplicated()].unique().tolist()
    if twice:  # some releases of scikit-learn would stumble over them
        raise ValueError(f"X: expected columns with different names, got more than one {twice}")
    X = _in_native_order(X)
    frame: pd.DataFrame = validate_data(estimator, X, reset=reset, skip_check_array=True)
    is_laid_out = estimator.column_order == "given"
    if reset and is_laid_out and _seems_to_hold_pixels(frame, estimator.image_shape):
        warnings.warn(
            "X is a data frame, so it is read as a table, although it seems to hold the pixels "
            f"of images: whole numbers from 0 to 255 in as many columns as image_shape="
            f"{estimator.image_shape} has pixels. Give X.to_numpy() if they are images.",
            stacklevel=level_of_user(),
        )
    return frame


def _in_native_order(X: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in the byte order of the machine: pandas takes no rows of others."""
    dtypes = X.dtypes
    kinds = set(dtypes)
    natives = {
        kind: kind.newbyteorder("=")
        for kind in kinds
        if isinstance(kind, np.dtype) and not kind.isnative
    }
    if not natives:
        return X
    if len(kinds) == 1:  # at once: pandas converts one column after the other by name
        return X.astype(next(iter(natives.values())))
    return X.astype({name: natives[kind] for name, kind in dtypes.items() if kind in natives})


def _seems_to_hold_pixels(X: pd.DataFrame, image_shape: tuple[int, ...] | None) -> bool:
    if image_shape is None or X.shape[1] != math.prod(check_image_shape(image_shape)):
        return False
    if X.shape[1] < FEWEST_PIXELS or any(dtype.kind not in "iuf" for dtype in X.dtypes):
        return False
    largest = X.max().max()
    return bool((X.min() >= 0).all() and 1 < largest <= 255 and (X % 1 == 0).all(axis=None))


def _check_images(estimator: BaseEstimator, X: Any, reset: bool) -> Any:
    shape = np.shape(X)
    if sparse.issparse(X):
        raise ValueError(f"X must have two dimensions if it is sparse, got shape {shape}.")
    if 0 in shape[1:]:
        raise ValueError(f"X has images without pixels: shape {shape}.")
    _check_same_images(estimator, shape[1:], reset)
    if reset:
        _advise_channels_last(shape)
    array = check_array(
        X,
        allow_nd=True,
        ensure_all_finite=False,
        ensure_min_samples=_least_rows(reset),
        estimator=estimator,
        input_name="X",
    )
    # Only the shape counts here. Flattening X itself would copy it if it is not contiguous.
    values = np.broadcast_to(0, (shape[0], math.prod(shape[1:])))
    validate_data(estimator, values, reset=reset, skip_check_array=True)
    return array


def _check_table(estimator: BaseEstimator, X: Any, reset: bool) -> Any:
    _check_format(X)
    return validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        ensure_all_finite=False,
        ensure_min_samples=_least_rows(reset),
    )


def _check_values(estimator: BaseEstimator, array: Any, reset: bool) -> None:
    """Refuse infinities, images with missing values, and a table without any value."""
    if reset:
        are_flat = are_flattened_images(array, estimator.image_shape, estimator.column_order)
    else:  # parameters that are set after a fit do not count
        are_flat = estimator.encoder_.takes_images
    are_images = array.ndim > 2 or are_flat
    only_missing = reset
    # In batches, because the checks take memory.
    for batch in batches_of(array):
        if batch.dtype == np.longdouble:  # the values must fit into float64
            with np.errstate(over="ignore"):
                batch = batch.astype(np.float64)
        is_missing = np.isnan(batch)
        if are_images and is_missing.any():
            raise ValueError(MISSING_PIXELS)
        if are_images and np.isinf(batch).any():
            raise ValueError(INFINITE_PIXELS)
        only_missing = only_missing and bool(is_missing.all())
        with np.errstate(invalid="ignore"):  # infinities of both signs
            assert_all_finite(
                batch,
                allow_nan=True,
                estimator_name=type(estimator).__name__,
                input_name="X",
            )
    if only_missing:
        raise ValueError("X: expected a column to learn from, but all values are missing")


def _frame_of(X: Any, always: bool) -> Any:
    """Return an array of text, times, or objects as a frame; if all are numbers, if asked."""
    if X.dtype.kind in "mM" and np.datetime_data(X.dtype)[0] == "generic":
        raise ValueError(f"X must hold times in some unit, got an array of {X.dtype}.")
    text = {"S": "U", "T": object}.get(X.dtype.kind)
    frame = pd.DataFrame(X.astype(text) if text else X).infer_objects()
    others = [i for i, dtype in enumerate(frame.dtypes) if dtype.kind not in "biuf"]
    if always or (others and not frame.iloc[:, others].isna().all(axis=None)):
        return frame
    # Columns without values count as numbers.
    return frame.to_numpy(np.float64, na_value=np.nan) if others else X


def _is_table_of_objects(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "OSTUmM"


def _to_numpy(values: Any, name: str) -> Any:
    """Return a tensor as an array, which shares its memory if it can, and all else as it is."""
    if not isinstance(values, torch.Tensor):
        return values
    try:
        tensor = values.detach().cpu().resolve_conj().resolve_neg()
        if tensor.is_floating_point() and tensor.dtype not in NUMPY_FLOATS:
            tensor = tensor.float()
        array: Array = tensor.numpy()
    # Tensors without data, sparse, nested and quantised ones.
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise TypeError(
            f"{name} must be a dense tensor that numpy can read, got a tensor of "
            f"{values.dtype}, {values.layout}, on {values.device}: {error}"
        ) from error
    return array


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say in the errors of libraries that convert values to numbers what they were about."""
    try:
        yield
    except OverflowError as error:
        raise ValueError(f"{name} must hold numbers that float64 can hold: {error}.") from error
    except (TypeError, RuntimeError) as error:
        if name in str(error):
            raise
        raise TypeError(f"{name} must hold numbers: {error}") from error


def _is_array_of_arrays(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1


def _stacked(X: Sequence[Any] | Array, keeps_objects: bool) -> Array:
    rows = [_to_numpy(row, "X") for row in X]
    try:
        stacked = np.asarray(rows)
        # numpy would turn numbers among texts into texts, and booleans among numbers into them.
        as_objects = stacked.dtype.kind in ("SUbiuf" if keeps_objects else "SU")
        return _without_boxes(np.array(rows, dtype=object)) if as_objects else stacked
    except ValueError as error:
        shapes = sorted({np.shape(row) for row in X})
        if len(shapes) < 2:
            raise
        raise ValueError(
            "X must hold rows or images of one shape, got a list with the shapes "
            f"{', '.join(map(str, shapes[:5]))}{', ...' if len(shapes) > 5 else ''}."
        ) from error


def _without_boxes(objects: Array) -> Array:
    """Return objects with the values of arrays and tensors without dimensions."""
    kinds = np.frompyfunc(lambda value: isinstance(value, (np.ndarray, torch.Tensor)), 1, 1)
    boxed = kinds(objects).astype(bool)
    objects[boxed] = [value.item() for value in objects[boxed]]
    return objects


def _check_format(X: Any) -> None:
    """Refuse sparse arrays whose indices lead outside of them, which scipy would follow."""
    if not sparse.issparse(X):
        return
    try:
        if hasattr(X, "check_format"):
            X.check_format(full_check=True)
        elif X.format == "lil":
            _check_lists(X)
        elif X.format == "coo":
            _check_coordinates(X)
        elif X.format == "dia":
            _check_diagonals(X)
    except (TypeError, ValueError) as error:
        raise ValueError(f"X is no valid sparse array: {error}.") from error


def _check_lists(X: Any) -> None:
    """Refuse an array of lists whose rows have other lengths or places than they should."""
    if not X.rows.shape == X.data.shape == (X.shape[0],):
        raise ValueError("the lists of places and of values are not as many as the rows")
    for places, values in zip(X.rows, X.data, strict=True):
        if len(places) != len(values):
            raise ValueError("a row has other numbers of places and of values")
        if places and not 0 <= min(places) <= max(places) < X.shape[1]:
            raise ValueError("a place is outside of its row")


def _check_coordinates(X: Any) -> None:
    """Refuse an array of triplets whose coordinates are outside of it."""
    for places, side in zip((X.row, X.col), X.shape, strict=True):
        if places.dtype.kind not in "iu" or places.shape != X.data.shape:
            raise ValueError("rows, columns and values are not as many whole numbers")
        if len(places) and not 0 <= places.min() <= places.max() < side:
            raise ValueError("a coordinate is outside of the array")


def _check_diagonals(X: Any) -> None:
    """Refuse an array of diagonals that are not as many as their places."""
    if X.offsets.dtype.kind != "i" or X.data.ndim != 2 or X.offsets.shape != X.data.shape[:1]:
        raise ValueError("the diagonals and their offsets do not match")
    height, width = X.shape
    if len(X.offsets) and not -height < X.offsets.min() <= X.offsets.max() < width:
        raise ValueError("a diagonal is outside of the array")


def _refuse_a_single_image(estimator: Any, shape: tuple[int, ...]) -> None:
    seen = getattr(estimator, "image_shape_", None)
    if len(shape) > 3 or (*shape, 1)[:3] != seen or seen == (*shape[1:], 1, 1)[:3]:
        return
    if len(estimator.encoder_.to_dict()["input_shape"]) > 1:  # not flat in fit
        raise ValueError(
            f"X must be a batch of images, got a single one of shape {shape}: X[None] makes a "
            "batch of it."
        )


def _check_same_images(estimator: BaseEstimator, shape: tuple[int, ...], reset: bool) -> None:
    seen = None if reset else getattr(estimator, "image_shape_", None)
    if seen is not None and seen != (*shape, 1)[:3]:
        raise ValueError(
            f"X has images of shape {shape}, but {type(estimator).__name__} was fitted on "
            f"images of shape {seen}, channels last."
        )


def _advise_channels_last(shape: tuple[int, ...]) -> None:
    if len(shape) < 4:
        return
    height, width, channels = shape[1:]
    seems_square = height < width == channels
    if (height in (1, 3, 4) or seems_square) and min(width, channels) > 4:
        warnings.warn(
            f"X of shape {shape} is read as images with a height of {height}, a width of "
            f"{width} and {channels} channels. If the channels come first, move them to the "
            "end: np.moveaxis(X, 1, -1).",
            stacklevel=level_of_user(),
        )


def check_y(estimator: BaseEstimator, X: Data, y: Any) -> Array:
    """Return the labels as a vector that goes with X.

    Raises
    ------
    ValueError
        If they are missing, not finite, not those of a classification, or of another length.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the "
            "target y is None."
        )
    y = to_pandas(_to_numpy(y, "y"), "y")
    if isinstance(y, list | tuple):
        y = _exact([_to_numpy(label, "y") for label in y])
    _check_one_label_a_row(y)
    if isinstance(y, np.ndarray) and y.dtype.kind == "T":
        y = y.astype(object)
    _refuse_missing_labels(y)
    labels: Array = column_or_1d(_to_numpy_labels(y), warn=True)
    assert_all_finite(labels, input_name="y")
    check_consistent_length(X, labels)
    if _has_texts_and_others(labels) or type_of_target(labels, input_name="y") == "unknown":
        types = sorted({type(label).__name__ for label in labels.tolist()})
        raise ValueError(
            "y must hold whole numbers of up to 64 bits, text, booleans or datetime64, and not "
            f"several of these, got an array of {labels.dtype} with values of {types}. Use "
            "sklearn.preprocessing.LabelEncoder for other labels."
        )
    check_classification_targets(labels)
    return labels


def _refuse_missing_labels(y: Any) -> None:
    is_missing = np.asarray(pd.isna(y)).reshape(-1)
    if is_missing.any():
        raise ValueError(
            f"Input y contains NaN: {is_missing.sum()} of {len(is_missing)} labels are "
            f"missing, the first in row {is_missing.argmax()}, counted from 0. Drop these rows "
            "of X and y."
        )


def _has_texts_and_others(labels: Array) -> bool:
    """Whether scikit-learn would try to sort texts among other labels."""
    return labels.dtype == object and len({isinstance(label, str) for label in labels}) > 1


def _exact(labels: list[Any]) -> list[Any] | Array:
    """Return labels as objects if numpy would make one of several."""
    if all(isinstance(label, float) for label in labels):
        return labels
    for types in (str, bytes, (bool, np.bool_)):
        if 0 < sum(isinstance(label, types) for label in labels) < len(labels):
            return _objects(labels)
    try:
        array = np.asarray(labels)
    except ValueError:  # of different lengths
        return labels
    if array.dtype.kind == "f" and (np.abs(array) >= EXACT_IN_FLOATS).any():
        return np.array(labels, dtype=object)
    return labels


def _objects(labels: list[Any]) -> Array:
    """Return labels as a vector of objects, whatever they are."""
    array: Array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def _check_one_label_a_row(y: Any) -> None:
    shape: tuple[int | None, ...]
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # lists of different lengths
        shape = (len(y), None)
    if not shape:
        raise ValueError(
            "y must hold one label a row, as a 1d array of shape (n,), got an object of type "
            f"{type(y).__name__}."
        )
    if isinstance(y, pd.MultiIndex):
        shape = (len(y), y.nlevels)
    if len(shape) > 1 and (shape[1:] != (1,) or isinstance(y, pd.MultiIndex)):
        raise ValueError(
            "y must hold one label a row, as an array of shape (n,), got shape "
            f"{str(shape).replace('None', '...')}: several labels or outputs a row are not "
            "supported."
        )


def _to_numpy_labels(y: Any) -> Any:
    """Return nullable and object labels as the integers or booleans that they are."""
    if isinstance(y, pd.DataFrame):
        column = _to_numpy_labels(y.iloc[:, 0])
        return column[:, None] if isinstance(column, np.ndarray) else y
    if isinstance(y, pd.Index | pd.api.extensions.ExtensionArray):
        y = pd.Series(y)
    if isinstance(y, pd.Series):
        dtype = getattr(y.dtype, "numpy_dtype", None)
        if dtype is not None and dtype.kind in "biu":
            # As floats, large integers would become equal.
            return y.to_numpy(dtype=dtype)
    if isinstance(y, np.ndarray | pd.Series) and y.ndim == 1 and y.dtype.kind == "O":
        inferred = pd.Series(y).infer_objects()
        if inferred.dtype.kind in "biu":
            return inferred.to_numpy()
    return y


def check_classes(labels: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return the classes and, for each label, the index of its class.

    Raises
    ------
    ValueError
        If there are fewer than two classes.

    Warns
    -----
    UserWarning
        If a class has a single row.
    """
    classes, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes, got one class only: {classes.tolist()[0]!r} "
            "(rows with zero sample_weight do not count)."
        )
    single = classes[counts == 1].tolist()
    if single and counts.max() > 1:  # or else the split fails
        named = ", ".join(map(repr, single[:5])) + (", ..." if len(single) > 5 else "")
        warnings.warn(
            "Classes with a single row are trained on, but the validation score says nothing "
            f"of them: {named}.",
            stacklevel=level_of_user(),
        )
    return classes, indices.astype(np.int64)


def check_weights(sample_weight: Any, X: Data) -> NDArray[np.float64] | None:
    """Return the sample weights as a vector that goes with X, or None.

    Raises
    ------
    ValueError
        If they are negative, not finite, all zero, or of another length.
    """
    if sample_weight is None:
        return None
    given = to_pandas(_to_numpy(sample_weight, "sample_weight"), "sample_weight")
    with _naming("sample_weight"):
        if isinstance(given, list | tuple):
            given = [_to_numpy(weight, "sample_weight") for weight in given]
        _refuse_other_than_numbers(given)
        weights: NDArray[np.float64] = _check_sample_weight(
            given, X, dtype=np.float64, ensure_non_negative=True
        )
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    # Only their proportions count, and a sum of very large weights would overflow. Those that
    # are zero in float32 are left out.
    with np.errstate(under="ignore"):
        scaled: NDArray[np.float64] = weights / weights.max()
    scaled[scaled < np.finfo(np.float32).tiny] = 0
    return scaled


def _refuse_other_than_numbers(sample_weight: Any) -> None:
    """Refuse times and texts, which scikit-learn would convert to numbers."""
    array = sample_weight if hasattr(sample_weight, "dtype") else np.asarray(sample_weight)
    dtype = array.dtype
    if getattr(dtype, "kind", "O") in "mMSTU":
        raise ValueError(f"sample_weight must hold numbers, got an array of {dtype}.")


def check_groups(groups: Any, X: Data) -> NDArray[np.int64] | None:
    """Return the number of each row's group as a vector that goes with X, or None.

    Raises
    ------
    ValueError
        If they are not one label a row, if one is missing, or if they are of another length.
    """
    if groups is None:
        return None
    given = to_pandas(_to_numpy(groups, "groups"), "groups")
    shape = (len(given),) if isinstance(given, list | tuple) else getattr(given, "shape", ())
    try:
        if len(shape) != 1:
            raise TypeError(f"got {type(groups).__name__} of shape {shape}")
        labels = pd.Series(list(given)).infer_objects()
        numbers: NDArray[np.int64] = pd.factorize(labels)[0].astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"groups must hold one label a row, as an array of shape (n,): {error}."
        ) from error
    if len(numbers) != X.shape[0]:
        raise ValueError(
            f"groups must have a label for each of the {X.shape[0]} rows of X, got "
            f"{len(numbers)}."
        )
    if (numbers < 0).any():
        raise ValueError("groups must not have missing labels.")
    return numbers

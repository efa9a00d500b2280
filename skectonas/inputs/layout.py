"""Tables laid out as images."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from skectonas.estimators import (
    CallbackSupportMixin,
    VersionedStateMixin,
    one_task,
    tearing_down,
)
from skectonas.inputs.frames import to_pandas

__all__ = [
    "PseudoImageTransformer",
    "check_image_shape",
    "image_shape_for",
    "pixels_of_columns",
]

Batches: TypeAlias = Callable[[], Iterable[npt.NDArray[Any]]]
"""Returns the rows of a table, some at a time."""

ORDERS = ("given", "shuffled", "correlation")
_FLOATS = (np.float64, np.float32)
# Optimal leaf ordering takes seconds from about this many columns, and then grows cubically.
_MAX_OPTIMAL = 1000


def check_image_shape(image_shape: object) -> tuple[int, int, int]:
    """Check the shape of an image and add the number of channels.

    Parameters
    ----------
    image_shape : tuple of int
        ``(height, width)`` or ``(height, width, channels)``.

    Returns
    -------
    tuple of int
        ``(height, width, channels)``.

    Raises
    ------
    ValueError
        If `image_shape` is anything but two or three positive integers.

    Examples
    --------
    >>> from skectonas.inputs.layout import check_image_shape
    >>> check_image_shape((28, 28))
    (28, 28, 1)
    """
    sizes = tuple(image_shape) if isinstance(image_shape, tuple | list) else ()
    whole = all(isinstance(s, numbers.Integral) and not isinstance(s, bool) for s in sizes)
    if len(sizes) not in (2, 3) or not whole or min(sizes) < 1:
        raise ValueError(
            "image_shape: expected two or three positive integers, (height, width) or "
            f"(height, width, channels), got {image_shape!r}"
        )
    height, width, channels = (*sizes, 1)[:3]
    return int(height), int(width), int(channels)


class PseudoImageTransformer(
    CallbackSupportMixin, TransformerMixin, VersionedStateMixin, BaseEstimator
):
    """Lay the columns of a table out as the pixels of an image.

    Every row becomes an image, every column a pixel of it, so that networks for images can
    be used on tables. Pixels that are left over are zero.

    Parameters
    ----------
    order : {"given", "shuffled", "correlation"}, default="given"
        Which column goes where. ``"given"`` fills the image row by row in the order of the
        columns. ``"shuffled"`` does so in a random order. ``"correlation"`` puts columns that
        go together next to each other: they are ordered by hierarchical clustering, then
        laid along a path that winds through the image in strips.
    image_shape : tuple of int, default=None
        ``(height, width)`` or ``(height, width, channels)`` with room for all columns. None
        stands for the smallest square with one channel.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of ``"shuffled"``; None gives another order each time.

    Attributes
    ----------
    image_shape_ : tuple of int
        ``(height, width, channels)`` of the images.
    pixel_index_ : ndarray of shape (`n_features_in_`,)
        For each column, the position of its pixel in the flattened image.
    column_order_ : ndarray of shape (`n_features_in_`,)
        The columns in the order in which their pixels lie in the flattened image.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns seen in `fit`, if all of them are strings.

    Notes
    -----
    The mean absolute correlation of pixels that touch is never lower with
    ``order="correlation"`` than with ``order="given"``, on the rows seen in `fit`.

    By default the output is an array of images. Where `set_output` or the global
    configuration of scikit-learn asks for frames, it is a frame with one column per pixel,
    which a classifier takes for a table and not for images.

    References
    ----------
    E. J. Schiessler, R. C. Aydin and C. J. Cyron, "ECToNAS: Evolutionary Cross-Topology
    Neural Architecture Search", arXiv:2403.05123, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.inputs.layout import PseudoImageTransformer
    >>> X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> transformer = PseudoImageTransformer().fit(X)
    >>> images = transformer.transform(X)
    >>> images.shape
    (2, 2, 2, 1)
    >>> images[0, :, :, 0]
    array([[1., 2.],
           [3., 0.]])
    >>> transformer.inverse_transform(images)
    array([[1., 2., 3.],
           [4., 5., 6.]])
    >>> transformer.get_feature_names_out()
    array(['x0', 'x1', 'x2', 'padding_0'], dtype=object)
    """

    def __init__(
        self,
        *,
        order: str = "given",
        image_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.order = order
        self.image_shape = image_shape
        self.random_state = random_state

    @tearing_down
    def fit(self, X: Any, y: object = None) -> Self:
        """Find a pixel for every column.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Finite numbers. Their values matter only for ``order="correlation"``, for which a
            sparse matrix is made dense.
        y : None
            Ignored.

        Returns
        -------
        PseudoImageTransformer
            The fitted transformer.

        Raises
        ------
        ValueError
            If `X` is not a finite numeric table, `order` is none of the three,
            `image_shape` is no shape of an image, or has too few pixels.
        """
        table = self._checked(X, reset=True)
        with one_task(self, X, y):
            columns = self.n_features_in_
            self.image_shape_ = image_shape_for(columns, self.image_shape)
            self.pixel_index_ = pixels_of_columns(
                columns,
                self.image_shape_,
                self.order,
                self.random_state,
                lambda: [_dense(table)],
            )
            self.column_order_ = np.argsort(self.pixel_index_)
        return self

    def transform(self, X: Any) -> Any:
        """Turn rows into images.

        Parameters
        ----------
        X : array-like, sparse matrix or data frame of shape (n_samples, n_features)
            Finite numbers, with the columns seen in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, height, width, channels)
            The images, dense even if `X` is not: float32 if `X` is, otherwise float64. Where
            frames are asked for, a frame of shape (n_samples, height * width * channels).

        Raises
        ------
        ValueError
            If `X` is not a finite numeric table or has other columns than in `fit`.
        """
        check_is_fitted(self)
        table = self._checked(X, reset=False)
        flat = np.zeros((table.shape[0], math.prod(self.image_shape_)), dtype=table.dtype)
        flat[:, self.pixel_index_] = _dense(table)
        # Frames have two dimensions; scikit-learn wraps what is returned here.
        if _get_output_config("transform", self)["dense"] != "default":
            return flat
        return flat.reshape(-1, *self.image_shape_)

    def inverse_transform(self, X: Any) -> npt.NDArray[Any]:
        """Turn images back into rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, height, width, channels)
            Images, or images flattened to an array-like or data frame of shape (n_samples,
            height * width * channels).

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The columns in the order seen in `fit`: float32 if `X` is, otherwise float64.

        Raises
        ------
        ValueError
            If `X` holds no finite numbers or is of another shape.
        """
        check_is_fitted(self)
        images = check_array(to_pandas(X, "X"), dtype=_FLOATS, allow_nd=True)
        pixels = math.prod(self.image_shape_)
        if images.shape[1:] not in (self.image_shape_, (pixels,)):
            raise ValueError(
                f"X: expected images of shape {self.image_shape_} or {pixels} pixels in a row, "
                f"got an array of shape {images.shape}"
            )
        rows: npt.NDArray[Any] = images.reshape(len(images), pixels)[:, self.pixel_index_]
        return rows

    def get_feature_names_out(
        self, input_features: Sequence[str] | None = None
    ) -> npt.NDArray[np.object_]:
        """Name the pixels, row by row.

        Parameters
        ----------
        input_features : sequence of str, default=None
            Names of the input columns, which must be those seen in `fit`.

        Returns
        -------
        ndarray of shape (height * width * channels,)
            The name of the column at each pixel, ``padding_<i>`` where there is none.

        Raises
        ------
        ValueError
            If `input_features` are not the columns seen in `fit`.
        """
        check_is_fitted(self)
        names_in = _check_feature_names_in(self, input_features)
        prefix = "padding_"
        while any(str(name).startswith(prefix) for name in names_in):
            prefix = f"_{prefix}"
        names = np.empty(math.prod(self.image_shape_), dtype=object)
        names[self.pixel_index_] = names_in
        empty = np.setdiff1d(np.arange(len(names)), self.pixel_index_)
        names[empty] = [f"{prefix}{i}" for i in range(len(empty))]
        return names

    def _checked(self, X: Any, reset: bool) -> Any:
        return validate_data(
            self, to_pandas(X, "X"), dtype=_FLOATS, accept_sparse="csr", reset=reset
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _dense(table: Any) -> npt.NDArray[Any]:
    dense: npt.NDArray[Any] = table.toarray() if sparse.issparse(table) else table
    return dense


def image_shape_for(columns: int, image_shape: tuple[int, ...] | None) -> tuple[int, int, int]:
    """Return the shape of an image with a pixel for each column: see `PseudoImageTransformer`.

    Raises
    ------
    ValueError
        If `image_shape` is no shape of an image, or has too few pixels.
    """
    if image_shape is None:
        side = math.isqrt(columns - 1) + 1
        return side, side, 1
    shape = check_image_shape(image_shape)
    if math.prod(shape) < columns:
        raise ValueError(
            f"image_shape: expected room for {columns} columns, got "
            f"{image_shape!r} with {math.prod(shape)} pixels"
        )
    return shape


def pixels_of_columns(
    columns: int,
    shape: tuple[int, int, int],
    order: str,
    random_state: int | np.random.RandomState | None,
    batches: Batches,
) -> npt.NDArray[np.intp]:
    """Find a pixel for every column: see `PseudoImageTransformer`.

    Parameters
    ----------
    columns : int
        How many there are.
    shape : tuple of int
        Of the image.
    order, random_state
        As in `PseudoImageTransformer`.
    batches : callable
        Returns the rows of the table, some at a time; only called for ``"correlation"``.

    Returns
    -------
    ndarray of shape (columns,)
        For each column, the position of its pixel in the flattened image.

    Raises
    ------
    ValueError
        If `order` is none of the three.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {ORDERS}, got {order!r}")
    if order == "correlation":
        return _correlated_places(_absolute_correlation(batches), shape)
    if order == "given":
        return np.arange(columns)
    generator: np.random.RandomState | np.random.Generator
    if random_state is None:
        generator = np.random.default_rng()
    else:
        generator = check_random_state(random_state)
    return np.asarray(generator.permutation(columns), dtype=np.intp)


def _absolute_correlation(batches: Batches) -> npt.NDArray[np.float64]:
    """|corr| of columns; zero where a column is constant."""
    lows, highs = zip(*((X.min(axis=0), X.max(axis=0)) for X in batches()), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    varies = high > low
    # Squares of very large or small numbers would not fit into float64.
    largest = np.where(varies, np.maximum(np.abs(low), np.abs(high)), 1).astype(np.float64)

    def scaled() -> Iterator[npt.NDArray[np.float64]]:
        return (np.where(varies, X, 0.0) / largest for X in batches())

    n, total = 0, np.zeros(len(low))
    for X in scaled():
        n, total = n + len(X), total + X.sum(axis=0)
    products = np.zeros((len(low), len(low)))
    for X in scaled():
        X -= total / n
        products += X.T @ X
    norms = np.sqrt(products.diagonal())
    norms = np.where(norms > 0, norms, 1.0)
    # The last bits depend on the order of the sums, and must not decide a tie.
    return np.clip(np.abs(products / norms / norms[:, None]), 0.0, 1.0).round(10)


def _correlated_places(
    correlation: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.intp]:
    """Choose the placement that brings most correlation together."""
    columns = len(correlation)
    leaves = _seriate(correlation)
    best, most = np.arange(columns), -1.0
    for path in _paths(shape):
        places = np.empty(columns, dtype=np.intp)
        places[leaves] = path[:columns]
        together = _neighbour_correlation(correlation, places, shape)
        if together > most:
            best, most = places, together
    given = np.arange(columns)
    return given if _neighbour_correlation(correlation, given, shape) > most else best


def _seriate(correlation: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    columns = len(correlation)
    if columns < 3:
        return np.arange(columns)
    distance = 1 - correlation
    np.fill_diagonal(distance, 0.0)
    tree = linkage(
        squareform(distance, checks=False),
        method="average",
        optimal_ordering=columns <= _MAX_OPTIMAL,
    )
    return np.asarray(leaves_list(tree), dtype=np.intp)


def _paths(shape: tuple[int, int, int]) -> Iterator[npt.NDArray[np.intp]]:
    """Paths through all pixels in strips of one row, two rows and so on.

    A path goes to and fro within a strip, and the strips take turns to run left to right and
    right to left, so pixels that follow each other lie side by side; the higher the strips,
    the more compact is a run of pixels.
    """
    height, width, channels = shape
    cells = np.arange(height * width).reshape(height, width)
    for rows in range(1, height + 1):
        strips = []
        for number, top in enumerate(range(0, height, rows)):
            strip = cells[top : top + rows, :: -1 if number % 2 else 1].T.copy()
            strip[1::2] = strip[1::2, ::-1]
            strips.append(strip.ravel())
        path = np.concatenate(strips)
        yield (path[:, None] * channels + np.arange(channels)).ravel()


def _neighbour_correlation(
    correlation: npt.NDArray[np.float64],
    places: npt.NDArray[np.intp],
    shape: tuple[int, int, int],
) -> float:
    """Mean |corr| of the columns of pixels that touch."""
    image = np.full(math.prod(shape), -1)
    image[places] = np.arange(len(places))
    image = image.reshape(shape)
    values = []
    for axis in range(3):
        lines = np.moveaxis(image, axis, 0)
        first, second = lines[:-1].ravel(), lines[1:].ravel()
        both = (first >= 0) & (second >= 0)
        values.append(correlation[first[both], second[both]])
    touching = np.concatenate(values)
    return float(touching.mean()) if touching.size else 0.0

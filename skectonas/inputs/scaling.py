"""Pixels and columns as a network learns from them: centred, of one size, without gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from sklearn.utils import gen_batches
from torch import Tensor

from skectonas.inputs.pieces import ColumnPieces

Array: TypeAlias = NDArray[Any]
Method: TypeAlias = Literal["quantile", "piecewise", "minmax"]

METHODS: tuple[Method, ...] = ("quantile", "piecewise", "minmax")
PIXEL_DEVIATION = 0.5
"""Standard deviation of the pixels that a network sees. Neither twice nor half of it is better,
see `benchmarks/choices_inputs.py`."""

LARGEST_SCORE = 3.0
N_KNOTS = 25  # a quarter of a standard deviation apart, besides the two ends


@dataclass(frozen=True)
class PixelScaling:
    """A shift and a factor for the pixels of each channel of images.

    Parameters
    ----------
    offset : tuple of float
        Number taken off the pixels of each channel; a single one serves for all channels.
    scale : tuple of float
        Factors that the pixels are then multiplied by.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.inputs.scaling import PixelScaling
    >>> images = np.array([[[[0.0, 10.0], [2.0, 30.0]]]])
    >>> scaling = PixelScaling.of([images])
    >>> scaling
    PixelScaling(offset=(1.0, 20.0), scale=(0.5, 0.05))
    >>> scaling.apply(images)
    array([[[[-0.5, -0.5],
             [ 0.5,  0.5]]]])
    """

    offset: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, batches: Iterable[Array]) -> Self:
        """Find the scaling to a mean of zero and a deviation of `PIXEL_DEVIATION`.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, height, width, channels)
            Finite images, some at a time. A constant channel is shifted only.

        Returns
        -------
        PixelScaling
            The scaling.

        Raises
        ------
        ValueError
            If pixels differ by more than a float64 can square.
        """
        n, mean, squares = 0, np.zeros(1), np.zeros(1)
        first = mean  # subtracted from all pixels, so that equal ones give exact zeros
        with np.errstate(over="ignore", invalid="ignore"):
            for batch in batches:
                pixels = batch.reshape(-1, batch.shape[-1]).astype(np.float64)
                first = first if n else pixels[0].copy()
                pixels -= first
                own = pixels.mean(axis=0)
                pixels -= own
                squares = squares + (pixels**2).sum(axis=0)
                if n:  # combine the means, and correct the squares for it
                    share = len(pixels) / (n + len(pixels))
                    squares += (own - mean) ** 2 * (n * share)
                    own = mean + (own - mean) * share
                mean, n = own, n + len(pixels)
        mean, deviation = first + mean, np.sqrt(squares / n)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError("X: expected pixels whose squares are finite, got larger ones")
        # Less than that is rounding of a constant, or has no finite reciprocal.
        varies = deviation > np.maximum(1e-12 * np.abs(mean), np.finfo(np.float64).tiny)
        scale = PIXEL_DEVIATION / np.where(varies, deviation, 1.0)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))

    def apply(self, X: Array) -> Array:
        """Scale images.

        Parameters
        ----------
        X : ndarray of shape (..., channels)
            Pixels.

        Returns
        -------
        ndarray of the shape of `X`
            ``(X - offset) * scale``, in float64.
        """
        scaled: Array = (X - np.array(self.offset)) * np.array(self.scale)
        return scaled

    def apply_to_tensor(self, X: Tensor, dtype: torch.dtype) -> Tensor:
        """Scale images in torch.

        Parameters
        ----------
        X : Tensor of shape (..., channels)
            Pixels.
        dtype : torch.dtype
            In which they are scaled.

        Returns
        -------
        Tensor of the shape of `X`
            ``(X - offset) * scale``, in that dtype.
        """
        offset, scale = self.tensors(dtype, X.device)
        return (X.to(dtype) - offset) * scale

    def tensors(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return offset and scale as tensors of shape (channels,), or (1,)."""
        offset = torch.tensor(self.offset, dtype=dtype, device=device)
        return offset, torch.tensor(self.scale, dtype=dtype, device=device)


UNSCALED = PixelScaling()


@dataclass(frozen=True)
class ColumnRanges:
    """Statistics of each column that one pass over a table gives.

    Parameters
    ----------
    low, high : ndarray of shape (n_columns,)
        Smallest and largest value; NaN where there is none.
    n_missing : ndarray of shape (n_columns,)
        How many values are NaN.
    n_rows : int
        Rows of the table.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_missing: NDArray[np.intp]
    n_rows: int

    @classmethod
    def of(cls, batches: Iterable[Array]) -> Self:
        """Find the ranges of a table that comes a few rows at a time.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, n_columns)
            At least one; NaN stands for a missing value.
        """
        lows, highs, n_rows = [], [], 0
        missing: Any = 0
        for batch in batches:
            # Unlike nanmin, these give NaN for a column of NaN without a warning.
            lows.append(np.fmin.reduce(batch, axis=0))
            highs.append(np.fmax.reduce(batch, axis=0))
            missing += np.isnan(batch).sum(axis=0)
            n_rows += len(batch)
        low, high = np.fmin.reduce(lows), np.fmax.reduce(highs)
        return cls(low.astype(np.float64), high.astype(np.float64), missing, n_rows)

    def with_one_indicator(self, source: NDArray[np.intp]) -> Self:
        """Drop the counts of missing values of all but the first column of each source.

        Parameters
        ----------
        source : ndarray of shape (n_columns,)
            Where each column comes from, ascending. All that comes from one source is missing
            together, so that one indicator serves for it.
        """
        first = np.r_[True, source[1:] != source[:-1]]
        return replace(self, n_missing=np.where(first, self.n_missing, 0))


@dataclass(frozen=True, eq=False)
class ColumnScaling:
    """A rising, piecewise linear map for each column, and what stands for missing values.

    With the method ``"quantile"``, a value becomes the normal score of its rank: the number
    that a standard normal variable would show at the same rank. Neither outliers nor skewness
    change what the other values become, and columns of any unit have the same size. Equal
    values share the rank in their middle, so that zeros and ones, however rare, become centred
    numbers. With ``"piecewise"``, the columns are also cut into pieces, which come after all
    the others. With ``"minmax"``, the smallest value becomes 0 and the largest 1.

    Parameters
    ----------
    knots : ndarray of shape (n_columns, n_knots)
        Values of each column, ascending; the last one may be repeated.
    scores : ndarray of shape (n_columns, n_knots)
        What they become. Values between two knots lie on the line between them, and values
        outside the range are clipped to it.
    missing : ndarray of shape (n_columns,)
        What a missing value becomes.
    indicated : ndarray of shape (n_indicated,)
        The columns that had missing values in `fit`. Each is followed by an indicator of them.
    indicators : ndarray of shape (n_indicated, 2)
        What the indicator is where there is a value, and where there is none. That of a column
        without any value is constant.
    pieces : ColumnPieces or None, default=None
        What columns are cut into.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.inputs.scaling import ColumnScaling
    >>> X = np.array([[1.0, 0.0], [2.0, 0.0], [4.0, 1.0], [1000.0, np.nan]])
    >>> ColumnScaling.fit(X).scale(X).round(2)
    array([[-1.15, -0.43, -0.32],
           [-0.32, -0.43, -0.32],
           [ 0.32,  0.97, -0.32],
           [ 1.15,  0.  ,  1.15]])
    >>> ColumnScaling.fit(X, "minmax").scale(X).round(2)
    array([[0., 0., 0.],
           [0., 0., 0.],
           [0., 1., 0.],
           [1., 0., 1.]])
    >>> ColumnScaling.fit(X, "piecewise").scale(X).shape
    (4, 5)
    """

    knots: NDArray[np.float64]
    scores: NDArray[np.float64]
    missing: NDArray[np.float64]
    indicated: NDArray[np.intp]
    indicators: NDArray[np.float64]
    pieces: ColumnPieces | None = None

    @classmethod
    def fit(
        cls,
        sample: Array | Callable[[slice], Array],
        method: Method = "quantile",
        ranges: ColumnRanges | None = None,
        is_cut: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Learn the maps.

        Parameters
        ----------
        sample : ndarray of shape (n, n_columns) or callable
            Rows of the table, NaN where a value is missing. A callable returns some of their
            columns.
        method : {"quantile", "piecewise", "minmax"}, default="quantile"
            What values become.
        ranges : ColumnRanges or None, default=None
            Of the whole table, if the sample is not all of it.
        is_cut : ndarray of shape (n_columns,) or None, default=None
            Which columns are cut into pieces, if any are; None means all.

        Returns
        -------
        ColumnScaling
            The maps.
        """
        if not callable(sample):
            whole = sample
            ranges = ranges or ColumnRanges.of([whole])

            def sample(columns: slice) -> Array:
                return whole[:, columns]

        assert ranges is not None
        maps: list[tuple[Array, Array, float]] = []
        for column in _columns_of(sample, len(ranges.low)):
            values = np.sort(column[~np.isnan(column)].astype(np.float64))
            i = len(maps)
            maps.append(_map_of(values, ranges.low[i], ranges.high[i], method))
        indicated = np.flatnonzero(ranges.n_missing)
        share = ranges.n_missing[indicated] / ranges.n_rows
        if method == "minmax":
            indicators = np.tile([0.0, 1.0], (len(indicated), 1))
        else:
            indicators = _scores_of(np.stack([(1 - share) / 2, 1 - share / 2], axis=1))
        # Nothing can be learned of the values of an empty column.
        indicators[share == 1, 0] = indicators[share == 1, 1]
        n_knots = max(2, *(len(knots) for knots, _, _ in maps))  # constants have one
        scaling = cls(
            np.stack([_filled_up(knots, n_knots) for knots, _, _ in maps]),
            np.stack([_filled_up(scores, n_knots) for _, scores, _ in maps]),
            np.array([missing for _, _, missing in maps]),
            indicated,
            indicators,
        )
        return scaling.in_pieces(sample, is_cut) if method == "piecewise" else scaling

    def in_pieces(
        self, sample: Callable[[slice], Array], is_cut: NDArray[np.bool_] | None = None
    ) -> Self:
        """Return the same maps, with columns cut into pieces.

        Parameters
        ----------
        sample : callable
            Returns some columns of a sample, as in `fit`.
        is_cut : ndarray of shape (n_columns,) or None, default=None
            As in `fit`.
        """
        columns = _columns_of(sample, len(self.knots))
        if is_cut is not None:
            columns = (c if cut else c[:0] for c, cut in zip(columns, is_cut, strict=True))
        return replace(self, pieces=ColumnPieces.fit(columns))

    @cached_property
    def origin(self) -> NDArray[np.intp]:
        """For each column that comes out, the column that it comes from, (n_out,)."""
        columns = np.sort(np.concatenate([np.arange(len(self.knots)), self.indicated]))
        return columns if self.pieces is None else np.append(columns, self.pieces.columns)

    @cached_property
    def n_whole(self) -> int:
        """How many of the columns that come out are no pieces: the first ones."""
        return len(self.knots) + len(self.indicated)

    @cached_property
    def is_indicator(self) -> NDArray[np.bool_]:
        """For each column that comes out and is no piece, whether it indicates, (n_whole,)."""
        whole = self.origin[: self.n_whole]
        return np.concatenate([[False], whole[1:] == whole[:-1]])

    @property
    def bulk(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Between which values most of those in `fit` lie, column by column."""
        rows = np.arange(len(self.knots))
        middle = (self.scores[:, :1] + self.scores[:, -1:]) / 2
        begin = np.argmax(self.scores >= (self.scores[:, :1] + middle) / 2, axis=1)
        end = np.argmax(self.scores >= (self.scores[:, -1:] + middle) / 2, axis=1)
        return self.knots[rows, begin], self.knots[rows, end]

    def scale(self, X: Array) -> NDArray[np.float64]:
        """Scale columns.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_columns)
            Finite numbers, NaN where a value is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_columns + n_indicated + n_pieces)
            The scaled columns in their order, each indicator after its column; then the pieces.
        """
        scaled = np.empty((len(X), len(self.origin)))
        # In batches, because the steps take ten times the memory of the rows.
        size = max(_VALUES_SCALED_AT_ONCE // len(self.origin), 1)
        for rows in gen_batches(len(X), size):
            self._scale(X[rows], scaled[rows, : self.n_whole])
            if self.pieces is not None:
                scaled[rows, self.n_whole :] = self.pieces.scale(X[rows])
        return scaled

    def _scale(self, X: Array, scaled: NDArray[np.float64]) -> None:
        missing = np.isnan(X)
        # Halved, because a difference may exceed the largest float64.
        half = np.clip(X, self.knots[:, 0], self.knots[:, -1], dtype=np.float64) / 2
        knots = self.knots / 2
        # All columns at once, knot by knot; `portable.ImagesOfColumns` does the same in torch.
        segment = np.zeros(X.shape, dtype=np.uint8)
        for k in range(1, knots.shape[1] - 1):
            segment += half >= knots[:, k]
        at = segment + np.arange(len(knots)) * knots.shape[1]
        low, width = knots.take(at), np.maximum(knots.take(at + 1) - knots.take(at), _TINY)
        first = self.scores.take(at)
        values = first + (half - low) / width * (self.scores.take(at + 1) - first)
        scaled[:, ~self.is_indicator] = np.where(missing, self.missing, values)
        scaled[:, self.is_indicator] = np.where(
            missing[:, self.indicated], self.indicators[:, 1], self.indicators[:, 0]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the maps consist of."""
        return {
            "knots": self.knots,
            "scores": self.scores,
            "missing": self.missing,
            "indicated": self.indicated,
            "indicators": self.indicators,
            "pieces": None if self.pieces is None else self.pieces.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build a scaling from the result of `to_dict`; earlier versions had no pieces."""
        pieces = plain.get("pieces")
        return cls(
            **{**plain, "pieces": None if pieces is None else ColumnPieces.from_dict(pieces)}
        )


_TINY = np.finfo(np.float64).tiny
_VALUES_AT_ONCE = 2**20
_VALUES_SCALED_AT_ONCE = 2**16


def _columns_of(sample: Callable[[slice], Array], n_columns: int) -> Iterable[Array]:
    size = max(_VALUES_AT_ONCE // len(sample(slice(1))), 1)
    for begin in range(0, n_columns, size):
        yield from sample(slice(begin, begin + size)).T


def _map_of(
    values: NDArray[np.float64], low: float, high: float, method: Method
) -> tuple[Array, Array, float]:
    """Return the knots and the scores of a column, and the score of a missing value.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Its values, or some of them, ascending.
    low, high : float
        Its smallest and largest value.
    method : {"quantile", "piecewise", "minmax"}
        What values become.
    """
    if not len(values):
        return np.zeros(2), np.zeros(2), 0.0
    if method == "minmax":
        median = values[(len(values) - 1) // 2]
        half = high / 2 - low / 2
        missing = (median / 2 - low / 2) / half if half > 0 else 0.0
        return np.array([low, high]), np.array([0.0, float(low < high)]), missing
    if np.count_nonzero(values[1:] != values[:-1]) >= N_KNOTS:
        ranks = ndtr(np.linspace(-LARGEST_SCORE, LARGEST_SCORE, N_KNOTS))
        knots = values[np.ceil(ranks * len(values)).astype(np.intp) - 1]
    else:
        knots = values
    knots = np.unique(np.concatenate([[low], knots, [high]]))
    # Equal values get the rank in their middle.
    ends = (np.searchsorted(values, knots, side=side) for side in ("left", "right"))
    return knots, _scores_of(np.add(*ends) / (2 * len(values))), 0.0


def _scores_of(ranks: Array) -> NDArray[np.float64]:
    """Return the normal scores of ranks between 0 and 1."""
    scores: NDArray[np.float64] = np.clip(ndtri(ranks), -LARGEST_SCORE, LARGEST_SCORE)
    return scores


def _filled_up(values: Array, size: int) -> Array:
    return np.pad(values, (0, size - len(values)), mode="edge")

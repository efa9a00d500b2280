"""Columns cut into pieces: a network can treat each part of their range in another way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FEWEST, MOST = 2, 32
"""Pieces of a column."""

SMALLEST_DEVIATION = 0.1
"""A piece that few values are in is not enlarged further."""

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class ColumnPieces:
    """How much of each piece of its range the values of a column have passed.

    This is the piecewise linear encoding of Gorishniy et al.: a piece is 0 for the values below
    it, 1 for those above it, and rises in between. A column of n values has the cube root of n
    pieces, but at most 32, and none if there are only one or two different values. Pieces have
    about the same number of values, where one that is frequent counts as a piece. So the few
    that are not zero, in a column of zeros, get most of the pieces.

    Pieces have a mean of zero. The variances of those of a column add up to one, or to less if
    some are passed by hardly any value or by nearly all. So they do not outweigh the column.

    Parameters
    ----------
    columns : ndarray of shape (n_pieces,)
        The column that each piece belongs to, ascending.
    begin, end : ndarray of shape (n_pieces,)
        The values between which it rises.
    mean, factor : ndarray of shape (n_pieces,)
        What is taken off it, and what it is then multiplied by.

    References
    ----------
    Y. Gorishniy, I. Rubachev and A. Babenko, "On Embeddings for Numerical Features in Tabular
    Deep Learning", NeurIPS 2022, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skectonas.inputs.pieces import ColumnPieces
    >>> pieces = ColumnPieces.fit([np.arange(9.0)])
    >>> pieces.begin, pieces.end
    (array([0., 4.]), array([4., 8.]))
    >>> pieces.scale(np.array([[0.0], [4.0], [8.0], [np.nan]])).round(2)
    array([[-1.41, -0.54],
           [ 0.54, -0.54],
           [ 0.54,  1.41],
           [ 0.  ,  0.  ]])
    """

    columns: NDArray[np.intp]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]

    @classmethod
    def fit(cls, columns: Iterable[NDArray[Any]]) -> Self:
        """Find the pieces.

        Parameters
        ----------
        columns : iterable of ndarray of shape (n,)
            The values of each column, NaN where one is missing.
        """
        parts = []
        for i, column in enumerate(columns):
            values = column[~np.isnan(column)].astype(np.float64)
            begin, end = _ends_of(values)
            mean, deviation = np.empty_like(begin), np.empty_like(begin)
            for k in range(len(begin)):  # one at a time, for the sake of memory
                passed = _passed(values, begin[k], end[k])
                mean[k], deviation[k] = passed.mean(), passed.std()
            factor = 1 / np.maximum(deviation, SMALLEST_DEVIATION) / np.sqrt(max(1, len(begin)))
            parts.append((np.full(len(begin), i), begin, end, mean, factor))
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.columns)

    def scale(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Cut columns into pieces.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_columns)
            Finite numbers, NaN where a value is missing.

        Returns
        -------
        ndarray of shape (n_samples, n_pieces)
            The pieces; zero where a value is missing.
        """
        own = X[:, self.columns]
        pieces = (_passed(own, self.begin, self.end) - self.mean) * self.factor
        pieces[np.isnan(own)] = 0.0
        return pieces

    def to_dict(self) -> dict[str, Any]:
        """Return what the pieces consist of."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Build pieces from the result of `to_dict`."""
        return cls(**plain)


def _ends_of(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the pieces of a column begin and end."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 2:
        return np.zeros(0), np.zeros(0)
    n_pieces = int(np.clip(round(np.cbrt(len(values))), FEWEST, MOST))
    if len(distinct) <= n_pieces:
        return distinct[:-1], distinct[1:]
    counted = np.cumsum(np.minimum(counts, _size_of_pieces(counts, n_pieces)))
    inner = np.searchsorted(counted / counted[-1], np.arange(1, n_pieces) / n_pieces)
    ends = np.unique(distinct[np.concatenate([[0], inner, [len(distinct) - 1]])])
    return ends[:-1], ends[1:]


def _size_of_pieces(counts: NDArray[np.intp], n_pieces: int) -> float:
    """Return how many values a piece has, if no value counts for more than a piece."""
    left = counts.sum()
    for n_frequent, count in enumerate(np.sort(counts)[::-1]):
        if count * (n_pieces - n_frequent) <= left:
            break
        left -= count
    return float(left / (n_pieces - n_frequent))


def _passed(X: NDArray[Any], begin: Any, end: Any) -> NDArray[np.float64]:
    """Return which share of each piece a value has passed."""
    # Halved, because a difference may exceed the largest float64.
    half = np.clip(X, begin, end, dtype=np.float64) / 2
    passed: NDArray[np.float64] = (half - begin / 2) / np.maximum(end / 2 - begin / 2, _TINY)
    return passed

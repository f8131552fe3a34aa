"""Linear CKA: how alike the features of two cuts are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.errors import ShapeError

FloatArray = npt.NDArray[np.float64]

MOST_ROWS = 2000
"""Images that similarities are computed on at most."""

# About half a second on two cores, and 128 MB of float64 for the Gram matrices of all cuts.
_MOST_PRODUCTS = 10**10
_MOST_VALUES = 2**24
# 16 MB of float64 at a time.
_BLOCK_VALUES = 2**21


def rows_for(widths: Sequence[int]) -> int:
    """Return how many images the similarity of cuts of these widths is computed on.

    Parameters
    ----------
    widths : sequence of int
        Features of each cut.
    """
    if sum(widths) < MOST_ROWS:
        return MOST_ROWS
    by_work = math.isqrt(_MOST_PRODUCTS // sum(widths))
    by_memory = math.isqrt(_MOST_VALUES // len(widths))
    return max(100, min(MOST_ROWS, by_work, by_memory))


class Similarity:
    r"""Linear CKA between cuts whose features are given one cut at a time.

    .. math:: \mathrm{CKA}(X, Y) = \frac{\|Y^T X\|_F^2}{\|X^T X\|_F \|Y^T Y\|_F}

    with centred columns (Kornblith, Norouzi, Lee and Hinton, "Similarity of neural network
    representations revisited", ICML 2019, section 3). The same number comes from the Gram matrices
    of the examples, :math:`\langle XX^T, YY^T \rangle` for the numerator: they are taken where all
    features side by side are more than the examples, and than 2,000. Sums are in float64.

    A cut whose features are the same for all images has a similarity of 0 to every other.

    Parameters
    ----------
    n : int
        Images.
    widths : sequence of int
        Features of each cut.
    """

    def __init__(self, n: int, widths: Sequence[int]) -> None:
        self._n, self._widths = n, list(widths)
        self._waiting = set(range(len(widths)))
        self._starts = np.cumsum([0, *widths])
        # Few features side by side take less memory than a Gram matrix for every cut.
        self._by_features = sum(widths) < max(n, MOST_ROWS)
        shape = (n, sum(widths)) if self._by_features else (len(widths), n * n)
        self._kept = np.zeros(shape)

    def add(self, i: int, X: npt.NDArray[np.floating[Any]]) -> None:
        """Add a cut.

        Parameters
        ----------
        i : int
            Its place in `widths`.
        X : ndarray of shape (n, widths[i]), any float type
            Its features, of the same images in the same order as those of the others.

        Raises
        ------
        ShapeError
            If the shape is another one.
        """
        expected = (self._n, self._widths[i])
        if X.shape != expected:
            raise ShapeError(f"Features of shape {X.shape} for cut {i}: expected {expected}.")
        if self._by_features:
            start = self._starts[i]
            for columns, block in centred_blocks(X):
                self._kept[:, start + columns.start : start + columns.stop] = block
        else:
            self._kept[i] = gram(X).ravel()
        self._waiting.discard(i)

    def matrix(self) -> FloatArray:
        """Return the similarity of every two cuts, (n_cuts, n_cuts) float64, from 0 to 1.

        Raises
        ------
        ShapeError
            If a cut was not added.
        """
        if self._waiting:
            raise ShapeError(
                f"{len(self._waiting)} of {len(self._widths)} cuts have no features: add all of "
                "them first."
            )
        if self._by_features:
            squares = (self._kept.T @ self._kept) ** 2
            starts = self._starts[:-1]
            inner = np.add.reduceat(np.add.reduceat(squares, starts, axis=0), starts, axis=1)
        else:
            inner = self._kept @ self._kept.T
        norms = np.sqrt(np.diag(inner))
        scale = np.outer(norms, norms)
        found = np.divide(inner, scale, out=np.zeros_like(inner), where=scale > 0)
        found = np.clip((found + found.T) / 2, 0.0, 1.0)
        np.fill_diagonal(found, 1.0)
        return found


def linear_cka(features: Sequence[npt.NDArray[np.floating[Any]]]) -> FloatArray:
    """Return the linear CKA of every two arrays of features; see `Similarity`.

    Parameters
    ----------
    features : sequence of ndarray of shape (n, n_features), any float type
        Of the same `n` examples each.

    Returns
    -------
    ndarray of shape (n_arrays, n_arrays), float64
    """
    similarity = Similarity(len(features[0]), [X.shape[1] for X in features])
    for i, X in enumerate(features):
        similarity.add(i, X)
    return similarity.matrix()


def gram(X: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return the inner products of the rows of `X` with centred columns, (n, n) float64."""
    products = np.zeros((len(X), len(X)))
    for _, block in centred_blocks(X):
        products += block @ block.T
    return products


def centred_blocks(X: npt.NDArray[np.floating[Any]]) -> Iterator[tuple[slice, FloatArray]]:
    """Yield (columns, those columns of `X` in float64 minus their means), a block at a time."""
    width = max(1, _BLOCK_VALUES // max(1, len(X)))
    for start in range(0, X.shape[1], width):
        columns = slice(start, min(start + width, X.shape[1]))
        block = X[:, columns].astype(np.float64)
        block -= block.mean(axis=0)
        yield columns, block

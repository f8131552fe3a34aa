"""Products with a tall feature matrix in float64, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]


class Rows(Protocol):
    """What rows can be read from: an ndarray, a memory map, an h5py dataset, cached features."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""
        ...

    def __getitem__(self, rows: Any, /) -> Any: ...


# 2^21 float64 values are 16 MB: enough rows for BLAS, little beside the features themselves.
_BLOCK_VALUES = 2**21


def row_blocks(X: Rows) -> Iterator[tuple[slice, FloatArray]]:
    """Yield (rows, those rows of `X` as float64), from the first row to the last."""
    rows = max(1, _BLOCK_VALUES // max(1, X.shape[1]))
    for start in range(0, X.shape[0], rows):
        block = slice(start, min(start + rows, X.shape[0]))
        yield block, np.asarray(X[block], dtype=np.float64)


def scores(X: Features, coef: FloatArray, intercept: FloatArray) -> FloatArray:
    """Return ``X @ coef.T + intercept``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), any float type
        Features; converted to float64 a block at a time.
    coef : ndarray of shape (n_outputs, n_features), float64
        Weights.
    intercept : ndarray of shape (n_outputs,), float64
        Offsets.

    Returns
    -------
    ndarray of shape (n_samples, n_outputs), float64
    """
    result = np.empty((X.shape[0], len(coef)))
    for rows, block in row_blocks(X):
        np.matmul(block, coef.T, out=result[rows])
    result += intercept
    return result

"""What all classes and values of C share: the Gram matrix of all rows and its factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from featx.errors import DataError
from featx.heads.blocks import FloatArray
from featx.heads.designs import SINGLE, Design
from featx.heads.lapack import Matrix

# Times that a diagonal is raised, tenfold: from a rounding of the mean diagonal to far beyond it.
_RAISES = 25


class SharedGram:
    """The Gram matrix of all rows, computed when first asked for, and its factor for one C.

    Parameters
    ----------
    design : Design
        The rows.
    row_weights : ndarray of shape (n_rows,), float64, or None
        Their weights; None for 1.
    """

    def __init__(self, design: Design, row_weights: FloatArray | None = None) -> None:
        self._design = design
        self.weights = np.ones(design.n_rows) if row_weights is None else row_weights
        self._grams: dict[Any, Matrix] = {}
        self._factor: Matrix | None = None

    def gram(self, dtype: Any) -> Matrix:
        """Return the upper triangle of ``sum_i c_i x_i x_i'``."""
        if dtype not in self._grams:
            gram = self._design.zero_gram(dtype)
            with self._design.workers.together():
                self._design.add_grams([gram], [self.weights])
            self._grams[dtype] = gram
        return self._grams[dtype]

    def factor(self, C: float) -> Matrix:
        """Return the Cholesky factor of that and ``I / 2C``, in single precision.

        Of the first C that is asked for: as a preconditioner it serves every other.
        """
        if self._factor is None:
            with self._design.workers.together():
                self._factor = factorized(self._design, self.gram(SINGLE).copy, 0.5 / C)
        return self._factor


def factorized(
    design: Design, matrix: Callable[[], Matrix], diagonal: FloatArray | float
) -> Matrix:
    """Return the Cholesky factor of a matrix and a diagonal.

    A diagonal that is lost in rounding is raised: the direction is then not Newton's, but still a
    way down.

    Raises
    ------
    DataError
        If no diagonal helps: the matrix holds what is not finite.
    """
    found = matrix()
    more = float(np.finfo(found.dtype).eps) * design.mean_square
    factor = design.factor(found, diagonal)
    for _ in range(_RAISES):
        if factor is not None:
            return factor
        factor = design.factor(matrix(), diagonal + more)
        more *= 10.0
    raise DataError(
        f"Sums over the features are not finite: rows of mean squared length "
        f"{design.mean_square:.1e} are too long with these weights. Standardize the features."
    )

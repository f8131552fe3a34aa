r"""Approximate inverses of the Hessian of logistic losses, made when they pay.

The Hessian of all classes is not small; its diagonal blocks are, one for each class:
:math:`I + C \sum_i c_i p_{ik} (1 - p_{ik}) x_i x_i'`. Their factorizations are the better
preconditioner and cost most; one matrix with the mean curvature of each row serves all classes. A
matrix is made as soon as what was spent on products since the last one would have paid for it
(rent, then buy), and again only where steps have come to take more products than at first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.designs import Design
from featx.heads.lapack import solve, solve_rows

Index = npt.NDArray[np.intp]
# Makes the factors of the matrices with given weights of the rows.
Factorize = Callable[[Sequence[FloatArray]], list[Any]]

# Time of a Gram matrix (per row and squared column) and of its factorization (per cubed column),
# in times of a product with the Hessian (per row and column). Measured at 512 and 2,048 columns.
_GRAM_PRICE = 0.01
_FACTOR_PRICE = 0.004
# Classes up to which a product takes the time of reading the rows.
_FREE_CLASSES = 16
# A matrix is renewed if steps take this many times the products that they took at first.
_STALE = 1.3
# Rows that make up this part of the curvature are left out of a matrix.
_LEFT_OUT = 0.01


class Preconditioner:
    """What is known of the Hessian's inverse: nothing, a matrix for all classes, or one for each.

    Parameters
    ----------
    design : Design
        The rows.
    gram_bytes : int
        Factors may take this much.
    """

    def __init__(self, design: Design, gram_bytes: int) -> None:
        self._design = design
        self._room = gram_bytes // (4 * design.n_columns**2)
        self._shared: Any = None
        # By problem, one factor for each of its classes.
        self._own: dict[int, list[Any]] = {}
        # Products since there is a shared factor, and since there are own ones; products per
        # digit, in the first solution with what there is and in the last.
        self._spent_shared, self._spent_own = 0.0, 0.0
        self._at_first, self._last = 0.0, 0.0

    def prepare(self, curved: FloatArray, live: Index, factorize: Factorize) -> None:
        """Make the factors that pay.

        Parameters
        ----------
        curved : ndarray of shape (n_problems, n_classes, n_rows), float64
            Curvature of the rows' losses in the score of each class.
        live : ndarray of shape (n_problems,), int
            Numbers of the problems.
        factorize : callable
            Returns the factors with given weights of the rows, or None for those without.
        """
        self._live = live.tolist()
        n_problems, n_classes, n_rows = curved.shape
        n_blocks = n_problems * n_classes
        stale = self._last > _STALE * self._at_first
        width = self._design.n_columns
        passes = max(1.0, n_blocks / _FREE_CLASSES)
        each = _FACTOR_PRICE * width**2 / n_rows / passes
        wanted = not self._own or stale
        if wanted and self._spent_own > n_blocks * each and n_blocks + 1 <= self._room:
            weights = [_without_least(row) for row in curved.reshape(n_blocks, n_rows)]
            kept = sum(np.count_nonzero(row) for row in weights)
            price = n_blocks * each + _GRAM_PRICE * width * kept / n_rows / passes
            if self._spent_own > price:
                factors = factorize(weights)
                if all(factor is not None for factor in factors):
                    self._own = {
                        problem: factors[j * n_classes : (j + 1) * n_classes]
                        for j, problem in enumerate(self._live)
                    }
                self._spent_own = self._at_first = 0.0
                return
        wanted = self._shared is None or stale
        if self._own or not (wanted and self._spent_shared > each and self._room):
            return
        weight = _without_least(curved.mean(axis=(0, 1)))
        price = each + _GRAM_PRICE * width * np.count_nonzero(weight) / n_rows / passes
        if self._spent_shared > price:
            [self._shared] = factorize([weight])
            self._spent_shared = self._at_first = 0.0

    def took(self, n_products: int, accuracy: float) -> None:
        """Take note of what a solution to an accuracy took."""
        self._spent_shared += n_products
        self._spent_own += n_products
        self._last = n_products / -np.log10(accuracy)
        self._at_first = self._at_first or self._last

    def approximate(self, residual: FloatArray) -> FloatArray:
        """Return the inverse times the residual, (n_problems, n_classes, n_columns)."""
        workers = self._design.workers
        if self._own:
            n_classes = residual.shape[1]
            pairs = [(q, k) for q in range(len(residual)) for k in range(n_classes)]

            def one(pair: tuple[int, int]) -> FloatArray:
                factor = self._own[self._live[pair[0]]][pair[1]]
                return np.asarray(self._solve(factor, residual[pair]), dtype=np.float64)

            found = np.array(workers.map(one, pairs)).reshape(residual.shape)
            if n_classes > 1:
                # Scores that all rise alike change nothing: steps stay orthogonal to that.
                found -= found.mean(axis=1, keepdims=True)
            return found
        if self._shared is None:
            return residual.copy()
        flat = residual.reshape(-1, residual.shape[-1])
        if isinstance(self._shared, np.ndarray):
            with workers.together():
                found = solve_rows(self._shared, flat)
        else:
            found = np.array([self._design.solve(self._shared, row) for row in flat])
        return found.astype(np.float64).reshape(residual.shape)

    def _solve(self, factor: Any, right: FloatArray) -> Any:
        if isinstance(factor, np.ndarray):
            return solve(factor, right)
        return self._design.solve(factor, right)


def most(curved: FloatArray, drop: float) -> Index:
    """Return the rows, ascending, without those of least curvature that make up a part of it."""
    order = np.argsort(curved)
    total = np.cumsum(curved[order])
    return np.sort(order[int(np.searchsorted(total, drop * total[-1])) :])


def _without_least(curved: FloatArray) -> FloatArray:
    """Return the curvature, 0 for the rows that hardly matter."""
    kept = most(curved, _LEFT_OUT)
    weights = np.zeros_like(curved)
    weights[kept] = curved[kept]
    return weights

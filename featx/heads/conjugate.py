"""Conjugate gradients for several symmetric systems side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray

Index = npt.NDArray[np.intp]


def conjugate_gradients(
    product: Callable[[FloatArray, Index], FloatArray],
    approximate: Callable[[FloatArray, Index], FloatArray],
    right: FloatArray,
    accuracy: FloatArray,
    most: npt.NDArray[np.int64],
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Solve symmetric systems, several side by side.

    Parameters
    ----------
    product, approximate : callable
        The matrices times vectors, and their preconditioners': of the vectors, and of which
        systems they are.
    right : ndarray of shape (n_systems, n), float64
        Right sides.
    accuracy : ndarray of shape (n_systems,), float64
        Part of the residual, in the preconditioner's norm, that may be left.
    most : ndarray of shape (n_systems,), int64
        Products at most. 0: what the preconditioner gives.

    Returns
    -------
    solution : ndarray of shape (n_systems, n), float64
    used : ndarray of shape (n_systems,), int64
        Products that each system took.
    """
    n = len(right)
    solution, used = np.zeros_like(right), np.zeros(n, dtype=np.int64)
    going, residual = np.arange(n), right.copy()
    z = approximate(residual, going)
    size = np.einsum("ki,ki->k", residual, z)
    goal = accuracy**2 * size
    solution[most == 0] = z[most == 0]
    going = going[most > 0]
    way, size = z[going], size[going]
    while len(going):
        image = product(way, going)
        used[going] += 1
        bend = np.einsum("ki,ki->k", way, image)
        t = np.divide(size, bend, out=np.zeros_like(size), where=bend > 0)[:, None]
        solution[going] += t * way
        residual[going] -= t * image
        z = approximate(residual[going], going)
        new = np.einsum("ki,ki->k", residual[going], z)
        further = (new > goal[going]) & (bend > 0) & (used[going] < most[going])
        way = z + np.divide(new, size, out=np.zeros_like(new), where=size > 0)[:, None] * way
        going, way, size = going[further], way[further], new[further]
    return solution, used

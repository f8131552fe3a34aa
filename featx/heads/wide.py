r"""Problems with more columns than rows, solved in as many coordinates as there are rows.

The solution lies in the span of the rows, :math:`w = X' \beta`. With the kernel's factorization
:math:`X X' + \epsilon I = L L'`, the rows of L are, but for epsilon, the rows of X turned into
other coordinates: :math:`v = L' \beta` has the length of w and :math:`L v` its scores. So the
problem over L has the same solution and n_rows columns, where products cost little. The kernel is
in single precision and epsilon a few of its roundings, which moves the solution a little: what is
taken from it are the rows inside the margin, from which steps in the columns themselves go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from featx.errors import DataError
from featx.heads.designs import DOUBLE, SINGLE, Design
from featx.heads.lapack import Matrix, cholesky
from featx.heads.newton import PathPoint, Problems, solve_path
from featx.heads.shared_gram import SharedGram

# Roundings of the kernel, in units of its mean diagonal, that are added to the diagonal.
_ROUNDINGS = 4.0
# The gap over the rows' coordinates from which steps in the columns take over.
_NEAR = 1e-3


class SvmSolver:
    """Solves problems over the same rows, in the smaller of the two spaces.

    Gram matrices, kernel and factor are computed once, for all problems.

    Parameters
    ----------
    design : Design
        The rows.
    tol, max_iter, gram_bytes
        As for `featx.heads.newton.solve_path`.
    """

    def __init__(
        self, design: Design, *, tol: float = 1e-6, max_iter: int = 1000, gram_bytes: int = 2**31
    ) -> None:
        self._design = design
        self._factor: Matrix | None = None
        self._solve = partial(solve_path, max_iter=max_iter, gram_bytes=gram_bytes)
        self._tol = tol
        self._narrow = design
        if design.n_columns > design.n_rows:
            self._factor = _row_coordinates(design)
            self._narrow = Design(
                self._factor,
                None,
                design.workers,
                single=design.single,
                kernel_bytes=8 * design.n_rows**2,
            )
            # The factor's own products, but for epsilon.
            self._narrow.lend_kernel(design.whole_kernel(self._factor.dtype))
        self._shared = SharedGram(self._narrow)

    def solve(
        self,
        problems: Problems,
        Cs: Sequence[float],
        *,
        on_done: Callable[[float, float], None] = lambda C, share: None,
    ) -> list[PathPoint]:
        """Solve every problem at every C, ascending; see `featx.heads.newton.solve_path`."""
        # Weights of 0 and 1 are rows left out: the matrix of all rows is near.
        weights = problems.row_weights
        near = weights is None or bool(np.isin(weights, (0.0, 1.0)).all())
        shared = self._shared if near else None
        if self._factor is None:
            return self._solve(
                self._design, problems, Cs, tol=self._tol, shared=shared, on_done=on_done
            )
        near_tol = max(self._tol, _NEAR)
        points = self._solve(self._narrow, problems, Cs, tol=near_tol, shared=shared)
        starts = [point.active for point in points]
        polished = self._solve(
            self._design, problems, Cs, tol=self._tol, starts=starts, on_done=on_done
        )
        return [
            replace(after, n_iter=before.n_iter + after.n_iter)
            for before, after in zip(points, polished, strict=True)
        ]


def _row_coordinates(design: Design) -> Matrix:
    """Return L by rows, shape (n_rows, n_rows), in the precision that steps are taken in."""
    dtype = SINGLE if design.single else DOUBLE
    kernel = design.whole_kernel(dtype)
    epsilon = _ROUNDINGS * float(np.finfo(dtype).eps) * max(design.mean_square, 1e-300)
    for _ in range(25):
        factor = kernel.copy()
        factor.flat[:: len(factor) + 1] += epsilon
        with design.workers.together():
            definite = cholesky(factor)
        if definite:
            return np.tril(factor.T)
        # Duplicated rows and rounding: a little more makes it definite.
        epsilon *= 10.0
    raise DataError(
        f"Products between rows are not finite: their mean squared length is "
        f"{design.mean_square:.1e}. Standardize the features."
    )

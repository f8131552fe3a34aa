r"""Squared-hinge SVMs, one class against the rest, by Newton steps on liblinear's objective.

For each class, with labels :math:`y_i = \pm 1`, weights :math:`c_i` of the rows and the intercept's
column in :math:`x_i`, the minimum over w of

.. math:: P(w) = \tfrac12 |w|^2 + C \sum_i c_i \max(0, 1 - y_i w \cdot x_i)^2 .

P is convex and piecewise quadratic. Where S is the set of rows inside the margin, the minimum of
the piece at hand solves

.. math:: \Big(\frac{I}{2C} + \sum_{i \in S} c_i x_i x_i'\Big) w = \sum_{i \in S} c_i y_i x_i,

and a step towards it with an exact line search ends at the optimum after finitely many steps
(Mangasarian, "A finite Newton method for classification", Optimization Methods and Software 17
(2002), 913-929; Keerthi and DeCoste, "A modified finite Newton method for fast solution of large
scale linear SVMs", JMLR 6 (2005), 341-361).

What makes it fast: the Gram matrix of all rows is computed once for all classes and values of C; a
class's own differs from an earlier one by the rows that entered or left S; with fewer rows in S
than columns the same step is solved over those rows; and a large C is reached from small ones,
since far from the optimum S changes by thousands of rows a step. Factorizations are in single
precision where that is enough; scores, gradients and the bound are always in double.

The bound on the distance to the optimum is that of `featx.heads.certificate`:
:math:`\alpha_i = 2 C c_i h_i`, scaled as well as can be, is feasible in the dual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.designs import Design
from featx.heads.lapack import Matrix

# Steps along a line: each is a Newton step of one variable, kept in its bracket.
_LINE_STEPS = 40
# Single precision has done what it can where fewer rows than this part entered or left S in a step
# that did not bring the gap below this part of the last one, or after so many steps at one C.
_SETTLED = 0.002
_PROGRESS = 0.1
_SINGLE_STEPS = 20
# A step that lowers the objective less than this part of it is rounding.
_ROUNDING = 1e-15


@dataclass(frozen=True)
class Problems:
    """Classes to separate from the rest, over the same rows.

    Attributes
    ----------
    labels : ndarray of shape (n_rows,), int64
        Index of each row's class.
    positives : sequence of int
        Class of each problem.
    row_weights : ndarray of shape (n_rows,), float64, or None
        Weight of each row's loss in every problem; None for 1.
    positive_weights : ndarray of shape (n_problems,), float64, or None
        Further weight of the rows of the problem's own class; None for 1.
    """

    labels: npt.NDArray[np.int64]
    positives: Sequence[int]
    row_weights: FloatArray | None = None
    positive_weights: FloatArray | None = None


@dataclass(frozen=True)
class PathPoint:
    """The solution at one value of C.

    Attributes
    ----------
    C : float
        Weight of the loss.
    weights : ndarray of shape (n_problems, n_columns), float64
        Per class, the intercept's column last.
    objective, gap : ndarray of shape (n_problems,), float64
        P, and its relative distance from a dual value at most.
    n_iter : ndarray of shape (n_problems,), int64
        Newton steps, since the path began.
    """

    C: float
    weights: FloatArray
    objective: FloatArray
    gap: FloatArray
    n_iter: npt.NDArray[np.int64]


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
        self._factors: dict[Any, tuple[float, Matrix | None]] = {}

    def gram(self, dtype: Any) -> Matrix:
        """Return the upper triangle of ``sum_i c_i x_i x_i'``."""
        if dtype not in self._grams:
            gram = self._design.zero_gram(dtype)
            self._design.add_grams([gram], [self.weights])
            self._grams[dtype] = gram
        return self._grams[dtype]

    def factor(self, C: float, dtype: Any) -> Matrix | None:
        """Return the Cholesky factor of that and ``I / 2C``, or None where it has none."""
        if self._factors.get(dtype, (None,))[0] != C:
            with self._design.workers.together():
                self._factors[dtype] = (C, self._design.factor(self.gram(dtype).copy(), 0.5 / C))
        return self._factors[dtype][1]


class Group:
    """Problems that are solved in step with each other, from one C to the next."""

    def __init__(
        self, design: Design, problems: Problems, group: range, shared: SharedGram
    ) -> None:
        self._design, self._shared = design, shared
        positives = np.asarray(problems.positives)[list(group)]
        own = problems.labels == positives[:, None]
        self._signs = np.where(own, 1.0, -1.0)
        # (1, n_rows) where all problems weigh alike.
        self._weights = np.ones((1, design.n_rows))
        if problems.row_weights is not None:
            self._weights = problems.row_weights[None]
        if problems.positive_weights is not None:
            more = problems.positive_weights[list(group)][:, None]
            self._weights = np.where(own, more, 1.0) * self._weights
        self._w = np.zeros((len(group), design.n_columns))
        self._z = np.zeros((len(group), design.n_rows))
        self._n_iter = np.zeros(len(group), dtype=np.int64)
        # Per problem the weights of the rows its Gram matrix holds, and the matrix.
        self._grams: dict[int, tuple[FloatArray, Matrix]] = {}
        self._single = np.full(len(group), design.single and design.n_columns <= design.n_rows)
        # Whether a problem's steps over rows are solved for as corrections of w.
        self._correcting = np.zeros(len(group), dtype=bool)

    def begin(self, weights: FloatArray) -> None:
        """Start from given weights."""
        self._w = weights.copy()
        self._z = self._design.scores(self._w)

    def _costs(self, k: int) -> FloatArray:
        return self._weights[k if len(self._weights) > 1 else 0]

    def solve(self, C: float, tol: float, max_iter: int) -> PathPoint:
        """Take Newton steps until every problem's gap is at most `tol`."""
        n = len(self._w)
        objective, gap = np.full(n, np.inf), np.ones(n)
        live, steps = np.arange(n), 0
        before = np.zeros((n, self._design.n_rows), dtype=bool)
        self._correcting[:] = False
        while len(live):
            hinge = np.maximum(0.0, 1.0 - self._signs[live] * self._z[live])
            weights = self._weights[live] if len(self._weights) > 1 else self._weights
            loss = C * np.einsum("ki,ki,ki->k", np.broadcast_to(weights, hinge.shape), hinge, hinge)
            alpha = 2.0 * C * weights * hinge
            normal = self._design.gradients(alpha * self._signs[live])
            value = 0.5 * (self._w[live] ** 2).sum(axis=1) + loss
            nearer = 1.0 - _dual_values(alpha, normal, loss) / value
            # Rows of weight 0 take no part.
            active = (hinge > 0) & (weights > 0)
            # A problem that changes to double precision now has not taken a step in it.
            double = ~self._single[live]
            if steps:
                settled = (active != before[live]).mean(axis=1) < _SETTLED
                poor = (settled & (nearer > _PROGRESS * gap[live])) | (steps >= _SINGLE_STEPS)
                self._to_double(live[poor])
            stuck = (value > objective[live] * (1.0 - _ROUNDING)) & double
            # The objective's last digit is right; corrections may still better the bound.
            going = (nearer > tol) & ~(stuck & self._correcting[live])
            self._correcting[live] |= stuck
            gap[live], objective[live], before[live] = nearer, value, active
            if steps == max_iter or not going.any():
                break
            live = live[going]
            direction = self._directions(live, C, active[going], normal[going])
            self._move(live, C, direction)
            self._n_iter[live] += 1
            steps += 1
        return PathPoint(C, self._w.copy(), objective, gap, self._n_iter.copy())

    def _to_double(self, problems: npt.NDArray[np.intp]) -> None:
        """Go on in double precision."""
        for k in problems[self._single[problems]].tolist():
            self._single[k] = False
            self._grams.pop(k, None)

    def _directions(
        self, live: npt.NDArray[np.intp], C: float, active: Any, normal: FloatArray
    ) -> FloatArray:
        """Return from each w the way to the minimum of its piece of P."""
        over_rows = active.sum(axis=1) < self._design.n_columns
        result = np.empty((len(live), self._design.n_columns))
        for solve_part, part in ((self._over_rows, over_rows), (self._over_columns, ~over_rows)):
            if part.any():
                result[part] = solve_part(live[part], C, active[part], normal[part])
        return result

    def _over_columns(
        self, live: npt.NDArray[np.intp], C: float, active: Any, normal: FloatArray
    ) -> FloatArray:
        """Solve for the directions with systems over the columns."""
        design = self._design
        whole = self._update_grams(live, active)
        shared = {t: self._shared.factor(C, t) for t in {self._type(k) for k in whole}}

        def one(j: int) -> Matrix | None:
            k = int(live[j])
            factor = shared[self._type(k)] if k in whole else None
            if k not in whole or not (factor is not None or self._single[k]):
                gram = self._shared.gram(self._type(k)) if k in whole else self._grams[k][1]
                factor = self._factor(k, gram.copy, 0.5 / C)
            right = (normal[j] - self._w[k]) / (2.0 * C)
            return None if factor is None else design.solve(factor, right)

        found = design.workers.map(one, range(len(live)))
        failed = np.array([direction is None for direction in found])
        if failed.any():
            self._to_double(live[failed])
            return self._over_columns(live, C, active, normal)
        return np.array(found, dtype=np.float64)

    def _factor(
        self, k: int, matrix: Callable[[], Matrix], diagonal: FloatArray | float
    ) -> Matrix | None:
        """Return the Cholesky factor of a problem's matrix and diagonal.

        None where single precision does not do. In double precision a diagonal that is lost in
        rounding is raised: what is solved for is then not the minimum, but still a way down.
        """
        factor = self._design.factor(matrix(), diagonal)
        more = float(np.finfo(np.float64).eps) * self._design.mean_square
        while factor is None and not self._single[k]:
            factor = self._design.factor(matrix(), diagonal + more)
            more *= 10.0
        return factor

    def _type(self, k: int) -> Any:
        return np.dtype(np.float32 if self._single[k] else np.float64)

    def _update_grams(self, live: npt.NDArray[np.intp], active: Any) -> set[int]:
        """Bring the Gram matrices up to date; return the problems whose rows are all active."""
        base = self._shared.weights
        whole, grams, changes = set(), [], []
        for k, inside in zip(live.tolist(), active, strict=True):
            weights = np.where(inside, self._costs(k), 0.0)
            options = [("base", weights - base), ("empty", weights)]
            if k in self._grams:
                options.append(("own", weights - self._grams[k][0]))
            start, change = min(options, key=lambda option: np.count_nonzero(option[1]))
            if start == "base" and not change.any():
                whole.add(k)
                continue
            all_rows = self._shared.gram(self._type(k))
            if start == "own":
                gram = self._grams[k][1]
            else:
                gram = all_rows.copy() if start == "base" else self._design.zero_gram(self._type(k))
            self._grams[k] = (weights, gram)
            grams.append(gram)
            changes.append(change)
        self._design.add_grams(grams, changes)
        return whole

    def _over_rows(
        self, live: npt.NDArray[np.intp], C: float, active: Any, normal: FloatArray
    ) -> FloatArray:
        """Solve for the directions with systems over the active rows, smaller than the others."""
        design = self._design
        design.expect_kernels([int(size) for size in active.sum(axis=1)])
        rows = [np.flatnonzero(inside) for inside in active]
        ridge = [0.5 / (C * self._costs(k)[index]) for k, index in zip(live, rows, strict=True)]
        signs = np.where(active, self._signs[live], 0.0)
        for dtype in {self._type(k) for k in live.tolist()}:
            design.prepare(dtype)

        def factorize(j: int) -> Matrix | None:
            k = int(live[j])
            return self._factor(k, partial(design.kernel, rows[j], self._type(k)), ridge[j])

        factors = design.workers.map(factorize, range(len(live)))
        failed = np.array([factor is None for factor in factors])
        if failed.any():
            self._to_double(live[failed])
            return self._over_rows(live, C, active, normal)
        beta = np.zeros_like(signs)

        def improve(residual: FloatArray) -> None:
            for j, index in enumerate(rows):
                factor = factors[j]
                assert factor is not None
                beta[j, index] += design.solve(factor, residual[j, index])

        single, correcting = self._single[live][:, None], self._correcting[live][:, None]
        residual = signs
        if correcting.any():
            # Not the minimum but the way to it from w, whose rounding shrinks with its length;
            # far from the minimum, with a large C, it is the other way round.
            way = design.scores(self._w[live] - normal)
            residual = np.where(correcting, np.where(active, way, 0.0), signs)
        improve(residual)
        if single.any():
            # What single precision got wrong, found in double and solved for once more.
            residual = np.where(active & single, signs - design.scores(design.gradients(beta)), 0.0)
            for j, index in enumerate(rows):
                residual[j, index] -= single[j] * ridge[j] * beta[j, index]
            improve(residual)
        return design.gradients(beta) + np.where(correcting, normal, 0.0) - self._w[live]

    def _move(self, live: npt.NDArray[np.intp], C: float, direction: FloatArray) -> None:
        """Step to the lowest point along each direction."""
        slopes = self._design.scores(direction)

        def step(j: int) -> float:
            k = int(live[j])
            return _best_step(
                self._w[k], direction[j], 1.0 - self._signs[k] * self._z[k],
                self._signs[k] * slopes[j], C * self._costs(k),
            )  # fmt: skip

        t = np.array(self._design.workers.map(step, range(len(live))))
        self._w[live] += t[:, None] * direction
        self._z[live] += t[:, None] * slopes


def _dual_values(alpha: FloatArray, normal: FloatArray, loss: FloatArray) -> FloatArray:
    """Return the dual value of each alpha, scaled by its best factor."""
    total = alpha.sum(axis=1)
    # sum(alpha^2 / 4 C c), the dual's own quadratic term, is the loss where alpha = 2 C c h.
    quadratic = (normal**2).sum(axis=1) + 2.0 * loss
    return np.divide(total**2, 2.0 * quadratic, out=np.zeros_like(total), where=total > 0)


def _best_step(
    w: FloatArray, direction: FloatArray, hinge: FloatArray, slope: FloatArray, costs: FloatArray
) -> float:
    """Return the t >= 0 that minimizes P along ``w + t * direction``.

    P's derivative along the line is piecewise linear and grows: Newton's method in one variable,
    kept inside the bracket that the signs of the derivative give.
    """
    first, second = float(w @ direction), float(direction @ direction)
    t, low, high = 1.0, 0.0, np.inf
    for _ in range(_LINE_STEPS):
        h = hinge - t * slope
        inside = h > 0
        weighted = np.where(inside, costs * slope, 0.0)
        derivative = first + t * second - 2.0 * float(weighted @ h)
        curvature = second + 2.0 * float(weighted @ slope)
        if curvature <= 0.0:
            return 0.0
        low, high = (low, t) if derivative > 0 else (t, high)
        better = t - derivative / curvature
        if not low <= better <= high:
            better = 0.5 * (low + high) if high < np.inf else 2.0 * t
        if abs(better - t) <= 1e-9 * t:
            return better
        t = better
    return t

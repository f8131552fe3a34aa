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

What makes it fast: the Gram matrix of all rows is computed once for all classes and values of C,
and few other matrices are factorized (`featx.heads.directions`); a large C is reached from small
ones, since far from the optimum S changes by thousands of rows a step; and on the way there single
precision is enough.

The bound on the distance to the optimum is that of `featx.heads.certificate`:
:math:`\alpha_i = 2 C c_i h_i`, scaled as well as can be, is feasible in the dual; so is
:math:`\alpha_i = |\beta_i|` where the system over the rows gave beta and S did not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.designs import DOUBLE, SINGLE, Design
from featx.heads.directions import Directions, Pieces
from featx.heads.shared_gram import SharedGram

# Steps along a line: each is a Newton step of one variable, kept in its bracket, until the slope
# promises no more than this part of P, in units of the gap that is wanted.
_LINE_STEPS, _LINE_END = 40, 1e-4
# Single precision has done what it can after so many steps at one C.
_SINGLE_STEPS = 40
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
    active : ndarray of shape (n_problems, n_rows), bool
        Rows inside the margin.
    """

    C: float
    weights: FloatArray
    objective: FloatArray
    gap: FloatArray
    n_iter: npt.NDArray[np.int64]
    active: npt.NDArray[np.bool_]


class Group:
    """Problems that are solved in step with each other, from one C to the next."""

    def __init__(
        self, design: Design, problems: Problems, group: range, shared: SharedGram
    ) -> None:
        self._design = design
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
        # What solves the equations over the rows for w as it is; NaN where nothing is known to.
        self._beta = np.full((len(group), design.n_rows), np.nan)
        self._n_iter = np.zeros(len(group), dtype=np.int64)
        self._directions = Directions(design, self._signs, self._weights, shared)
        # Precision of the products that the scores come from.
        self._precision: Any = DOUBLE

    def begin(self, active: npt.NDArray[np.bool_], C: float, tol: float) -> None:
        """Start from the minimum of the piece of P with these rows inside the margin."""
        self._precision = DOUBLE
        self._restart(np.arange(len(self._w)), active, C, tol)

    def _restart(
        self, problems: npt.NDArray[np.intp], active: npt.NDArray[np.bool_], C: float, tol: float
    ) -> None:
        """Go to the minimum of a piece from 0: nothing is left of earlier rounding."""
        w, z = np.zeros_like(self._w[problems]), np.zeros_like(self._z[problems])
        ones = np.ones(len(problems))
        pieces = Pieces(problems, C, w, z, active, np.zeros_like(w), ones, ones, tol, rough=False)
        if not self._directions.by_rows(pieces).all():
            # Over columns the sum of what is active is asked for, as if each hinge were 1.
            alpha = np.where(active, 2.0 * C * self._costs(problems), 0.0)
            pieces.normal[:] = self._design.gradients(alpha * self._signs[problems])
        found = self._directions.find(pieces)
        self._w[problems], self._z[problems], self._beta[problems] = found

    def _costs(self, problems: npt.NDArray[np.intp]) -> FloatArray:
        return self._weights[problems] if len(self._weights) > 1 else self._weights

    def solve(self, C: float, tol: float, max_iter: int, *, rough: bool = False) -> PathPoint:
        """Take Newton steps until every problem's gap is at most `tol`.

        Where `rough`, products are in single precision as long as that leads on.
        """
        n = len(self._w)
        objective, gap = np.full(n, np.inf), np.ones(n)
        live, steps = np.arange(n), 0
        inside = np.zeros((n, self._design.n_rows), dtype=bool)
        # Which have started anew from the piece they were stuck on.
        anew = np.zeros(n, dtype=bool)
        while len(live):
            by = SINGLE if rough and self._directions.coarse[live].all() else DOUBLE
            if by == DOUBLE and self._precision == SINGLE:
                self._z = self._design.scores(self._w)
                self._beta[:], objective[:] = np.nan, np.inf
            self._precision = by
            hinge = np.maximum(0.0, 1.0 - self._signs[live] * self._z[live])
            weights = self._costs(live)
            loss = C * np.einsum("ki,ki,ki->k", np.broadcast_to(weights, hinge.shape), hinge, hinge)
            value = 0.5 * (self._w[live] ** 2).sum(axis=1) + loss
            nearer = 1.0 - self._dual_of_rows(live, C) / value
            normal = np.zeros_like(self._w[live])
            if (nearer > tol).any():
                alpha = 2.0 * C * weights * hinge
                normal = self._design.gradients(alpha * self._signs[live], by)
                nearer = np.minimum(nearer, 1.0 - _dual_values(alpha, normal, loss) / value)
            if by == DOUBLE:
                # The dual value 0 is always feasible: a gap of 1 says that nothing is known.
                nearer += self._rounding(live, C, weights * hinge) / value
                nearer = np.minimum(nearer, 1.0)
            # Rows of weight 0 take no part.
            active = (hinge > 0) & (weights > 0)
            # A problem that changes to double precision now has not taken a step in it.
            double = ~self._directions.single[live]
            lowered = value <= objective[live] * (1.0 - _ROUNDING)
            self._directions.to_double(live[~lowered | (steps >= _SINGLE_STEPS)])
            gap[live], objective[live], inside[live] = nearer, value, active
            stuck = ~lowered & double & (nearer > tol)
            again = stuck & ~anew[live] & (not rough)
            if again.any() and steps < max_iter:
                anew[live[again]], objective[live[again]] = True, np.inf
                self._restart(live[again], active[again], C, tol)
                self._n_iter[live[again]] += 1
                steps += 1
                live = live[(nearer > tol) & (~stuck | again)]
                continue
            going = (nearer > tol) & ~stuck
            if steps == max_iter or not going.any():
                break
            live = live[going]
            pieces = Pieces(
                live, C, self._w[live], self._z[live], active[going], normal[going],
                value[going], nearer[going], tol, by == SINGLE,
            )  # fmt: skip
            self._move(pieces)
            self._n_iter[live] += 1
            steps += 1
        return PathPoint(C, self._w.copy(), objective, gap, self._n_iter.copy(), inside)

    def _rounding(self, live: npt.NDArray[np.intp], C: float, weighted: FloatArray) -> FloatArray:
        """Return what rounding of the scores can make of P: it matters for huge C."""
        # The terms of a score, column by column: an intercept is not as large as a row is long.
        lengths = np.sqrt(self._w[live] ** 2 @ self._design.column_squares)
        error = 4.0 * float(np.finfo(np.float64).eps) * (lengths + 1.0)
        squares = np.broadcast_to(self._costs(live), weighted.shape).sum(axis=1)
        return C * error * (2.0 * weighted.sum(axis=1) + error * squares)

    def _dual_of_rows(self, live: npt.NDArray[np.intp], C: float) -> FloatArray:
        """Return the dual value of each problem's beta; 0 where it has none or is not feasible."""
        beta = self._beta[live]
        alpha = self._signs[live] * beta
        known = (alpha >= 0).all(axis=1)
        if not known.any():
            return np.zeros(len(live))
        costs = np.broadcast_to(self._costs(live), beta.shape)
        squares = np.divide(alpha**2, costs, out=np.zeros_like(alpha), where=costs > 0)
        # w is the sum of beta_i x_i.
        quadratic = (self._w[live] ** 2).sum(axis=1) + squares.sum(axis=1) / (2.0 * C)
        total = alpha.sum(axis=1)
        known &= total > 0
        return np.divide(total**2, 2.0 * quadratic, out=np.zeros_like(total), where=known)

    def _move(self, pieces: Pieces) -> None:
        """Step to the lowest point along each problem's direction."""
        live, C = pieces.live, pieces.C
        direction, slopes, beta = self._directions.find(pieces)
        flat = _LINE_END * pieces.tol * pieces.value

        def step(j: int) -> float:
            signs = self._signs[live[j]]
            return _best_step(
                pieces.w[j], direction[j], 1.0 - signs * pieces.z[j], signs * slopes[j],
                C * self._costs(live[j : j + 1])[0], float(flat[j]),
            )  # fmt: skip

        t = np.array(self._design.workers.map(step, range(len(live))))
        self._w[live] += t[:, None] * direction
        self._z[live] += t[:, None] * slopes
        self._beta[live] = np.where((t == 1.0)[:, None], beta, np.nan)


def _dual_values(alpha: FloatArray, normal: FloatArray, loss: FloatArray) -> FloatArray:
    """Return the dual value of each alpha, scaled by its best factor."""
    total = alpha.sum(axis=1)
    # sum(alpha^2 / 4 C c), the dual's own quadratic term, is the loss where alpha = 2 C c h.
    quadratic = (normal**2).sum(axis=1) + 2.0 * loss
    return np.divide(total**2, 2.0 * quadratic, out=np.zeros_like(total), where=total > 0)


def _best_step(
    w: FloatArray,
    direction: FloatArray,
    hinge: FloatArray,
    slope: FloatArray,
    costs: FloatArray,
    flat: float,
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
        if abs(derivative) <= flat:
            return t
        if curvature <= 0.0:
            return 0.0
        low, high = (low, t) if derivative > 0 else (t, high)
        better = t - derivative / curvature
        if not low <= better <= high:
            better = 0.5 * (low + high) if high < np.inf else 2.0 * t
        if better == t:
            return t
        t = better
    return t

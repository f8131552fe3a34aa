r"""Where a Newton step of the squared-hinge SVM leads: the minimum of the piece of P at hand.

With S the rows inside the margin, their weights :math:`c_i`, and :math:`\lambda = 1 / 2C`, that
minimum v solves either of two systems:

.. math:: \Big(\lambda I + \sum_S c_i x_i x_i'\Big) v = \sum_S c_i y_i x_i
          \quad\text{or}\quad v = X_S' \beta, \;
          \big(X_S X_S' + \mathrm{diag}(\lambda / c_i)\big) \beta = y_S,

over the columns or over the active rows, whichever costs less. Both are solved by conjugate
gradients, preconditioned by a Cholesky factor in single precision:

- Over the columns an old factor will do, of another S, another C, or of all rows, which all
  classes share: measured on ResNet features, a factor from before a thousand rows entered or left S
  costs 3 to 6 products for a tenth of the residual. A class gets a new factor of its own where
  products have become dearer than that.
- Over the rows the factor is new each time; products in double precision put right what single
  precision got wrong. The solution proposes a dual point as well, whose bound stays sharp where the
  gradient of P is lost in rounding.

Where single precision does not lead on, factors and products are in double, problem by problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.conjugate import conjugate_gradients
from featx.heads.designs import DOUBLE, SINGLE, SINGLE_RANGE, Design
from featx.heads.lapack import Matrix
from featx.heads.shared_gram import SharedGram, factorized

Index = npt.NDArray[np.intp]

# Prices, in multiply-adds of a large product of matrices in single precision: of reading a value of
# the features for a product with all classes (in memory, or from elsewhere), of reading a value of
# a factor, of picking a value out of the kernel; and what a product and a solution cost however
# small they are. Measured on two cores with AVX2.
_READ, _READ_STORED, _READ_FACTOR, _PICK = 100.0, 500.0, 100.0, 50.0
_CALL, _CALL_SOLVE = 1e9, 1e7
# The kernel of all rows is bought once it would have saved this part of its price.
_PATIENCE = 0.2
# Products that the first solution with a shared factor is expected to take.
_FIRST_GUESS = 6
# What may be left of the residual over columns: on the way, near the optimum, in double precision.
_ROUGH, _FINE, _EXACT = 0.2, 0.01, 1e-8
# A class whose rows inside the margin changed by less than this part of all has nearly settled.
_SETTLED = 0.002
# A step after which less than this part of the gap is left was worth it.
_SHRINKS = 0.1
# Hinges (root mean square) from which products in single precision tell which rows are active.
_COARSE_HINGE = 0.01
# Products at most over columns, and corrections at most over rows.
_MOST_PRODUCTS, _MOST_CORRECTIONS = 60, 4
# In double precision nothing else is to follow.
_EXACT_CORRECTIONS = 20
# What may be left of the equations over rows, beside the hinges.
_LEFT, _EXACT_LEFT = 1e-3, 1e-9


@dataclass
class Pieces:
    """Problems, and the pieces of P on which they are.

    Attributes
    ----------
    live : ndarray of shape (n,), int
        The problems.
    C : float
        Weight of the loss.
    w, z : ndarray of shape (n, n_columns) and (n, n_rows), float64
        Weights and scores.
    active : ndarray of shape (n, n_rows), bool
        Rows inside the margin.
    normal : ndarray of shape (n, n_columns), float64
        Sum of ``2 C c_i h_i y_i x_i``: w minus the gradient of P.
    value, gap : ndarray of shape (n,), float64
        P, and its relative gap.
    tol : float
        The gap that is wanted.
    rough : bool
        Whether steps on the way need no better products than in single precision.
    """

    live: Index
    C: float
    w: FloatArray
    z: FloatArray
    active: npt.NDArray[np.bool_]
    normal: FloatArray
    value: FloatArray
    gap: FloatArray
    tol: float
    rough: bool

    def part(self, chosen: npt.NDArray[np.bool_]) -> Pieces:
        """Return some of the problems."""
        return Pieces(
            self.live[chosen], self.C, self.w[chosen], self.z[chosen], self.active[chosen],
            self.normal[chosen], self.value[chosen], self.gap[chosen], self.tol, self.rough,
        )  # fmt: skip


class Directions:
    """Finds directions for the problems of a group, and keeps what they can use again.

    Parameters
    ----------
    design : Design
        The rows.
    signs : ndarray of shape (n_problems, n_rows), float64
        Labels, -1 or 1.
    weights : ndarray of shape (n_problems, n_rows) or (1, n_rows), float64
        Weights of the rows.
    shared : SharedGram
        Of all rows.

    Attributes
    ----------
    single : ndarray of shape (n_problems,), bool
        Which problems use factors in single precision.
    coarse : ndarray of shape (n_problems,), bool
        For which products in single precision do, on the way.
    """

    def __init__(
        self, design: Design, signs: FloatArray, weights: FloatArray, shared: SharedGram
    ) -> None:
        self._design, self._signs, self._weights, self._shared = design, signs, weights, shared
        # Sums over rows must stay in the range of single precision.
        largest = design.n_rows * design.mean_square * float(weights.max(initial=0.0))
        self.single = np.full(len(signs), design.single and largest < SINGLE_RANGE)
        self.coarse = self.single.copy()
        # Per problem the weights of the rows its Gram matrix holds, the matrix, and a factor.
        self._grams: dict[int, tuple[FloatArray, Matrix]] = {}
        self._factors: dict[int, Matrix] = {}
        # Products that the last solution with the factor at hand took.
        self._products = np.full(len(signs), _FIRST_GUESS)
        # The gap when the last factor was made.
        self._gap_before = np.ones(len(signs))
        # What the kernel of all rows would have saved so far.
        self._saved = 0.0

    def to_double(self, problems: Index) -> None:
        """Go on in double precision."""
        for k in problems[self.single[problems]].tolist():
            self.single[k] = self.coarse[k] = False
            self._grams.pop(k, None)
            self._factors.pop(k, None)

    def find(self, pieces: Pieces) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return directions, what they add to the scores, and beta (NaN over columns)."""
        n = len(pieces.live)
        direction, slopes = np.empty_like(pieces.w), np.empty_like(pieces.z)
        beta = np.full_like(pieces.z, np.nan)
        rows = self.by_rows(pieces)
        for over_rows in (True, False):
            for single in (True, False):
                chosen = (rows == over_rows) & (self.single[pieces.live] == single)
                if not chosen.any():
                    continue
                part = pieces if chosen.all() else pieces.part(chosen)
                dtype = SINGLE if single else DOUBLE
                if over_rows:
                    found = self._over_rows(part, dtype)
                    direction[chosen], slopes[chosen], beta[chosen] = found
                else:
                    direction[chosen] = self._over_columns(part, dtype)
        if n and not rows.all():
            by = SINGLE if pieces.rough else DOUBLE
            slopes[~rows] = self._design.scores(direction[~rows], by)
        return direction, slopes, beta

    def _costs(self, k: int) -> FloatArray:
        return self._weights[k if len(self._weights) > 1 else 0]

    def _read(self) -> float:
        return _READ if self._design.quick else _READ_STORED

    def _product_price(self, n_problems: int) -> float:
        """Return the price of a product with the curvature, per problem."""
        design = self._design
        pass_price = _CALL + self._read() * design.n_rows * design.n_columns
        return pass_price / n_problems + _READ_FACTOR * design.n_columns**2 + _CALL_SOLVE

    def by_rows(self, pieces: Pieces) -> npt.NDArray[np.bool_]:
        """Return which problems are best solved over their rows."""
        design = self._design
        n, d = pieces.active.sum(axis=1).astype(np.float64), float(design.n_columns)
        if design.n_rows <= d:
            return np.full(len(n), True)
        product = self._product_price(len(n))
        again = d**3 / 3.0 + n * d**2 + product
        columns_price = np.minimum(self._products[pieces.live] * product, again)
        # Corrections read the features some four times, in double precision.
        corrections = _CALL + 6.0 * self._read() * design.n_rows * d
        rows_price = n**3 / 3.0 + _PICK * n**2 + corrections / len(n)
        if not design.has_kernel(SINGLE):
            rented = rows_price + n**2 * d
            self._saved += float(
                np.maximum(np.minimum(columns_price, rented) - rows_price, 0).sum()
            )
            if self._saved <= _PATIENCE * design.n_rows**2 * d or not design.keep_kernel(SINGLE):
                rows_price = rented
        return np.where(self.single[pieces.live], rows_price < columns_price, n < d)

    def _over_columns(self, pieces: Pieces, dtype: Any) -> FloatArray:
        """Return directions by systems over the columns."""
        design, live, C = self._design, pieces.live, pieces.C
        right = (pieces.normal - pieces.w) / (2.0 * C)
        masks = np.where(pieces.active, self._weights[live if len(self._weights) > 1 else [0]], 0.0)
        fits = self._renew(pieces, masks, dtype)
        masks = masks.astype(dtype)
        # Far from the optimum a step changes the piece: its exact minimum is of no use.
        accuracy = np.clip(_ROUGH * np.sqrt(pieces.gap), _FINE, _ROUGH)
        if dtype == DOUBLE:
            accuracy[:] = _EXACT
        factors = [
            self._factors[k] if k in self._factors else self._shared.factor(C)
            for k in live.tolist()
        ]

        def approximate(residual: FloatArray, problems: Index) -> FloatArray:
            def one(j: int) -> Matrix:
                return design.solve(factors[problems[j]], residual[j])

            return np.array(design.workers.map(one, range(len(problems))), dtype=np.float64)

        def product(way: FloatArray, problems: Index) -> FloatArray:
            return 0.5 / C * way + design.curvatures(way, masks[problems])

        found, used = conjugate_gradients(
            product, approximate, right, accuracy, np.where(fits, 0, _MOST_PRODUCTS)
        )
        self._products[live] = np.maximum(used, 1)
        return found

    def _renew(self, pieces: Pieces, masks: FloatArray, dtype: Any) -> npt.NDArray[np.bool_]:
        """Give a new factor to the problems whose own, or the shared one, costs more by now.

        Returns whose factor is that of the equations, up to rounding which does not matter as long
        as many rows enter and leave S, or the gap shrinks.
        """
        live, C = pieces.live, pieces.C
        d = float(self._design.n_columns)
        price = self._product_price(len(live))
        fits = np.zeros(len(live), dtype=bool)
        renewed = []
        for j, k in enumerate(live.tolist()):
            held = self._grams[k][0] if k in self._grams else 0.0
            changed = min(np.count_nonzero(masks[j]), np.count_nonzero(masks[j] != held))
            dear = self._products[k] * price > d**3 / 3.0 + changed * d**2
            if dtype == DOUBLE or dear:
                renewed.append(j)
                lively = changed > _SETTLED * self._design.n_rows
                shrinks = pieces.gap[j] < _SHRINKS * self._gap_before[k]
                fits[j] = dtype == SINGLE and (lively or shrinks)
                self._gap_before[k] = pieces.gap[j]
        if not renewed:
            return fits
        problems = live[renewed]
        self._update_grams(problems, masks[renewed], dtype)

        def one(k: int) -> Matrix:
            return factorized(self._design, self._grams[k][1].copy, 0.5 / C)

        found = self._design.workers.map(one, problems.tolist())
        self._factors |= dict(zip(problems.tolist(), found, strict=True))
        return fits

    def _update_grams(self, problems: Index, masks: FloatArray, dtype: Any) -> None:
        """Bring the Gram matrices up to date."""
        base = self._shared.weights
        grams, changes = [], []
        for k, weights in zip(problems.tolist(), masks, strict=True):
            options = [("base", weights - base), ("empty", weights)]
            if k in self._grams:
                options.append(("own", weights - self._grams[k][0]))
            start, change = min(options, key=lambda option: np.count_nonzero(option[1]))
            if start == "own":
                gram = self._grams[k][1]
            elif start == "base":
                gram = self._shared.gram(dtype).copy()
            else:
                gram = self._design.zero_gram(dtype)
            self._grams[k] = (weights, gram)
            grams.append(gram)
            changes.append(change)
        self._design.add_grams(grams, changes)

    def _over_rows(self, pieces: Pieces, dtype: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return directions, slopes and beta by systems over the active rows."""
        design, live, C = self._design, pieces.live, pieces.C
        rows = [np.flatnonzero(inside) for inside in pieces.active]
        ridge = [0.5 / (C * self._costs(k)[index]) for k, index in zip(live, rows, strict=True)]
        if design.n_rows <= design.n_columns:
            design.keep_kernel(dtype)

        def factorize(j: int) -> Matrix:
            return factorized(design, lambda: design.kernel(rows[j], dtype), ridge[j])

        if len(self._weights) == 1 and pieces.active.all() and len(live) > 1:
            with design.workers.together():
                factors = [factorize(0)] * len(live)
        else:
            factors = design.workers.map(factorize, range(len(live)))

        def approximate(residual: FloatArray, problems: Index) -> FloatArray:
            def one(j: int) -> FloatArray:
                index = rows[problems[j]]
                found = np.zeros(design.n_rows)
                found[index] = design.solve(factors[problems[j]], residual[j, index])
                return found

            return np.array(design.workers.map(one, range(len(problems))))

        signs = np.where(pieces.active, self._signs[live], 0.0)
        spread = np.zeros_like(signs)
        for j, index in enumerate(rows):
            spread[j, index] = ridge[j]
        return self._corrected(pieces, signs, spread, approximate)

    def _corrected(
        self,
        pieces: Pieces,
        signs: FloatArray,
        ridge: FloatArray,
        approximate: Callable[[FloatArray, Index], FloatArray],
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Solve over the rows until what is left is small beside the hinges, ``ridge * |beta|``.

        They decide which rows stay active, and can be as small as the rounding of single precision.
        Conjugate gradients whose products are kept: they are the weights and the scores.
        """
        design, n = self._design, len(signs)
        by = SINGLE if pieces.rough else DOUBLE
        costs = np.divide(0.5 / pieces.C, ridge, out=np.zeros_like(ridge), where=ridge > 0)
        beta, v = np.zeros_like(signs), np.zeros_like(pieces.w)
        scores = np.zeros_like(signs)
        residual = signs.copy()
        going = np.arange(n)
        way = approximate(residual, going)
        size = np.einsum("ki,ki->k", residual, way)
        single = bool(self.single[pieces.live[0]])
        most, enough = (_MOST_CORRECTIONS, _LEFT) if single else (_EXACT_CORRECTIONS, _EXACT_LEFT)
        for _ in range(most):
            weights = design.gradients(way, by)
            image = design.scores(weights, by)
            bent = np.where(pieces.active[going], image, 0.0) + ridge[going] * way
            bend = np.einsum("ki,ki->k", way, bent)
            t = np.divide(size, bend, out=np.zeros_like(size), where=bend > 0)[:, None]
            beta[going] += t * way
            v[going] += t * weights
            scores[going] += t * image
            residual[going] -= t * bent
            left = np.einsum("ki,ki,ki->k", costs[going], residual[going], residual[going])
            hinges = ridge[going] * beta[going]
            hinges = np.einsum("ki,ki,ki->k", costs[going], hinges, hinges)
            further = (left > enough**2 * hinges) & (bend > 0)
            if not further.any():
                break
            going, size, way = going[further], size[further], way[further]
            z = approximate(residual[going], going)
            new = np.einsum("ki,ki->k", residual[going], z)
            way = z + np.divide(new, size, out=np.zeros_like(new), where=size > 0)[:, None] * way
            size = new
        typical = np.einsum("ki,ki->k", ridge * beta, ridge * beta)
        typical /= np.maximum(pieces.active.sum(axis=1), 1)
        self.coarse[pieces.live[typical < _COARSE_HINGE**2]] = False
        return v - pieces.w, scores - pieces.z, beta

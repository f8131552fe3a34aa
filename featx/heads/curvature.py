r"""Newton's equations of logistic losses, solved by conjugate gradients.

With probabilities :math:`p_i` over the classes, the loss of a row curves in its scores as
:math:`S_i = \mathrm{diag}(p_i) - p_i p_i'`. Where one class is certain that is nothing: such rows
are left out, which on features that separate the classes are most rows. The others are kept
together in float32, about their mean, and a product reads them once: each block gives scores and
gradients while it lies in the processor's cache.

The Hessian only steers Newton's steps; where they end is up to gradients of all rows in float64,
which are computed elsewhere.

The equations of one problem are preconditioned by a matrix for each class,
:math:`I + C \sum_i p_{ik} (1 - p_{ik}) x_i x_i'`, which few rows have any part in,
and what all classes' weights have in common, in which no loss curves, by the identity. Where there
is no room for so many, or several problems are solved side by side, one matrix serves all, with the
mean curvature of a row. They cost as much as many products: they are made once as much was spent on
products, and again where that was spent and the last steps took more products than the first after
they were made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.designs import Design
from featx.heads.lapack import add_outer, cholesky, solve_rows

Index = npt.NDArray[np.intp]
Single = npt.NDArray[np.float32]

# Values of a block that is to stay in cache between its two uses: 2 MB of float32.
_CACHED_VALUES = 2**19
# Rows are packed anew once no more than this part of those packed are needed.
_WORTH_PACKING = 0.7
# Time of a Gram matrix (per row and squared column) and of its factorization (per cubed column),
# in times of a product with the Hessian (per row and column). Measured at 512 and 2,048 columns.
_GRAM_PRICE = 0.01
_FACTOR_PRICE = 0.004
# Classes up to which a product takes the time of reading the rows.
_FREE_CLASSES = 16
# A preconditioner is renewed if steps take this many times the products that they took at first.
_STALE = 1.3
# Rows that make up this part of the curvature are left out of the preconditioner.
_LEFT_OUT = 0.01
_MAX_PRODUCTS = 100


class Curvature:
    """The Hessian at a point, for problems over the same rows.

    Parameters
    ----------
    design : Design
        The rows; its last column is the intercept's, or it has none.
    intercept : bool
        Whether it has one. Its weights are not penalized.
    pack_bytes : int
        The float32 rows may take this much; where they take more, products use the design.
    gram_bytes : int
        The preconditioner may take this much; where it takes more, there is none.
    """

    def __init__(self, design: Design, intercept: bool, pack_bytes: int, gram_bytes: int) -> None:
        self._design, self._intercept = design, intercept
        self._ridge = np.ones(design.n_columns)
        if intercept:
            self._ridge[-1] = 0.0
        self._packs = 4 * design.n_rows * design.n_columns <= pack_bytes
        self._gram_bytes = gram_bytes
        self._index: Index = np.arange(0)
        self._rows: Single = np.zeros((0, design.n_columns), dtype=np.float32)
        self._mean = np.zeros(design.n_columns)
        # The intercept's column, of the size of the others: what to multiply its weights with.
        size = max(design.mean_square / design.n_columns, np.finfo(np.float64).tiny)
        self._unit = float(np.sqrt(size)) if intercept and self._packs else 1.0
        # One for each class, or one for all; none yet.
        self._factors: list[Any] = []
        # Products since it was made; products per digit, in the first solution with it and last.
        self._spent, self._at_first, self._last = 0.0, 0.0, 0.0

    def update(self, p: FloatArray, costs: FloatArray, drop: float) -> None:
        """Take over the point.

        Parameters
        ----------
        p : ndarray of shape (n_problems, n_classes, n_rows), float64
            Probabilities.
        costs : ndarray of shape (n_rows,), float64
            C times the weight of each row.
        drop : float
            Rows may be left out that make up this part of the curvature.
        """
        self._shape = p.shape[:2]
        curved = np.einsum("qki,qki->i", p, 1.0 - p) * costs
        if self._packs:
            self._pack(curved, drop)
        else:
            self._index = np.arange(len(costs))
        self._curved = curved[self._index] / (p.shape[0] * p.shape[1])
        chosen = p if len(self._index) == len(costs) else p[:, :, self._index]
        self._p = np.ascontiguousarray(np.moveaxis(chosen, 2, 0), dtype=np.float32)
        self._costs = costs[self._index].astype(np.float32)[:, None, None]

    def _pack(self, curved: FloatArray, drop: float) -> None:
        """Put the rows together that matter, unless they are."""
        needed = _most(curved, drop)
        packed = np.zeros(len(curved), dtype=bool)
        packed[self._index] = True
        if packed[needed].all() and len(needed) > _WORTH_PACKING * len(self._index):
            return
        if len(self._index):
            # Some more, so that the next points need not pack again.
            needed = _most(curved, 0.3 * drop)
        design = self._design
        rows = np.empty((len(needed), design.n_columns), dtype=np.float32)
        mean = np.zeros(design.n_columns)
        if self._intercept:
            weights = np.zeros(len(curved))
            weights[needed] = curved[needed] / max(curved[needed].sum(), 1e-300)
            mean[:-1] = design.gradients(weights[None])[0, :-1]

        def put(piece: slice) -> None:
            rows[piece] = design.rows(needed[piece]) - mean
            if self._intercept:
                rows[piece, -1] = self._unit

        design.workers.map(put, self._pieces(len(needed)))
        self._index, self._rows, self._mean = needed, rows, mean

    def _pieces(self, n_rows: int) -> list[slice]:
        step = max(1, _CACHED_VALUES // self._design.n_columns)
        return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]

    def product(self, v: FloatArray) -> FloatArray:
        """Return the Hessian times `v`, both (n_problems, n_classes, n_columns)."""
        result = v * self._ridge
        flat = v.reshape(-1, v.shape[-1])

        def curve(u: npt.NDArray[Any], rows: slice) -> npt.NDArray[Any]:
            """Return the curvature times scores, both (n_rows, n_problems * n_classes)."""
            p = self._p[rows]
            u = u.reshape(p.shape)
            bent = p * u
            if self._shape[1] > 1:
                bent -= p * bent.sum(axis=2, keepdims=True)
            else:
                bent -= p * bent
            bent *= self._costs[rows]
            return bent.reshape(len(u), -1)

        if not self._packs:
            bent = curve(self._design.scores(flat).T, slice(None))
            result += self._design.gradients(bent.T.astype(np.float64)).reshape(v.shape)
            return result
        single = flat.astype(np.float32).T

        def add(piece: slice) -> Single:
            x = self._rows[piece]
            return np.asarray(curve(x @ single, piece).T @ x)

        for part in self._design.workers.map(add, self._pieces(len(self._index))):
            result += part.reshape(v.shape)
        return result

    def solve(self, gradient: FloatArray, accuracy: float) -> FloatArray:
        """Return nearly what the Hessian takes to minus the gradient.

        Parameters
        ----------
        gradient : ndarray of shape (n_problems, n_classes, n_columns), float64
            The intercept's entries are taken as 0.
        accuracy : float
            Part of the residual, in the preconditioner's norm, that may be left.
        """
        self._precondition()
        residual = -gradient * self._ridge
        v = np.zeros_like(residual)
        z = self._approximate(residual)
        way = z.copy()
        size = np.einsum("qkj,qkj->q", residual, z)
        goal, n = accuracy**2 * size, 0
        going = size > 0
        while going.any() and n < _MAX_PRODUCTS:
            image = self.product(way)
            n += 1
            bend = np.einsum("qkj,qkj->q", way, image)
            going &= bend > 0
            t = np.where(going, size / np.where(going, bend, 1.0), 0.0)[:, None, None]
            v += t * way
            residual -= t * image
            z = self._approximate(residual)
            size, before = np.einsum("qkj,qkj->q", residual, z), size
            going &= size > goal
            ratio = np.where(going, size / np.where(going, before, 1.0), 0.0)
            way = z + ratio[:, None, None] * way
        self._spent += n
        self._last = n / -np.log10(accuracy)
        self._at_first = self._at_first or self._last
        if self._intercept:
            v[:, :, -1] = self._unit * v[:, :, -1] - v[:, :, :-1] @ self._mean[:-1]
        return v

    def _precondition(self) -> None:
        """Make the preconditioner, if that pays."""
        width, n = self._design.n_columns, max(1, len(self._index))
        if self._factors and self._last <= _STALE * self._at_first:
            return
        room = self._gram_bytes // (8 * width**2)
        if room == 0:
            return
        n_classes = self._shape[1]
        alone = self._shape[0] == 1 and 1 < n_classes <= room
        if alone:
            p = self._p[:, 0].astype(np.float64)
            curved = list((p * (1.0 - p) * self._costs[:, 0]).T)
        else:
            curved = [self._curved]
        kept = [_most(each, _LEFT_OUT) for each in curved]
        passes = max(1.0, self._shape[0] * n_classes / _FREE_CLASSES)
        n_kept = sum(map(len, kept))
        price = _GRAM_PRICE * width * n_kept / n + len(kept) * _FACTOR_PRICE * width**2 / n
        if self._spent * passes <= price:
            return
        self._factors = self._factored(curved, kept)
        self._spent, self._at_first = 0.0, 0.0

    def _factored(self, curved: list[FloatArray], kept: list[Index]) -> list[Any]:
        """Return the factor of the ridge and the rows that are kept, for each curvature of them.

        None where one is not definite in single precision: no preconditioner is better then.
        """
        ridge = np.where(self._ridge > 0, 1.0, 1e-3)
        design = self._design
        factors: list[Any] = []
        if not self._packs:
            grams = [design.zero_gram(np.dtype(np.float32)) for _ in curved]
            weights = [np.zeros(len(each)) for each in curved]
            for weight, each, index in zip(weights, curved, kept, strict=True):
                weight[index] = each[index]
            design.add_grams(grams, weights)
            factors = [design.factor(gram, ridge) for gram in grams]
            return [] if any(factor is None for factor in factors) else factors
        width = design.n_columns
        with design.workers.together():
            for each, index in zip(curved, kept, strict=True):
                gram = np.zeros((width, width), dtype=np.float32)
                for start in range(0, len(index), 2048):
                    some = index[start : start + 2048]
                    scale = np.sqrt(each[some]).astype(np.float32)
                    add_outer(gram, self._rows[some] * scale[:, None])
                gram.flat[:: width + 1] += ridge
                if not cholesky(gram):
                    return []
                factors.append(gram)
        return factors

    def _approximate(self, residual: FloatArray) -> FloatArray:
        """Return the preconditioner's inverse times the residual."""
        if not self._factors:
            return residual.copy()
        if len(self._factors) == 1:
            flat = residual.reshape(-1, residual.shape[-1])
            with self._design.workers.together():
                return self._solved(self._factors[0], flat).reshape(residual.shape)
        common = residual.mean(axis=1, keepdims=True)
        pairs = list(zip(self._factors, (residual - common)[0], strict=True))
        # One right side keeps one thread busy.
        solved = self._design.workers.map(lambda pair: self._solved(pair[0], pair[1][None]), pairs)
        found = np.concatenate(list(solved))[None]
        return found - found.mean(axis=1, keepdims=True) + common

    def _solved(self, factor: Any, rows: FloatArray) -> FloatArray:
        """Return the inverse of a factored matrix times each of some rows."""
        if isinstance(factor, np.ndarray):
            return solve_rows(factor, rows).astype(np.float64)
        return np.array([self._design.solve(factor, row) for row in rows], dtype=np.float64)


def _most(curved: FloatArray, drop: float) -> Index:
    """Return the rows, ascending, without those of least curvature that make up a part of it."""
    order = np.argsort(curved)
    total = np.cumsum(curved[order])
    n_dropped = int(np.searchsorted(total, drop * total[-1]))
    return np.sort(order[n_dropped:])

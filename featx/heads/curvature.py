r"""Newton's equations of logistic losses, solved by conjugate gradients.

With probabilities :math:`p_i` over the classes, the loss of a row curves in its scores as
:math:`S_i = \mathrm{diag}(p_i) - p_i p_i'`. Where one class is certain that is nothing: such rows
are left out, which on features that separate the classes are most rows. The others are kept
together in float32, about their mean, and a product reads them once: each block gives scores and
gradients while it lies in the processor's cache.

The Hessian only steers Newton's steps; where they end is up to gradients of all rows in float64,
which are computed elsewhere.

The equations are preconditioned by one matrix for all classes,
:math:`I + C \sum_i \bar s_i x_i x_i'` with the mean curvature of a row :math:`\bar s_i`. It costs
as much as many products: it is made once as much was spent on products, and again where
that was spent and the last steps took more products than the first after it was made.
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
        self._may_factor = 8 * design.n_columns**2 <= gram_bytes
        self._index: Index = np.arange(0)
        self._rows: Single = np.zeros((0, design.n_columns), dtype=np.float32)
        self._mean = np.zeros(design.n_columns)
        # The intercept's column, of the size of the others: what to multiply its weights with.
        size = max(design.mean_square / design.n_columns, np.finfo(np.float64).tiny)
        self._unit = float(np.sqrt(size)) if intercept and self._packs else 1.0
        self._factor: Any = None
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
        kept = _most(self._curved, _LEFT_OUT)
        n, width = max(1, len(self._index)), self._design.n_columns
        passes = max(1.0, self._shape[0] * self._shape[1] / _FREE_CLASSES)
        price = (_GRAM_PRICE * width * len(kept) / n + _FACTOR_PRICE * width**2 / n) / passes
        stale = self._factor is None or self._last > _STALE * self._at_first
        if not (self._may_factor and stale and self._spent > price):
            return
        design = self._design
        weights = np.zeros(n)
        weights[kept] = self._curved[kept]
        ridge = np.where(self._ridge > 0, 1.0, 1e-3)
        if not self._packs:
            gram = design.zero_gram(np.dtype(np.float32))
            design.add_grams([gram], [weights])
            self._factor = design.factor(gram, ridge)
        else:
            gram = np.zeros((width, width), dtype=np.float32)
            with design.workers.together():
                for start in range(0, len(kept), 2048):
                    index = kept[start : start + 2048]
                    scale = np.sqrt(self._curved[index]).astype(np.float32)
                    add_outer(gram, self._rows[index] * scale[:, None])
                gram.flat[:: width + 1] += ridge
                self._factor = gram if cholesky(gram) else None
        self._spent, self._at_first = 0.0, 0.0

    def _approximate(self, residual: FloatArray) -> FloatArray:
        """Return the preconditioner's inverse times the residual."""
        if self._factor is None:
            return residual.copy()
        flat = residual.reshape(-1, residual.shape[-1])
        if isinstance(self._factor, np.ndarray):
            with self._design.workers.together():
                found = solve_rows(self._factor, flat)
        else:
            found = np.array([self._design.solve(self._factor, row) for row in flat])
        return found.astype(np.float64).reshape(residual.shape)


def _most(curved: FloatArray, drop: float) -> Index:
    """Return the rows, ascending, without those of least curvature that make up a part of it."""
    order = np.argsort(curved)
    total = np.cumsum(curved[order])
    n_dropped = int(np.searchsorted(total, drop * total[-1]))
    return np.sort(order[n_dropped:])

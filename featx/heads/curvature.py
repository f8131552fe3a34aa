r"""Newton's equations of logistic losses, solved by conjugate gradients.

With probabilities :math:`p_i` over the classes, the loss of a row curves in its scores as
:math:`S_i = \mathrm{diag}(p_i) - p_i p_i'`. Where one class is certain that is nothing: such rows
are left out, which on features that separate the classes are most rows. The others are kept
together in float32, about their mean, and a product reads them once: each block gives scores and
gradients while it lies in the processor's cache.

The Hessian only steers Newton's steps; where they end is up to gradients of all rows in float64,
which are computed elsewhere.

The preconditioner is that of `featx.heads.preconditioning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.designs import Design
from featx.heads.lapack import Matrix, add_outer, cholesky
from featx.heads.preconditioning import Preconditioner, most

Index = npt.NDArray[np.intp]
Single = npt.NDArray[np.float32]

# Values of a block that is to stay in cache between its two uses: 2 MB of float32.
_CACHED_VALUES = 2**19
# Rows are packed anew once no more than this part of those packed are needed.
_WORTH_PACKING = 0.7
# Of its factors, what is added to a diagonal that is not definite in float32, in mean diagonals.
_ROUNDINGS = 1e-6
_MAX_PRODUCTS = 250


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
        self._preconditioner = Preconditioner(design, gram_bytes)
        self._index: Index = np.arange(0)
        self._rows: Single = np.zeros((0, design.n_columns), dtype=np.float32)
        self._mean = np.zeros(design.n_columns)
        # The intercept's column, of the size of the others: what to multiply its weights with.
        size = max(design.mean_square / design.n_columns, np.finfo(np.float64).tiny)
        self._unit = float(np.sqrt(size)) if intercept and self._packs else 1.0

    def update(self, p: FloatArray, live: Index, costs: FloatArray, drop: float) -> None:
        """Take over the point.

        Parameters
        ----------
        p : ndarray of shape (n_problems, n_classes, n_rows), float64
            Probabilities.
        live : ndarray of shape (n_problems,), int
            Numbers of the problems.
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
        self._live = live
        chosen = p if len(self._index) == len(costs) else p[:, :, self._index]
        self._p = np.ascontiguousarray(np.moveaxis(chosen, 2, 0), dtype=np.float32)
        self._costs = costs[self._index].astype(np.float32)[:, None, None]

    def _pack(self, curved: FloatArray, drop: float) -> None:
        """Put the rows together that matter, unless they are."""
        needed = most(curved, drop)
        packed = np.zeros(len(curved), dtype=bool)
        packed[self._index] = True
        if packed[needed].all() and len(needed) > _WORTH_PACKING * len(self._index):
            return
        if len(self._index):
            # Some more, so that the next points need not pack again.
            needed = most(curved, 0.3 * drop)
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
        curved = self._p * (1.0 - self._p) * self._costs
        bends: FloatArray = np.ascontiguousarray(np.moveaxis(curved, 0, 2), dtype=np.float64)
        self._preconditioner.prepare(bends, self._live, self._factorize)
        residual = -gradient * self._ridge
        v = np.zeros_like(residual)
        z = self._preconditioner.approximate(residual)
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
            z = self._preconditioner.approximate(residual)
            size, before = np.einsum("qkj,qkj->q", residual, z), size
            going &= size > goal
            ratio = np.where(going, size / np.where(going, before, 1.0), 0.0)
            way = z + ratio[:, None, None] * way
        self._preconditioner.took(n, accuracy)
        if self._intercept:
            v[:, :, -1] = self._unit * v[:, :, -1] - v[:, :, :-1] @ self._mean[:-1]
        return v

    def _factorize(self, weights: Sequence[FloatArray]) -> list[Any]:
        """Return the factor of the penalty and the rows' outer products for each of `weights`."""
        design, single = self._design, np.dtype(np.float32)
        # The intercept's own penalty is 0; its column alone may not be definite.
        ridge = np.where(self._ridge > 0, 1.0, 1e-3)
        if not self._packs:
            grams = [design.zero_gram(single) for _ in weights]
            design.add_grams(grams, weights)
            return [design.factor(gram, ridge) for gram in grams]

        def factorize(weight: FloatArray) -> Matrix | None:
            gram = np.zeros((design.n_columns,) * 2, dtype=single)
            kept = np.flatnonzero(weight)
            for start in range(0, len(kept), 2048):
                index = kept[start : start + 2048]
                scale = np.sqrt(weight[index]).astype(single)
                add_outer(gram, self._rows[index] * scale[:, None])
            diagonal = gram.diagonal() + ridge
            more = 0.0
            while more < 1.0:
                factor = gram.copy()
                factor.flat[:: len(gram) + 1] = diagonal + more * float(diagonal.mean())
                if cholesky(factor):
                    return factor
                more = 10.0 * more or _ROUNDINGS
            return None

        return design.workers.map(factorize, weights)

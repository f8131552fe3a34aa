"""The design matrix of a linear fit: features with the intercept's column, and products with it.

A design knows four products, all in float64, for all classes at once: scores ``W X'``, gradients
``R X``, sums of outer products of chosen rows (Gram matrices), and products between chosen rows
(kernels). The solvers in this package are written with these alone, so that features in memory,
features in blocks on disk and features on an accelerator run the same algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray, Rows
from featx.heads.lapack import Matrix, add_outer, cholesky, inner_products, mirror, solve
from featx.heads.threads import Workers

# Rows taken at a time: enough for BLAS (measured at 512 to 4,096 columns), and little memory
# however wide they are.
_BLOCK_ROWS = 2048
_BLOCK_VALUES = 2**24
# Of the rows gathered for a kernel, a stored one is built once this many times its cost was spent.
_KERNEL_PATIENCE = 0.5


class Design:
    """Features as float64 blocks, in memory or read again whenever they are needed.

    Parameters
    ----------
    X : Rows of shape (n_rows, n_features), any float type
        The features; slices of rows are read.
    intercept : float or None
        Value of the column that is put behind the features (liblinear's ``intercept_scaling``);
        None for no such column.
    workers : Workers
        Threads, entered.
    resident : bool
        Keep a float64 copy in memory. Otherwise every product reads `X` again, a block at a time.
    kernel_bytes : int
        A kernel of all rows may take this much.

    Attributes
    ----------
    n_rows, n_columns : int
        Shape, with the intercept's column.
    mean_square : float
        Mean squared length of a row.
    """

    def __init__(
        self,
        X: Rows,
        intercept: float | None,
        workers: Workers,
        *,
        resident: bool = True,
        single: bool = False,
        kernel_bytes: int = 0,
    ) -> None:
        self._source, self._intercept, self.workers = X, intercept, workers
        self.n_rows = int(X.shape[0])
        self.n_columns = int(X.shape[1]) + (intercept is not None)
        self._block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // self.n_columns))
        self._held: FloatArray | None = None
        self._held_single: npt.NDArray[np.float32] | None = None
        self._kernels: dict[Any, Matrix] = {}
        self.single = single
        self._gathered = 0.0
        self._kernel_fits = 8 * self.n_rows**2 <= kernel_bytes
        self.mean_square = 0.0
        if resident:
            self._held = np.empty((self.n_rows, self.n_columns))
        for rows in self._slices():
            block = self._read(rows)
            self.mean_square += float(np.einsum("ij,ij->", block, block)) / self.n_rows
            if self._held is not None:
                self._held[rows] = block
        # With fewer rows than columns, factorizations are of other matrices than products of these.
        if self._held is not None and single and self.n_columns <= self.n_rows:
            self._held_single = self._held.astype(np.float32)

    def _slices(self) -> list[slice]:
        starts = range(0, self.n_rows, self._block_rows)
        return [slice(start, min(start + self._block_rows, self.n_rows)) for start in starts]

    def _read(self, rows: slice) -> FloatArray:
        """Return rows of the source as float64, with the intercept's column."""
        features = self._source[rows]
        block = np.empty((len(features), self.n_columns))
        block[:, : features.shape[1]] = features
        if self._intercept is not None:
            block[:, -1] = self._intercept
        return block

    @property
    def in_memory(self) -> bool:
        """Whether the rows are held in this machine's memory."""
        return self._held is not None

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield (rows, those rows) from the first to the last."""
        for rows in self._slices():
            yield rows, self._read(rows) if self._held is None else self._held[rows]

    def rows(self, index: npt.NDArray[np.intp]) -> FloatArray:
        """Return chosen rows, shape (len(index), n_columns); `index` ascends."""
        if self._held is not None:
            return self._held[index]
        found = np.empty((len(index), self.n_columns))
        for rows in self._slices():
            low, high = np.searchsorted(index, (rows.start, rows.stop))
            if low < high:
                found[low:high] = self._read(rows)[index[low:high] - rows.start]
        return found

    def scores(self, W: FloatArray) -> FloatArray:
        """Return ``W @ X.T``, shape (len(W), n_rows), for `W` of shape (n_problems, n_columns)."""
        result = np.empty((len(W), self.n_rows))

        def put(item: tuple[slice, FloatArray]) -> None:
            result[:, item[0]] = W @ item[1].T

        self._over_blocks(put)
        return result

    def gradients(self, R: FloatArray) -> FloatArray:
        """Return ``R @ X``, shape (len(R), n_columns), for `R` of shape (n_problems, n_rows)."""
        parts = self._over_blocks(lambda item: R[:, item[0]] @ item[1])
        # In the order of the rows, whatever thread was first: the same bits on every call.
        return np.asarray(sum(parts))

    def _over_blocks(self, work: Any) -> list[Any]:
        """Apply `work` to every block: several at a time if they lie in memory."""
        if self._held is not None:
            return self.workers.map(work, self.blocks())
        return [work(item) for item in self.blocks()]

    def add_grams(
        self, grams: Sequence[Matrix], changes: Sequence[npt.NDArray[np.floating[Any]]]
    ) -> None:
        """Add ``sum_i change[i] x_i x_i'`` to each matrix, in place.

        Upper triangles only.

        Parameters
        ----------
        grams : sequence of ndarray of shape (n_columns, n_columns), float64
            One per problem.
        changes : sequence of ndarray of shape (n_rows,)
            Weight of every row; rows of weight 0 cost nothing.
        """
        if self._held is None:
            for rows, block in self.blocks():
                for gram, change in zip(grams, changes, strict=True):
                    _add_outer(gram, block.astype(gram.dtype, copy=False), change[rows])
            return
        double, single = self._held, self._held_single

        def add(pair: tuple[Matrix, Any]) -> None:
            gram, change = pair
            held = single if gram.dtype == np.float32 and single is not None else double
            changed = np.flatnonzero(change)
            for start in range(0, len(changed), self._block_rows):
                index = changed[start : start + self._block_rows]
                _add_outer(gram, held[index].astype(gram.dtype, copy=False), change[index])

        self.workers.map(add, list(zip(grams, changes, strict=True)))

    def zero_gram(self, dtype: Any) -> Matrix:
        """Return a matrix for `add_grams`."""
        return np.zeros((self.n_columns, self.n_columns), dtype=dtype)

    def factor(self, matrix: Matrix, diagonal: FloatArray | float) -> Matrix | None:
        """Return the Cholesky factor of `matrix` plus `diagonal`, in its place, if there is one."""
        matrix.flat[:: len(matrix) + 1] += diagonal
        return matrix if cholesky(matrix) else None

    def solve(self, factor: Matrix, right: FloatArray) -> Matrix:
        """Return the solution of the factorized system, shape (len(right),)."""
        return solve(factor, right)

    def expect_kernels(self, sizes: Sequence[int]) -> None:
        """Say how many rows the next calls of `kernel` will choose.

        Rent until the rent has reached part of the price, then buy: the kernel of all rows is
        kept once a good part of its cost has gone into smaller ones, if it may take the memory.
        """
        self._gathered += float(sum(size**2 for size in sizes))

    def prepare(self, dtype: Any) -> None:
        """Compute the kernel of all rows in a precision, if that pays."""
        dear = self._gathered > _KERNEL_PATIENCE * float(self.n_rows) ** 2
        if dear and self._kernel_fits:
            self.whole_kernel(dtype)

    def kernel(self, index: npt.NDArray[np.intp], dtype: Any) -> Matrix:
        """Return the products between chosen rows, the upper triangle of them."""
        if dtype in self._kernels:
            return np.take(self._kernels[dtype][index], index, axis=1)
        held = self._held_single if dtype == np.float32 else None
        rows = self.rows(index).astype(dtype, copy=False) if held is None else held[index]
        return inner_products(rows)

    def lend_kernel(self, kernel: Matrix) -> None:
        """Take over products between all rows that are known."""
        self._kernels[kernel.dtype] = kernel

    def whole_kernel(self, dtype: Any) -> Matrix:
        """Return the products between all rows, kept from now on."""
        if dtype not in self._kernels:
            held = self._held_single if dtype == np.float32 else self._held
            with self.workers.together():
                if held is None:
                    self._kernels[dtype] = self._kernel_by_blocks(dtype)
                else:
                    self._kernels[dtype] = inner_products(held)
                    mirror(self._kernels[dtype])
        return self._kernels[dtype]

    def _kernel_by_blocks(self, dtype: Any) -> Matrix:
        kernel = np.empty((self.n_rows, self.n_rows), dtype=dtype)
        for rows, block in self.blocks():
            for columns, other in self.blocks():
                if columns.start > rows.start:
                    break
                kernel[rows, columns] = block @ other.T
                kernel[columns, rows] = kernel[rows, columns].T
        return kernel


def _add_outer(gram: Matrix, rows: Matrix, weights: npt.NDArray[np.floating[Any]]) -> None:
    """Add ``sum_i weights[i] rows[i] rows[i]'`` to the upper triangle of `gram`."""
    for sign in (1.0, -1.0):
        chosen = sign * weights > 0
        if not chosen.any():
            continue
        part = rows if chosen.all() else rows[chosen]
        scale = np.abs(weights[chosen])
        if (scale != 1.0).any():
            part = part * np.sqrt(scale, dtype=part.dtype)[:, None]
        add_outer(gram, part, sign)

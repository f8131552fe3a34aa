"""The design matrix of a linear fit: features with the intercept's column, and products with it.

A design knows few products, for all classes at once: scores ``W X'``, gradients ``R X``, curvatures
``(m * (V X')) X``, sums of outer products of chosen rows (Gram matrices), and products between
chosen rows (kernels). The solvers in this package are written with these alone, so that features in
memory, features in blocks on disk and features on an accelerator run the same algorithm.

Features that lie in memory are used as they are, float32 or float64: nothing is copied, blocks are
converted where a product wants the other precision, and the intercept's column is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray, Rows
from featx.heads.lapack import Matrix, add_outer, cholesky, inner_products, solve
from featx.heads.threads import Workers

T = TypeVar("T")

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)

# Values of a block: 8 MB of float32. Measured at 512, 2,048 and 16,384 columns: smaller blocks take
# up to three times as long for wide features, larger ones no less.
BLOCK_VALUES = 2**21
# Rows that are gathered at a time for a Gram matrix.
_BLOCK_ROWS = 2048
# Small features are kept in double precision as well once they were converted that often.
_CONVERSIONS, COPY_BYTES = 4, 2**27
# Sums of squares up to which single precision is used: its own range is 3e38.
SINGLE_RANGE = 1e30


class Design:
    """Features in memory, or read again whenever they are needed.

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
        Hold the features in memory: an array of float32 or float64 as it is, anything else as a
        copy. Otherwise every product reads `X` again, a block at a time.
    single : bool
        Whether solvers may steer by products in single precision.
    kernel_bytes : int
        A kernel of all rows may take this much.
    block_values : int
        Values of a block at most.
    copy_bytes : int
        A copy of the features in double precision may take this much.

    Attributes
    ----------
    n_rows, n_columns : int
        Shape, with the intercept's column.
    column_squares : ndarray of shape (n_columns,), float64
        Mean square of each column.
    mean_square : float
        Mean squared length of a row: their sum.
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
        block_values: int = BLOCK_VALUES,
        copy_bytes: int = COPY_BYTES,
    ) -> None:
        self._source, self._intercept, self.workers = X, intercept, workers
        self.n_rows, self._n_features = int(X.shape[0]), int(X.shape[1])
        self.n_columns = self._n_features + (intercept is not None)
        self._block_rows = max(1, min(self.n_rows, block_values // max(1, self._n_features)))
        self._held: npt.NDArray[Any] | None = in_memory(X) if resident else None
        # A copy in double precision, where conversions would cost more.
        self._held_double: FloatArray | None = None
        self._conversions, self._copy_bytes = 0, min(copy_bytes, COPY_BYTES)
        self._kernels: dict[Any, Matrix] = {}
        self._kernel_bytes = kernel_bytes
        squares = self._over_blocks(lambda rows, x: np.einsum("ij,ij->j", x, x), DOUBLE)
        self.column_squares: FloatArray = np.zeros(self.n_columns)
        self.column_squares[: self._n_features] = sum(squares) / self.n_rows
        if intercept is not None:
            self.column_squares[-1] = intercept**2
        self.mean_square = float(self.column_squares.sum())
        # Sums over rows must stay in the range of single precision.
        self.single = single and self.n_rows * self.mean_square < SINGLE_RANGE

    def _slices(self) -> list[slice]:
        starts = range(0, self.n_rows, self._block_rows)
        return [slice(start, min(start + self._block_rows, self.n_rows)) for start in starts]

    def _features(self, rows: slice, dtype: Any) -> npt.NDArray[Any]:
        """Return rows of the features in a precision, without the intercept's column."""
        source = self._source if self._held is None else self._held
        if dtype == DOUBLE and self._held_double is not None:
            source = self._held_double
        return np.ascontiguousarray(source[rows], dtype=dtype)

    def _with_intercept(self, features: npt.NDArray[Any]) -> FloatArray:
        block = np.empty((len(features), self.n_columns))
        block[:, : self._n_features] = features
        if self._intercept is not None:
            block[:, -1] = self._intercept
        return block

    @property
    def in_memory(self) -> bool:
        """Whether the rows are held in this machine's memory."""
        return self._held is not None

    @property
    def quick(self) -> bool:
        """Whether products read the rows at the speed of memory."""
        return self.in_memory

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield (rows, those rows as float64) from the first to the last."""
        for rows in self._slices():
            yield rows, self._with_intercept(self._features(rows, DOUBLE))

    def _chosen(self, index: npt.NDArray[np.intp], dtype: Any) -> npt.NDArray[Any]:
        """Return chosen rows of the features, ascending, in a precision."""
        if self._held is not None:
            return self._held[index].astype(dtype, copy=False)
        found = np.empty((len(index), self._n_features), dtype=dtype)
        for rows in self._slices():
            low, high = np.searchsorted(index, (rows.start, rows.stop))
            if low < high:
                found[low:high] = self._features(rows, dtype)[index[low:high] - rows.start]
        return found

    def rows(self, index: npt.NDArray[np.intp]) -> FloatArray:
        """Return chosen rows, shape (len(index), n_columns), float64; `index` ascends."""
        return self._with_intercept(self._chosen(index, DOUBLE))

    def _over_blocks(self, work: Callable[[slice, npt.NDArray[Any]], T], dtype: Any) -> list[T]:
        """Apply `work` to every block: several at a time if they lie in memory."""
        if self._held is not None:
            if dtype == DOUBLE:
                self._count_conversion()
            return self.workers.map(
                lambda rows: work(rows, self._features(rows, dtype)), self._slices()
            )
        return [work(rows, self._features(rows, dtype)) for rows in self._slices()]

    def _count_conversion(self) -> None:
        """Make a copy in double precision once conversions have cost as much, if it is small."""
        if self._held is None or self._held.dtype == DOUBLE:
            return
        self._conversions += 1
        if self._conversions == _CONVERSIONS and 2 * self._held.nbytes <= self._copy_bytes:
            self._held_double = self._held.astype(np.float64)

    def _split(
        self, W: FloatArray, dtype: Any
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | float]:
        """Return weights of the features, and what the intercept adds to the scores."""
        weights = np.ascontiguousarray(W[:, : self._n_features], dtype=dtype)
        if self._intercept is None:
            return weights, 0.0
        return weights, (self._intercept * W[:, -1:]).astype(dtype)

    def _summed(
        self, n_problems: int, part: Callable[[slice, npt.NDArray[Any]], Any], dtype: Any
    ) -> FloatArray:
        """Return the sum of what the blocks give: gradients, and sums of residuals.

        Every thread adds up the blocks of a run of rows, so that what is held does not grow with
        the number of blocks, and the same threads give the same bits.
        """
        slices = self._slices()
        n_runs = min(self.workers.n, len(slices)) if self._held is not None else 1
        bounds = [len(slices) * i // n_runs for i in range(n_runs + 1)]

        def run(i: int) -> FloatArray:
            result = np.zeros((n_problems, self.n_columns))
            for rows in slices[bounds[i] : bounds[i + 1]]:
                gradient, total = part(rows, self._features(rows, dtype))
                result[:, : self._n_features] += gradient
                if self._intercept is not None:
                    result[:, -1] += self._intercept * total
            return result

        if dtype == DOUBLE:
            self._count_conversion()
        if n_runs == 1:
            return run(0)
        return np.asarray(sum(self.workers.map(run, range(n_runs))))

    def scores(self, W: FloatArray, dtype: Any = DOUBLE) -> FloatArray:
        """Return ``W @ X.T``, shape (len(W), n_rows), for `W` of shape (n_problems, n_columns).

        Products are in precision `dtype`, the result is float64.
        """
        result = np.empty((len(W), self.n_rows))
        weights, added = self._split(W, dtype)

        def put(rows: slice, x: npt.NDArray[Any]) -> None:
            result[:, rows] = weights @ x.T + added

        self._over_blocks(put, dtype)
        return result

    def gradients(self, R: FloatArray, dtype: Any = DOUBLE) -> FloatArray:
        """Return ``R @ X``, shape (len(R), n_columns), for `R` of shape (n_problems, n_rows)."""
        residuals = R.astype(dtype, copy=False)

        def part(rows: slice, x: npt.NDArray[Any]) -> tuple[Any, Any]:
            r = residuals[:, rows]
            return r @ x, r.sum(axis=1, dtype=np.float64)

        return self._summed(len(R), part, dtype)

    def curvatures(self, V: FloatArray, masks: npt.NDArray[Any]) -> FloatArray:
        """Return ``(masks * (V @ X.T)) @ X``, in the precision of `masks`, reading `X` once.

        Parameters
        ----------
        V : ndarray of shape (n_problems, n_columns), float64
            Directions.
        masks : ndarray of shape (n_problems, n_rows), float32 or float64
            Weights of the rows.
        """
        weights, added = self._split(V, masks.dtype)

        def part(rows: slice, x: npt.NDArray[Any]) -> tuple[Any, Any]:
            r = weights @ x.T + added
            r *= masks[:, rows]
            return r @ x, r.sum(axis=1, dtype=np.float64)

        return self._summed(len(V), part, masks.dtype)

    def add_grams(
        self, grams: Sequence[Matrix], changes: Sequence[npt.NDArray[np.floating[Any]]]
    ) -> None:
        """Add ``sum_i change[i] x_i x_i'`` to each matrix, in place.

        Upper triangles only.

        Parameters
        ----------
        grams : sequence of ndarray of shape (n_columns, n_columns), float32 or float64
            One per problem.
        changes : sequence of ndarray of shape (n_rows,)
            Weight of every row; rows of weight 0 cost nothing.
        """
        if self._held is None:
            for rows in self._slices():
                features = self._features(rows, DOUBLE)
                for gram, change in zip(grams, changes, strict=True):
                    self._add_outer(gram, features.astype(gram.dtype, copy=False), change[rows])
            return
        held = self._held

        def add(pair: tuple[Matrix, Any]) -> None:
            gram, change = pair
            changed = np.flatnonzero(change)
            for start in range(0, len(changed), _BLOCK_ROWS):
                index = changed[start : start + _BLOCK_ROWS]
                run = index[-1] - index[0] + 1 == len(index)
                features = held[index[0] : index[-1] + 1] if run else held[index]
                self._add_outer(gram, features.astype(gram.dtype, copy=False), change[index])

        self.workers.map(add, list(zip(grams, changes, strict=True)))

    def _add_outer(
        self, gram: Matrix, features: Matrix, weights: npt.NDArray[np.floating[Any]]
    ) -> None:
        """Add ``sum_i weights[i] x_i x_i'`` to the upper triangle of `gram`."""
        for sign in (1.0, -1.0):
            chosen = sign * weights > 0
            if not chosen.any():
                continue
            part = features if chosen.all() else features[chosen]
            root = np.sqrt(np.abs(weights[chosen])).astype(part.dtype)
            if (root != 1.0).any():
                part = part * root[:, None]
            add_outer(gram, part, sign)
            if self._intercept is not None:
                border = sign * self._intercept
                gram[: self._n_features, -1] += border * (root @ part)
                gram[-1, -1] += border * self._intercept * float(root @ root)

    def zero_gram(self, dtype: Any) -> Matrix:
        """Return a matrix for `add_grams`."""
        return np.zeros((self.n_columns, self.n_columns), dtype=dtype)

    def factor(self, matrix: Matrix, diagonal: FloatArray | float) -> Matrix | None:
        """Return the Cholesky factor of `matrix` plus `diagonal`, in its place, if there is one."""
        most = float(np.finfo(matrix.dtype).max) / 4.0
        matrix.flat[:: len(matrix) + 1] += np.minimum(diagonal, most)
        return matrix if cholesky(matrix) else None

    def solve(self, factor: Matrix, right: FloatArray) -> Matrix:
        """Return the solution of the factorized system, shape (len(right),)."""
        return solve(factor, right)

    def keep_kernel(self, dtype: Any) -> bool:
        """Compute the products between all rows, unless they take too much memory; whether."""
        if dtype not in self._kernels and dtype.itemsize * self.n_rows**2 > self._kernel_bytes:
            return False
        self.whole_kernel(dtype)
        return True

    def lend_kernel(self, kernel: Matrix) -> None:
        """Take over products between all rows that are known, the upper triangle of them."""
        self._kernels[kernel.dtype] = kernel

    def has_kernel(self, dtype: Any) -> bool:
        """Return whether the products between all rows are known."""
        return dtype in self._kernels

    def kernel(self, index: npt.NDArray[np.intp], dtype: Any) -> Matrix:
        """Return the products between chosen rows, the upper triangle of them."""
        if dtype in self._kernels:
            whole = self._kernels[dtype]
            return whole.copy() if len(index) == len(whole) else _submatrix(whole, index)
        return inner_products(self._chosen(index, dtype), (self._intercept or 0.0) ** 2)

    def whole_kernel(self, dtype: Any) -> Matrix:
        """Return the products between all rows, the upper triangle of them, and keep it."""
        if dtype not in self._kernels:
            with self.workers.together():
                if self._held is None:
                    kernel = self._kernel_by_blocks(dtype)
                else:
                    features = self._held.astype(dtype, copy=False)
                    kernel = inner_products(features, (self._intercept or 0.0) ** 2)
            self._kernels[dtype] = kernel
        return self._kernels[dtype]

    def _kernel_by_blocks(self, dtype: Any) -> Matrix:
        kernel = np.empty((self.n_rows, self.n_rows), dtype=dtype)
        for rows in self._slices():
            x = self._features(rows, dtype)
            for columns in self._slices():
                if columns.start > rows.start:
                    break
                kernel[columns, rows] = self._features(columns, dtype) @ x.T
                kernel[columns, rows] += (self._intercept or 0.0) ** 2
        return kernel


def in_memory(X: Rows) -> npt.NDArray[Any]:
    """Return features as an array of float32 or float64 by rows: themselves, if they are one."""
    found = X if isinstance(X, np.ndarray) else np.asarray(X[:])
    return np.ascontiguousarray(found, dtype=held_dtype(found.dtype))


def held_dtype(dtype: Any) -> Any:
    """Return the precision that holds values of a type without loss."""
    dtype = np.dtype(dtype)
    return SINGLE if dtype.kind == "f" and dtype.itemsize <= SINGLE.itemsize else DOUBLE


def _submatrix(whole: Matrix, index: npt.NDArray[np.intp]) -> Matrix:
    """Return the upper triangle of chosen rows and columns; the other one is not set."""
    result = np.empty((len(index), len(index)), dtype=whole.dtype)
    # A few rows at a time, from their diagonal on: half of the matrix is never touched.
    for start in range(0, len(index), 64):
        stop = min(start + 64, len(index))
        result[start:stop, start:] = whole[index[start:stop, None], index[None, start:]]
    return result

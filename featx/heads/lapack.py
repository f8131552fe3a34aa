"""BLAS and LAPACK on symmetric matrices in place, without Python's lock.

SciPy's own wrappers hold the interpreter's lock, so that threads take turns; NumPy's Cholesky
factorization releases it and took 2 to 3 times as long (order 512 to 2,049). SciPy exports the
routines to Cython as addresses with a documented signature; called through ctypes, which releases
the lock, they are as fast as SciPy's and run side by side.

Only one triangle is read and written: by rows, the upper one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating[Any]]

_PREFIX = {np.dtype(np.float32): "s", np.dtype(np.float64): "d"}
_SCALAR = {"s": ctypes.c_float, "d": ctypes.c_double}


@cache
def _routine(name: str, n_arguments: int) -> Any:
    """Return a routine of SciPy's BLAS or LAPACK; all of its arguments are addresses."""
    from scipy.linalg import cython_blas, cython_lapack

    capsules: dict[str, Any] = {}
    capsules |= cython_blas.__pyx_capi__
    capsules |= cython_lapack.__pyx_capi__
    capsule = capsules[name]
    get_name, get_pointer = (
        ctypes.pythonapi.PyCapsule_GetName,
        ctypes.pythonapi.PyCapsule_GetPointer,
    )
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = get_pointer(capsule, get_name(capsule))
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address)


def _call(name: str, *arguments: Any) -> None:
    """Call a routine: characters, integers and scalars by reference, arrays by their address."""
    passed = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            passed.append(argument.ctypes.data)
        else:
            passed.append(ctypes.addressof(argument))
    _routine(name, len(arguments))(*passed)


def _width(matrix: Matrix) -> ctypes.c_int:
    """Return the step from row to row; LAPACK refuses 0, also for a matrix without rows."""
    return ctypes.c_int(max(1, matrix.shape[1]))


def add_outer(gram: Matrix, rows: Matrix, sign: float = 1.0) -> None:
    """Add ``sign * rows.T @ rows`` to the upper triangle of `gram`.

    Parameters
    ----------
    gram : ndarray of shape (n_columns, n_columns) or more, float32 or float64
        By rows; its first rows and columns are changed in place.
    rows : ndarray of shape (n_rows, n_columns), the same type
        By rows.
    sign : float
        Factor.
    """
    _syrk(gram, rows, b"N", rows.shape[1], rows.shape[0], sign, 1.0)


def inner_products(rows: Matrix, constant: float = 0.0) -> Matrix:
    """Return ``rows @ rows.T + constant``, its upper triangle; the other one is not set."""
    kernel = np.full((len(rows), len(rows)), constant, dtype=rows.dtype)
    _syrk(kernel, rows, b"T", rows.shape[0], rows.shape[1], 1.0, 1.0)
    return kernel


def _syrk(
    result: Matrix, rows: Matrix, transposed: bytes, n: int, k: int, alpha: float, beta: float
) -> None:
    prefix = _PREFIX[result.dtype]
    assert rows.dtype == result.dtype
    assert rows.flags.c_contiguous
    assert result.flags.c_contiguous
    scalar = _SCALAR[prefix]
    # By columns, as BLAS reads it, the array is its transpose, and the upper triangle the lower.
    _call(
        prefix + "syrk", ctypes.c_char(b"L"), ctypes.c_char(transposed), ctypes.c_int(n),
        ctypes.c_int(k), scalar(alpha), rows, _width(rows), scalar(beta), result, _width(result),
    )  # fmt: skip


def cholesky(matrix: Matrix) -> bool:
    """Overwrite the upper triangle with the factor U of ``matrix = U.T @ U``.

    Returns
    -------
    bool
        Whether the matrix is positive definite in its precision; if not, it is spoilt.
    """
    assert matrix.flags.c_contiguous
    n, info = ctypes.c_int(len(matrix)), ctypes.c_int(0)
    _call(_PREFIX[matrix.dtype] + "potrf", ctypes.c_char(b"L"), n, matrix, _width(matrix), info)
    # Not every LAPACK says so where the matrix holds NaN.
    return info.value == 0 and bool(np.isfinite(matrix.flat[:: len(matrix) + 1]).all())


def solve(factor: Matrix, right: Matrix) -> Matrix:
    """Return the solution of ``U.T @ U @ x = right`` for a factor of `cholesky`, shape (n,)."""
    solution = np.array(right, dtype=factor.dtype)
    n, one, info = ctypes.c_int(len(factor)), ctypes.c_int(1), ctypes.c_int(0)
    width = _width(factor)
    _call(
        _PREFIX[factor.dtype] + "potrs", ctypes.c_char(b"L"), n, one, factor, width, solution,
        width, info,
    )  # fmt: skip
    return solution


def mirror(matrix: Matrix, block: int = 1024) -> None:
    """Copy the upper triangle over the lower one."""
    n = len(matrix)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        corner = matrix[rows, rows]
        corner[:] = np.triu(corner) + np.triu(corner, 1).T
        for other in range(start + block, n, block):
            columns = slice(other, other + block)
            matrix[columns, rows] = matrix[rows, columns].T


def solve_rows(factor: Matrix, rights: Matrix) -> Matrix:
    """Return for each row of `rights` the solution as `solve` does, shape (n_rights, n)."""
    solutions = np.array(rights, dtype=factor.dtype, order="C")
    n, count, info = ctypes.c_int(len(factor)), ctypes.c_int(len(solutions)), ctypes.c_int(0)
    _call(
        _PREFIX[factor.dtype] + "potrs", ctypes.c_char(b"L"), n, count, factor, n, solutions, n,
        info,
    )  # fmt: skip
    return solutions

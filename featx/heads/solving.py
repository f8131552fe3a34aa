"""From settings to a design: which device, how many threads, how much memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from featx.errors import BudgetExceeded
from featx.heads.blocks import Rows
from featx.heads.designs import BLOCK_VALUES, DOUBLE, SINGLE, Design, held_dtype
from featx.heads.newton import STATE_BYTES
from featx.heads.threads import Workers
from featx.machine import available_memory_bytes, keep_freed_memory, pick_device
from featx.text import human_bytes

# Of the memory that is free, what a fit takes without being told.
_SHARE = 0.6
# Of the memory that is left, the values of a block: 1 / 400 of its bytes.
_BLOCK_SHARE = 400
# Values of a block at least: below, a product takes longer to call than to compute.
_LEAST_BLOCK = 2**15
# Bytes of everything that does not grow with the problem.
_SMALL_CHANGE = 10**6
# Of matrices smaller than this, float32 ones are not worth their rounding.
_SMALL = 256


def least_bytes(n_rows: int, n_columns: int, n_together: int = 1) -> int:
    """Return what a fit takes at least.

    Matrices of the smaller side (Gram matrices of all rows and of a class, factors and copies; with
    fewer rows than columns a kernel, its factor in both precisions, and systems over rows), what a
    step needs of the rows and columns of problems that are solved together, blocks of features, and
    some small change.
    """
    matrices = 40 if n_rows >= n_columns else 56
    state = STATE_BYTES * n_together * (n_rows + n_columns)
    blocks = 24 * min(_LEAST_BLOCK, n_rows * n_columns)
    return matrices * min(n_rows, n_columns) ** 2 + state + blocks + _SMALL_CHANGE


def _copy_bytes(X: Rows) -> int:
    """Return what it takes to hold features in memory, beside the array they may lie in."""
    if isinstance(X, np.ndarray) and X.dtype in (SINGLE, DOUBLE) and X.flags.c_contiguous:
        return 0
    dtype = held_dtype(getattr(X, "dtype", SINGLE))
    return int(dtype.itemsize) * int(X.shape[0]) * int(X.shape[1])


@contextlib.contextmanager
def open_design(
    X: Rows,
    intercept: float | None,
    *,
    device: str = "auto",
    single: bool = True,
    memory_bytes: int | None = None,
    n_together: int = 1,
) -> Iterator[tuple[Design, int]]:
    """Yield the design of a fit and the bytes that Gram matrices may take.

    Parameters
    ----------
    X : Rows of shape (n_samples, n_features)
        The features.
    intercept : float or None
        Value of the intercept's column; None for no such column.
    device : str
        Of `featx.machine.DEVICES`.
    single : bool
        Whether factorizations may be in single precision.
    memory_bytes : int or None
        Memory the fit may take beside `X`; None for a share of what is free.
    n_together : int
        Problems that must be solved at the same time.

    Raises
    ------
    BudgetExceeded
        If not even blocks of the features and one Gram matrix fit.
    """
    n_rows, n_columns = int(X.shape[0]), int(X.shape[1]) + (intercept is not None)
    single = single and min(n_rows, n_columns) >= _SMALL
    budget = int(_SHARE * available_memory_bytes()) if memory_bytes is None else memory_bytes
    held = _copy_bytes(X)
    least = least_bytes(n_rows, n_columns, n_together)
    if least > budget:
        raise BudgetExceeded(
            f"A linear head on {n_rows:,} rows of {n_columns:,} values needs {human_bytes(least)} "
            f"for matrices of the smaller side; {human_bytes(budget)} may be used. Give more "
            "memory, pool the cut (--pool avg) or take fewer images."
        )
    resident = held + least <= budget
    left = budget - held if resident else budget
    # A block in either precision, and what a product makes of it, for each thread.
    block_values = max(_LEAST_BLOCK, int(X.shape[1]), min(BLOCK_VALUES, left // _BLOCK_SHARE))
    keep_freed_memory()
    # The processor needs no torch.
    kind = None if device == "cpu" else pick_device(device)
    with Workers() as workers:
        if kind is not None and kind.type == "cuda":
            from featx.heads.accelerated import TorchDesign

            design: Design = TorchDesign(X, intercept, workers, device=kind, single=single)
        else:
            design = Design(
                X,
                intercept,
                workers,
                resident=resident,
                single=single,
                kernel_bytes=left // 2,
                block_values=block_values,
                copy_bytes=left // 4,
            )
        yield design, max(left // 2, 1)

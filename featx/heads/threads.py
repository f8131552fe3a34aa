"""Threads of linear algebra: one pool works at a time.

NumPy, SciPy and torch each bring BLAS threads of their own. Where the threads of two pools, or of
two processes, share the cores, each waits spinning for the other: measured on two busy cores, a
Cholesky factorization of order 513 took 0.4 s instead of 2 ms. So a fit runs as many Python threads
as it may use cores, each with one BLAS thread; the routines they call release the interpreter's
lock. Only what is one large product, done once, is given to the BLAS threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from featx.machine import n_cpus

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """Threads for independent pieces of work, each with one BLAS thread.

    Use it as a context: inside, BLAS works with one thread but in `together`.

    Attributes
    ----------
    n : int
        Threads: the cores this process may use, or fewer where the BLAS pools were limited before
        (``OMP_NUM_THREADS``, a joblib worker).
    """

    def __init__(self) -> None:
        # Loaded now: a pool that comes later would not be limited, and SciPy brings one.
        import scipy.linalg  # noqa: F401

        self._controller = ThreadpoolController().select(user_api="blas")
        pools = [int(pool["num_threads"]) for pool in self._controller.info()]
        self.n = max(1, min([n_cpus(), *pools]))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Workers:
        self._stack.enter_context(self._controller.limit(limits=1))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(self.n)) if self.n > 1 else None
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return ``[function(item) for item in items]``, several at a time."""
        work = list(items)
        if self._pool is None:
            return [function(item) for item in work]
        if len(work) == 1:
            with self.together():
                return [function(work[0])]
        return list(self._pool.map(function, work))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Give one large product all BLAS threads."""
        with self._controller.limit(limits=self.n):
            yield

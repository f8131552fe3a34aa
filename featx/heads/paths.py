"""One head at many values of C, by featx' own solvers or scikit-learn's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, Rows
from featx.heads.fitting import Fit, HeadKind, all_rows, check, fit_lbfgs, fit_liblinear
from featx.heads.inputs import positive
from featx.heads.newton import PathPoint, Problems
from featx.heads.softmax import solve_softmax_path
from featx.heads.softmax_steps import SoftmaxPoint
from featx.heads.solving import open_design
from featx.heads.wide import SvmSolver

Solver = Literal["featx", "liblinear", "lbfgs"]

SOLVERS: dict[HeadKind, tuple[Solver, ...]] = {
    "svm": ("featx", "liblinear"),
    "logistic": ("featx", "lbfgs"),
}
"""Solvers of each kind of head, the default first."""

DEFAULT_TOL: dict[Solver, float] = {"featx": 1e-6, "liblinear": 1e-4, "lbfgs": 1e-4}
"""Tolerances: featx' is a relative duality gap, the others' are scikit-learn's."""


def fit_path(
    kind: HeadKind,
    X: Rows,
    y: npt.ArrayLike,
    Cs: Sequence[float],
    *,
    solver: Solver = "featx",
    max_iter: int = 1000,
    tol: float | None = None,
    seed: int = 0,
    device: str = "auto",
    memory_bytes: int | None = None,
    on_done: Callable[[float, float], None] = lambda C, share: None,
) -> list[Fit]:
    """Fit one head for each value of C; featx' solvers go from each to the next.

    Parameters
    ----------
    kind : {"svm", "logistic"}
        The loss.
    X : Rows of shape (n_samples, n_features), float32 or float64
        Features, scaled: an array, or what rows are read from in blocks.
    y : array-like of shape (n_samples,), int
        Labels.
    Cs : sequence of float
        Weights of the loss.
    solver : {"featx", "liblinear", "lbfgs"}
        Of `SOLVERS`.
    max_iter : int
        Newton steps, or scikit-learn's iterations, at most.
    tol : float or None
        None for `DEFAULT_TOL`.
    seed : int
        Of liblinear's dual solver.
    device : str
        For featx' solvers.
    memory_bytes : int or None
        What featx' solvers may take beside `X`; None for a share of what is free.
    on_done : callable
        Called with C and the share of its problems that have just been solved, of 1.

    Returns
    -------
    list of Fit
        In the order of `Cs`. `fit_s` is the time from the solution before to this one.

    Raises
    ------
    DataError, ShapeError, UsageError, BudgetExceeded
        As `featx.heads.fit_svm`; and if the memory does not do.
    """
    if solver not in SOLVERS[kind]:
        raise UsageError(
            f"Solver '{solver}' does not fit a head of kind {kind}. Valid: "
            f"{', '.join(SOLVERS[kind])}."
        )
    tol = DEFAULT_TOL[solver] if tol is None else tol
    if solver != "featx":
        fit = fit_liblinear if kind == "svm" else fit_lbfgs
        whole = np.asarray(X[:])
        found = []
        for C in Cs:
            found.append(fit(whole, y, C=C, max_iter=max_iter, tol=tol, seed=seed))
            on_done(C, 1.0)
        return found
    ascending = sorted({positive("C", C) for C in Cs})
    if not ascending:
        raise UsageError("No value of C: give at least one.")
    labels = check(X, y, ascending[0], max_iter, tol)
    classes, index = np.unique(labels, return_inverse=True)
    seconds = _Seconds(on_done)
    if kind == "logistic":
        return _logistic_path(X, index, classes, Cs, tol, max_iter, device, memory_bytes, seconds)
    problems = Problems(index.astype(np.int64), [1] if len(classes) == 2 else range(len(classes)))
    with open_design(X, 1.0, device=device, memory_bytes=memory_bytes) as (design, gram_bytes):
        solving = SvmSolver(design, tol=tol, max_iter=max_iter, gram_bytes=gram_bytes)
        points = solving.solve(problems, ascending, on_done=seconds)
    by_C = {
        point.C: _fit(
            "svm",
            point,
            (all_rows(point.weights[:, :-1]), all_rows(point.weights[:, -1])),
            classes,
            tol,
            seconds.of[point.C],
        )
        for point in points
    }
    return [by_C[C] for C in Cs]


def fit_svm(
    X: Rows, y: npt.ArrayLike, *, C: float = 12.0, solver: Solver = "featx", **settings: Any
) -> Fit:
    """Fit a linear SVM: squared hinge, L2, one class against the rest; liblinear's objective.

    Parameters
    ----------
    X, y
        As for `fit_path`.
    C : float
        Weight of the loss. 12 is experiment D1's.
    solver : {"featx", "liblinear"}
        Both minimize the same; featx' says how near to the optimum it ended, and gets there.
    **settings
        Further arguments of `fit_path`.

    Returns
    -------
    Fit
    """
    return fit_path("svm", X, y, [C], solver=solver, **settings)[0]


def fit_logistic(
    X: Rows, y: npt.ArrayLike, *, C: float = 1.0, solver: Solver = "featx", **settings: Any
) -> Fit:
    """Fit a logistic regression: L2, multinomial, the intercept free.

    Parameters
    ----------
    X, y
        As for `fit_path`.
    C : float
        Weight of the loss.
    solver : {"featx", "lbfgs"}
        Both minimize the same; featx' says how near to the optimum it ended.
    **settings
        Further arguments of `fit_path`.

    Returns
    -------
    Fit
        For two classes plus and minus half of scikit-learn's weights: the softmax of the scores is
        the probability in any case.
    """
    return fit_path("logistic", X, y, [C], solver=solver, **settings)[0]


def _logistic_path(
    X: Rows,
    index: npt.NDArray[np.intp],
    classes: npt.NDArray[np.int64],
    Cs: Sequence[float],
    tol: float,
    max_iter: int,
    device: str,
    memory_bytes: int | None,
    seconds: _Seconds,
) -> list[Fit]:
    """Fit the multinomial regression at each C."""
    with open_design(
        X,
        1.0,
        device=device,
        single=False,
        memory_bytes=memory_bytes,
        n_together=len(classes),
    ) as (design, left):
        points = solve_softmax_path(
            design,
            index.astype(np.int64),
            len(classes),
            sorted(set(Cs)),
            tol=tol,
            max_iter=max_iter,
            pack_bytes=left // 2 if design.in_memory else 0,
            gram_bytes=left,
            on_done=seconds,
        )
    by_C = {}
    for point in points:
        # Two rows for two classes, so that softmax gives the probabilities in any case.
        half = 0.5 if len(classes) == 2 else 1.0
        solution = (all_rows(point.weights) * half, all_rows(point.intercepts) * half)
        by_C[point.C] = _fit("logistic", point, solution, classes, tol, seconds.of[point.C])
    return [by_C[C] for C in Cs]


class HeadCounter:
    """What `fit_path` tells, as heads that are complete.

    Parameters
    ----------
    advance : callable
        Called with the number of further heads.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance, self._solved, self._told = advance, 0.0, 0

    def __call__(self, C: float, share: float) -> None:
        """Count a share of the head at `C`."""
        self._solved += share
        # Thirds do not add up to 1 in binary.
        complete = int(self._solved + 1e-6)
        self._advance(complete - self._told)
        self._told = complete


class _Seconds:
    """Seconds spent on each C, from one call to the next."""

    def __init__(self, on_done: Callable[[float, float], None]) -> None:
        self._on_done, self._last = on_done, time.perf_counter()
        self.of: dict[float, float] = {}

    def __call__(self, C: float, share: float) -> None:
        now = time.perf_counter()
        self.of[C] = self.of.get(C, 0.0) + now - self._last
        self._last = now
        self._on_done(C, share)


def _fit(
    kind: HeadKind,
    point: PathPoint | SoftmaxPoint,
    solution: tuple[FloatArray, FloatArray],
    classes: npt.NDArray[np.int64],
    tol: float,
    seconds: float,
) -> Fit:
    """Return a solution of featx' solvers as a fit."""
    gap, n_iter = max(float(point.gap.max()), 0.0), int(point.n_iter.max())
    converged = gap <= tol
    message = (
        f"Newton's method stopped after {n_iter} steps with a relative duality gap of "
        f"{gap:.1e}; {tol:g} was asked for. Raise --max-iter, standardize the features, or "
        "lower C."
    )
    return Fit(
        coef=solution[0],
        intercept=solution[1],
        classes=classes,
        kind=kind,
        solver="featx-newton",
        C=point.C,
        n_iter=n_iter,
        converged=converged,
        objective=float(point.objective.sum()),
        duality_gap=gap,
        fit_s=seconds,
        messages=() if converged else (message,),
    )

"""Choosing C by cross-validation: the folds share the features, the Gram matrix and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from featx.errors import DataError, UsageError
from featx.heads.blocks import FloatArray, Rows
from featx.heads.designs import Design
from featx.heads.fitting import HeadKind, check
from featx.heads.inputs import positive
from featx.heads.newton import Problems
from featx.heads.paths import DEFAULT_TOL
from featx.heads.softmax import solve_softmax_path
from featx.heads.solving import open_design
from featx.heads.wide import SvmSolver

Labels: TypeAlias = npt.NDArray[np.int64]
OnDone: TypeAlias = Callable[[float, float], None]
OneFold: TypeAlias = Callable[[FloatArray, list[float], OnDone], list[FloatArray]]


def cross_validate(
    kind: HeadKind,
    X: Rows,
    y: npt.ArrayLike,
    Cs: Sequence[float],
    *,
    folds: int = 5,
    seed: int = 0,
    max_iter: int = 1000,
    tol: float | None = None,
    device: str = "auto",
    memory_bytes: int | None = None,
    on_done: Callable[[float, float], None] = lambda C, share: None,
) -> dict[float, float]:
    """Return the accuracy of each C on rows that were left out of the fit.

    Every row is left out once, with one fold; folds hold about as many of every class. A fit
    without a fold has the weight 0 for its rows, so all fits work on the same matrix.

    Parameters
    ----------
    kind : {"svm", "logistic"}
        The loss.
    X : Rows of shape (n_samples, n_features), float32 or float64
        Features, scaled.
    y : array-like of shape (n_samples,), int
        Labels.
    Cs : sequence of float
        Weights of the loss.
    folds : int
        Number of folds, 2 at least.
    seed : int
        Of the order in which rows are dealt to folds.
    max_iter, tol, device, memory_bytes
        As for `featx.heads.fit_path`.
    on_done : callable
        Called with C and the share of its fits that have just been solved, of 1.

    Returns
    -------
    dict of float to float
        Accuracy by C, over all rows.

    Raises
    ------
    UsageError
        For fewer than 2 folds.
    DataError
        If a class has fewer rows than there are folds.
    """
    ascending = sorted({positive("C", C) for C in Cs})
    if not ascending:
        raise UsageError("No value of C: give at least one.")
    labels = check(X, y, ascending[0], max_iter, 1.0)
    classes, index = np.unique(labels, return_inverse=True)
    fold_of = deal(index, folds, seed, classes)
    tol = DEFAULT_TOL["featx"] if tol is None else tol
    right = np.zeros(len(ascending))
    svm = kind == "svm"
    with open_design(
        X,
        1.0,
        device=device,
        single=svm,
        memory_bytes=memory_bytes,
        n_together=1 if svm else len(classes),
    ) as (design, left):
        solve = _svm_fold if svm else _logistic_fold
        one_fold = solve(design, index.astype(np.int64), len(classes), tol, max_iter, left)
        for fold in range(folds):
            left_out = fold_of == fold
            fitted = one_fold(
                (~left_out).astype(np.float64),
                ascending,
                lambda C, share: on_done(C, share / folds),
            )
            for i, weights in enumerate(fitted):
                scores = design.scores(weights)[:, left_out]
                found = (scores[0] > 0).astype(int) if len(scores) == 1 else scores.argmax(axis=0)
                right[i] += np.count_nonzero(found == index[left_out])
    return dict(zip(ascending, (right / len(labels)).tolist(), strict=True))


def _svm_fold(
    design: Design, labels: Labels, n_classes: int, tol: float, max_iter: int, left: int
) -> OneFold:
    """Return a function from the rows' weights and values of C to weights over the columns."""
    solver = SvmSolver(design, tol=tol, max_iter=max_iter, gram_bytes=left)
    positives = [1] if n_classes == 2 else range(n_classes)

    def solve(row_weights: FloatArray, Cs: list[float], on_done: OnDone) -> list[FloatArray]:
        points = solver.solve(Problems(labels, positives, row_weights), Cs, on_done=on_done)
        return [point.weights for point in points]

    return solve


def _logistic_fold(
    design: Design, labels: Labels, n_classes: int, tol: float, max_iter: int, left: int
) -> OneFold:
    """Return the same for the multinomial regression."""

    def solve(row_weights: FloatArray, Cs: list[float], on_done: OnDone) -> list[FloatArray]:
        points = solve_softmax_path(
            design,
            labels,
            n_classes,
            Cs,
            row_weights=row_weights,
            tol=tol,
            max_iter=max_iter,
            pack_bytes=left // 2 if design.in_memory else 0,
            gram_bytes=left,
            on_done=on_done,
        )
        return [np.column_stack([point.weights, point.intercepts]) for point in points]

    return solve


def deal(
    labels: npt.NDArray[np.int64], folds: int, seed: int, classes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the fold of each row: the rows of a class, in random order, are dealt in turn."""
    if folds < 2:
        raise UsageError(f"{folds} folds: cross-validation needs at least 2.")
    counts = np.bincount(labels)
    if counts.min() < folds:
        raise DataError(
            f"Class {classes[counts.argmin()]} has {counts.min()} rows, fewer than {folds} folds: "
            "take fewer folds (--cv) or a validation split."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.empty(len(labels), dtype=np.int64)
    # One deal through all classes, so that the folds are of the same size as well.
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of

"""What a fit is; linear SVM and logistic regression by scikit-learn, and whether they converged."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featx.errors import DataError, ShapeError, UsageError
from featx.heads.blocks import Features, FloatArray, Rows, row_blocks, scores
from featx.heads.certificate import certify_svm

HeadKind = Literal["svm", "logistic"]

GAP_CONVERGED = 1e-3
"""Largest relative duality gap of a fit that counts as converged.

Measured on ResNet-50 features of CIFAR-10 (512 to 4,096 values, C 0.01 and 12): where liblinear
stopped by its own tolerance at the optimum, the proven gap was 2e-6 or less; where it stopped
short of it, 1e-2 to 2e-1, with up to 4 points of accuracy lost.
"""

GRADIENT_CONVERGED = 10
"""Largest gradient entry, in tolerances, of a logistic regression that counts as converged.

lbfgs also stops, without a word, where the objective no longer changes in the digits of the
features' type. Its own float32 gradient differs from the one in float64: measured on standardized
features 0.5 to 1.3 tolerances. On float32 features whose scales differ by 10^3 to 10^4 it stopped
at 20 to 7,000 tolerances, up to 50 % above the optimum.
"""

ROWS_PER_FEATURE_PRIMAL = 3
"""liblinear's primal solver is used above this many samples per feature, its dual below.

Measured at C 12 and 1,000 iterations (ResNet-50 features, one class against the rest), objective
above the optimum, dual / primal: 1.5 rows per feature 0 / 21 %, 2 rows 0 / 3 to 15 %, 4 rows 0 to
220 / 4 to 9 %, 8 rows 150 to 1,100 / 0 to 16 %, 16 rows 58 / 0 %. At C 0.01 both reach it.
"""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted linear classifier: the class with the largest ``X @ coef.T + intercept`` wins.

    Attributes
    ----------
    coef : ndarray of shape (n_classes, n_features), float64
        Weights. Two classes have two rows, one the negative of the other.
    intercept : ndarray of shape (n_classes,), float64
        Intercepts.
    classes : ndarray of shape (n_classes,), int64
        Label of each row, ascending.
    kind : {"svm", "logistic"}
        The loss.
    solver : str
        ``"featx-newton"``, ``"liblinear-dual"``, ``"liblinear-primal"`` or ``"lbfgs"``.
    C : float
        Weight of the loss against the L2 penalty.
    n_iter : int
        Iterations of the solver, of the class that took most.
    converged : bool
        featx' solvers: the gap is at most the tolerance. scikit-learn's: the solver ended by its
        tolerance, and what featx computes itself in float64 agrees: the gap is at most
        `GAP_CONVERGED` (liblinear), the gradient `GRADIENT_CONVERGED` (lbfgs).
    objective : float
        Value of the objective in float64; of one-vs-rest problems the sum.
    duality_gap : float or None
        Relative, largest over the classes: the optimum is at most this fraction of the objective
        lower. None for lbfgs.
    fit_s : float
        Seconds the solver took, without the certificate.
    messages : tuple of str
        What did not go well and what to do; empty when converged.
    """

    coef: FloatArray
    intercept: FloatArray
    classes: npt.NDArray[np.int64]
    kind: HeadKind
    solver: str
    C: float
    n_iter: int
    converged: bool
    objective: float
    duality_gap: float | None
    fit_s: float
    messages: tuple[str, ...]


def fit_liblinear(
    X: Features,
    y: npt.ArrayLike,
    *,
    C: float = 12.0,
    max_iter: int = 1000,
    tol: float = 1e-4,
    seed: int = 0,
) -> Fit:
    """Fit a linear SVM: squared hinge, L2, one class against the rest, by liblinear.

    scikit-learn's ``LinearSVC`` with ``intercept_scaling=1``: the intercept is regularized with
    the weights. Which of liblinear's two solvers runs follows `ROWS_PER_FEATURE_PRIMAL`; after the
    fit the distance to the optimum is bounded (`featx.heads.certificate`).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Features, scaled. liblinear works on a float64 copy.
    y : array-like of shape (n_samples,), int
        Labels.
    C : float
        Weight of the loss. 12 is experiment D1's.
    max_iter : int
        Iterations at most, per class.
    tol : float
        liblinear's stopping tolerance.
    seed : int
        Seed of the dual solver's coordinate order.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If `X` holds a value that is not finite in float32, the labels are not integers or not one
        per row, or there is only one class.
    ShapeError
        If `X` is not two-dimensional.
    UsageError
        If `C`, `max_iter` or `tol` is not positive.
    """
    from sklearn.svm import LinearSVC

    labels = check(X, y, C, max_iter, tol)
    dual = X.shape[0] <= ROWS_PER_FEATURE_PRIMAL * X.shape[1]
    model = LinearSVC(C=C, dual=dual, max_iter=max_iter, tol=tol, random_state=seed)
    finished, fit_s = _run(model, X, labels)
    # Of two classes scikit-learn solves one problem: the second class against the first.
    positive = model.classes_[1:] if len(model.classes_) == 2 else model.classes_
    signs = np.where(labels[:, None] == positive, 1.0, -1.0)
    certificate = certify_svm(X, signs, model.coef_, model.intercept_, C)
    n_iter, gap = int(np.max(model.n_iter_)), certificate.gap
    messages = _svm_messages(finished, n_iter, gap)
    return Fit(
        coef=all_rows(model.coef_),
        intercept=all_rows(model.intercept_),
        classes=model.classes_.astype(np.int64),
        kind="svm",
        solver="liblinear-dual" if dual else "liblinear-primal",
        C=float(C),
        n_iter=n_iter,
        converged=not messages,
        objective=certificate.objective,
        duality_gap=gap,
        fit_s=fit_s,
        messages=messages,
    )


def fit_lbfgs(
    X: Features,
    y: npt.ArrayLike,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
    tol: float = 1e-4,
    seed: int = 0,
) -> Fit:
    """Fit a logistic regression: L2, multinomial, by scikit-learn's lbfgs.

    For two classes the loss is the binary one, and the two rows of the result are plus and minus
    half of scikit-learn's weights: the softmax of the scores is the probability in any case.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Features, scaled. The solver works in their type.
    y : array-like of shape (n_samples,), int
        Labels.
    C : float
        Weight of the loss.
    max_iter : int
        Iterations at most.
    tol : float
        Largest entry of the gradient of the mean loss at which the solver stops.
    seed : int
        Not used by lbfgs; there so that both heads are called alike.

    Returns
    -------
    Fit
        Without a duality gap: the intercept is not regularized.

    Raises
    ------
    DataError
        If `X` holds a value that is not finite in float32, the labels are not integers or not one
        per row, or there is only one class.
    ShapeError
        If `X` is not two-dimensional.
    UsageError
        If `C`, `max_iter` or `tol` is not positive.
    """
    from sklearn.linear_model import LogisticRegression

    labels = check(X, y, C, max_iter, tol)
    model = LogisticRegression(C=C, max_iter=max_iter, tol=tol, random_state=seed)
    finished, fit_s = _run(model, X, labels)
    coef = all_rows(model.coef_.astype(np.float64))
    intercept = all_rows(model.intercept_.astype(np.float64))
    penalty = 0.5 * float((model.coef_.astype(np.float64) ** 2).sum())
    if len(model.classes_) == 2:
        coef, intercept = coef / 2, intercept / 2
    loss, gradient = _log_loss(X, labels, model.classes_, coef, intercept, C)
    n_iter = int(np.max(model.n_iter_))
    messages = _logistic_messages(finished, n_iter, max_iter, gradient, tol)
    return Fit(
        coef=coef,
        intercept=intercept,
        classes=model.classes_.astype(np.int64),
        kind="logistic",
        solver="lbfgs",
        C=float(C),
        n_iter=n_iter,
        converged=not messages,
        objective=penalty + C * loss,
        duality_gap=None,
        fit_s=fit_s,
        messages=messages,
    )


def check(X: Rows, y: npt.ArrayLike, C: float, max_iter: int, tol: float) -> npt.NDArray[np.int64]:
    """Refuse what no solver can use; return the labels as int64."""
    for name, value in (("C", C), ("max_iter", max_iter), ("tol", tol)):
        if not (np.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}: it must be a positive number.")
    if len(X.shape) != 2 or X.shape[1] == 0:
        raise ShapeError(f"Features of shape {X.shape}: expected (n_samples, n_features).")
    labels = np.asarray(y)
    if labels.shape != (X.shape[0],):
        raise DataError(
            f"Labels of shape {labels.shape} for {X.shape[0]} rows of features: expected one label "
            "per row."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"Labels of type {labels.dtype}: expected integers.")
    classes = np.unique(labels)
    if len(classes) < 2:
        found = f"only class {classes[0]}" if len(classes) else "no samples"
        raise DataError(
            f"The training labels hold {found}: a classifier needs at least two classes."
        )
    for rows, block in row_blocks(X):
        # False for NaN too. liblinear never returns once a squared row overflows float64.
        usable = np.abs(block) <= np.finfo(np.float32).max
        if not usable.all():
            row, column = np.argwhere(~usable)[0]
            raise DataError(
                f"The features hold {block[row, column]} in row {rows.start + row}, column "
                f"{column}. Every value must be finite in float32: look at the image of that row, "
                "or extract again with --precision fp32."
            )
    return labels.astype(np.int64)


def _run(model: Any, X: Features, labels: npt.NDArray[np.int64]) -> tuple[bool, float]:
    """Fit `model`; return whether it ended by its tolerance, and the seconds it took."""
    from sklearn.exceptions import ConvergenceWarning

    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, labels)
    seconds = time.perf_counter() - start
    finished = True
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            finished = False
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return finished, seconds


def all_rows(values: FloatArray) -> FloatArray:
    """Return one row per class: scikit-learn gives two classes a single one, of the second."""
    return np.concatenate([-values, values]) if len(values) == 1 else values


def _svm_messages(finished: bool, n_iter: int, gap: float) -> tuple[str, ...]:
    if finished and gap <= GAP_CONVERGED:
        return ()
    # The gap is relative to the objective, the sentence to the optimum.
    bound = (
        f"objective at most {_percent(gap / (1.0 - gap))} above the optimum"
        if gap < 0.99
        else "no useful bound on how far the objective is above the optimum"
    )
    if finished:
        return (
            f"liblinear stopped after {n_iter} iterations by its own tolerance, but not at the "
            f"optimum: {bound}. Lower --tol or C.",
        )
    advice = (
        "More iterations would change little."
        if gap <= GAP_CONVERGED
        else "Raise --max-iter or lower C."
    )
    return (f"liblinear stopped after {n_iter} iterations, {bound}. {advice}",)


def _logistic_messages(
    finished: bool, n_iter: int, max_iter: int, gradient: float, tol: float
) -> tuple[str, ...]:
    if finished and gradient <= GRADIENT_CONVERGED * tol:
        return ()
    where = f"its largest gradient entry was {gradient:.1e}, the tolerance is {tol:g}"
    if not finished and n_iter >= max_iter:
        return (f"lbfgs stopped after {n_iter} iterations: {where}. Raise --max-iter or lower C.",)
    return (
        f"lbfgs found no better point after {n_iter} iterations: {where}. Raise --tol, or "
        "standardize the features.",
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction < 1 else f"{100 * fraction:.0f} %"


def _log_loss(
    X: Features,
    labels: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
    coef: FloatArray,
    intercept: FloatArray,
    C: float,
) -> tuple[float, float]:
    """Return the summed log loss and the largest gradient entry of the penalized mean loss."""
    from scipy.special import log_softmax

    logs = log_softmax(scores(X, coef, intercept), axis=1)
    truth = labels[:, None] == classes
    residual = np.exp(logs) - truth
    n = len(labels)
    # For two classes `coef` is half of what is penalized, and its rows mirror each other: the
    # gradient of either row is that of the single weight vector, up to its sign.
    penalized = coef * 2 if len(classes) == 2 else coef
    gradient = penalized / (C * n)
    for rows, block in row_blocks(X):
        gradient += residual[rows].T @ block / n
    largest = max(float(np.abs(gradient).max()), float(np.abs(residual.mean(axis=0)).max()))
    return -float(logs[truth].sum()), largest

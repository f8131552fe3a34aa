"""Small problems, and optima of their objectives found without liblinear and without featx."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax


def blobs(
    n: int, d: int, n_classes: int, *, seed: int = 0, apart: float = 0.7, first: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping classes with labels from `first`: X float32 (n, d), y int64 (n,)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centres = apart * rng.standard_normal((n_classes, d))
    X = centres[y] + rng.standard_normal((n, d))
    return X.astype(np.float32), y + first


def svm_objective(X: np.ndarray, sign: np.ndarray, v: np.ndarray, C: float) -> float:
    """Return liblinear's objective of one class against the rest; v is (weights, intercept)."""
    loss = 0.0
    for x, s in zip(X.astype(np.float64), sign, strict=True):
        loss += max(0.0, 1.0 - s * (x @ v[:-1] + v[-1])) ** 2
    return float(0.5 * (v @ v) + C * loss)


def svm_optimum(X: np.ndarray, sign: np.ndarray, C: float) -> tuple[float, np.ndarray]:
    """Return the least objective and where it is, by L-BFGS in float64."""
    A = np.column_stack([X.astype(np.float64), np.ones(len(X))])

    def value_and_gradient(v: np.ndarray) -> tuple[float, np.ndarray]:
        hinge = np.maximum(0.0, 1.0 - sign * (A @ v))
        return 0.5 * (v @ v) + C * (hinge @ hinge), v - 2.0 * C * (A.T @ (sign * hinge))

    found = minimize(
        value_and_gradient,
        np.zeros(A.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-16, "gtol": 1e-9, "maxcor": 30},
    )
    return float(found.fun), found.x


def logistic_objective(
    X: np.ndarray, truth: np.ndarray, v: np.ndarray, C: float, n_classes: int
) -> float:
    """Return scikit-learn's objective; v is (weights, intercept) of one row (binary) or K rows.

    `truth` holds the class numbers 0 to K - 1.
    """
    rows = v.reshape(-1, X.shape[1] + 1)
    scores = X.astype(np.float64) @ rows[:, :-1].T + rows[:, -1]
    if n_classes == 2:
        scores = np.column_stack([np.zeros(len(X)), scores])
    logs = log_softmax(scores, axis=1)
    loss = -logs[np.arange(len(X)), truth].sum()
    return float(0.5 * (rows[:, :-1] ** 2).sum() + C * loss)


def logistic_optimum(X: np.ndarray, truth: np.ndarray, C: float, n_classes: int) -> float:
    """Return the least objective, by L-BFGS with a numerical gradient."""
    n_rows = 1 if n_classes == 2 else n_classes
    found = minimize(
        lambda v: logistic_objective(X, truth, v, C, n_classes),
        np.zeros(n_rows * (X.shape[1] + 1)),
        method="L-BFGS-B",
        options={"maxiter": 2_000, "maxfun": 100_000, "ftol": 1e-14, "gtol": 1e-7},
    )
    return float(found.fun)

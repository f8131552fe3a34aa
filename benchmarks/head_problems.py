"""The problems that linear heads are measured on, and their objectives by the formula.

Needs NumPy and SciPy alone: other libraries' environments use it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATH = tuple(float(C) for C in np.geomspace(1e-3, 1e2, 10))


@dataclass(frozen=True)
class Problem:
    """Rows and classes of a feature file, the values of C, the ratio that is aimed at."""

    features: str
    n_rows: int
    n_classes: int
    Cs: tuple[float, ...] = (12.0,)
    kind: str = "svm"
    target: float = 0.0


PROBLEMS = {
    "10,000 x 512, 10 classes": Problem("r18-layer4", 10_000, 10, target=40),
    "5,000 x 2,048, 5 classes, separable": Problem("r50-conv5", 5_000, 5, target=12),
    "3,000 x 16,384, 5 classes, separable": Problem("r50-conv2", 3_000, 5, target=15),
    "path of 10 C, 5,000 x 512, 5 classes": Problem("r18-layer4", 5_000, 5, PATH, target=50),
    "D1: 19,964 x 2,048, 5 classes": Problem("r50-conv5", 19_964, 5, target=15),
    "D1: 19,964 x 4,096, 5 classes": Problem("r50-conv4", 19_964, 5, target=15),
    "logistic, 20,000 x 2,048, 10 classes": Problem(
        "r50-conv5-ten", 20_000, 10, (1.0,), "logistic", target=5
    ),
    "logistic, 20,000 x 512, 10 classes": Problem(
        "r18-layer4", 20_000, 10, (1.0,), "logistic", target=5
    ),
    "one against the rest, no intercept, 20,000 x 512, 10 classes": Problem(
        "r18-layer4", 20_000, 10, (1.0,), "logistic-ovr"
    ),
}


def load(folder: Path, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Return standardized features, float32, and labels."""
    with np.load(folder / f"{problem.features}.npz") as file:
        X, y = file["X"], file["y"]
    classes = np.unique(y)[: problem.n_classes]
    rows = np.flatnonzero(np.isin(y, classes))[: problem.n_rows]
    X, y = X[rows].astype(np.float64), y[rows]
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    return X.astype(np.float32), y


def objective(
    X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray, C: float, kind: str
) -> float:
    """Return the objective of a fitted model, summed over its problems, in float64."""
    W, b = np.asarray(coef, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
    scores = X.astype(np.float64) @ W.T + b
    truth = y[:, None] == np.unique(y)
    signs = np.where(truth, 1.0, -1.0)
    if kind == "svm":
        hinge = np.maximum(0.0, 1.0 - signs * scores)
        return float(0.5 * ((W**2).sum() + (b**2).sum()) + C * (hinge**2).sum())
    if kind == "logistic-ovr":
        return float(0.5 * (W**2).sum() + C * np.logaddexp(0.0, -signs * scores).sum())
    from scipy.special import log_softmax

    return float(0.5 * (W**2).sum() - C * log_softmax(scores, axis=1)[truth].sum())

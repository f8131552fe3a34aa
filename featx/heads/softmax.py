r"""L2-regularized logistic regression by Newton steps: multinomial, or one class against the rest.

For scores :math:`z_{ik} = w_k \cdot x_i + b_k` and weights :math:`c_i` of the rows, the minimum of

.. math:: P(W, b) = \tfrac12 |W|^2 + C \sum_i c_i
          \Big(\log \sum_k e^{z_{ik}} - z_{i y_i}\Big),

the intercepts b not penalized: scikit-learn's ``LogisticRegression``. A problem of one class
against the rest has one w and b, and :math:`\log(1 + e^{z_i}) - [y_i = 1] z_i`; two classes are
one such problem, as in scikit-learn.

Each step solves Newton's equations for all classes together, roughly
(`featx.heads.curvature`; Dembo, Eisenstat and Steihaug, "Inexact Newton methods", SIAM J. Numer.
Anal. 19 (1982), 400-408), and goes to the lowest point along the line, which takes no product with
the features. After each step the intercepts are optimal for the weights.

That makes the bound cheap. P's dual is the maximum over probabilities :math:`\alpha_i` with
:math:`\sum_i c_i (\alpha_i - e_{y_i}) = 0` of

.. math:: D(\alpha) = C \sum_i c_i H(\alpha_i)
          - \tfrac12 \Big|C \sum_i c_i (\alpha_i - e_{y_i}) x_i'\Big|^2,

H the entropy (Yu, Huang and Lin, "Dual coordinate descent methods for logistic regression and
maximum entropy models", Machine Learning 85 (2011), 41-75). With optimal intercepts the model's own
probabilities are feasible, up to rounding, and :math:`P - D` is half the squared gradient with
respect to W: the same bound that strong convexity gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from featx.heads.blocks import FloatArray
from featx.heads.curvature import Curvature
from featx.heads.designs import Design
from featx.heads.lapack import cholesky
from featx.heads.softmax_steps import SoftmaxNewton, SoftmaxPoint

Points: TypeAlias = list[SoftmaxPoint]
Starts: TypeAlias = Sequence[tuple[FloatArray, FloatArray]]

# Roundings of the kernel, in units of its mean diagonal, that are added to the diagonal.
_ROUNDINGS = 4.0


def solve_softmax_path(
    design: Design,
    labels: npt.NDArray[np.int64],
    n_classes: int,
    Cs: Sequence[float],
    *,
    one_vs_rest: bool = False,
    fit_intercept: bool = True,
    row_weights: FloatArray | None = None,
    tol: float = 1e-6,
    max_iter: int = 100,
    starts: Starts | None = None,
    pack_bytes: int = 2**31,
    gram_bytes: int = 2**31,
    on_done: Callable[[float, float], None] = lambda C, share: None,
) -> Points:
    """Solve at every C, from the smallest up, each from the one before.

    Parameters
    ----------
    design : Design
        The rows; its last column must be 1 everywhere if there is an intercept.
    labels : ndarray of shape (n_rows,), int64
        Index of each row's class.
    n_classes : int
        Classes, at least 2.
    Cs : sequence of float
        Weights of the loss, ascending.
    one_vs_rest : bool
        One problem for each class against the rest, instead of one for all. Two classes are one
        problem, the second against the first, in either case.
    fit_intercept : bool
        Whether the design's last column is the intercept's.
    row_weights : ndarray of shape (n_rows,), float64, or None
        Weight of each row's loss; None for 1.
    tol : float
        Relative duality gap to reach.
    max_iter : int
        Newton steps at each C at most.
    starts : sequence of (weights, intercepts), or None
        Near the solution at each C; None to come from 0 and then from C to C.
    pack_bytes : int
        A float32 copy of the rows may take this much. 0 for designs that are not in this memory.
    gram_bytes : int
        A matrix over the columns may take this much.
    on_done : callable
        Called with each C that was solved, and 1.

    Returns
    -------
    list of SoftmaxPoint
        One for each C.
    """
    positives = np.array([1]) if n_classes == 2 else np.arange(n_classes)
    own = (labels == positives[:, None]).astype(np.float64)
    binary = one_vs_rest or n_classes == 2
    truth = own[:, None, :] if binary else own[None]
    weights = np.ones(design.n_rows) if row_weights is None else row_weights

    def solve(rows: Design, begins: Starts | None, done: Callable[[float, float], None]) -> Points:
        curvature = Curvature(rows, fit_intercept, pack_bytes, gram_bytes)
        newton = SoftmaxNewton(rows, curvature, truth, weights, fit_intercept)
        points = []
        for stage, C in enumerate(Cs):
            if begins is not None:
                newton.begin(*begins[stage])
            else:
                newton.extrapolate(float(C))
            points.append(newton.solve(float(C), tol, max_iter))
            done(C, 1.0)
        return points

    if starts is not None or design.n_columns - fit_intercept <= design.n_rows:
        return solve(design, starts, on_done)
    factor = _row_coordinates(design, fit_intercept)
    narrow = Design(factor, 1.0 if fit_intercept else None, design.workers)
    points = solve(narrow, None, lambda C, share: None)
    begins = [
        (_to_columns(design, factor, point.weights, fit_intercept), point.intercepts)
        for point in points
    ]
    polished = solve(design, begins, on_done)
    return [
        replace(after, n_iter=before.n_iter + after.n_iter)
        for before, after in zip(points, polished, strict=True)
    ]


def _row_coordinates(design: Design, intercept: bool) -> FloatArray:
    """Return L by rows, with ``L @ L.T`` the products of the rows without the intercept's column.

    See `featx.heads.wide`. A row's length in the features is that in L.
    """
    kernel = design.whole_kernel(np.dtype(np.float64)) - float(intercept)
    epsilon = _ROUNDINGS * float(np.finfo(kernel.dtype).eps) * max(design.mean_square, 1e-300)
    while True:
        factor = kernel.copy()
        factor.flat[:: len(factor) + 1] += epsilon
        with design.workers.together():
            definite = cholesky(factor)
        if definite:
            return np.ascontiguousarray(np.tril(factor.T))
        epsilon *= 10.0


def _to_columns(design: Design, factor: FloatArray, v: FloatArray, intercept: bool) -> FloatArray:
    """Return the weights of the features for weights over the rows' coordinates."""
    from scipy.linalg import solve_triangular

    beta = solve_triangular(factor, v.T, lower=True, trans=1, check_finite=False)
    w = design.gradients(np.ascontiguousarray(beta.T))
    return w[:, :-1] if intercept else w

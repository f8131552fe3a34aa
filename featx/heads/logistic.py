"""LogisticRegression: scikit-learn's, solved to the optimum by products of matrices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, scores
from featx.heads.inputs import FitInput, checked_input, class_weights, positive
from featx.heads.simple import fitted_rows
from featx.heads.softmax import solve_softmax_path
from featx.heads.softmax_steps import SoftmaxPoint
from featx.heads.solving import open_design


class LogisticRegression(ClassifierMixin, BaseEstimator):
    r"""Logistic regression: L2, multinomial or one class against the rest, the intercept free.

    The minimum of scikit-learn's objective

    .. math:: \tfrac12 |W|^2 + C \sum_i c_i \mathrm{loss}_i,

    the loss being :math:`\log \sum_k e^{z_{ik}} - z_{i y_i}`, or :math:`\log(1 + e^{-y_i z_i})`
    for two classes and for each class against the rest.

    Parameters
    ----------
    C : float
        Weight of the loss.
    multi_class : {"multinomial", "ovr"}
        One problem for all classes, or one for each against the rest. Two classes are one problem.
    fit_intercept : bool
        Whether there is an intercept. It is not regularized.
    tol : float
        Relative duality gap to reach.
    max_iter : int
        Newton steps at most, for each C.
    class_weight : dict, "balanced" or None
        Weights of the classes' samples.
    device : str
        As for `LinearSVM`.
    memory_bytes : int or None
        As for `LinearSVM`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features), float64
        Weights; for two classes those of the second one.
    intercept_ : ndarray of shape (n_classes,) or (1,), float64
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        The classes, ascending.
    n_iter_ : int
        Newton steps.
    objective_, duality_gap_ : ndarray of shape (n_problems,), float64
        The objective, and the part of it by which the optimum is lower at most, up to 1.
    converged_ : bool
        Whether every gap is at most `tol`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx.heads import LogisticRegression
    >>> X, y = load_digits(return_X_y=True)
    >>> head = LogisticRegression(C=0.1).fit(X / 16, y)
    >>> bool((head.duality_gap_ <= 1e-6).all())
    True
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        multi_class: Literal["multinomial", "ovr"] = "multinomial",
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: Any = None,
        device: str = "auto",
        memory_bytes: int | None = None,
    ) -> None:
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.device = device
        self.memory_bytes = memory_bytes

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Fit the head; parameters as for `LinearSVM.fit`."""
        data = checked_input(self, X, y, sample_weight)
        self._take(data, self._solve(data, [positive("C", self.C)])[0])
        return self

    def fit_path(
        self, X: Any, y: Any, Cs: Iterable[float], sample_weight: Any = None
    ) -> list[LogisticRegression]:
        """Fit at several values of C, each from the solution before; see `LinearSVM.fit_path`."""
        values = [positive("C", C) for C in Cs]
        if not values:
            raise UsageError("No value of C: give at least one.")
        data = checked_input(self, X, y, sample_weight)
        ascending = sorted(set(values))
        points = dict(zip(ascending, self._solve(data, ascending), strict=True))
        heads = []
        for C in values:
            head = copy.copy(self)
            head.C = C
            head._take(data, points[C])
            heads.append(head)
        return heads

    def _solve(self, data: FitInput, Cs: list[float]) -> list[SoftmaxPoint]:
        if self.multi_class not in ("multinomial", "ovr"):
            raise UsageError(
                f"multi_class is {self.multi_class!r}: valid are 'multinomial' and 'ovr'."
            )
        tol, max_iter = positive("tol", self.tol), int(positive("max_iter", self.max_iter))
        weights, row_weights = class_weights(self.class_weight, data), data.row_weights
        if weights is not None:
            row_weights = weights[data.labels] * (1.0 if row_weights is None else row_weights)
        with open_design(
            data.X,
            1.0 if self.fit_intercept else None,
            device=self.device,
            single=False,
            memory_bytes=self.memory_bytes,
            n_together=len(data.classes),
        ) as (design, left):
            return solve_softmax_path(
                design,
                data.labels,
                len(data.classes),
                Cs,
                one_vs_rest=self.multi_class == "ovr",
                fit_intercept=self.fit_intercept,
                row_weights=row_weights,
                tol=tol,
                max_iter=max_iter,
                pack_bytes=left // 2 if design.in_memory else 0,
                gram_bytes=left,
            )

    def _take(self, data: FitInput, point: SoftmaxPoint) -> None:
        """Become what was solved."""
        self.classes_ = data.classes
        self.coef_, self.intercept_ = point.weights.copy(), point.intercepts.copy()
        self.objective_, self.duality_gap_ = point.objective, np.clip(point.gap, 0.0, 1.0)
        self.n_iter_ = int(point.n_iter.max())
        self.n_features_in_ = self.coef_.shape[1]
        self.converged_ = bool((self.duality_gap_ <= self.tol).all())
        if not self.converged_:
            warnings.warn(
                f"LogisticRegression at C {point.C:g} stopped after {self.n_iter_} Newton steps "
                f"with a relative duality gap of {self.duality_gap_.max():.1e}; {self.tol:g} was "
                "asked for. Raise max_iter, standardize the features, or lower C.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def decision_function(self, X: Any) -> FloatArray:
        """Return the scores, shape (n_samples, n_classes), for two classes (n_samples,)."""
        result = scores(fitted_rows(self, X), self.coef_, self.intercept_)
        return result[:, 0] if result.shape[1] == 1 else result

    def predict_proba(self, X: Any) -> FloatArray:
        """Return the probability of each class, shape (n_samples, n_classes)."""
        found = self.decision_function(X)
        if found.ndim == 1:
            return np.column_stack([expit(-found), expit(found)])
        if self.multi_class == "multinomial":
            return np.asarray(softmax(found, axis=1))
        # As scikit-learn's one-vs-rest: each class by itself, made to add up to 1.
        alone = expit(found)
        return np.asarray(alone / alone.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class with the largest score for each sample."""
        found = self.decision_function(X)
        index = (found > 0).astype(np.intp) if found.ndim == 1 else found.argmax(axis=1)
        return np.asarray(self.classes_[index])

"""LinearSVM: scikit-learn's LinearSVC, solved to the optimum by products of matrices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, scores
from featx.heads.inputs import (
    FitInput,
    as_array,
    checked_input,
    class_weights,
    is_stored,
    positive,
    whole,
)
from featx.heads.newton import PathPoint, Problems
from featx.heads.solving import open_design
from featx.heads.wide import SvmSolver

Precision = Literal["mixed", "float64"]


class LinearSVM(ClassifierMixin, BaseEstimator):
    r"""Linear support vector machine: squared hinge, L2, one class against the rest.

    For each class, with labels :math:`y_i = \pm 1`, the minimum of liblinear's objective

    .. math:: \tfrac12 (|w|^2 + \beta^2) + C \sum_i c_i \max(0, 1 - y_i (w \cdot x_i + s \beta))^2

    where s is `intercept_scaling` and the intercept is :math:`s \beta` (Fan et al., "LIBLINEAR: A
    library for large linear classification", JMLR 9 (2008), 1871-1874). What ``LinearSVC``
    minimizes, by another method, with a proof of how near to the optimum it ended.

    Parameters
    ----------
    C : float
        Weight of the loss. 12 is experiment D1's.
    intercept_scaling : float
        Value of the intercept's column.
    tol : float
        Relative duality gap to reach for every class.
    max_iter : int
        Newton steps at most, for each class and each C that is passed through on the way.
    class_weight : dict, "balanced" or None
        As in ``LinearSVC``: with more than two classes, a class's weight counts where it is set
        against the rest.
    device : str
        ``"auto"`` (a GPU that torch can use, otherwise the processor), ``"cpu"``, ``"cuda"``,
        ``"cuda:N"``.
    dtype : {"mixed", "float64"}
        Precision of the factorizations. Mixed begins with float32 and changes to float64, problem
        by problem, where that is not enough. On the way to C products are in float32 too; at C
        itself scores, gradients and the gap are in float64.
    memory_bytes : int or None
        Memory the fit may take; features that do not fit are read again in blocks. None: what is
        free.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features), float64
        Weights; for two classes those of the second one.
    intercept_ : ndarray of shape (n_classes,) or (1,), float64
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        The classes, ascending.
    n_iter_ : int
        Newton steps of the class that took most.
    objective_ : ndarray of shape (n_classes,) or (1,), float64
        The objective, per class.
    duality_gap_ : ndarray of shape (n_classes,) or (1,), float64
        The optimum is at most this fraction of the objective lower: from a dual feasible point.
    converged_ : bool
        Whether every gap is at most `tol`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx.heads import LinearSVM
    >>> X, y = load_digits(return_X_y=True)
    >>> head = LinearSVM(C=0.01).fit(X / 16, y)
    >>> bool((head.duality_gap_ <= 1e-6).all())
    True
    """

    def __init__(
        self,
        C: float = 12.0,
        intercept_scaling: float = 1.0,
        *,
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: Any = None,
        device: str = "auto",
        dtype: Precision = "mixed",
        memory_bytes: int | None = None,
    ) -> None:
        self.C = C
        self.intercept_scaling = intercept_scaling
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.device = device
        self.dtype = dtype
        self.memory_bytes = memory_bytes

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearSVM:
        """Fit every class.

        Parameters
        ----------
        X : array-like, torch tensor or h5py dataset of shape (n_samples, n_features)
            Features, scaled.
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples' losses, not negative.

        Returns
        -------
        LinearSVM
            This object.
        """
        data = checked_input(self, X, y, sample_weight)
        self._take(data, self._solve(data, [positive("C", self.C)])[0])
        return self

    def fit_path(
        self, X: Any, y: Any, Cs: Iterable[float], sample_weight: Any = None
    ) -> list[LinearSVM]:
        """Fit at several values of C, each from the solution at the one before.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        Cs : iterable of float
            Values of C, in any order.

        Returns
        -------
        list of LinearSVM
            A fitted head for each value of C, in the order they were given.
        """
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

    def _solve(self, data: FitInput, Cs: list[float]) -> list[PathPoint]:
        tol, scale = (
            positive("tol", self.tol),
            positive("intercept_scaling", self.intercept_scaling),
        )
        max_iter = whole("max_iter", self.max_iter)
        if self.dtype not in ("mixed", "float64"):
            raise UsageError(f"dtype is {self.dtype!r}: valid are 'mixed' and 'float64'.")
        problems = one_vs_rest(data, class_weights(self.class_weight, data))
        with open_design(
            data.X,
            scale,
            device=self.device,
            single=self.dtype == "mixed",
            memory_bytes=self.memory_bytes,
        ) as (design, gram_bytes):
            solver = SvmSolver(design, tol=tol, max_iter=max_iter, gram_bytes=gram_bytes)
            return solver.solve(problems, Cs)

    def _take(self, data: FitInput, point: PathPoint) -> None:
        """Become what was solved."""
        self.classes_ = data.classes
        self.coef_ = point.weights[:, :-1].copy()
        self.intercept_ = self.intercept_scaling * point.weights[:, -1]
        self.objective_, self.duality_gap_ = point.objective, np.maximum(point.gap, 0.0)
        self.n_iter_ = int(point.n_iter.max())
        self.n_features_in_ = self.coef_.shape[1]
        self.converged_ = bool((self.duality_gap_ <= self.tol).all())
        if not self.converged_:
            warnings.warn(
                f"LinearSVM at C {point.C:g} stopped after {self.n_iter_} Newton steps with a "
                f"relative duality gap of {self.duality_gap_.max():.1e}; {self.tol:g} was asked "
                "for. Raise max_iter, standardize the features, or lower C.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def decision_function(self, X: Any) -> FloatArray:
        """Return the scores, shape (n_samples, n_classes), for two classes (n_samples,)."""
        check_is_fitted(self)
        X = as_array(X)
        if not is_stored(X):
            X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        elif X.shape[1] != self.n_features_in_:
            raise UsageError(
                f"X has {X.shape[1]} features, but LinearSVM is expecting {self.n_features_in_}."
            )
        result = scores(X, self.coef_, self.intercept_)
        return result[:, 0] if result.shape[1] == 1 else result

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class with the largest score for each sample."""
        found = self.decision_function(X)
        index = (found > 0).astype(np.intp) if found.ndim == 1 else found.argmax(axis=1)
        return np.asarray(self.classes_[index])


def one_vs_rest(data: FitInput, weights: FloatArray | None) -> Problems:
    """Return the problems of the classes, weighted as liblinear weights them.

    With two classes there is one problem, the second class against the first, and both weights
    count. With more, a class's weight counts for its own samples in its own problem.
    """
    if len(data.classes) > 2:
        return Problems(data.labels, range(len(data.classes)), data.row_weights, weights)
    row_weights = data.row_weights
    if weights is not None:
        row_weights = weights[data.labels] * (1.0 if row_weights is None else row_weights)
    return Problems(data.labels, [1], row_weights)

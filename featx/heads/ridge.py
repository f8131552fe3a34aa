"""Ridge regression on the labels: one factorization for all classes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.linalg import cho_solve

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, Rows
from featx.heads.designs import Design
from featx.heads.inputs import FitInput, checked_input, class_weights, positive
from featx.heads.lapack import cholesky
from featx.heads.simple import LinearScores, class_sums
from featx.heads.solving import open_design


class RidgeClassifier(LinearScores):
    r"""Ridge regression on the labels, one class against the rest: ``sklearn``'s, by blocks.

    For each class, with targets :math:`y_i = \pm 1` and sample weights :math:`s_i`, the minimum of

    .. math:: \sum_i s_i (y_i - w \cdot x_i - b)^2 + \alpha |w|^2

    in closed form (Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal
    problems", Technometrics 12 (1970), 55-67). The intercept b is not regularized: features and
    targets are centred. One Cholesky factorization serves every class: of the features' Gram
    matrix, or, where there are fewer samples than features, of the samples' kernel (Saunders et
    al., "Ridge regression learning algorithm in dual variables", ICML 1998).

    Parameters
    ----------
    alpha : float
        Regularization; positive.
    class_weight : dict, "balanced" or None
        As in scikit-learn: factors of the sample weights; "balanced" counts samples, whatever
        their weights.
    device : str
        ``"auto"`` (a GPU that torch can use, otherwise the processor), ``"cpu"``, ``"cuda"``,
        ``"cuda:N"``.
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

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx.heads import RidgeClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> round(RidgeClassifier(alpha=1.0).fit(X, y).score(X, y), 2)
    0.95
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        class_weight: Any = None,
        device: str = "auto",
        memory_bytes: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.class_weight = class_weight
        self.device = device
        self.memory_bytes = memory_bytes

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RidgeClassifier:
        """Fit every class.

        Parameters
        ----------
        X : array-like, torch tensor or h5py dataset of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the samples, not negative.

        Returns
        -------
        RidgeClassifier
            This object.

        Raises
        ------
        UsageError
            If `alpha` is not positive, or too small for these features in float64.
        """
        alpha = positive("alpha", self.alpha)
        data = checked_input(self, X, y, sample_weight)
        for coef, intercept in self._solve(data, [alpha]):
            self._take(data, coef, intercept)
        return self

    def fit_path(
        self, X: Any, y: Any, alphas: Iterable[float], sample_weight: Any = None
    ) -> list[RidgeClassifier]:
        """Fit at several values of alpha, with one Gram matrix (or kernel) for all.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        alphas : iterable of float
            Values of alpha, in any order.

        Returns
        -------
        list of RidgeClassifier
            A fitted head for each value of alpha, in the order they were given.

        Raises
        ------
        UsageError
            As for `fit`, and without a value of alpha.
        """
        values = [positive("alpha", alpha) for alpha in alphas]
        if not values:
            raise UsageError("No value of alpha: give at least one.")
        data = checked_input(self, X, y, sample_weight)
        heads = []
        for alpha, (coef, intercept) in zip(values, self._solve(data, values), strict=True):
            head = copy.copy(self)
            head.alpha = alpha
            head._take(data, coef, intercept)
            heads.append(head)
        return heads

    def _solve(
        self, data: FitInput, alphas: list[float]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield weights and intercepts for each value of alpha."""
        weights = np.ones(len(data.labels)) if data.row_weights is None else data.row_weights
        if self.class_weight is not None:
            unweighted = FitInput(data.X, data.labels, data.classes, None)
            of_class = class_weights(self.class_weight, unweighted)
            assert of_class is not None
            weights = weights * of_class[data.labels]
        masses = np.bincount(data.labels, weights, minlength=len(data.classes))
        sums = class_sums(data.X, data.labels, len(data.classes), weights)
        mean = sums.sum(axis=0) / masses.sum()
        # The centred features sum to 0: of targets that are -1 or 1, twice the own class is left.
        target_means = 2.0 * masses / masses.sum() - 1.0
        products = 2.0 * (sums - masses[:, None] * mean)
        own = range(1, 2) if len(data.classes) == 2 else range(len(data.classes))
        centred = _Centred(data.X, mean, weights)
        with open_design(
            centred, None, device=self.device, single=False, memory_bytes=self.memory_bytes
        ) as (design, _):
            dual = design.n_columns > design.n_rows
            if dual:
                matrix: Any = design.whole_kernel(np.float64)
                signs = np.where(data.labels[:, None] == list(own), 1.0, -1.0)
                right = (signs - target_means[own]) * np.sqrt(weights)[:, None]
            else:
                matrix = design.zero_gram(np.float64)
                with design.workers.together():
                    design.add_grams([matrix], [np.ones(design.n_rows)])
                right = products[own].T
            for left, alpha in zip(reversed(range(len(alphas))), alphas, strict=True):
                # The last one may have the matrix itself.
                solution = _regularized(design, matrix.copy() if left else matrix, alpha, right)
                coef = design.gradients(solution.T) if dual else solution.T
                yield np.ascontiguousarray(coef), target_means[own] - coef @ mean

    def _take(self, data: FitInput, coef: FloatArray, intercept: FloatArray) -> None:
        """Become what was solved."""
        self.classes_, self.n_features_in_ = data.classes, coef.shape[1]
        self.coef_, self.intercept_ = coef, intercept


class _Centred:
    """Rows less their weighted mean, times the roots of their weights, read as they are wanted."""

    def __init__(self, X: Rows, mean: FloatArray, weights: FloatArray) -> None:
        self._source, self._mean = X, mean
        self._roots = np.sqrt(weights)[:, None]
        self.shape = (int(X.shape[0]), int(X.shape[1]))

    def __getitem__(self, rows: Any) -> FloatArray:
        centred = np.asarray(self._source[rows], dtype=np.float64) - self._mean
        centred *= self._roots[rows]
        return centred


def _regularized(design: Design, matrix: Any, alpha: float, right: FloatArray) -> FloatArray:
    """Return the solution of ``matrix + alpha`` for every column of `right`; spoils `matrix`."""
    if isinstance(matrix, np.ndarray):
        matrix.flat[:: len(matrix) + 1] += alpha
        with design.workers.together():
            if cholesky(matrix):
                # By columns, as LAPACK reads it, the factor is a lower one: no copy.
                solution = cho_solve((matrix.T, True), right, check_finite=False)
                return np.asarray(solution)
    else:
        factor = design.factor(matrix, alpha)
        if factor is not None:
            columns = [design.solve(factor, column) for column in right.T]
            return np.stack(columns, axis=1).astype(np.float64)
    order, trace = len(right), design.mean_square * design.n_rows
    enough = order * float(np.finfo(np.float64).eps) * trace
    raise UsageError(
        f"alpha is {alpha:g}: too small for these features, the matrix is singular in "
        f"float64. Raise alpha to {enough:.0e} or more, or scale the features down."
    )

"""Nearest class means, and what the heads with a closed form share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import UsageError
from featx.heads.blocks import FloatArray, Rows, row_blocks, scores
from featx.heads.inputs import as_array, checked_input, is_stored

Metric = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")


class LinearScores(ClassifierMixin, BaseEstimator):
    """What heads with ``coef_`` and ``intercept_`` share: scores and predictions."""

    classes_: npt.NDArray[Any]
    coef_: FloatArray
    intercept_: FloatArray

    def decision_function(self, X: Any) -> FloatArray:
        """Return the scores, shape (n_samples, n_classes), for two classes (n_samples,)."""
        result = scores(fitted_rows(self, X), self.coef_, self.intercept_)
        return result[:, 0] if result.shape[1] == 1 else result

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class with the largest score for each sample, the first one of equal ones."""
        found = self.decision_function(X)
        index = (found > 0).astype(np.intp) if found.ndim == 1 else found.argmax(axis=1)
        return np.asarray(self.classes_[index])


class NearestCentroid(LinearScores):
    r"""The class whose mean is nearest, as a linear head.

    Of the distances to the class means c, only :math:`x \cdot c - |c|^2 / 2` differs between
    classes: a linear score (Hastie et al., "The elements of statistical learning", section 4.3,
    with one spherical covariance and equal priors). With cosine the centroid is the direction of
    the mean of the class's samples scaled to length 1, which has the largest mean cosine with
    them (Dhillon and Modha, "Concept decompositions for large sparse text data using clustering",
    Machine Learning 42 (2001), 143-175), and the score is :math:`x \cdot c`.

    Parameters
    ----------
    metric : {"euclidean", "cosine"}
        What near means.

    Attributes
    ----------
    centroids_ : ndarray of shape (n_classes, n_features), float64
        Mean of each class; of length 1 with cosine.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features), float64
        The centroids; for two classes the second one less the first.
    intercept_ : ndarray of shape (n_classes,) or (1,), float64
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        The classes, ascending.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from featx.heads import NearestCentroid
    >>> X, y = load_digits(return_X_y=True)
    >>> round(NearestCentroid().fit(X, y).score(X, y), 2)
    0.9
    """

    def __init__(self, metric: Metric = "euclidean") -> None:
        self.metric = metric

    def fit(self, X: Any, y: Any) -> NearestCentroid:
        """Compute the centroids, in one pass over the features.

        Parameters
        ----------
        X : array-like, torch tensor or h5py dataset of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,)
            Labels of any type.

        Returns
        -------
        NearestCentroid
            This object.

        Raises
        ------
        UsageError
            If `metric` is not known.
        """
        cosine = checked_metric(self.metric) == "cosine"
        data = checked_input(self, X, y, None)
        counts = np.bincount(data.labels)
        sums = class_sums(data.X, data.labels, len(data.classes), unit=cosine)
        centroids = sums / counts[:, None]
        offsets = -0.5 * np.einsum("kd,kd->k", centroids, centroids)
        if cosine:
            centroids, offsets = unit_rows(centroids), np.zeros(len(centroids))
        self.classes_, self.n_features_in_ = data.classes, centroids.shape[1]
        self.centroids_ = self.coef_ = centroids
        self.intercept_ = offsets
        if len(centroids) == 2:
            self.coef_, self.intercept_ = np.diff(centroids, axis=0), np.diff(offsets)
        return self


def class_sums(
    X: Rows,
    labels: npt.NDArray[np.int64],
    n_classes: int,
    weights: FloatArray | None = None,
    *,
    unit: bool = False,
) -> FloatArray:
    """Return the weighted sum of each class's rows, shape (n_classes, n_features), float64.

    Parameters
    ----------
    X : Rows of shape (n_samples, n_features), any float type
        Features; read once, in blocks.
    labels : ndarray of shape (n_samples,), int64
        Index of each sample's class.
    n_classes : int
        Number of classes.
    weights : ndarray of shape (n_samples,), float64, optional
        Weights of the rows; 1 without them.
    unit : bool
        Scale rows to length 1 first.
    """
    sums = np.zeros((n_classes, int(X.shape[1])))
    for rows, block in row_blocks(X):
        n = len(block)
        values = np.ones(n) if weights is None else weights[rows]
        members = csc_array((values, labels[rows], np.arange(n + 1)), shape=(n_classes, n))
        sums += members @ (unit_rows(block) if unit else block)
    return sums


def unit_rows(rows: FloatArray) -> FloatArray:
    """Return rows scaled to length 1; a row of zeros stays one, as in scikit-learn."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def checked_metric(metric: Any) -> str:
    """Return a metric that is known.

    Raises
    ------
    UsageError
        If it is not.
    """
    if metric not in METRICS:
        raise UsageError(f"metric is {metric!r}: valid are 'cosine' and 'euclidean'.")
    return str(metric)


def fitted_rows(estimator: Any, X: Any) -> Any:
    """Return features that a fitted estimator is to score, checked as scikit-learn does.

    Raises
    ------
    NotFittedError, UsageError, ValueError
        Before `fit`, or for features that are not finite or of another number.
    """
    check_is_fitted(estimator)
    X = as_array(X)
    if not is_stored(X):
        return validate_data(estimator, X, dtype=[np.float64, np.float32], reset=False)
    if X.shape[1] != estimator.n_features_in_:
        raise UsageError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_}."
        )
    return X

"""Streaming mean and deviation, and the scaler that is made of them.

Features are standardized with statistics that are collected while the features are extracted, so
nothing is read twice. `Moments` adds batches and merges with other `Moments`; `Scaler` turns the
result into a transformation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.errors import DataError, ShapeError, UnknownName

FloatArray = npt.NDArray[np.float64]

STANDARDIZE = ("train", "per-split", "none")
"""Whose statistics standardize a split: the training split's, its own, or nobody's."""

# 64 rows of 4096 float64 values are 2 MB: the working copy of a block stays in the L2 cache.
_BLOCK_ROWS = 64
_BLOCK_COLUMNS = 4096


class Moments:
    """Count, mean and sum of squared deviations of each feature, in float64.

    Batches and other `Moments` are merged with the pairwise update of Chan, Golub and LeVeque,
    "Algorithms for computing the sample variance", The American Statistician 37 (1983), 242-247.
    A constant feature has a sum of exactly 0, however it was split into batches.

    Parameters
    ----------
    n : int
        Rows seen.
    mean : ndarray of shape (n_features,), float64
        Mean of each feature.
    m2 : ndarray of shape (n_features,), float64
        Sum over the rows of (x - mean)^2.
    """

    def __init__(self, n: int, mean: npt.ArrayLike, m2: npt.ArrayLike) -> None:
        self.n = int(n)
        self.mean: FloatArray = np.array(mean, dtype=np.float64)
        self.m2: FloatArray = np.array(m2, dtype=np.float64)
        if self.n < 0 or self.mean.ndim != 1 or self.mean.shape != self.m2.shape:
            raise ShapeError(
                f"Moments of {self.n} rows with a mean of shape {self.mean.shape} and an m2 of "
                f"shape {self.m2.shape}: both must be one row of n_features values."
            )

    @classmethod
    def empty(cls, n_features: int) -> Moments:
        """Return the moments of no rows at all."""
        return cls(0, np.zeros(n_features), np.zeros(n_features))

    @classmethod
    def of(cls, X: npt.NDArray[np.floating[Any]]) -> Moments:
        """Return the moments of one array of shape (n_samples, n_features)."""
        if X.ndim != 2:
            raise ShapeError(f"Features of shape {X.shape}: expected (n_samples, n_features).")
        moments = cls.empty(X.shape[1])
        moments.update(X)
        return moments

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def var(self) -> FloatArray:
        """Population variance of each feature (divided by n), NaN if there are no rows."""
        if self.n == 0:
            return np.full(self.n_features, np.nan)
        return self.m2 / self.n

    def update(self, X: npt.NDArray[np.floating[Any]]) -> None:
        """Add a batch of rows.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), float32 or float64
            Features. NaN and Inf are not looked for; they make the statistics of their column NaN.

        Raises
        ------
        ShapeError
            If `X` is not two-dimensional or has another number of features.
        """
        if X.ndim != 2 or X.shape[1] != self.n_features:
            raise ShapeError(
                f"Features of shape {X.shape}: expected (n_samples, {self.n_features})."
            )
        if len(X):
            self._add(*_batch_moments(X))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the rows of both, leaving both as they are.

        Raises
        ------
        ShapeError
            If the numbers of features differ.
        """
        if other.n_features != self.n_features:
            raise ShapeError(
                f"Moments of {self.n_features} and of {other.n_features} features cannot be merged."
            )
        merged = Moments(self.n, self.mean, self.m2)
        if other.n:
            merged._add(other.n, other.mean, other.m2)
        return merged

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return ``n`` (int64, shape ()), ``mean`` and ``m2`` (float64) for `from_arrays`."""
        return {"n": np.array(self.n, dtype=np.int64), "mean": self.mean, "m2": self.m2}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Moments:
        """Return the moments that `to_arrays` took apart."""
        return cls(int(arrays["n"]), arrays["mean"], arrays["m2"])

    def __repr__(self) -> str:
        return f"Moments(n={self.n}, n_features={self.n_features})"

    def _add(self, n: int, mean: FloatArray, m2: FloatArray) -> None:
        """Add the moments of `n` more rows: eq. 2.1 of Chan et al., for the mean and the sum."""
        total = self.n + n
        with np.errstate(invalid="ignore", over="ignore"):
            delta = mean - self.mean
            self.mean = self.mean + delta * (n / total)
            self.m2 = self.m2 + m2 + delta * delta * (self.n * n / total)
        self.n = total


def _batch_moments(X: npt.NDArray[np.floating[Any]]) -> tuple[int, FloatArray, FloatArray]:
    """Return rows, mean and sum of squared deviations of one batch, in one pass over it.

    Every column is shifted by its own first value. That makes constant columns exact, and it
    bounds the cancellation: the first row is one of the n rows, so it is at most sqrt(n - 1)
    deviations from the mean, and the relative error of the sum is of the order of n times the
    float64 epsilon.
    """
    n, d = X.shape
    shift = X[0].astype(np.float64)
    total = np.zeros(d)
    squares = np.zeros(d)
    scratch = np.empty((min(_BLOCK_ROWS, n), min(_BLOCK_COLUMNS, d)))
    # Inf - Inf: the caller finds the NaN in the result. No products are fused and no BLAS is
    # called, so the same rows give the same bits on every machine.
    with np.errstate(invalid="ignore", over="ignore"):
        for left in range(0, d, _BLOCK_COLUMNS):
            columns = slice(left, min(left + _BLOCK_COLUMNS, d))
            for top in range(0, n, _BLOCK_ROWS):
                block = X[top : top + _BLOCK_ROWS, columns]
                centred = scratch[: block.shape[0], : block.shape[1]]
                centred[...] = block
                centred -= shift[columns]
                total[columns] += centred.sum(axis=0)
                centred *= centred
                squares[columns] += centred.sum(axis=0)
        mean_shift = total / n
        return n, shift + mean_shift, np.maximum(squares - total * mean_shift, 0.0)


@dataclass(frozen=True, eq=False)
class Scaler:
    """Standardizes features: (x - mean) / scale.

    Parameters
    ----------
    mean_ : ndarray of shape (n_features,), float64
        Mean of each feature.
    scale_ : ndarray of shape (n_features,), float64
        Population deviation of each feature, and 1 for constant features.
    n_samples_ : int
        Rows the statistics come from.
    """

    mean_: FloatArray
    scale_: FloatArray
    n_samples_: int

    @classmethod
    def from_moments(cls, m: Moments) -> Scaler:
        """Return the scaler with the mean and deviation of `m`.

        A feature counts as constant, and gets scale 1, by scikit-learn's rule: its variance is not
        above the error bound n * eps * var + (n * mean * eps)^2 that Chan, Golub and LeVeque give
        for a computed variance (``sklearn.preprocessing.StandardScaler``, since version 0.24).

        Raises
        ------
        DataError
            If `m` has seen no rows.
        """
        if m.n == 0:
            raise DataError("A scaler needs at least one row; these moments have seen none.")
        eps = np.finfo(np.float64).eps
        variance = m.var
        constant = variance <= m.n * eps * variance + (m.n * m.mean * eps) ** 2
        return cls(m.mean.copy(), np.where(constant, 1.0, np.sqrt(variance)), m.n)

    def transform(
        self, X: npt.NDArray[np.floating[Any]], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return standardized features.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), any float type
            Features.
        out : ndarray of the same shape, float32, optional
            Where to put the result; may be `X` itself, which saves the memory of a second array.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
            Computed in float64 and rounded once.

        Raises
        ------
        ShapeError
            If `X` has another number of features.
        """
        d = len(self.mean_)
        if X.ndim != 2 or X.shape[1] != d:
            raise ShapeError(f"Features of shape {X.shape}: this scaler expects (n_samples, {d}).")
        result = np.empty(X.shape, dtype=np.float32) if out is None else out
        scratch = np.empty((min(_BLOCK_ROWS, len(X)), min(_BLOCK_COLUMNS, d)))
        for left in range(0, d, _BLOCK_COLUMNS):
            columns = slice(left, min(left + _BLOCK_COLUMNS, d))
            mean, scale = self.mean_[columns], self.scale_[columns]
            for top in range(0, len(X), _BLOCK_ROWS):
                rows = X[top : top + _BLOCK_ROWS, columns]
                block = scratch[: len(rows), : rows.shape[1]]
                # Copied first: a subtraction that converts on its way is slower.
                block[...] = rows
                block -= mean
                block /= scale
                result[top : top + _BLOCK_ROWS, columns] = block
        return result


def scalers_for(mode: str, moments: Mapping[str, Moments]) -> dict[str, Scaler | None]:
    """Return the scaler of every split.

    Parameters
    ----------
    mode : str
        One of `STANDARDIZE`: ``"train"`` standardizes every split with the training split's
        statistics, ``"per-split"`` each split with its own (experiment D1's variant), ``"none"``
        not at all.
    moments : mapping of str to Moments
        The moments of each split, by its name.

    Returns
    -------
    dict of str to Scaler or None
        One entry per split of `moments`, in the same order.

    Raises
    ------
    UnknownName
        If there is no such mode.
    DataError
        If the mode is ``"train"`` and there is no such split, or if a split has no rows.
    """
    if mode not in STANDARDIZE:
        raise UnknownName("Standardization", mode, STANDARDIZE)
    if mode == "none":
        return dict.fromkeys(moments)
    if mode == "per-split":
        return {split: Scaler.from_moments(m) for split, m in moments.items()}
    if "train" not in moments:
        raise DataError(
            f"Standardizing by the training split needs a split 'train'; there are only "
            f"{list(moments)}. Use 'per-split' or 'none'."
        )
    return dict.fromkeys(moments, Scaler.from_moments(moments["train"]))

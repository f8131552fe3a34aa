"""What a linear head is given: features of any kind, labels, weights; checked once, here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.errors import DataError, UsageError
from featx.heads.blocks import FloatArray, Rows

# Larger values overflow in single precision once they are squared and summed over a row.
_LARGEST = 1e15
# Squares of larger settings, times sums over rows, leave the range of double precision.
_EXTREME = 1e100
_ROWS = 2048


@dataclass(frozen=True)
class FitInput:
    """Checked input of a fit.

    Attributes
    ----------
    X : Rows of shape (n_samples, n_features)
        Features: an array, or what is read a block of rows at a time.
    labels : ndarray of shape (n_samples,), int64
        Index of each sample's class.
    classes : ndarray of shape (n_classes,)
        The classes, ascending, in the type they were given in.
    row_weights : ndarray of shape (n_samples,), float64, or None
        Weights of the samples; None for 1.
    """

    X: Rows
    labels: npt.NDArray[np.int64]
    classes: npt.NDArray[Any]
    row_weights: FloatArray | None


def is_stored(X: Any) -> bool:
    """Return whether `X` is read from a file as it is needed: an h5py dataset or the like."""
    return (
        not isinstance(X, np.ndarray | list | tuple) and hasattr(X, "id") and hasattr(X, "chunks")
    )


def as_array(X: Any) -> Any:
    """Return a torch tensor as an ndarray, and anything else as it is."""
    if hasattr(X, "detach") and hasattr(X, "cpu"):
        X = X.detach().cpu()
        # NumPy has no bfloat16.
        return (X.float() if str(X.dtype) == "torch.bfloat16" else X).numpy()
    return X


def checked_input(estimator: Any, X: Any, y: Any, sample_weight: Any) -> FitInput:
    """Check what `fit` was given, as scikit-learn's own estimators do.

    Parameters
    ----------
    estimator : BaseEstimator
        Learns ``n_features_in_``, and ``feature_names_in_`` from a data frame.
    X : array-like, torch tensor or h5py dataset of shape (n_samples, n_features)
        Features.
    y : array-like or torch tensor of shape (n_samples,)
        Labels.
    sample_weight : array-like of shape (n_samples,) or None
        Weights.

    Raises
    ------
    DataError, ValueError
        Features that are not finite or not a matrix, labels that do not belong to them or hold
        one class, negative weights.
    """
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_consistent_length,
        column_or_1d,
        validate_data,
    )

    X, y = as_array(X), as_array(y)
    if is_stored(X):
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        estimator.n_features_in_ = int(X.shape[1])
        _check_stored(X)
    else:
        X, y = validate_data(
            estimator, X, y, dtype=[np.float64, np.float32], order="C", ensure_min_samples=2
        )
        _check_size(X, 0)
    check_classification_targets(y)
    classes, labels = np.unique(y, return_inverse=True)
    row_weights = None
    if sample_weight is not None:
        row_weights = _check_sample_weight(
            as_array(sample_weight), np.empty((len(labels), 1)), dtype=np.float64
        )
        _check_weights("Sample weight", row_weights)
        present = np.unique(labels[row_weights > 0])
        classes, labels = classes[present], np.searchsorted(present, labels)
        # Samples of weight 0 may be of a class that nothing else is of.
        labels = np.minimum(labels, len(present) - 1) if len(present) else labels
    if len(classes) < 2:
        found = f"class {classes[0]!r} alone" if len(classes) else "no class"
        raise DataError(
            f"The training labels hold {found}: a classifier needs at least two classes, this is "
            "fewer than 2 classes."
        )
    return FitInput(X, labels.astype(np.int64), classes, row_weights)


def _check_stored(X: Rows) -> None:
    for start in range(0, int(X.shape[0]), _ROWS):
        block = np.asarray(X[start : start + _ROWS])
        if not np.isfinite(block).all():
            row, column = np.argwhere(~np.isfinite(block))[0]
            raise DataError(
                f"The features hold {block[row, column]} in row {start + row}, column {column}: "
                "every value must be finite."
            )
        _check_size(block, start)


def _check_size(block: npt.NDArray[Any], first: int) -> None:
    if block.size and max(block.max(), -block.min()) > _LARGEST:
        row, column = np.argwhere(np.abs(block) > _LARGEST)[0]
        raise DataError(
            f"The features hold {block[row, column]:g} in row {first + row}, column {column}: "
            f"values up to {_LARGEST:g} can be fitted. Standardize the features."
        )


def class_weights(
    class_weight: Any, data: FitInput, y: npt.NDArray[Any] | None = None
) -> FloatArray | None:
    """Return the weight of each class, shape (n_classes,), or None where all are 1."""
    if class_weight is None:
        return None
    if class_weight == "balanced":
        counts = np.bincount(data.labels, weights=data.row_weights, minlength=len(data.classes))
        return np.asarray(counts.sum() / (len(counts) * counts))
    if not isinstance(class_weight, dict):
        raise UsageError(
            f"class_weight is {class_weight!r}: valid are None, 'balanced' and a dict of weights "
            "by class."
        )
    known = data.classes.tolist()
    unknown = [label for label in class_weight if label not in known]
    if unknown:
        raise DataError(f"class_weight names {unknown[0]!r}, which is not in the labels {known}.")
    weights = np.array([float(class_weight.get(label, 1.0)) for label in known])
    _check_weights("Class weight", weights)
    if not weights.any():
        raise DataError("Every class has weight 0: nothing would be fitted. Raise one of them.")
    return weights


def _check_weights(name: str, weights: FloatArray) -> None:
    wrong = weights[~((weights >= 0) & (weights <= _LARGEST))]
    if len(wrong):
        raise DataError(
            f"{name} {wrong[0]:g}: weights must not be negative, and at most {_LARGEST:g}. Give 0 "
            "for what shall not count."
        )


def positive(name: str, value: Any) -> float:
    """Return a setting that must be a positive number.

    Raises
    ------
    UsageError
        If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise UsageError(f"{name} is {value!r}: it must be a positive number.")
    if not (np.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}: it must be a positive number.")
    if not 1 / _EXTREME <= value <= _EXTREME:
        raise UsageError(
            f"{name} is {value:g}: valid are numbers from {1 / _EXTREME:g} to {_EXTREME:g}."
        )
    return float(value)


def whole(name: str, value: Any) -> int:
    """Return a setting that must be a whole number, 1 or more.

    Raises
    ------
    UsageError
        If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise UsageError(f"{name} is {value!r}: it must be a whole number, 1 or more.")
    return int(value)

"""What both fits refuse, and that the message names the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from head_cases import blobs

from featx.errors import DataError, ShapeError, UsageError
from featx.heads import Fit, fit_logistic, fit_svm

FITS = pytest.mark.parametrize("fit", [fit_svm, fit_logistic])
Fitting = Callable[..., Fit]


@FITS
@pytest.mark.parametrize("name", ["C", "max_iter", "tol"])
@pytest.mark.parametrize("value", [0, -2, float("nan"), float("inf")])
def test_settings_must_be_positive(fit: Fitting, name: str, value: float) -> None:
    X, y = blobs(12, 3, 2)
    with pytest.raises(UsageError, match=f"^{name} is {value}: it must be a positive number"):
        fit(X, y, **{name: value})


@FITS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_values_that_are_not_finite_are_named_with_their_place(fit: Fitting, value: float) -> None:
    X, y = blobs(12, 3, 2)
    X = X.astype(np.float64)
    X[7, 2] = value
    with pytest.raises(DataError, match="Every value must be finite") as caught:
        fit(X, y)
    assert f"The features hold {value} in row 7, column 2." in str(caught.value)


@FITS
def test_the_row_is_the_one_of_the_whole_array(
    fit: Fitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featx.heads.blocks._BLOCK_VALUES", 9)
    X, y = blobs(12, 3, 2)
    X[10, 0] = np.nan
    with pytest.raises(DataError, match="in row 10, column 0"):
        fit(X, y)


def test_the_largest_values_of_float32_are_still_solved() -> None:
    X, y = blobs(30, 2, 2, apart=3.0)
    X = X.astype(np.float64) / np.abs(X).max() * np.finfo(np.float32).max
    fit = fit_svm(X.astype(np.float32), y)
    assert np.isfinite(fit.coef).all()
    assert fit.duality_gap is not None
    assert 0.0 <= fit.duality_gap <= 1.0


def test_long_rows_beside_an_intercept_do_not_cost_the_gap() -> None:
    X, y = blobs(30, 2, 2, apart=3.0)
    fit = fit_svm(X.astype(np.float64) * 1e9, y)
    assert fit.converged
    assert fit.duality_gap is not None
    assert fit.duality_gap < 1e-6


@FITS
@pytest.mark.parametrize(
    ("X_shape", "y", "error", "text"),
    [
        ((3,), [0, 1, 0], ShapeError, "Features of shape (3,): expected (n_samples, n_features)."),
        ((3, 2, 2), [0, 1, 0], ShapeError, "Features of shape (3, 2, 2)"),
        ((3, 0), [0, 1, 0], ShapeError, "Features of shape (3, 0)"),
        ((3, 2), [0, 1], DataError, "Labels of shape (2,) for 3 rows of features"),
        ((3, 2), [[0], [1], [0]], DataError, "Labels of shape (3, 1) for 3 rows of features"),
        ((3, 2), [0.0, 1.0, 0.0], DataError, "Labels of type float64: expected integers."),
        ((3, 2), ["a", "b", "a"], DataError, "Labels of type <U1: expected integers."),
        ((3, 2), [7, 7, 7], DataError, "The training labels hold only class 7"),
        ((0, 2), np.array([], dtype=int), DataError, "The training labels hold no samples"),
    ],
)
def test_arrays_that_do_not_belong_together(
    fit: Fitting, X_shape: tuple[int, ...], y: Any, error: type[UsageError], text: str
) -> None:
    with pytest.raises(error) as caught:
        fit(np.ones(X_shape, dtype=np.float32), y)
    assert text in str(caught.value)
    assert caught.value.exit_code == 2

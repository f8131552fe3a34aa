"""Problems on which earlier solvers stopped early, claimed too much, hung or lost their weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from head_cases import blobs

from featx.errors import DataError
from featx.heads import LinearSVM
from featx.heads.designs import Design
from featx.heads.shared_gram import factorized
from featx.heads.solving import least_bytes
from featx.heads.threads import Workers

PRECISIONS = pytest.mark.parametrize("dtype", ["mixed", "float64"])


def head(**settings: object) -> LinearSVM:
    return LinearSVM(**{"device": "cpu", **settings})


def repeated(n: int, d: int, seed: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of which every tenth is another one, far from the origin."""
    rng = np.random.default_rng(seed)
    X, y = blobs(n, d, 3, apart=0.1, seed=seed)
    rows = rng.integers(0, n // 10, n)
    return X[rows] + np.float32(offset), y


@PRECISIONS
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("n", "d"), [(512, 1024), (300, 400), (300, 299)])
def test_repeated_rows_far_from_the_origin_are_certified(n, d, seed, dtype) -> None:
    X, y = repeated(n, d, seed, 30.0)
    assert head(C=1e3, dtype=dtype).fit(X, y).duality_gap_.max() <= 1e-6


@PRECISIONS
@pytest.mark.parametrize(
    ("n", "d", "C", "weights"),
    [(300, 299, 1e5, (0.0, 1.0, 1.0)), (600, 300, 1e3, (1e-6, 1.0, 1e6)), (200, 299, 45.0, None)],
)
def test_weights_of_many_sizes_are_certified(n, d, C, weights, dtype) -> None:
    X, y = repeated(n, d, 1, 0.0)
    weights = (1e-6, 1.0, 1e6) if weights is None else weights
    sample_weight = np.random.default_rng(3).choice(weights, n)
    model = head(C=C, dtype=dtype).fit(X, y, sample_weight=sample_weight)
    assert model.duality_gap_.max() <= 1e-6


@PRECISIONS
def test_a_huge_c_is_certified_in_either_precision(dtype) -> None:
    X, y = blobs(600, 300, 3, apart=0.1)
    assert head(C=1e10, dtype=dtype).fit(X, y).duality_gap_.max() <= 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("C", [1e22, 1e26, 1e30])
def test_the_bound_knows_what_rounding_does_to_the_objective(C) -> None:
    X, y = blobs(600, 300, 3, apart=0.1)
    model = head(C=C).fit(X, y)
    rows = X.astype(np.longdouble)
    for k, label in enumerate(model.classes_):
        sign = np.where(y == label, 1, -1)
        hinge = np.maximum(0, 1 - sign * (rows @ model.coef_[k] + model.intercept_[k]))
        objective = 0.5 * (model.coef_[k] @ model.coef_[k] + model.intercept_[k] ** 2)
        objective += C * (hinge @ hinge)
        off = abs(float(objective - model.objective_[k])) / model.objective_[k]
        # A gap of 1 says that nothing is known.
        assert off <= model.duality_gap_[k] or model.duality_gap_[k] == 1.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("scale", "weight"), [(1e14, 1e15), (1e13, 1e11), (1e14, 1e12)])
@pytest.mark.parametrize(("n", "d"), [(600, 300), (300, 600)])
def test_huge_values_leave_finite_weights(n, d, scale, weight) -> None:
    X, y = blobs(n, d, 3)
    model = head().fit(X * np.float32(scale), y, sample_weight=np.full(n, weight))
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.objective_).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("n", "d"), [(600, 300), (300, 400)])
def test_a_huge_intercept_column_ends(n, d) -> None:
    X, y = blobs(n, d, 3)
    model = head(C=1.0, intercept_scaling=1e20).fit(X, y)
    assert np.isfinite(model.coef_).all()


def test_what_no_diagonal_makes_definite_is_said() -> None:
    with Workers() as workers:
        design = Design(np.ones((4, 3)), None, workers)
        with pytest.raises(DataError, match=r"not finite.*Standardize the features"):
            factorized(design, lambda: np.full((3, 3), np.nan), 1.0)


def test_rows_by_columns_that_do_not_fit_are_read_all_the_same() -> None:
    X, y = blobs(3000, 200, 3)
    want = head(C=0.01).fit(X, y)
    from featx.heads import fit_svm

    least = least_bytes(3000, 201)
    found = fit_svm(np.asfortranarray(X), y, C=0.01, memory_bytes=least + 50_000, device="cpu")
    assert found.objective == pytest.approx(want.objective_.sum(), rel=1e-6)


def test_bfloat16_tensors_are_features() -> None:
    X, y = blobs(60, 5, 3)
    rounded = torch.from_numpy(X).bfloat16()
    found = head().fit(rounded, torch.from_numpy(y))
    np.testing.assert_allclose(found.coef_, head().fit(rounded.float().numpy(), y).coef_)

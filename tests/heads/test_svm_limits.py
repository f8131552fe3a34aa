"""The Newton solver where rounding shows: large C, equal rows and columns; what it refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from head_cases import blobs, svm_objective
from threadpoolctl import threadpool_info, threadpool_limits

from featx.errors import DataError, UsageError
from featx.heads import LinearSVM
from featx.heads.certificate import certify_svm
from featx.heads.lapack import add_outer, cholesky, inner_products, solve
from featx.heads.newton import Problems
from featx.heads.solving import open_design
from featx.heads.wide import SvmSolver

PRECISIONS = pytest.mark.parametrize("dtype", ["mixed", "float64"])


def head(**settings: object) -> LinearSVM:
    return LinearSVM(**{"device": "cpu", **settings})


def relu_like(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    hidden = rng.standard_normal((n, 40)) @ rng.standard_normal((40, d))
    X = np.maximum(0, hidden + 0.3 * rng.standard_normal((n, d)) - 1)
    y = np.arange(n) % 4
    X[:, :40] += 0.5 * rng.standard_normal((4, 40))[y]
    return ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32), y


def hard(kind: str) -> tuple[np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(0)
    if kind == "columns ten times":
        X, y = blobs(1000, 30, 3, seed=1)
        return np.repeat(X, 10, axis=1), y, 1e6
    if kind == "rows twenty times, other labels":
        return np.repeat(rng.standard_normal((10, 300)), 20, axis=0), np.arange(200) % 3, 1e6
    if kind == "a matrix that rounds to a singular one":
        return np.repeat(rng.standard_normal((10, 300)), 60, axis=0), np.arange(600) % 3, 1e12
    if kind == "separable, huge C":
        X, y = blobs(1000, 300, 3, seed=2)
        return X, y, 1e7
    if kind == "mixed precision at its end":
        return *relu_like(1000, 380), 1e4
    return *relu_like(400, 380), 12.0


@PRECISIONS
@pytest.mark.parametrize(
    "kind",
    [
        "columns ten times",
        "rows twenty times, other labels",
        "a matrix that rounds to a singular one",
        "separable, huge C",
        "mixed precision at its end",
        "as many rows as columns",
    ],
)
def test_rounding_does_not_end_a_fit_early(kind: str, dtype: str) -> None:
    X, y, C = hard(kind)
    model = head(C=C, dtype=dtype).fit(X, y)
    assert model.converged_
    signs = np.where(y[:, None] == model.classes_, 1.0, -1.0)
    for sign, w, b, objective in zip(
        signs.T, model.coef_, model.intercept_, model.objective_, strict=True
    ):
        assert svm_objective(X, sign, np.append(w, b), C) == pytest.approx(objective, rel=1e-9)
    assert model.objective_ == pytest.approx(independent_optimum(kind, X, y, C), rel=1e-6)


def independent_optimum(kind: str, X: np.ndarray, y: np.ndarray, C: float) -> np.ndarray:
    """Return the optima, by a formula or from the same problem in better condition."""
    signs = np.where(y[:, None] == np.unique(y), 1.0, -1.0)
    if X.shape[1] == 300 and len(X) in (200, 600):
        # Ten rows in all directions: each gets the score that suits its labels best, for nothing.
        positive = (signs.reshape(10, -1, 3) > 0).sum(axis=1)
        negative = len(X) // 10 - positive
        return C * (4.0 * positive * negative / (positive + negative)).sum(axis=0)
    if kind == "columns ten times":
        # Ten equal columns are one of sqrt(10) times the length.
        X = X[:, ::10] * np.sqrt(10.0)
    better = head(C=C, dtype="float64", tol=1e-9).fit(X, y)
    proof = certify_svm(X, signs, better.coef_, better.intercept_, C)
    assert proof.gap <= 1e-6
    return proof.primal


def test_a_bound_from_the_rows_certifies_what_the_gradient_cannot() -> None:
    X, y = blobs(1000, 30, 2, seed=1, apart=0.2)
    wide = head(C=1e14, tol=1e-9).fit(np.repeat(X, 10, axis=1), y)
    assert wide.converged_
    single = head(C=1e6).fit(X * np.sqrt(10.0), y)
    # The loss alone counts with such a C.
    np.testing.assert_allclose(wide.objective_ / 1e14, single.objective_ / 1e6, rtol=1e-6)


def test_matrices_without_rows_are_none_to_lapack(capfd: pytest.CaptureFixture[str]) -> None:
    empty, rows = np.zeros((0, 0)), np.zeros((0, 3))
    assert inner_products(rows).shape == (0, 0)
    gram = np.eye(3)
    add_outer(gram, rows)
    np.testing.assert_array_equal(gram, np.eye(3))
    assert cholesky(empty)
    assert solve(empty, np.zeros(0)).shape == (0,)
    assert "illegal" not in "".join(capfd.readouterr())


def test_the_pool_that_scipy_brings_is_limited_too() -> None:
    """In a process that has not loaded it before the fit."""
    script = """
from threadpoolctl import threadpool_info
from featx.heads.threads import Workers
with Workers():
    from featx.heads.lapack import cholesky
    import numpy as np
    cholesky(np.eye(3))
    pools = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
    print(len(pools), max(pools))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    n, most = map(int, done.stdout.split())
    assert n >= 1
    assert most == 1


def test_an_interruption_gives_the_threads_back() -> None:
    X, y = blobs(60, 5, 3, first=0)

    def interrupt(C: float, share: float) -> None:
        raise KeyboardInterrupt

    with threadpool_limits(2):
        before = threadpool_info()
        with pytest.raises(KeyboardInterrupt), open_design(X, 1.0, device="cpu") as (design, _):
            SvmSolver(design).solve(Problems(y, range(3)), [1.0], on_done=interrupt)
        assert threadpool_info() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max_iter": 2.5}, UsageError, r"max_iter is 2\.5: it must be a whole number"),
        ({"max_iter": True}, UsageError, "max_iter is True"),
        ({"C": 1e200}, UsageError, r"C is 1e\+200: valid are numbers from 1e-100 to 1e\+100"),
        ({"class_weight": {5: np.nan}}, DataError, "Class weight nan"),
        ({"class_weight": {6: np.inf}}, DataError, r"Class weight inf.*at most 1e\+15"),
        ({"class_weight": {5: 0, 6: 0}}, DataError, "Every class has weight 0"),
    ],
)
def test_settings_that_overflow_are_refused(change: dict, error: type, message: str) -> None:
    X, y = blobs(20, 3, 2)
    with pytest.raises(error, match=message):
        head(**change).fit(X, y)


def test_weights_that_overflow_are_refused() -> None:
    X, y = blobs(20, 3, 2)
    with pytest.raises(DataError, match=r"Sample weight 1e\+300.*at most 1e\+15"):
        head().fit(X, y, sample_weight=np.full(20, 1e300))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_said() -> None:
    X, y = blobs(20, 3, 2)
    with pytest.raises(UsageError, match="'cuda' is not available here"):
        head(device="cuda").fit(X, y)

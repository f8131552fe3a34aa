"""The duality gap of an SVM: it never claims too much, and it closes at the optimum."""

from __future__ import annotations

import numpy as np
import pytest
from head_cases import blobs, svm_objective, svm_optimum
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.heads import certify_svm
from featx.heads.blocks import scores
from featx.heads.fitting import fit_liblinear as fit_svm


def signs_of(y: np.ndarray) -> np.ndarray:
    """Return the signs of each class against the rest as columns."""
    return np.where(y[:, None] == np.unique(y), 1.0, -1.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(4, 40),
    d=st.integers(1, 12),
    C=st.sampled_from([1e-4, 0.1, 12.0, 1e3]),
    noise=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 100.0]),
    spread=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_bounds_the_true_distance_from_the_optimum(
    seed: int, n: int, d: int, C: float, noise: float, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-spread, spread, d)
    sign = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    value, v = svm_optimum(X, sign, C)
    v = v + noise * rng.standard_normal(d + 1)
    found = certify_svm(X, sign[:, None], v[None, :-1], v[-1:], C)
    assert found.objective == pytest.approx(svm_objective(X, sign, v, C), rel=1e-12)
    # The reference is a feasible point: its value is the optimum's or slightly more.
    assert found.dual[0] <= value * (1 + 1e-12)
    assert found.dual[0] >= 0.0
    suboptimality = (found.objective - value) / found.objective
    assert max(0.0, suboptimality) - 1e-12 <= found.gap <= 1.0


@pytest.mark.parametrize(("n", "d"), [(60, 30), (150, 8)])
def test_closes_as_the_tolerance_does(n: int, d: int) -> None:
    X, y = blobs(n, d, 3)
    gaps = [
        fit_svm(X, y, C=0.1, tol=tol, max_iter=100_000).duality_gap for tol in (1.0, 1e-3, 1e-10)
    ]
    assert gaps[0] >= gaps[1] >= gaps[2]
    assert gaps[2] < 1e-10


def test_of_several_problems_the_worst_one_counts() -> None:
    X, y = blobs(60, 10, 3)
    signs, C = signs_of(y), 0.5
    optima = [svm_optimum(X, sign, C) for sign in signs.T]
    v = np.array([v for _, v in optima])
    v[1] += 0.5
    found = certify_svm(X, signs, v[:, :-1], v[:, -1], C)
    expected = [svm_objective(X, sign, row, C) for sign, row in zip(signs.T, v, strict=True)]
    np.testing.assert_allclose(found.primal, expected, rtol=1e-12)
    assert found.objective == pytest.approx(sum(expected), rel=1e-12)
    np.testing.assert_allclose(found.dual, [value for value, _ in optima], rtol=1e-4)
    worst = 1 - optima[1][0] / expected[1]
    assert worst > 0.01
    assert found.gap == pytest.approx(worst, abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(50, 200), (400, 20)], ids=["over samples", "over features"])
def test_newton_steps_find_the_bound_that_scaling_alone_does_not(
    n: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    X, y = blobs(n, d, 2, apart=0.2)
    X = (X * 10.0 ** rng.uniform(-1.5, 1.5, d)).astype(np.float32)
    sign = np.where(y == 6, 1.0, -1.0)[:, None]
    fit = fit_svm(X, y, C=12.0, tol=1e-6, max_iter=20_000)
    # Off the optimum, by a little in each feature: a lot for the features of large scale.
    coef, intercept = fit.coef[1:] * (1 + 1e-3 * rng.standard_normal(d)), fit.intercept[1:]
    with_steps = certify_svm(X, sign, coef, intercept, 12.0)
    # Blocks of one row: the sums do not depend on how the rows are split.
    monkeypatch.setattr("featx.heads.blocks._BLOCK_VALUES", 1)
    in_blocks = certify_svm(X, sign, coef, intercept, 12.0)
    monkeypatch.setattr("featx.heads.certificate._BUDGET", 0.0)
    without = certify_svm(X, sign, coef, intercept, 12.0)
    assert fit.duality_gap == pytest.approx(0.0, abs=1e-8)
    assert with_steps.dual[0] == pytest.approx(fit.objective, rel=1e-5)
    assert without.gap > 10 * with_steps.gap
    np.testing.assert_allclose(in_blocks.dual, with_steps.dual, rtol=1e-6)
    assert without.objective == pytest.approx(with_steps.objective, rel=1e-12)


def test_weights_that_leave_nobody_inside_the_margin_have_a_bound() -> None:
    # All hinges are 0, so the weights propose no dual point at all.
    X = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    sign = np.array([-1.0, 1.0, -1.0, 1.0])
    found = certify_svm(X, sign[:, None], np.array([[50.0]]), np.array([0.0]), 1.0)
    value, _ = svm_optimum(X, sign, 1.0)
    assert found.primal[0] == 1250.0
    assert found.dual[0] == pytest.approx(value, rel=1e-5)


def test_gap_stays_between_0_and_1_where_rounding_crosses() -> None:
    from featx.heads import Certificate

    certificate = Certificate(np.array([1.0, 2.0]), np.array([1.0 + 1e-12, 2.0 + 1e-12]))
    assert certificate.gap == 0.0
    assert certificate.objective == 3.0


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 9), d=st.integers(1, 5), k=st.integers(1, 4), values=st.integers(1, 20))
def test_scores_in_blocks_are_the_product(n: int, d: int, k: int, values: int) -> None:
    rng = np.random.default_rng(n + 10 * d)
    X = rng.standard_normal((n, d)).astype(np.float16)
    coef, intercept = rng.standard_normal((k, d)), rng.standard_normal(k)
    expected = [
        [
            sum(float(a) * b for a, b in zip(x, w, strict=True)) + c
            for w, c in zip(coef, intercept, strict=True)
        ]
        for x in X
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featx.heads.blocks._BLOCK_VALUES", values)
        found = scores(X, coef, intercept)
    assert found.shape == (n, k)
    np.testing.assert_allclose(found, np.array(expected).reshape(n, k), rtol=1e-12, atol=1e-12)


def test_a_system_that_cannot_be_factored_leaves_the_plain_bound() -> None:
    # The same sample with both labels, and a penalty below the rounding of the Gram matrix.
    X = np.array([[3.0, 1.0]] * 4)
    sign = np.array([1.0, -1.0, 1.0, -1.0])
    found = certify_svm(X, sign[:, None], np.array([[0.1, 0.1]]), np.array([0.0]), 1e30)
    value, _ = svm_optimum(X, sign, 1e30)
    assert 0.0 <= found.dual[0] <= value

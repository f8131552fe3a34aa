from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from head_cases import blobs
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from featx.heads import curvature
from featx.heads.designs import Design
from featx.heads.softmax import solve_softmax_path
from featx.heads.threads import Workers


def solve(X: np.ndarray, y: np.ndarray, Cs: list[float], **settings: Any) -> list[Any]:
    classes, labels = np.unique(y, return_inverse=True)
    intercept = 1.0 if settings.get("fit_intercept", True) else None
    with Workers() as workers:
        design = Design(X, intercept, workers)
        return solve_softmax_path(design, labels, len(classes), Cs, **settings)


def sklearn_fit(
    X: np.ndarray, y: np.ndarray, C: float, weights: Any = None, **settings: Any
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scikit-learn's objective (from its own solution), weights and intercepts."""
    model = LogisticRegression(C=C, tol=1e-10, max_iter=100_000, **settings)
    model.fit(X.astype(np.float64), y, sample_weight=weights)
    return (
        objective(X, y, model.coef_, model.intercept_, C, weights),
        model.coef_,
        model.intercept_,
    )


def objective(
    X: np.ndarray, y: np.ndarray, W: np.ndarray, b: np.ndarray, C: float, weights: Any = None
) -> float:
    """Return scikit-learn's objective by scipy's log_softmax."""
    Z = X.astype(np.float64) @ W.T + b
    if Z.shape[1] == 1:
        Z = np.concatenate([np.zeros_like(Z), Z], axis=1)
    labels = np.unique(y, return_inverse=True)[1]
    losses = -log_softmax(Z, axis=1)[np.arange(len(y)), labels]
    return float(
        0.5 * (W**2).sum()
        + C * np.average(losses, weights=weights) * (len(y) if weights is None else np.sum(weights))
    )


CASES = {
    "many rows": (blobs(300, 12, 4), 0.3),
    "separable": (blobs(120, 40, 3, apart=3.0), 100.0),
    "small C": (blobs(200, 20, 5), 1e-4),
    "more columns than rows": (blobs(50, 130, 3), 2.0),
    "many classes": (blobs(400, 10, 30), 1.0),
}


@pytest.mark.parametrize("case", CASES)
def test_the_optimum_is_scikit_learns(case: str) -> None:
    (X, y), C = CASES[case]
    [point] = solve(X, y, [C], tol=1e-9)
    expected, coef, intercept = sklearn_fit(X, y, C)
    found = objective(X, y, point.weights, point.intercepts, C)
    assert point.objective == pytest.approx([found], rel=1e-12)
    assert found == pytest.approx(expected, rel=1e-8)
    assert point.weights == pytest.approx(coef, abs=2e-4 * np.abs(coef).max())
    assert point.intercepts == pytest.approx(intercept, abs=1e-3)
    assert point.gap[0] <= 1e-9


@pytest.mark.parametrize("apart", [0.5, 4.0])
def test_two_classes_are_one_problem_with_one_weight_vector(apart: float) -> None:
    X, y = blobs(150, 20, 2, apart=apart)
    [point] = solve(X, y, [3.0], tol=1e-9)
    expected, coef, _ = sklearn_fit(X, y, 3.0)
    assert point.weights.shape == coef.shape == (1, 20)
    assert point.objective == pytest.approx([expected], rel=1e-8)
    assert point.weights == pytest.approx(coef, abs=2e-4 * np.abs(coef).max())


def test_one_class_against_the_rest_is_a_binary_problem_each() -> None:
    X, y = blobs(240, 15, 4)
    [point] = solve(X, y, [0.7], tol=1e-9, one_vs_rest=True)
    for k, label in enumerate(np.unique(y)):
        expected, coef, intercept = sklearn_fit(X, y == label, 0.7)
        assert point.objective[k] == pytest.approx(expected, rel=1e-8)
        assert point.weights[k] == pytest.approx(coef[0], abs=2e-4 * np.abs(coef).max())
        assert point.intercepts[k] == pytest.approx(intercept[0], abs=1e-3)


@pytest.mark.parametrize(("n", "d"), [(200, 15), (30, 60)])
def test_without_intercept(n: int, d: int) -> None:
    X, y = blobs(n, d, 3)
    [point] = solve(X + np.float32(0.5), y, [0.7], tol=1e-9, fit_intercept=False)
    expected, coef, _ = sklearn_fit(X + np.float32(0.5), y, 0.7, fit_intercept=False)
    assert point.weights.shape == (3, d)
    assert not point.intercepts.any()
    assert point.objective == pytest.approx([expected], rel=1e-8)
    assert point.weights == pytest.approx(coef, abs=2e-4 * np.abs(coef).max())


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_gradient_is_that_of_finite_differences(n_classes: int) -> None:
    # Far from the optimum, where the largest entry is well above rounding.
    X, y = blobs(60, 5, n_classes)
    [point] = solve(X, y, [0.5], max_iter=1)
    W, b, step = point.weights, point.intercepts, 1e-5
    slopes = []
    for k in range(len(W)):
        for j in range(5):
            ahead, behind = W.copy(), W.copy()
            ahead[k, j] += step
            behind[k, j] -= step
            rise = objective(X, y, ahead, b, 0.5) - objective(X, y, behind, b, 0.5)
            slopes.append(rise / (2 * step) / (0.5 * 60))
        ahead, behind = b.copy(), b.copy()
        ahead[k] += step
        behind[k] -= step
        # The intercepts are optimal for the weights after every step.
        assert objective(X, y, W, ahead, 0.5) >= objective(X, y, W, b, 0.5)
        assert objective(X, y, W, behind, 0.5) >= objective(X, y, W, b, 0.5)
    assert point.gradient == pytest.approx([np.abs(slopes).max()], rel=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_gap_bounds_how_far_the_optimum_is(n_classes: int) -> None:
    X, y = blobs(120, 10, n_classes)
    best, _, _ = sklearn_fit(X, y, 1.0)
    for max_iter in range(4):
        [point] = solve(X, y, [1.0], max_iter=max_iter)
        value = point.objective[0]
        assert point.n_iter.tolist() == [max_iter]
        assert value - best <= point.gap[0] * value
        assert point.gap[0] > 1e-6


def test_weights_of_rows_are_repeated_rows() -> None:
    X, y = blobs(90, 8, 3)
    repeats = np.arange(90) // 3 % 3
    [point] = solve(X, y, [0.4], tol=1e-10, row_weights=repeats.astype(np.float64))
    [repeated] = solve(np.repeat(X, repeats, axis=0), np.repeat(y, repeats), [0.4], tol=1e-10)
    assert point.objective == pytest.approx(repeated.objective, rel=1e-9)
    assert point.weights == pytest.approx(repeated.weights, abs=1e-4)
    assert point.gradient == pytest.approx(repeated.gradient, abs=1e-6)
    expected, _, _ = sklearn_fit(X, y, 0.4, repeats)
    assert point.objective == pytest.approx([expected], rel=1e-8)


def test_constant_columns_far_means_and_scales() -> None:
    X, y = blobs(200, 10, 3)
    X = X * np.geomspace(0.1, 30, 10, dtype=np.float32) + np.float32(5.0)
    X[:, 3] = 7.0
    X[:, 4] = 0.0
    [point] = solve(X, y, [1.0], tol=1e-8)
    model = LogisticRegression(C=1.0, tol=1e-12, max_iter=100_000, solver="newton-cholesky")
    model.fit(X.astype(np.float64), y)
    expected = objective(X, y, model.coef_, model.intercept_, 1.0)
    assert point.objective == pytest.approx([expected], rel=1e-8)
    assert np.abs(point.weights[:, 3:5]).max() < 1e-4


@pytest.mark.parametrize(("n", "d"), [(150, 12), (40, 90)])
@pytest.mark.parametrize("one_vs_rest", [False, True])
def test_a_path_gives_what_single_fits_give(n: int, d: int, one_vs_rest: bool) -> None:
    X, y = blobs(n, d, 3)
    Cs, done = [1e-3, 0.1, 50.0, 1e4], []
    settings: dict[str, Any] = {"one_vs_rest": one_vs_rest, "tol": 1e-8}
    path = solve(X, y, Cs, on_done=lambda C, share: done.append((C, share)), **settings)
    assert done == [(C, 1.0) for C in Cs]
    for C, point in zip(Cs, path, strict=True):
        [single] = solve(X, y, [C], **settings)
        assert point.C == C
        assert point.objective == pytest.approx(single.objective, rel=2e-8)
        assert point.gap.max() <= 1e-8


def test_starts_at_the_optimum_take_no_step() -> None:
    X, y = blobs(150, 12, 3)
    found = solve(X, y, [0.1, 1.0])
    starts = [(point.weights, point.intercepts) for point in found]
    again = solve(X, y, [0.1, 1.0], starts=starts)
    assert [point.n_iter.tolist() for point in again] == [[0], [0]]
    assert again[1].objective == pytest.approx(found[1].objective, rel=1e-12)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_rows_read_in_blocks_give_the_same(n_classes: int) -> None:
    X, y = blobs(300, 12, n_classes)
    [expected] = solve(X, y, [2.0], tol=1e-9)
    with Workers() as workers:
        design = Design(X, 1.0, workers, resident=False)
        [found] = solve_softmax_path(design, y - 5, n_classes, [2.0], tol=1e-9, pack_bytes=0)
    assert found.objective == pytest.approx(expected.objective, rel=1e-9)
    assert found.weights == pytest.approx(expected.weights, abs=1e-4)


def test_steps_that_do_not_suffice_are_told_by_the_gap() -> None:
    X, y = blobs(150, 12, 3)
    [point] = solve(X, y, [10.0], max_iter=1)
    assert point.n_iter.tolist() == [1]
    assert point.gap[0] > 1e-3


def test_a_path_begins_each_C_where_the_last_two_lead() -> None:
    X, y = blobs(600, 20, 4, apart=0.6)
    Cs = [float(C) for C in 10.0 ** np.arange(-3, 2.25, 0.25)]
    path = solve(X, y, Cs, tol=1e-8)
    apart = [solve(X, y, [C], tol=1e-10)[0] for C in (Cs[0], Cs[10], Cs[-1])]
    for point, alone in zip((path[0], path[10], path[-1]), apart, strict=True):
        assert point.objective == pytest.approx(alone.objective, rel=1e-8)
        assert point.weights == pytest.approx(alone.weights, abs=1e-3)
    steps = np.diff([int(point.n_iter[0]) for point in path])
    # From the last solution alone it takes four.
    assert np.median(steps) <= 3


def watch_factors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return, growing, how many factors there are at each solution of Newton's equations."""
    made: list[int] = []
    original = curvature.Curvature._precondition

    def watched(self: Any) -> None:
        original(self)
        made.append(len(self._factors))

    monkeypatch.setattr(curvature.Curvature, "_precondition", watched)
    return made


@pytest.mark.parametrize("pack_bytes", [0, 2**30])
@pytest.mark.parametrize(
    ("gram_bytes", "one_vs_rest", "n_factors"),
    [(2**20, False, 3), (2 * 8 * 31**2, False, 1), (2**20, True, 1), (100, False, 0)],
)
def test_a_preconditioner_is_made_and_serves(
    pack_bytes: int,
    gram_bytes: int,
    one_vs_rest: bool,
    n_factors: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = watch_factors(monkeypatch)
    X, y = blobs(400, 30, 3, apart=0.3)
    X = X * np.geomspace(0.05, 5, 30, dtype=np.float32)
    [point] = solve(
        X, y, [20.0], tol=1e-9, pack_bytes=pack_bytes, gram_bytes=gram_bytes,
        one_vs_rest=one_vs_rest,
    )  # fmt: skip
    assert set(made) <= {0, n_factors}
    assert made[-1] == n_factors
    settings: dict[str, Any] = {
        "C": 20.0, "tol": 1e-12, "max_iter": 1000, "solver": "newton-cholesky",
    }  # fmt: skip
    if one_vs_rest:
        for k, label in enumerate(np.unique(y)):
            model = LogisticRegression(**settings).fit(X.astype(np.float64), y == label)
            weights = np.concatenate([model.coef_[0], model.intercept_])
            got = np.append(point.weights[k], point.intercepts[k])
            assert got == pytest.approx(weights, abs=1e-3)
        return
    model = LogisticRegression(**settings).fit(X.astype(np.float64), y)
    expected = objective(X, y, model.coef_, model.intercept_, 20.0)
    assert point.objective == pytest.approx([expected], rel=1e-8)


def test_the_preconditioner_is_the_inverse_of_each_classes_own_curvature() -> None:
    X, _ = blobs(300, 12, 4, apart=0.3)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 300).T[None]
    costs = rng.uniform(0.5, 2.0, 300)
    with Workers() as workers:
        design = Design(X, None, workers)
        found = curvature.Curvature(design, False, 2**30, 2**30)
        found.update(p, costs, 0.0)
        found._spent = np.inf
        found._precondition()
        r = rng.standard_normal((1, 4, 12))
        got = found._approximate(r)
        again = found._approximate(got)
    common = r.mean(axis=1, keepdims=True)
    # What a row of no weight in the sums leaves out is a hundredth at most.
    grams = [np.eye(12) + (X.T * (p[0, k] * (1 - p[0, k]) * costs)) @ X for k in range(4)]
    own = np.array([np.linalg.solve(g, row) for g, row in zip(grams, (r - common)[0], strict=True)])
    assert got.mean(axis=1) == pytest.approx(common[:, 0], rel=1e-6)
    expected = own - own.mean(axis=0)
    assert (got - common)[0] == pytest.approx(expected, abs=0.03 * np.abs(expected).max())
    # Symmetric and definite, as conjugate gradients want it.
    assert np.vdot(r, again) == pytest.approx(np.vdot(got, got), rel=1e-5)
    assert np.vdot(r, got) > 0


@pytest.mark.parametrize("intercept", [False, True])
def test_coordinates_of_rows_keep_their_products(intercept: bool) -> None:
    from featx.heads.softmax import _row_coordinates, _to_columns

    X, _ = blobs(20, 50, 3)
    with Workers() as workers:
        design = Design(X, 1.0 if intercept else None, workers)
        L = _row_coordinates(design, intercept)
        v = np.random.default_rng(0).standard_normal((2, 20))
        W = _to_columns(design, L, v, intercept)
    X = X.astype(np.float64)
    assert pytest.approx(X @ X.T, rel=1e-10, abs=1e-10) == L @ L.T
    assert W.shape == (2, 50)
    assert pytest.approx(v @ L.T, rel=1e-8, abs=1e-8) == W @ X.T
    assert (W**2).sum() == pytest.approx((v**2).sum(), rel=1e-8)

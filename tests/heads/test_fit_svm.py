"""`fit_svm` against L-BFGS on the objective, against LinearSVC, and where it does not converge."""

from __future__ import annotations

import re

import numpy as np
import pytest
from head_cases import blobs, svm_objective, svm_optimum
from sklearn.svm import LinearSVC

from featx.heads.fitting import fit_liblinear as fit_svm

TIGHT = {"tol": 1e-10, "max_iter": 200_000}

# Rows and features on either side of the rule: 3 rows per feature and fewer are solved in the dual.
SHAPES = {"liblinear-dual": (60, 30), "liblinear-primal": (120, 6)}


def one_vs_rest(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, and the signs of each class against the rest as columns."""
    labels = np.unique(y)
    return labels, np.where(y[:, None] == labels, 1.0, -1.0)


@pytest.mark.parametrize("solver", SHAPES)
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("C", [0.01, 12.0])
def test_reaches_the_optimum_of_the_squared_hinge(solver: str, n_classes: int, C: float) -> None:
    X, y = blobs(*SHAPES[solver], n_classes)
    fit = fit_svm(X, y, C=C, **TIGHT)
    labels, signs = one_vs_rest(y)
    assert fit.solver == solver
    assert (fit.classes == labels).all()
    assert fit.classes.dtype == np.int64
    assert fit.coef.dtype == fit.intercept.dtype == np.float64
    optima = [svm_optimum(X, sign, C) for sign in signs.T]
    # Two classes are one problem; both of its rows are its optimum, mirrored.
    expected = optima[1][0] if n_classes == 2 else sum(value for value, _ in optima)
    assert fit.objective == pytest.approx(expected, rel=1e-7)
    decision = X.astype(np.float64) @ fit.coef.T + fit.intercept
    for k, (_, v) in enumerate(optima):
        np.testing.assert_allclose(decision[:, k], X @ v[:-1] + v[-1], rtol=0, atol=2e-4)
    assert fit.converged
    assert fit.messages == ()
    assert fit.duality_gap is not None
    assert 0.0 <= fit.duality_gap < 1e-6


@pytest.mark.parametrize("solver", SHAPES)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_is_linear_svc(solver: str, n_classes: int) -> None:
    X, y = blobs(*SHAPES[solver], n_classes, seed=3)
    fit = fit_svm(X, y, C=0.3, seed=7, **TIGHT)
    model = LinearSVC(C=0.3, dual=solver == "liblinear-dual", random_state=7, **TIGHT).fit(X, y)
    if n_classes == 2:
        np.testing.assert_array_equal(fit.coef, [-model.coef_[0], model.coef_[0]])
        np.testing.assert_array_equal(fit.intercept, [-model.intercept_[0], model.intercept_[0]])
    else:
        np.testing.assert_array_equal(fit.coef, model.coef_)
        np.testing.assert_array_equal(fit.intercept, model.intercept_)
    assert fit.n_iter == np.max(model.n_iter_)
    winners = fit.classes[(X @ fit.coef.T + fit.intercept).argmax(axis=1)]
    assert (winners == model.predict(X)).all()


def test_the_same_seed_gives_the_same_bits() -> None:
    X, y = blobs(40, 30, 3)
    first, second, other = (fit_svm(X, y, C=12.0, max_iter=40, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.coef, second.coef)
    assert (first.coef != other.coef).any()


@pytest.mark.parametrize(("rows", "solver"), [(30, "liblinear-dual"), (31, "liblinear-primal")])
def test_three_rows_per_feature_are_still_solved_in_the_dual(rows: int, solver: str) -> None:
    X, y = blobs(rows, 10, 2)
    assert fit_svm(X, y, C=0.01).solver == solver


def test_types_of_features_give_the_same_fit() -> None:
    X, y = blobs(90, 5, 3)
    X = X.astype(np.float16)
    fits = [fit_svm(X.astype(t), y.astype(np.uint8)) for t in (np.float16, np.float32, np.float64)]
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.coef, fits[0].coef)
        assert fit.objective == fits[0].objective


def test_default_is_experiment_d1() -> None:
    X, y = blobs(90, 5, 3)
    default, explicit = fit_svm(X, y), fit_svm(X, y, C=12.0, max_iter=1000, tol=1e-4, seed=0)
    assert (default.C, default.kind) == (12.0, "svm")
    np.testing.assert_array_equal(default.coef, explicit.coef)


def test_features_stay_as_they_are() -> None:
    X, y = blobs(90, 40, 3)
    before = X.copy()
    fit_svm(X, y)
    np.testing.assert_array_equal(X, before)


def test_too_few_iterations_are_said_with_a_true_bound() -> None:
    X, y = blobs(80, 40, 3, apart=0.3)
    # Warnings are errors in these tests: scikit-learn's own must not come through.
    fit = fit_svm(X, y, C=12.0, max_iter=3)
    _, signs = one_vs_rest(y)
    optimum = sum(svm_optimum(X, sign, 12.0)[0] for sign in signs.T)
    assert not fit.converged
    assert fit.n_iter == 3
    assert fit.duality_gap is not None
    assert fit.objective > 1.001 * optimum
    worst = max(
        1 - svm_optimum(X, sign, 12.0)[0] / svm_objective(X, sign, np.append(w, b), 12.0)
        for sign, w, b in zip(signs.T, fit.coef, fit.intercept, strict=True)
    )
    assert worst - 1e-9 <= fit.duality_gap <= worst + 1e-4
    (message,) = fit.messages
    assert message.startswith("liblinear stopped after 3 iterations, objective at most ")
    assert message.endswith("Raise --max-iter or lower C.")
    found = re.search(r"at most ([\d.]+) % above", message)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * worst / (1 - worst), rel=0.06)


def test_iterations_used_up_at_the_optimum_is_said_as_such() -> None:
    X, y = blobs(40, 30, 3)
    fit = fit_svm(X, y, C=0.01, max_iter=5, tol=1e-15)
    assert not fit.converged
    assert fit.duality_gap is not None
    assert 1e-5 < fit.duality_gap < 1e-3
    assert fit.messages[0].endswith("More iterations would change little.")


def test_a_solver_that_is_content_far_from_the_optimum_is_not_believed() -> None:
    X, y = blobs(120, 6, 2, apart=1.5)
    settings = {"C": 12.0, "tol": 10.0, "max_iter": 1000}
    # scikit-learn says nothing: a ConvergenceWarning would fail this line.
    LinearSVC(dual=False, **settings).fit(X, y)
    fit = fit_svm(X, y, **settings)
    optimum, _ = svm_optimum(X, np.where(y == 6, 1.0, -1.0), 12.0)
    assert fit.n_iter < 1000
    assert fit.objective > 1.1 * optimum
    assert not fit.converged
    (message,) = fit.messages
    assert "by its own tolerance, but not at the optimum: objective at most" in message
    assert message.endswith("Lower --tol or C.")


def test_without_a_useful_bound_the_message_gives_no_number() -> None:
    X, y = blobs(80, 40, 3)
    fit = fit_svm(100 * X, y, C=1e4, max_iter=2)
    assert fit.duality_gap is not None
    assert fit.duality_gap > 0.99
    (message,) = fit.messages
    assert "no useful bound on how far the objective is above the optimum" in message
    assert "%" not in message

"""`fit_logistic` against scikit-learn, against the objective, and where it does not converge."""

from __future__ import annotations

import re

import numpy as np
import pytest
from head_cases import blobs, logistic_objective, logistic_optimum
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from featx.heads.fitting import fit_lbfgs as fit_logistic


def sklearn_parameters(fit_coef: np.ndarray, fit_intercept: np.ndarray) -> np.ndarray:
    """Return (weights, intercept) rows as scikit-learn has them: one row for two classes."""
    rows = np.column_stack([fit_coef, fit_intercept])
    return 2 * rows[1:] if len(rows) == 2 else rows


@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("C", [0.01, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_is_sklearns_logistic_regression(n_classes: int, C: float, dtype: type) -> None:
    X, y = blobs(90, 8, n_classes)
    X = X.astype(dtype)
    fit = fit_logistic(X, y, C=C)
    model = LogisticRegression(C=C, max_iter=1000).fit(X, y)
    decision = X.astype(np.float64) @ fit.coef.T + fit.intercept
    np.testing.assert_allclose(softmax(decision, axis=1), model.predict_proba(X), atol=2e-6)
    assert (fit.classes[decision.argmax(axis=1)] == model.predict(X)).all()
    assert fit.classes.tolist() == list(range(5, 5 + n_classes))
    assert fit.coef.shape == (n_classes, 8)
    assert fit.coef.dtype == fit.intercept.dtype == np.float64
    assert fit.n_iter == model.n_iter_[0]
    assert (fit.kind, fit.solver, fit.C, fit.duality_gap) == ("logistic", "lbfgs", C, None)
    assert fit.converged
    assert fit.messages == ()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_reaches_the_optimum_and_says_what_it_is_worth(n_classes: int) -> None:
    X, y = blobs(70, 4, n_classes)
    fit = fit_logistic(X.astype(np.float64), y, C=0.7, tol=1e-8)
    v = sklearn_parameters(fit.coef, fit.intercept)
    worth = logistic_objective(X, y - 5, v, 0.7, n_classes)
    assert fit.objective == pytest.approx(worth, rel=1e-12)
    assert fit.objective == pytest.approx(logistic_optimum(X, y - 5, 0.7, n_classes), rel=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_too_few_iterations_are_said_with_the_gradient(n_classes: int) -> None:
    X, y = blobs(70, 4, n_classes)
    C = 3.0
    # Warnings are errors in these tests: scikit-learn's own must not come through.
    fit = fit_logistic(X.astype(np.float64), y, C=C, max_iter=2, tol=1e-5)
    assert not fit.converged
    assert fit.n_iter == 2
    (message,) = fit.messages
    assert message.startswith("lbfgs stopped after 2 iterations: its largest gradient entry was ")
    assert message.endswith("the tolerance is 1e-05. Raise --max-iter or lower C.")
    # The gradient of the mean loss, by central differences.
    v = sklearn_parameters(fit.coef, fit.intercept)
    step = 1e-6
    slopes = []
    for i in range(v.size):
        values = []
        for move in (step, -step):
            moved = v.copy()
            moved.flat[i] += move
            values.append(logistic_objective(X, y - 5, moved, C, n_classes))
        slopes.append((values[0] - values[1]) / (2 * step) / (C * len(X)))
    found = re.search(r"entry was ([\d.e+-]+),", message)
    assert found is not None
    assert float(found[1]) == pytest.approx(np.abs(slopes).max(), rel=0.06)


def test_a_solver_that_is_content_far_from_the_optimum_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = blobs(60, 5, 3)
    X = (X * 10.0 ** np.linspace(0, 4, 5)).astype(np.float32)
    better = fit_logistic(X.astype(np.float64), y, C=1.0)
    plain = LogisticRegression.fit

    def fit_until_content(model: LogisticRegression, *args: np.ndarray) -> LogisticRegression:
        # What rounding does on some processors: the solver ends early, without a warning.
        model.tol = 10.0
        return plain(model, *args)

    monkeypatch.setattr(LogisticRegression, "fit", fit_until_content)
    fit = fit_logistic(X, y, C=1.0)
    assert fit.objective > 1.1 * better.objective
    assert fit.n_iter < 1000
    assert not fit.converged
    (message,) = fit.messages
    assert message.startswith(f"lbfgs found no better point after {fit.n_iter} iterations: ")
    assert message.endswith("Raise --tol, or standardize the features.")


def test_other_warnings_of_the_solver_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    X, y = blobs(30, 3, 2)
    plain = LogisticRegression.fit

    def fit_and_warn(model: LogisticRegression, *args: np.ndarray) -> LogisticRegression:
        warnings.warn("something else", RuntimeWarning, stacklevel=1)
        return plain(model, *args)

    monkeypatch.setattr(LogisticRegression, "fit", fit_and_warn)
    with pytest.warns(RuntimeWarning, match="something else"):
        assert fit_logistic(X, y).converged

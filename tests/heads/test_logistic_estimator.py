"""LogisticRegression and fits of that kind: against scikit-learn run to its end."""

from __future__ import annotations

import numpy as np
import pytest
from head_cases import blobs, logistic_objective
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.estimator_checks import check_estimator

from featx.errors import UsageError
from featx.heads import LogisticRegression, fit_logistic


def head(**settings: object) -> LogisticRegression:
    return LogisticRegression(**{"device": "cpu", **settings})


def test_scikit_learn_s_own_checks_pass() -> None:
    # Fits by inexact steps that are compared to 9 digits: the tolerance does not promise so many.
    known = {"check_sample_weight_equivalence_on_dense_data": "equal to the tolerance only"}
    results = check_estimator(head(), on_fail=None, on_skip=None, expected_failed_checks=known)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(("n", "d"), [(120, 6), (40, 90)])
@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
def test_the_optimum_is_scikit_learn_s(n, d, n_classes, C) -> None:
    X, y = blobs(n, d, n_classes, seed=d)
    ours = head(C=C).fit(X, y)
    theirs = Reference(C=C, tol=1e-10, max_iter=100_000).fit(X.astype(np.float64), y)
    found, best = (
        logistic_objective(X, y - 5, np.column_stack([m.coef_, m.intercept_]).ravel(), C, n_classes)
        for m in (ours, theirs)
    )
    assert found <= best * (1 + 1e-6)
    assert ours.objective_.sum() == pytest.approx(found, rel=1e-9)
    assert ours.converged_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=5e-3)


def test_one_against_the_rest_is_each_class_by_itself() -> None:
    X, y = blobs(90, 6, 3, seed=1)
    ours = head(multi_class="ovr", tol=1e-12).fit(X, y)
    theirs = OneVsRestClassifier(Reference(tol=1e-10, max_iter=100_000))
    theirs.fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_weights_are_scikit_learn_s() -> None:
    X, y = blobs(90, 6, 3, seed=2)
    weights = np.arange(90) % 3 + 0.5
    shared = {"C": 0.5, "class_weight": {5: 2.0, 6: 0.5}}
    ours = head(tol=1e-12, **shared).fit(X, y, sample_weight=weights)
    theirs = Reference(tol=1e-10, max_iter=100_000, **shared).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_fit_of_a_run_is_the_same_with_both_solvers(n_classes) -> None:
    X, y = blobs(80, 10, n_classes, seed=3)
    ours = fit_logistic(X, y, C=0.1, device="cpu")
    theirs = fit_logistic(X, y, C=0.1, solver="lbfgs", tol=1e-8)
    assert (ours.solver, theirs.solver) == ("featx-newton", "lbfgs")
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-6)
    np.testing.assert_allclose(ours.coef, theirs.coef, atol=1e-2)
    np.testing.assert_allclose(ours.intercept, theirs.intercept, atol=1e-2)
    assert ours.converged
    assert ours.duality_gap is not None


def test_a_path_is_the_fits_one_by_one() -> None:
    X, y = blobs(70, 8, 3, seed=9)
    Cs = [1.0, 1e-3, 10.0]
    for C, model in zip(Cs, head(tol=1e-11).fit_path(X, y, Cs), strict=True):
        np.testing.assert_allclose(model.coef_, head(C=C, tol=1e-11).fit(X, y).coef_, atol=1e-4)


def test_what_makes_no_sense_is_said() -> None:
    X, y = blobs(60, 5, 3, apart=0.2)
    with pytest.raises(UsageError, match="multi_class is 'crammer': valid are"):
        head(multi_class="crammer").fit(X, y)
    with pytest.raises(UsageError, match="C is -1"):
        head(C=-1).fit(X, y)
    with pytest.raises(UsageError, match="No value of C"):
        head().fit_path(X, y, [])
    with pytest.warns(ConvergenceWarning, match="stopped after 1 Newton steps"):
        stopped = head(C=100.0, max_iter=1).fit(X, y)
    assert not stopped.converged_

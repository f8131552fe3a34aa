"""Cross-validation over C: against scikit-learn's, fold by fold."""

from __future__ import annotations

import numpy as np
import pytest
from head_cases import blobs
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from featx.errors import DataError, UsageError
from featx.heads import NAMED_GRIDS, cross_validate
from featx.heads.folds import deal


@pytest.mark.parametrize(("d", "n_classes"), [(6, 3), (6, 2), (150, 3)])
def test_accuracies_are_those_of_separate_fits(d, n_classes) -> None:
    X, y = blobs(90, d, n_classes, seed=2)
    Cs = [0.01, 1.0]
    found = cross_validate("svm", X, y, Cs, folds=3, seed=4, device="cpu")
    classes, index = np.unique(y, return_inverse=True)
    fold_of = deal(index, 3, 4, classes)
    for C in Cs:
        right = 0
        for fold in range(3):
            out = fold_of == fold
            model = LinearSVC(C=C, tol=1e-10, max_iter=100_000).fit(X[~out].astype(float), y[~out])
            right += (model.predict(X[out].astype(float)) == y[out]).sum()
        assert found[C] == pytest.approx(right / len(y), abs=1e-12)


@pytest.mark.parametrize(("d", "n_classes"), [(6, 3), (6, 2), (150, 3)])
def test_accuracies_of_logistic_regressions_are_those_of_separate_fits(d, n_classes) -> None:
    X, y = blobs(90, d, n_classes, seed=2)
    Cs = [0.01, 1.0]
    found = cross_validate("logistic", X, y, Cs, folds=3, seed=4, device="cpu")
    classes, index = np.unique(y, return_inverse=True)
    fold_of = deal(index, 3, 4, classes)
    for C in Cs:
        right = 0
        for fold in range(3):
            out = fold_of == fold
            model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
            model.fit(X[~out].astype(float), y[~out])
            right += (model.predict(X[out].astype(float)) == y[out]).sum()
        assert found[C] == pytest.approx(right / len(y), abs=1e-12)


def test_folds_hold_as_many_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [10, 7, 13])
    fold_of = deal(labels, 4, 0, np.arange(3))
    for label in range(3):
        counts = np.bincount(fold_of[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(fold_of, minlength=4)
    assert sizes.max() - sizes.min() <= 1
    assert (deal(labels, 4, 1, np.arange(3)) != fold_of).any()


def test_progress_adds_up_to_one_for_each_c() -> None:
    X, y = blobs(60, 5, 3)
    shares: dict[float, float] = {}

    def heard(C: float, share: float) -> None:
        shares[C] = shares.get(C, 0.0) + share

    cross_validate("svm", X, y, [0.1, 1.0], folds=4, device="cpu", on_done=heard)
    assert shares == pytest.approx({0.1: 1.0, 1.0: 1.0})


def test_what_cannot_be_folded_is_said() -> None:
    X, y = blobs(30, 5, 3)
    with pytest.raises(UsageError, match="1 folds: cross-validation needs at least 2"):
        cross_validate("svm", X, y, [1.0], folds=1)
    with pytest.raises(DataError, match=r"Class 5 has 10 rows, fewer than 11 folds.*--cv"):
        cross_validate("svm", X, y, [1.0], folds=11)
    with pytest.raises(UsageError, match="No value of C"):
        cross_validate("svm", X, y, [])


def test_named_grids_are_those_of_their_protocols() -> None:
    dinov2 = NAMED_GRIDS["dinov2"]
    assert len(dinov2) == 45
    assert dinov2[0] == pytest.approx(1e-6)
    assert dinov2[-1] == pytest.approx(1e5)
    ratios = np.diff(np.log10(dinov2))
    np.testing.assert_allclose(ratios, 11 / 44)
    vissl = NAMED_GRIDS["vissl"]
    assert len(vissl) == 26
    assert {2.0**-19, 2.0**-4, 1e-7, 100.0} <= set(vissl)
    assert list(vissl) == sorted(vissl)

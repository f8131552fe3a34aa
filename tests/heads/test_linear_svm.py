"""LinearSVM: liblinear's objective by its formula, its optimum, odd shapes, bad input."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from head_cases import blobs, svm_objective, svm_optimum
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from featx.errors import BudgetExceeded, DataError, UsageError
from featx.heads import LinearSVM
from featx.heads.accelerated import TorchDesign
from featx.heads.newton import Problems, solve_path
from featx.heads.solving import least_bytes
from featx.heads.threads import Workers


def head(**settings: object) -> LinearSVM:
    return LinearSVM(**{"device": "cpu", **settings})


def objectives(X: np.ndarray, y: np.ndarray, model: LinearSVM, C: float) -> list[float]:
    classes = np.unique(y)
    positive = classes if len(classes) > 2 else classes[1:]
    return [
        svm_objective(X, np.where(y == label, 1.0, -1.0), np.append(w, b), C)
        for label, w, b in zip(positive, model.coef_, model.intercept_, strict=True)
    ]


def test_scikit_learn_s_own_checks_pass() -> None:
    results = check_estimator(head(), on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    assert len(results) > 50


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(("n", "d"), [(120, 6), (40, 35), (40, 200)])
@pytest.mark.parametrize("C", [1e-3, 1.0, 12.0])
def test_the_optimum_is_reached(n, d, n_classes, C) -> None:
    X, y = blobs(n, d, n_classes, seed=d)
    model = head(C=C).fit(X, y)
    found = objectives(X, y, model, C)
    np.testing.assert_allclose(model.objective_, found, rtol=1e-9)
    positive = np.unique(y) if n_classes > 2 else np.unique(y)[1:]
    for value, label in zip(found, positive, strict=True):
        optimum, _ = svm_optimum(X, np.where(y == label, 1.0, -1.0), C)
        assert value <= optimum * (1 + 1e-6)
    assert model.converged_
    assert (model.duality_gap_ <= 1e-6).all()


@pytest.mark.parametrize(("n", "d"), [(300, 8), (60, 150)])
def test_liblinear_run_to_its_end_agrees(n, d) -> None:
    X, y = blobs(n, d, 4, seed=1)
    ours = head(C=0.5).fit(X, y)
    theirs = LinearSVC(C=0.5, tol=1e-10, max_iter=1_000_000).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    fresh, _ = blobs(500, d, 4, seed=2)
    scores = np.sort(ours.decision_function(fresh), axis=1)
    clear = scores[:, -1] - scores[:, -2] > 1e-4
    assert clear.mean() > 0.9
    assert (ours.predict(fresh) == theirs.predict(fresh.astype(np.float64)))[clear].all()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weight", ["balanced", {5: 3.0, 6: 0.25}])
def test_class_weights_and_scaling_are_liblinear_s(n_classes, weight) -> None:
    X, y = blobs(90, 5, n_classes, seed=3)
    keep = (y != 5) | (np.arange(len(y)) % 3 == 0)
    X, y = X[keep], y[keep]
    shared = {"C": 0.3, "class_weight": weight, "intercept_scaling": 2.5}
    ours = head(**shared).fit(X, y)
    theirs = LinearSVC(tol=1e-12, max_iter=1_000_000, **shared).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)


@pytest.mark.parametrize("d", [5, 80])
def test_weights_repeat_and_remove_rows(d) -> None:
    X, y = blobs(60, d, 3, seed=4)
    weights = np.arange(60) % 4
    weighted = head(C=0.2, tol=1e-10).fit(X, y, sample_weight=weights)
    repeated = head(C=0.2, tol=1e-10).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)


def test_an_early_stop_is_said_and_the_bound_holds() -> None:
    X, y = blobs(200, 20, 3, seed=5, apart=0.3)
    # A C from which the path begins: one step from all rows.
    with pytest.warns(ConvergenceWarning, match="stopped after 1 Newton steps with a relative"):
        early = head(C=0.4, max_iter=1).fit(X, y)
    assert not early.converged_
    found = objectives(X, y, early, 0.4)
    for value, gap, label in zip(found, early.duality_gap_, np.unique(y), strict=True):
        optimum, _ = svm_optimum(X, np.where(y == label, 1.0, -1.0), 0.4)
        assert gap > 1e-6
        assert (value - optimum) / value <= gap + 1e-9


def odd_features(kind: str) -> tuple[np.ndarray, np.ndarray]:
    X, y = blobs(80, 12, 3, seed=6)
    rng = np.random.default_rng(0)
    if kind == "constant columns":
        X[:, 2], X[:, 5] = 7.0, 0.0
    elif kind == "duplicated rows":
        X, y = np.repeat(X, 3, axis=0), np.repeat(y, 3)
    elif kind == "duplicated columns":
        X = np.repeat(X, 20, axis=1)
    elif kind == "scales from 1e-4 to 1e4":
        X = X * np.logspace(-4, 4, 12, dtype=np.float32)
    elif kind == "imbalance of 1:1000":
        X, y = rng.standard_normal((2002, 4)).astype(np.float32), np.arange(2002) // 2000
        y[-2:] = 1
        y[:1000] = 2
    elif kind == "many classes":
        X, y = blobs(400, 10, 200, seed=7)
    elif kind == "equal rows, other labels":
        X, y = np.ones((30, 4), np.float32), np.arange(30) % 3
    elif kind == "separable":
        X = X + 40.0 * np.eye(12, dtype=np.float32)[y - 5]
    elif kind == "two rows":
        X, y = X[:2], y[:2]
    return X, y


KINDS = [
    "constant columns", "duplicated rows", "duplicated columns", "scales from 1e-4 to 1e4",
    "imbalance of 1:1000", "many classes", "equal rows, other labels", "separable", "two rows",
]  # fmt: skip


@pytest.mark.parametrize("C", [1e-8, 1e-3, 12.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_is_certified(kind, C) -> None:
    X, y = odd_features(kind)
    model = head(C=C).fit(X, y)
    assert model.converged_
    assert (model.duality_gap_ <= 1e-6).all()
    np.testing.assert_allclose(model.objective_, objectives(X, y, model, C), rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(700, 600), (600, 700)])
def test_single_precision_steers_and_does_not_decide(n, d) -> None:
    rng = np.random.default_rng(8)
    X = np.maximum(rng.standard_normal((n, 40)) @ rng.standard_normal((40, d)), 0)
    X = (X + 0.1 * rng.standard_normal((n, d)) - X.mean(0)) / X.std(0)
    y = (X[:, :3] + 0.5 * rng.standard_normal((n, 3))).argmax(axis=1)
    mixed = head(dtype="mixed").fit(X, y)
    double = head(dtype="float64").fit(X, y)
    np.testing.assert_allclose(mixed.objective_, double.objective_, rtol=2e-6)
    assert (mixed.duality_gap_ <= 1e-6).all()


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(1, 40), st.floats(-5, 4))
def test_random_problems_reach_their_gap(seed, n, d, exponent) -> None:
    X, y = blobs(n, d, 2, seed=seed, apart=0.5)
    C = 10.0**exponent
    model = head(C=C).fit(X, y)
    optimum, _ = svm_optimum(X, np.where(y == y.max(), 1.0, -1.0), C)
    assert model.duality_gap_[0] <= 1e-6
    assert objectives(X, y, model, C)[0] <= optimum * (1 + 1e-6)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_and_the_names_of_classes_do_not_matter(seed) -> None:
    X, y = blobs(60, 9, 3, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    names = np.array(["a", "b", "c"])
    plain = head(C=1.0, tol=1e-9).fit(X, y)
    other = head(C=1.0, tol=1e-9).fit(X[order], names[y - 5][order])
    np.testing.assert_allclose(other.coef_, plain.coef_, atol=1e-6)
    assert (other.predict(X) == names[plain.predict(X) - 5]).all()


@pytest.mark.parametrize("d", [8, 120])
def test_a_path_is_the_fits_one_by_one(d) -> None:
    X, y = blobs(70, d, 3, seed=9)
    Cs = [1.0, 1e-3, 30.0, 1.0]
    path = head(tol=1e-9).fit_path(X, y, Cs)
    assert [model.C for model in path] == Cs
    for C, model in zip(Cs, path, strict=True):
        cold = head(C=C, tol=1e-9).fit(X, y)
        np.testing.assert_allclose(model.coef_, cold.coef_, atol=1e-5)
    assert path[1].objective_.sum() < path[0].objective_.sum() < path[2].objective_.sum()


def test_rows_come_from_anywhere(tmp_path: Path) -> None:
    X, y = blobs(50, 7, 3, seed=10)
    want = head().fit(X, y)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("X", data=X)
        from_file = head().fit(stored, y)
        assert (from_file.predict(stored) == want.predict(X)).all()
    for rows, labels in (
        (X.astype(np.float64), y), (np.asfortranarray(X), y), (X.tolist(), y.tolist()),
        (torch.from_numpy(X), torch.from_numpy(y)),
    ):  # fmt: skip
        np.testing.assert_allclose(head().fit(rows, labels).coef_, want.coef_, atol=1e-7)
    np.testing.assert_array_equal(from_file.coef_, want.coef_)


@pytest.mark.parametrize(("n", "d"), [(12_000, 200), (200, 12_000)])
def test_features_larger_than_memory_give_the_same_head(n, d, tmp_path: Path) -> None:
    X, y = blobs(n, d, 3, seed=11)
    want = head(C=0.01).fit(X, y)
    budget = least_bytes(n, d + 1) + 50_000
    assert budget < X.nbytes
    with h5py.File(tmp_path / "x.h5", "w") as file:
        found = head(C=0.01, memory_bytes=budget).fit(file.create_dataset("X", data=X), y)
    np.testing.assert_allclose(found.objective_, want.objective_, rtol=1e-6)
    with pytest.raises(BudgetExceeded, match=r"matrices of the smaller side.*Give more memory"):
        head(memory_bytes=10_000).fit(X, y)


@pytest.mark.parametrize(("n", "d"), [(90, 12), (30, 29)])
@pytest.mark.parametrize("single", [True, False])
def test_on_a_torch_device_the_same_comes_out(n, d, single) -> None:
    X, y = blobs(n, d, 3, seed=12)
    want = head(C=1.0).fit(X, y)
    with Workers() as workers:
        design = TorchDesign(X, 1.0, workers, device=torch.device("cpu"), single=single)
        point = solve_path(design, Problems(y - 5, range(3)), [1.0])[0]
    np.testing.assert_allclose(point.objective, want.objective_, rtol=2e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"C": 0.0}, UsageError, "C is 0.0: it must be a positive number"),
        ({"C": float("nan")}, UsageError, "C is nan"),
        ({"C": "12"}, UsageError, "C is '12'"),
        ({"tol": -1.0}, UsageError, "tol is -1.0"),
        ({"max_iter": 0}, UsageError, "max_iter is 0"),
        ({"intercept_scaling": 0.0}, UsageError, "intercept_scaling is 0.0"),
        ({"dtype": "float16"}, UsageError, "dtype is 'float16': valid are 'mixed' and 'float64'"),
        ({"class_weight": {99: 2.0}}, DataError, "class_weight names 99"),
        ({"class_weight": {5: -2.0}}, DataError, "Class weight -2"),
        ({"class_weight": "even"}, UsageError, "class_weight is 'even'"),
        ({"device": "tpu"}, UsageError, "Device 'tpu' is not known"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, error, message) -> None:
    X, y = blobs(20, 3, 2)
    with pytest.raises(error, match=message):
        head(**change).fit(X, y)


def test_data_that_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    X, y = blobs(20, 3, 2)
    with pytest.raises(DataError, match="needs at least two classes"):
        head().fit(X, np.full(20, 5))
    with pytest.raises(DataError, match=r"Sample weight -1: weights must not be negative"):
        head().fit(X, y, sample_weight=np.where(np.arange(20) == 3, -1.0, 1.0))
    with pytest.raises(DataError, match="needs at least two classes"):
        head().fit(X, y, sample_weight=(y == 5).astype(float))
    broken = X.copy()
    broken[7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        head().fit(broken, y)
    with (
        h5py.File(tmp_path / "x.h5", "w") as file,
        pytest.raises(DataError, match="nan in row 7, column 1"),
    ):
        head().fit(file.create_dataset("X", data=broken), y)
    broken[7, 1] = 1e20
    with pytest.raises(DataError, match=r"1e\+20 in row 7, column 1.*Standardize"):
        head().fit(broken, y)
    with pytest.raises(UsageError, match="No value of C"):
        head().fit_path(X, y, [])


def test_the_same_input_gives_the_same_bits() -> None:
    X, y = blobs(300, 40, 4, seed=13)
    first, second = head().fit(X, y), head().fit(X, y)
    np.testing.assert_array_equal(first.coef_, second.coef_)

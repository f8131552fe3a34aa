"""Ridge, nearest neighbours and nearest means: against scikit-learn and against their formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import sklearn.linear_model
import sklearn.neighbors
import torch
from head_cases import blobs
from scipy.spatial.distance import cdist
from sklearn.utils.estimator_checks import check_estimator

from featx.errors import BudgetExceeded, UsageError
from featx.heads import KNearest, NearestCentroid, RidgeClassifier
from featx.heads.accelerated import TorchDesign
from featx.heads.solving import least_bytes
from featx.heads.threads import Workers

TALL, WIDE = (90, 7), (40, 60)


def cases(shape: tuple[int, int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 features that are far from centred, and labels."""
    X, y = blobs(*shape, n_classes, seed=4)
    return X.astype(np.float64) + 3.0, y


class Slices:
    """What an h5py dataset looks like; remembers how many rows were read at once."""

    def __init__(self, X: np.ndarray) -> None:
        self._X, self.shape, self.id, self.chunks = X, X.shape, 0, None
        self.most = 0

    def __len__(self) -> int:
        return len(self._X)

    def __getitem__(self, rows: slice) -> np.ndarray:
        self.most = max(self.most, len(self._X[rows]))
        return self._X[rows]


@pytest.mark.parametrize(
    "head",
    [
        RidgeClassifier(device="cpu"),
        # Some checks fit ten samples: 20 neighbours are refused there.
        KNearest(5, device="cpu"),
        KNearest(3, metric="euclidean", weights="distance", device="cpu"),
        KNearest(5, weights="softmax", device="cpu"),
        NearestCentroid(),
        NearestCentroid("cosine"),
    ],
    ids=repr,
)
def test_is_an_estimator(head: Any) -> None:
    check_estimator(head, on_skip=None)


# Ridge


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 300.0])
def test_ridge_is_scikit_learns(shape: tuple[int, int], n_classes: int, alpha: float) -> None:
    X, y = cases(shape, n_classes)
    head = RidgeClassifier(alpha=alpha, device="cpu").fit(X, y)
    other = sklearn.linear_model.RidgeClassifier(alpha=alpha).fit(X, y)
    # For two classes, scikit-learn 1.9 gives a vector where its documentation promises a row.
    np.testing.assert_allclose(head.coef_, np.atleast_2d(other.coef_), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(head.intercept_, other.intercept_, rtol=1e-8, atol=1e-10)
    assert head.decision_function(X).shape == other.decision_function(X).shape
    assert (head.predict(X) == other.predict(X)).all()


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, "balanced", {5: 3.0}])
def test_ridge_weights_are_scikit_learns(
    shape: tuple[int, int], n_classes: int, class_weight: Any
) -> None:
    X, y = cases(shape, n_classes)
    y[:20] = 5
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    head = RidgeClassifier(2.0, class_weight=class_weight, device="cpu").fit(X, y, weights)
    other = sklearn.linear_model.RidgeClassifier(2.0, class_weight=class_weight)
    other.fit(X, y, weights)
    np.testing.assert_allclose(head.coef_, np.atleast_2d(other.coef_), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(head.intercept_, other.intercept_, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_ridge_path_is_each_fit_in_the_order_given(shape: tuple[int, int]) -> None:
    X, y = cases(shape, 3)
    alphas = [10.0, 0.01, 10.0, 1.0]
    path = RidgeClassifier(device="cpu").fit_path(X, y, alphas)
    assert [head.alpha for head in path] == alphas
    for head in path:
        other = sklearn.linear_model.RidgeClassifier(alpha=head.alpha).fit(X, y)
        np.testing.assert_allclose(head.coef_, other.coef_, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(head.intercept_, other.intercept_, rtol=1e-8, atol=1e-11)
        assert head.n_features_in_ == X.shape[1]


@pytest.mark.parametrize("shape", [TALL, WIDE], ids=["tall", "wide"])
def test_ridge_on_an_accelerator_is_the_same(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def on_torch(X: Any, intercept: None, **settings: Any) -> Iterator[tuple[TorchDesign, int]]:
        with Workers() as workers:
            yield TorchDesign(X, intercept, workers, device=torch.device("cpu")), 1

    X, y = cases(shape, 3)
    monkeypatch.setattr("featx.heads.ridge.open_design", on_torch)
    for head in RidgeClassifier().fit_path(X, y, [1.0, 0.1]):
        other = sklearn.linear_model.RidgeClassifier(alpha=head.alpha).fit(X, y)
        np.testing.assert_allclose(head.coef_, other.coef_, rtol=1e-8, atol=1e-11)


def test_ridge_keeps_its_digits_far_from_the_origin() -> None:
    X, y = cases(TALL, 3)
    # 2^20 is added without rounding to features that are multiples of 2^-20.
    X = np.round(X * 2**20) / 2**20
    near = RidgeClassifier(device="cpu").fit(X, y)
    far = RidgeClassifier(device="cpu").fit(X + 2.0**20, y)
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-7, atol=1e-9)


def test_ridge_in_little_memory_reads_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.heads.solving._LEAST_BLOCK", 64)
    for shape in (TALL, WIDE):
        X, y = cases(shape, 3)
        stored = Slices(X)
        least = least_bytes(*shape)
        head = RidgeClassifier(device="cpu", memory_bytes=least).fit(stored, y)
        other = sklearn.linear_model.RidgeClassifier().fit(X, y)
        np.testing.assert_allclose(head.coef_, other.coef_, rtol=1e-8, atol=1e-11)
        with pytest.raises(BudgetExceeded, match="matrices of the smaller side"):
            RidgeClassifier(device="cpu", memory_bytes=least - 1).fit(stored, y)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), "1", True])
def test_ridge_wants_a_positive_alpha(alpha: Any) -> None:
    X, y = cases(TALL, 2)
    with pytest.raises(UsageError, match=r"alpha is .*: it must be a positive number"):
        RidgeClassifier(alpha=alpha).fit(X, y)
    with pytest.raises(UsageError, match=r"alpha is .*: it must be a positive number"):
        RidgeClassifier().fit_path(X, y, [1.0, alpha])


def test_ridge_path_wants_a_value() -> None:
    X, y = cases(TALL, 2)
    with pytest.raises(UsageError, match="No value of alpha: give at least one"):
        RidgeClassifier().fit_path(X, y, [])


def test_ridge_without_any_weight_is_refused() -> None:
    X, y = cases(TALL, 2)
    with pytest.raises(UsageError, match="Every class has weight 0"):
        RidgeClassifier(class_weight={5: 0, 6: 0}, device="cpu").fit(X, y)


def test_ridge_says_what_alpha_would_do() -> None:
    X, y = cases(TALL, 2)
    X = 1e6 * np.hstack([X, X])
    with pytest.raises(UsageError, match=r"alpha is 1e-30: .* singular") as error:
        RidgeClassifier(1e-30, device="cpu").fit(X, y)
    enough = float(str(error.value).split("Raise alpha to ")[1].split()[0])
    assert RidgeClassifier(enough, device="cpu").fit(X, y).score(X, y) > 0.8


# Nearest neighbours


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 5, 20, 90])
def test_neighbours_are_scikit_learns(metric: Any, weights: Any, k: int) -> None:
    X, y = blobs(90, 6, 3, apart=0.4)
    queries, _ = blobs(70, 6, 3, apart=0.4, seed=8)
    queries[:3] = X[40:43]
    settings: dict[str, Any] = {"metric": metric, "weights": weights}
    # Blocks of 32 end inside of both; k may be more than a block.
    head = KNearest(k, **settings, device="cpu", block_rows=32).fit(X, y)
    other = sklearn.neighbors.KNeighborsClassifier(k, **settings).fit(X.astype(np.float64), y)
    distances, index = head.kneighbors(queries)
    expected, expected_index = other.kneighbors(queries.astype(np.float64))
    np.testing.assert_allclose(distances, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(index, expected_index)
    chances = other.predict_proba(queries.astype(np.float64))
    # scikit-learn finds a sample at 1e-8 of itself: its share is nearly 1 there.
    np.testing.assert_allclose(head.predict_proba(queries), chances, rtol=1e-6, atol=1e-6)
    assert (head.predict(queries) == other.predict(queries.astype(np.float64))).all()


@pytest.mark.parametrize("temperature", [0.07, 1e-4])
def test_softmax_votes_are_exponentials_of_the_cosine(temperature: float) -> None:
    X, y = blobs(50, 5, 3, apart=0.4)
    queries, _ = blobs(20, 5, 3, apart=0.4, seed=8)
    head = KNearest(7, weights="softmax", temperature=temperature, device="cpu").fit(X, y)
    for shares, query in zip(
        head.predict_proba(queries), queries.astype(np.longdouble), strict=True
    ):
        cosines = [float(x @ query / np.sqrt((x @ x) * (query @ query))) for x in X]
        votes = dict.fromkeys((5, 6, 7), np.longdouble(0))
        for i in sorted(range(50), key=lambda i: -cosines[i])[:7]:
            votes[y[i]] += np.exp(np.longdouble(cosines[i]) / temperature)
        total = sum(votes.values())
        expected = [float(votes[c] / total) for c in (5, 6, 7)]
        np.testing.assert_allclose(shares, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["numpy", "torch"])
def test_of_equal_samples_the_first_are_taken(metric: Any, device: Any) -> None:
    base, _ = blobs(9, 33, 3)
    X = np.tile(base.astype(np.float64) / 3.0, (11, 1))
    head = KNearest(7, metric=metric, device="cpu", block_rows=20).fit(X, np.arange(99) % 2)
    distances, index = head._search(X[:9].copy(), device)
    # Row i is at i, i + 9, i + 18, ... over the blocks.
    np.testing.assert_array_equal(index, np.arange(9)[:, None] + 9 * np.arange(7))
    assert (distances == 0).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_on_an_accelerator_are_the_same(metric: Any) -> None:
    X, y = blobs(90, 6, 3, apart=0.4)
    queries, _ = blobs(30, 6, 3, apart=0.4, seed=8)
    head = KNearest(12, metric=metric, device="cpu", block_rows=32).fit(X, y)
    expected, expected_index = head.kneighbors(queries)
    distances, index = head._search(queries.astype(np.float64), torch.device("cpu"))
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_allclose(distances, expected, rtol=1e-9)


def test_rows_of_zeros_are_at_right_angles_to_everything() -> None:
    X = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.5], [0.0, -2.0]])
    head = KNearest(4, device="cpu").fit(X, [0, 1, 0, 1])
    distances, index = head.kneighbors([[2.0, 0.0]])
    assert index.tolist() == [[0, 1, 3, 2]]
    np.testing.assert_allclose(distances[0], [0, 1, 1, 1 + 2 / np.sqrt(5)], rtol=1e-12)
    assert (head.kneighbors([[0.0, 0.0]])[0] == 1.0).all()


def test_neighbours_in_files_are_read_in_blocks(tmp_path: Path) -> None:
    X, y = blobs(90, 6, 3)
    expected = KNearest(3, device="cpu").fit(X, y).predict_proba(X)
    slices = Slices(X)
    head = KNearest(3, device="cpu", block_rows=16).fit(slices, y)
    slices.most = 0
    np.testing.assert_allclose(head.predict_proba(slices), expected)
    assert slices.most == 16
    with h5py.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
        found = KNearest(3, device="cpu", block_rows=16).fit(file["X"], y).predict_proba(file["X"])
    np.testing.assert_allclose(found, expected)


def test_more_neighbours_than_samples_are_refused() -> None:
    X, y = blobs(12, 3, 2)
    with pytest.raises(
        UsageError, match=r"n_neighbors is 13: valid are whole numbers from 1 to 12, the training"
    ):
        KNearest(13).fit(X, y)
    head = KNearest(12, device="cpu").fit(X, y)
    with pytest.raises(UsageError, match="n_neighbors is 13"):
        head.set_params(n_neighbors=13).predict(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors is 0: valid are whole numbers from 1 to 12"),
        ({"n_neighbors": 2.5}, "n_neighbors is 2.5"),
        ({"metric": "l1"}, "metric is 'l1': valid are 'cosine' and 'euclidean'"),
        ({"weights": "exp"}, "weights is 'exp': valid are 'uniform', 'distance' and 'softmax'"),
        ({"weights": "softmax", "metric": "euclidean"}, "set metric to 'cosine'"),
        ({"temperature": 0}, "temperature is 0: it must be a positive number"),
        ({"block_rows": 2**21}, "block_rows is 2097152: valid are .* 1 to 1,048,576"),
    ],
)
def test_settings_of_neighbours_are_checked(settings: dict[str, Any], message: str) -> None:
    X, y = blobs(12, 3, 2)
    with pytest.raises(UsageError, match=message):
        KNearest(**{"n_neighbors": 3, **settings}).fit(X, y)


# Nearest means


@pytest.mark.parametrize("n_classes", [2, 5])
def test_centroids_are_scikit_learns(n_classes: int) -> None:
    X, y = cases((120, 6), n_classes)
    queries = cases((80, 6), n_classes)[0] + 0.3
    head = NearestCentroid().fit(X, y)
    other = sklearn.neighbors.NearestCentroid().fit(X, y)
    np.testing.assert_allclose(head.centroids_, other.centroids_, rtol=1e-12)
    assert (head.predict(queries) == other.predict(queries)).all()
    # Half the squared distance, but for what all classes share.
    expected = -0.5 * cdist(queries, other.centroids_, "sqeuclidean")
    scores = head.decision_function(queries)
    if n_classes == 2:
        np.testing.assert_allclose(scores, expected[:, 1] - expected[:, 0], rtol=1e-9, atol=1e-9)
        assert head.coef_.shape == (1, 6)
    else:
        lengths = 0.5 * (queries**2).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(scores, expected + lengths, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(head.coef_, head.centroids_)
    np.testing.assert_allclose(
        scores, np.squeeze(queries @ head.coef_.T + head.intercept_), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("n_classes", [2, 5])
def test_cosine_centroids_are_means_of_directions(n_classes: int) -> None:
    X, y = blobs(60, 6, n_classes)
    X *= np.linspace(0.1, 30, 60, dtype=np.float32)[:, None]
    queries, _ = blobs(50, 6, n_classes, seed=9)
    head = NearestCentroid("cosine").fit(X, y)
    directions = X / np.sqrt((X.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    means = np.array([directions[y == c].mean(axis=0) for c in head.classes_])
    distances = cdist(queries, means, "cosine")
    assert (head.predict(queries) == head.classes_[distances.argmin(axis=1)]).all()
    np.testing.assert_allclose((head.centroids_**2).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.diag(1 - cdist(head.centroids_, means, "cosine")), 1.0)
    assert (head.intercept_ == 0).all()


def test_centroids_are_accumulated_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.heads.blocks._BLOCK_VALUES", 7 * 6)
    X, y = cases((60, 6), 3)
    expected = sklearn.neighbors.NearestCentroid().fit(X, y).centroids_
    head = NearestCentroid().fit(torch.from_numpy(X), torch.from_numpy(y))
    np.testing.assert_allclose(head.centroids_, expected, rtol=1e-12)


def test_unknown_metric_of_centroids_is_refused() -> None:
    X, y = blobs(12, 3, 2)
    with pytest.raises(UsageError, match="metric is 'l2': valid are 'cosine' and 'euclidean'"):
        NearestCentroid("l2").fit(X, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "head", [RidgeClassifier(device="cpu"), KNearest(3, device="cpu"), NearestCentroid()], ids=repr
)
def test_stored_features_of_another_width_are_refused(head: Any) -> None:
    X, y = blobs(12, 3, 2)
    name = type(head).__name__
    with pytest.raises(UsageError, match=f"X has 2 features, but {name} is expecting 3"):
        head.fit(X, y).predict(Slices(X[:, :2]))

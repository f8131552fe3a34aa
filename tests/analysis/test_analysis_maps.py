"""Maps against scikit-learn's PCA."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from featx.analysis.maps import feature_map, principal_components
from featx.errors import UnknownName, UsageError


def data(n: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    falling = np.arange(1, width + 1.0) ** -0.7
    return (rng.standard_normal((n, width)) * falling + 2.0).astype(np.float32)


@pytest.mark.parametrize(("n", "width"), [(60, 9), (30, 200), (20, 20)])
def test_components_are_scikit_learns(n: int, width: int) -> None:
    X = data(n, width)
    found, explained = principal_components(X, 2)
    model = PCA(2, svd_solver="full").fit(X.astype(np.float64))
    expected = model.transform(X.astype(np.float64))
    expected *= np.sign(np.sum(expected * found, axis=0))
    assert found == pytest.approx(expected, abs=1e-5)
    assert explained == pytest.approx(model.explained_variance_ratio_.sum())
    for k in range(2):
        assert found[np.abs(found[:, k]).argmax(), k] > 0


def test_the_same_features_have_the_same_map_also_mirrored() -> None:
    X = data(50, 12)
    found = feature_map(X).points
    assert np.array_equal(found, feature_map(X.copy()).points)
    assert feature_map(-X).points == pytest.approx(found)


def test_features_with_less_than_two_dimensions() -> None:
    found = feature_map(np.arange(6.0)[:, None])
    assert np.abs(found.points[:, 0]) == pytest.approx([2.5, 1.5, 0.5, 0.5, 1.5, 2.5])
    assert np.abs(np.diff(found.points[:, 0])) == pytest.approx(np.ones(5))
    assert found.points[:, 1].tolist() == [0.0] * 6
    assert found.explained == pytest.approx(1.0)
    flat = feature_map(np.ones((4, 8)))
    assert flat.points.tolist() == [[0.0, 0.0]] * 4
    assert flat.explained == 0.0


def test_tsne_keeps_groups_apart() -> None:
    X = data(60, 10)
    X[30:] += 20.0
    found = feature_map(X, "tsne")
    assert found.explained is None
    first, second = found.points[:30], found.points[30:]
    between = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    within = max(np.linalg.norm(g - g.mean(axis=0), axis=1).max() for g in (first, second))
    assert between > within
    assert np.array_equal(found.points, feature_map(X, "tsne").points)


def test_what_cannot_be_drawn_is_refused(monkeypatch) -> None:
    with pytest.raises(UsageError, match="A map of 2 images shows nothing: give 3 or more"):
        feature_map(np.ones((2, 4)))
    with pytest.raises(UnknownName, match=r"Map 'pac' is not known\. Closest: 'pca'"):
        feature_map(np.ones((5, 4)), "pac")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match="pip install umap-learn"):
        feature_map(data(10, 4), "umap")

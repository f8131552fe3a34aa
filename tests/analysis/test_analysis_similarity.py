"""Linear CKA against the Gram matrices of its definition, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.analysis import similarity
from featx.analysis.similarity import Similarity, linear_cka, rows_for
from featx.errors import ShapeError


def by_gram_matrices(X: np.ndarray, Y: np.ndarray) -> float:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with HSIC(K, L) = tr(K H L H), eq. 3 and 4."""
    n = len(X)
    H = np.eye(n) - np.ones((n, n)) / n
    K, L = X @ X.T, Y @ Y.T

    def hsic(A: np.ndarray, B: np.ndarray) -> float:
        return float(np.trace(A @ H @ B @ H)) / (n - 1) ** 2

    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def data(n: int, *widths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 3))
    return [
        common @ rng.standard_normal((3, width)) + rng.standard_normal((n, width)) + 5.0
        for width in widths
    ]


# Side by side, and (above 2,000 together) by Gram matrices.
@pytest.mark.parametrize("widths", [(4, 7, 9), (30, 60, 5), (1500, 3, 600)])
def test_is_what_the_definition_says(widths: tuple[int, ...]) -> None:
    features = data(40, *widths)
    found = linear_cka([X.astype(np.float32) for X in features])
    for i, X in enumerate(features):
        for j, Y in enumerate(features):
            assert found[i, j] == pytest.approx(by_gram_matrices(X, Y), abs=1e-6)


def test_blocks_of_columns_change_nothing(monkeypatch) -> None:
    features = data(20, 50, 13)
    whole = linear_cka(features)
    monkeypatch.setattr(similarity, "_BLOCK_VALUES", 20 * 7)
    assert linear_cka(features) == pytest.approx(whole)
    narrow = data(40, 9, 13)
    cut = linear_cka(narrow)
    monkeypatch.undo()
    assert linear_cka(narrow) == pytest.approx(cut)


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(3, 25),
    st.integers(1, 20),
    st.integers(1, 20),
    st.floats(1e-3, 1e3),
)
def test_laws(seed: int, n: int, p: int, q: int, scale: float) -> None:
    X, Y = data(n, p, q, seed=seed)
    found = linear_cka([X, Y])
    assert np.all((found >= 0) & (found <= 1))
    assert np.diag(found).tolist() == [1.0, 1.0]
    assert found[0, 1] == found[1, 0]
    # A rotation, a size and a place are no difference.
    turn, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((p, p)))
    moved = scale * (X @ turn) + 3.0
    assert linear_cka([X, moved])[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert linear_cka([moved, Y])[0, 1] == pytest.approx(found[0, 1], abs=1e-6)


def test_features_that_never_change_are_like_nothing() -> None:
    (X,) = data(10, 4)
    found = linear_cka([X, np.ones((10, 3)), np.ones((10, 100))])
    assert found.tolist() == np.eye(3).tolist()


def test_wrong_shapes_and_missing_cuts_are_refused() -> None:
    found = Similarity(5, [2, 3])
    found.add(0, np.ones((5, 2)))
    with pytest.raises(ShapeError, match=r"shape \(5, 2\) for cut 1: expected \(5, 3\)"):
        found.add(1, np.ones((5, 2)))
    with pytest.raises(ShapeError, match="1 of 2 cuts have no features"):
        found.matrix()


def test_rows_are_fewer_where_cuts_are_wide_or_many() -> None:
    assert rows_for([512, 512]) == 2000
    assert rows_for([2048] * 16) < 1000
    for widths in ([16_384], [2048] * 16, [100] * 100):
        n = rows_for(widths)
        assert 100 <= n <= 2000
        assert n * n * sum(widths) <= 10**10
        assert n * n * len(widths) <= 2**24


@pytest.mark.parametrize("widths", [[16] * 100, [19] * 105, [2048] * 16, [100] * 100, [16_384]])
@pytest.mark.parametrize("n", [200, 1500, 2000])
def test_what_is_kept_stays_within_128_mb(widths: list[int], n: int) -> None:
    rows = min(n, rows_for(widths))
    assert Similarity(rows, widths)._kept.nbytes <= 2**24 * 8

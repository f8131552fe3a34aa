"""Heads keep to the memory they may take: traced peaks, with features read from a file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from head_cases import blobs

from featx.errors import BudgetExceeded
from featx.heads import LinearSVM, LogisticRegression
from featx.heads.solving import least_bytes

SHAPES = [(200, 3000, 5), (3000, 200, 5), (1000, 100, 20), (20_000, 32, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", [LinearSVM, LogisticRegression])
@pytest.mark.parametrize("budget", ["least", 12])
def test_a_fit_takes_no_more_than_it_may(shape, head, budget, tmp_path: Path) -> None:
    n, d, n_classes = shape
    X, y = blobs(n, d, n_classes, seed=1)
    least = least_bytes(n, d + 1, n_classes if head is LogisticRegression else 1)
    most = least if budget == "least" else budget * 10**6
    if most < least:
        pytest.skip("refused: a case of the next test")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("X", data=X)
        # What is imported and looked up once.
        head(device="cpu").fit(X[:200], np.arange(200) % 2)
        tracemalloc.start()
        try:
            head(C=0.01, device="cpu", memory_bytes=most).fit(stored, y)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak <= 1.1 * most


@pytest.mark.parametrize("head", [LinearSVM, LogisticRegression])
def test_too_little_memory_is_said_with_how_much_would_do(head) -> None:
    X, y = blobs(60, 3000, 3)
    least = least_bytes(60, 3001, 3 if head is LogisticRegression else 1)
    with pytest.raises(BudgetExceeded, match=r"needs [\d.]+ MB for matrices.*10 kB may be used"):
        head(device="cpu", memory_bytes=10_000).fit(X, y)
    assert head(device="cpu", C=0.01, memory_bytes=least).fit(X, y).converged_

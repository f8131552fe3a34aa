"""Cells of a confusion matrix against scikit-learn's, and a plain search for their images."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from featx.analysis.cells import class_samples, confusion_cells, spread


def predictions(n: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    y = rng.choice([3, 5, 8], n)
    predicted = np.where(rng.random(n) < 0.6, y, rng.choice([3, 5, 8, 9], n))
    # Few values: there are ties.
    return y, predicted, rng.integers(1, 20, n) / 20


def test_cells_count_what_the_matrix_counts() -> None:
    y, predicted, confidence = predictions()
    cells = confusion_cells(y, predicted, confidence)
    labels = [3, 5, 8, 9]
    matrix = confusion_matrix(y, predicted, labels=labels)
    found = {(cell.label, cell.predicted): cell.n for cell in cells}
    expected = {
        (a, b): matrix[i, j]
        for i, a in enumerate(labels)
        for j, b in enumerate(labels)
        if matrix[i, j]
    }
    assert found == expected
    wrong = [cell for cell in cells if cell.label != cell.predicted]
    assert cells[: len(wrong)] == wrong
    assert [cell.n for cell in wrong] == sorted((cell.n for cell in wrong), reverse=True)


def test_images_of_a_cell_are_its_most_confident_ones() -> None:
    y, predicted, confidence = predictions()
    for cell in confusion_cells(y, predicted, confidence):
        own = [i for i in range(len(y)) if (y[i], predicted[i]) == (cell.label, cell.predicted)]
        best = sorted(own, key=lambda i: (-confidence[i], i))
        most = 2 if cell.label == cell.predicted else 6
        assert [image.index for image in cell.images] == best[:most]
        for image in cell.images:
            assert (image.label, image.predicted) == (cell.label, cell.predicted)
            assert image.score == confidence[image.index]
            assert image.tile is None


def test_where_images_are_limited_the_most_frequent_errors_stay() -> None:
    y, predicted, confidence = predictions()
    every = confusion_cells(y, predicted, confidence)
    few = confusion_cells(y, predicted, confidence, most=13)
    assert few == every[:2]
    assert confusion_cells(y, predicted, confidence, most=0) == []


def test_samples_go_around_the_classes() -> None:
    y = np.repeat([4, 6, 7], [40, 2, 0])
    found = class_samples(y, [4, 6, 7], 5)
    assert [image.label for image in found] == [4, 6, 4, 6, 4, 4, 4]
    assert [image.index for image in found] == [0, 40, 8, 41, 16, 24, 32]


@given(st.integers(0, 500), st.integers(1, 60))
def test_spread_numbers_are_different_and_even(n: int, most: int) -> None:
    found = spread(n, most)
    assert len(found) == min(n, most)
    gaps = np.diff(found)
    assert np.all(gaps >= 1)
    if len(gaps):
        assert gaps.max() - gaps.min() <= 1
        assert found[0] == 0
        assert found[-1] < n

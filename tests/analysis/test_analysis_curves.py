"""Curves against scikit-learn and against formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import average_precision_score, precision_recall_curve

from featx.analysis.curves import class_curves, precision_recall, reliability, softmax, thinned
from featx.errors import DataError


def noisy(n: int, n_positive: int, strength: float, seed: int = 0):
    """Labels, and scores that tell them apart more or less."""
    rng = np.random.default_rng(seed)
    positive = np.zeros(n, dtype=bool)
    positive[rng.permutation(n)[:n_positive]] = True
    return positive, rng.standard_normal(n) + strength * positive


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 6))
def test_precision_recall_is_scikit_learns(seed: int, n: int, n_values: int) -> None:
    """With ties: scores have few different values."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    positive[rng.integers(n)] = True
    scores = rng.integers(0, n_values, n) / 2.0
    recall, precision, average = precision_recall(positive, scores)
    # scikit-learn goes from low to high thresholds, and on behind complete recall.
    p, r, _ = precision_recall_curve(positive, scores)
    p, r = p[::-1], r[::-1]
    complete = int(np.argmax(r == 1.0)) + 1
    assert recall.tolist() == pytest.approx(r[:complete].tolist())
    assert precision.tolist() == pytest.approx(p[:complete].tolist())
    assert average == pytest.approx(average_precision_score(positive, scores))


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.5])
def test_a_thinned_curve_keeps_its_shape(strength: float) -> None:
    positive, scores = noisy(10_000, 1000, strength)
    recall, precision, _ = precision_recall(positive, scores)
    kept = thinned(recall, precision)
    assert len(kept) <= 60
    assert kept[0] == 0
    assert kept[-1] == len(recall) - 1
    assert np.all(np.diff(kept) > 0)
    # Drawn from point to point, it passes every point of the whole curve closely.
    points = np.stack((recall, precision), axis=1)
    assert max(distance_to_line(point, points[kept]) for point in points[::7]) <= 0.01


def distance_to_line(point: np.ndarray, line: np.ndarray) -> float:
    """Distance to the nearest of the segments, by walking along each in small steps."""
    steps = np.linspace(0.0, 1.0, 201)[:, None, None]
    walked = line[:-1] + steps * (line[1:] - line[:-1])
    return float(np.sqrt(((walked - point) ** 2).sum(axis=2)).min())


def test_a_straight_line_needs_its_ends_only() -> None:
    x = np.linspace(0, 1, 50)
    assert thinned(x, 1 - x).tolist() == [0, 49]
    assert thinned(np.zeros(1), np.ones(1)).tolist() == [0]
    assert thinned(np.zeros(5), np.zeros(5)).tolist() == [0, 4]
    corner = np.minimum(x, 0.5)
    assert thinned(x, corner).tolist() in ([0, 24, 25, 49], [0, 24, 49], [0, 25, 49])


def test_every_class_with_samples_has_a_curve() -> None:
    rng = np.random.default_rng(3)
    y = rng.choice([5, 9], 200)
    scores = rng.standard_normal((200, 3)) + 1.5 * (y[:, None] == np.array([5, 7, 9]))
    curves = class_curves(y, scores, [5, 7, 9], most=10)
    assert [curve.label for curve in curves] == [5, 9]
    for curve, column in zip(curves, (0, 2), strict=True):
        expected = average_precision_score(y == curve.label, scores[:, column])
        assert curve.average_precision == pytest.approx(expected)
        assert len(curve.recall) == len(curve.precision) <= 10
        assert curve.recall == sorted(curve.recall)


def test_a_curve_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="one of the class at least"):
        precision_recall(np.zeros(4, dtype=bool), np.zeros(4))


def test_calibration_error_by_its_formula() -> None:
    rng = np.random.default_rng(1)
    confidence = np.append(rng.random(500), [0.0, 1.0, 1 / 15, 2 / 15])
    correct = rng.random(504) < confidence**2
    found = reliability(confidence, correct, "made up")
    total, rows = 0.0, []
    for m in range(15):
        low, high = m / 15, (m + 1) / 15
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (m == 0 and c == 0.0)]
        if inside:
            accuracy = sum(bool(correct[i]) for i in inside) / len(inside)
            mean = math.fsum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / 504 * abs(accuracy - mean)
            rows.append((mean, accuracy, len(inside)))
    assert found.ece == pytest.approx(total)
    assert found.n == [n for _, _, n in rows]
    assert found.confidence == pytest.approx([mean for mean, _, _ in rows], abs=1e-4)
    assert found.accuracy == pytest.approx([accuracy for _, accuracy, _ in rows], abs=1e-4)
    assert found.probabilities == "made up"


def test_empty_bins_are_left_out() -> None:
    found = reliability(np.array([0.95, 0.97, 0.96]), np.array([True, False, True]), "")
    assert found.n == [3]
    assert found.ece == pytest.approx(abs(2 / 3 - 0.96))


def test_softmax_is_scipys_and_does_not_overflow() -> None:
    scores = np.random.default_rng(0).standard_normal((20, 4)) * 30
    assert softmax(scores) == pytest.approx(scipy_softmax(scores, axis=1))
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
    untouched = np.array([[1.0, 2.0]])
    softmax(untouched)
    assert untouched.tolist() == [[1.0, 2.0]]

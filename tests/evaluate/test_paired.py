"""Paired tests, their correction, spreads and top-5, against independent formulas."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import top_k_accuracy_score

from featx.errors import DataError
from featx.evaluate import (
    evaluate_predictions,
    holm,
    mcnemar_exact,
    paired_difference,
    spread,
)

shares = st.floats(0, 1, allow_nan=False)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_two_sided_binomial_test(a: int, b: int) -> None:
    expected = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_of_a_textbook_case() -> None:
    # 2 * sum of C(10, k) / 2^10 for k = 0, 1.
    assert mcnemar_exact(9, 1) == pytest.approx(2 * (1 + 10) / 1024)


@given(st.lists(shares, min_size=1, max_size=12))
def test_holms_values_follow_its_definition(p: list[float]) -> None:
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        assert adjusted[i] == pytest.approx(running)
    assert all(a >= b - 1e-12 for a, b in zip(adjusted, p, strict=True))


def test_a_paired_interval_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.74
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    rows = rng.integers(0, 400, (4000, 400))
    plain = np.quantile(a[rows].mean(axis=1) - b[rows].mean(axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx(plain, abs=0.008)
    assert paired_difference(a, b) == (difference, low, high)


def test_equal_predictions_differ_by_nothing() -> None:
    a = np.array([True, False, True])
    assert paired_difference(a, a) == (0.0, 0.0, 0.0)


@given(st.lists(shares, min_size=2, max_size=9))
def test_a_spread_is_numpys_and_scipys(values: list[float]) -> None:
    found = spread(values)
    assert (found.min, found.max) == (min(values), max(values))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert found.low == pytest.approx(max(0.0, np.mean(values) - half), abs=1e-9)
    assert found.high == pytest.approx(min(1.0, np.mean(values) + half), abs=1e-9)


def test_one_value_has_no_deviation_and_no_value_no_spread() -> None:
    assert spread([0.5]) == (0.5, 0.5, 0.5, None, None, None)
    with pytest.raises(DataError):
        spread([])
    with pytest.raises(DataError):
        spread([1.2])


def test_top5_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = [3, 5, 7, 8, 11, 20, 21]
    y = rng.choice(labels, 200)
    y[: len(labels)] = labels
    scores = rng.random((200, len(labels)))
    predicted = np.array(labels)[scores.argmax(axis=1)]
    classes = {label: str(label) for label in labels}
    found = evaluate_predictions(y, predicted, classes, scores)
    assert found.top5 == pytest.approx(top_k_accuracy_score(y, scores, k=5, labels=labels))
    assert evaluate_predictions(y, predicted, classes).top5 is None


@pytest.mark.parametrize("n_classes", [2, 5])
def test_few_classes_have_no_top5(n_classes: int) -> None:
    y = np.arange(n_classes)
    scores = np.eye(n_classes)
    classes = {label: str(label) for label in range(n_classes)}
    assert evaluate_predictions(y, y, classes, scores).top5 is None


def test_scores_of_another_shape_are_refused() -> None:
    classes = {label: str(label) for label in range(6)}
    for shape in itertools.product((5, 6), (6, 7)):
        if shape != (6, 6):
            with pytest.raises(DataError):
                evaluate_predictions(range(6), range(6), classes, np.zeros(shape))

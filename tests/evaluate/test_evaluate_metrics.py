"""Metrics against scikit-learn, the interval against its definition, the table against both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import norm
from sklearn.metrics import classification_report, confusion_matrix

from featx.errors import DataError
from featx.evaluate import (
    evaluate_predictions,
    format_report,
    newcombe_interval,
    wilson_interval,
)

# Not ascending: the report keeps the order it is given.
CLASSES = {7: "horse", 5: "dog", 6: "frog", -1: "none of them"}
LABELS = list(CLASSES)
PAIRS = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40
)


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (list(values) for values in zip(*pairs, strict=True))
    found = evaluate_predictions(truth, np.array(predicted, dtype=np.int16), CLASSES)
    names = [str(label) for label in LABELS]
    expected = classification_report(
        truth, predicted, labels=LABELS, target_names=names, output_dict=True, zero_division=0.0
    )
    assert [(c.label, c.name) for c in found.per_class] == list(CLASSES.items())
    averages = [("macro avg", found.macro_avg), ("weighted avg", found.weighted_avg)]
    for name, scores in [*zip(names, found.per_class, strict=True), *averages]:
        assert (scores.precision, scores.recall, scores.f1, scores.support) == pytest.approx(
            tuple(expected[name].values()), abs=1e-15
        )
    assert found.confusion == confusion_matrix(truth, predicted, labels=LABELS).tolist()
    assert found.n == len(pairs)
    assert found.accuracy == sum(t == p for t, p in pairs) / len(pairs)
    correct = sum(t == p for t, p in pairs)
    assert (found.accuracy_low, found.accuracy_high) == wilson_interval(correct, len(pairs))
    assert found.accuracy_low <= found.accuracy <= found.accuracy_high


def test_by_hand() -> None:
    found = evaluate_predictions([5, 5, 5, 6, 6, 7], [5, 5, 6, 6, 5, 5], {5: "a", 6: "b", 7: "c"})
    assert found.confusion == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    a, b, c = found.per_class
    assert (a.precision, a.recall, a.support) == (0.5, pytest.approx(2 / 3), 3)
    assert (b.precision, b.recall, b.f1) == (0.5, 0.5, 0.5)
    assert (c.precision, c.recall, c.f1, c.support) == (0.0, 0.0, 0.0, 1)
    assert found.accuracy == 0.5
    assert found.macro_avg.recall == pytest.approx((2 / 3 + 0.5) / 3)
    assert found.weighted_avg.recall == pytest.approx(0.5)


def test_one_class_alone_is_no_special_case() -> None:
    found = evaluate_predictions([5, 5], [5, 5], {5: "dog"})
    assert found.confusion == [[2]]
    assert found.accuracy == found.macro_avg.f1 == 1.0


@pytest.mark.parametrize(
    ("truth", "predicted", "text"),
    [
        ([], [], "at least one sample"),
        ([5, 6], [5], "shape (2,), predicted ones of shape (1,)"),
        ([[5]], [[5]], "shape (1, 1)"),
        ([5, 9], [5, 5], "A true label is 9; the classes are [7, 5, 6, -1]."),
        ([5, 5], [5, 8], "A predicted label is 8; the classes are [7, 5, 6, -1]."),
        ([5.0], [5], "The true labels are of type float64: expected integers."),
        ([5], ["5"], "The predicted labels are of type <U1: expected integers."),
    ],
)
def test_labels_that_cannot_be_compared(truth: list[Any], predicted: list[Any], text: str) -> None:
    with pytest.raises(DataError) as caught:
        evaluate_predictions(truth, predicted, CLASSES)
    assert text in str(caught.value)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_ends_where_the_score_test_does(counts: tuple[int, int]) -> None:
    n_correct, n = counts
    # Its ends are the p with |k/n - p| = z sqrt(p (1 - p) / n): a quadratic equation in p.
    z, share = norm.ppf(0.975), n_correct / n
    roots = np.sort(np.roots([1 + z**2 / n, -(2 * share + z**2 / n), share**2]).real)
    assert wilson_interval(n_correct, n) == pytest.approx(tuple(roots), abs=1e-7)


@pytest.mark.parametrize(
    ("n_correct", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_interval_is_the_published_one(n_correct: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(n_correct, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(n - n_correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_interval_touches_0_and_1_exactly() -> None:
    for n in range(1, 200):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("n_correct", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_interval_of_no_proportion(n_correct: int, n: int) -> None:
    with pytest.raises(DataError, match=f"{n_correct} of {n} is no proportion"):
        wilson_interval(n_correct, n)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.integers(1, 4))
def test_report_is_scikit_learns_table(pairs: list[tuple[int, int]], digits: int) -> None:
    # scikit-learn prints the support as 1.0 where not one sample is right.
    assume(any(t == p for t, p in pairs))
    truth, predicted = (list(values) for values in zip(*pairs, strict=True))
    expected = classification_report(
        truth,
        predicted,
        labels=LABELS,
        target_names=[f"{name} ({label})" for label, name in CLASSES.items()],
        digits=digits,
        zero_division=0.0,
    )
    found = format_report(evaluate_predictions(truth, predicted, CLASSES), digits)
    assert found.rstrip("\n").splitlines() == expected.rstrip("\n").splitlines()


def test_numbers_of_the_report_parse_back() -> None:
    metrics = evaluate_predictions([5, 5, 6, 7, 7, 7], [5, 6, 6, 7, 7, 5], CLASSES)
    lines = [line for line in format_report(metrics, digits=6).splitlines()[1:] if line]
    rows = {line[:18].strip(): [float(cell) for cell in line[18:].split()] for line in lines}
    for c in metrics.per_class:
        expected = [c.precision, c.recall, c.f1, c.support]
        assert rows[f"{c.name} ({c.label})"] == pytest.approx(expected, abs=5e-7)
    assert rows["accuracy"] == pytest.approx([metrics.accuracy, 6], abs=5e-7)


@pytest.mark.parametrize(
    ("label", "name", "shown"),
    [
        (0, "0", "0"),
        (0, "zero", "zero (0)"),
        (1, "0", "0 (1)"),
        (3, "a\nb\t\x1b[31m", "a?b??[31m (3)"),
        (3, "n" * 32, "n" * 32 + " (3)"),
        (3, "n" * 33, "n" * 31 + "… (3)"),
    ],
)
def test_name_of_a_class_in_the_report(label: int, name: str, shown: str) -> None:
    report = format_report(evaluate_predictions([label], [label], {label: name}))
    row = report.splitlines()[2]
    assert row[: row.index("1.00")].strip() == shown
    assert len(report.splitlines()) == 7


def test_metrics_refuse_what_json_cannot_hold_and_do_not_change() -> None:
    metrics = evaluate_predictions([5, 6], [5, 5], CLASSES)
    with pytest.raises(ValidationError):
        metrics.accuracy = 1.0
    for change in ({"accuracy": math.nan}, {"n": 0}, {"auc": 0.5}):
        with pytest.raises(ValidationError):
            type(metrics).model_validate(metrics.model_dump() | change)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(a, b, low, high) -> None:
    # Newcombe (1998), table II, method 10.
    assert newcombe_interval(*a, *b) == pytest.approx((low, high), abs=6e-5)
    assert newcombe_interval(*b, *a) == pytest.approx((-high, -low), abs=6e-5)


def test_a_difference_needs_proportions() -> None:
    with pytest.raises(DataError, match="5 of 4 is no proportion"):
        newcombe_interval(1, 2, 5, 4)

"""Metrics of predicted labels: accuracy with its interval, per-class scores, confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from featx.errors import DataError

# The two-sided 95 % quantile of the standard normal distribution.
_Z95 = 1.959963984540054


class _Strict(BaseModel):
    """A value of a record: unknown keys, NaN and Inf are refused, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassMetrics(_Strict):
    """Scores of one class; `support` counts its true samples."""

    label: int
    name: str
    precision: float
    recall: float
    f1: float
    support: int


class AverageMetrics(_Strict):
    """Scores averaged over the classes; `support` counts all samples."""

    precision: float
    recall: float
    f1: float
    support: int


class SplitMetrics(_Strict):
    """Metrics of one head on one split.

    `accuracy_low` and `accuracy_high` bound the accuracy with 95 % confidence (`wilson_interval`).
    Rows of `confusion` are true classes, columns predicted ones, both in the order of `per_class`.
    `top5` is the share of samples whose class is among the five with the largest scores; None
    where no scores were at hand, or with five classes or fewer.
    """

    n: int = Field(ge=1)
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    per_class: list[ClassMetrics]
    macro_avg: AverageMetrics
    weighted_avg: AverageMetrics
    confusion: list[list[int]]
    top5: float | None = None


def wilson_interval(n_correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion, for ``n_correct`` of ``n``.

    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212. Unlike p plus or minus 1.96 standard
    errors it keeps its coverage near 0 and 1 and for small n, and it stays within [0, 1].

    Raises
    ------
    DataError
        If `n_correct` is not from 0 to `n`, or `n` is 0.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    if not 0 <= n_correct <= n or n == 0:
        raise DataError(
            f"{n_correct} of {n} is no proportion: expected 0 <= n_correct <= n, n > 0."
        )
    p, z2 = n_correct / n, _Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At 0 and n the bound is exactly 0 and 1, which rounding would miss.
    return (
        0.0 if n_correct == 0 else max(0.0, centre - half),
        1.0 if n_correct == n else min(1.0, centre + half),
    )


def newcombe_interval(
    n_correct_a: int, n_a: int, n_correct_b: int, n_b: int
) -> tuple[float, float]:
    """Return the 95 % interval of a difference of two proportions, a minus b.

    Newcombe, "Interval estimation for the difference between independent proportions: comparison
    of eleven methods", Statistics in Medicine 17 (1998), 873-890, method 10: made of the two
    Wilson intervals. It takes the two for measured on different images. On the same images it is
    usually wider than a paired interval (`paired_difference`).

    Raises
    ------
    DataError
        If a count is not from 0 to its n, or an n is 0.

    Examples
    --------
    >>> [round(bound, 4) for bound in newcombe_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    (low_a, high_a), (low_b, high_b) = (
        wilson_interval(n_correct_a, n_a),
        wilson_interval(n_correct_b, n_b),
    )
    a, b = n_correct_a / n_a, n_correct_b / n_b
    return (
        a - b - math.hypot(a - low_a, high_b - b),
        a - b + math.hypot(high_a - a, b - low_b),
    )


def evaluate_predictions(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    classes: Mapping[int, str],
    scores: npt.ArrayLike | None = None,
) -> SplitMetrics:
    """Return the metrics of predicted labels.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,), int
        True and predicted labels.
    classes : mapping of int to str
        Every label and its name, in the order of the report. A score with nothing to divide by
        (a class without true or predicted samples) is 0.
    scores : array-like of shape (n_samples, n_classes), float, optional
        The larger, the likelier; columns in the order of `classes`. They give the top-5 accuracy.

    Returns
    -------
    SplitMetrics

    Raises
    ------
    DataError
        If there are no samples, the lengths differ, a label is no integer or not in `classes`, or
        the scores have another shape or are not finite.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, predicted = np.asarray(y_true), np.asarray(y_pred)
    if truth.ndim != 1 or truth.shape != predicted.shape or len(truth) == 0:
        raise DataError(
            f"True labels of shape {truth.shape}, predicted ones of shape {predicted.shape}: "
            "expected one of each for every sample, and at least one sample."
        )
    labels = list(classes)
    for what, values in (("true", truth), ("predicted", predicted)):
        if not np.issubdtype(values.dtype, np.integer):
            raise DataError(f"The {what} labels are of type {values.dtype}: expected integers.")
        unknown = np.setdiff1d(values, labels)
        if len(unknown):
            raise DataError(f"A {what} label is {unknown[0]}; the classes are {labels}.")
    n, n_correct = len(truth), int((truth == predicted).sum())
    position = {label: i for i, label in enumerate(labels)}
    confusion = [[0] * len(labels) for _ in labels]
    own = [position[label] for label in truth.tolist()]
    for row, predicted_label in zip(own, predicted.tolist(), strict=True):
        confusion[row][position[predicted_label]] += 1
    low, high = wilson_interval(n_correct, n)
    by_class = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0.0)

    def average(weights: np.ndarray | None) -> AverageMetrics:
        p, r, f = (float(np.average(of, weights=weights)) for of in by_class[:3])
        return AverageMetrics(precision=p, recall=r, f1=f, support=n)

    return SplitMetrics(
        n=n,
        accuracy=n_correct / n,
        accuracy_low=low,
        accuracy_high=high,
        per_class=[
            ClassMetrics(
                label=label,
                name=classes[label],
                precision=float(p),
                recall=float(r),
                f1=float(f),
                support=int(s),
            )
            for label, p, r, f, s in zip(labels, *by_class, strict=True)
        ],
        macro_avg=average(None),
        weighted_avg=average(np.asarray(by_class[3])),
        confusion=confusion,
        top5=None if scores is None else _top5(scores, own, labels),
    )


def _top5(scores: npt.ArrayLike, own: list[int], labels: list[int]) -> float | None:
    """Return the share of samples whose class is among the five largest scores.

    `own` holds the column of every sample's class. Of equal scores the later column stands first,
    as in scikit-learn's ``top_k_accuracy_score``. With five classes or fewer it would always be 1,
    so there it is None.
    """
    values = np.asarray(scores)
    if values.shape != (len(own), len(labels)):
        raise DataError(
            f"Scores of shape {values.shape}: expected {(len(own), len(labels))}, a row for every "
            "sample and a column for every class."
        )
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise DataError(f"A score of sample {row} is NaN or Inf: expected finite scores.")
    if len(labels) <= 5:
        return None
    columns = np.array(own)[:, None]
    mine = np.take_along_axis(values, columns, axis=1)
    ahead = (values > mine) | ((values == mine) & (np.arange(len(labels)) > columns))
    return float((ahead.sum(axis=1) < 5).mean())


def format_report(metrics: SplitMetrics, digits: int = 2) -> str:
    """Return precision, recall, F1 and support as a text table, as scikit-learn prints them.

    Parameters
    ----------
    metrics : SplitMetrics
        What to print.
    digits : int
        Decimals of the scores.
    """
    names = [_row_name(c) for c in metrics.per_class]
    width = max(len(name) for name in [*names, "weighted avg"])
    head = f"{'':>{width}}  {'precision':>9} {'recall':>9} {'f1-score':>9} {'support':>9}"

    def row(name: str, scores: ClassMetrics | AverageMetrics) -> str:
        values = (scores.precision, scores.recall, scores.f1)
        cells = " ".join(f"{value:>9.{digits}f}" for value in values)
        return f"{name:>{width}}  {cells} {scores.support:>9}"

    lines = [head, ""]
    lines += [row(name, scores) for name, scores in zip(names, metrics.per_class, strict=True)]
    lines += [
        "",
        f"{'accuracy':>{width}}  {'':>9} {'':>9} {metrics.accuracy:>9.{digits}f} {metrics.n:>9}",
        row("macro avg", metrics.macro_avg),
        row("weighted avg", metrics.weighted_avg),
    ]
    return "\n".join(lines)


def _row_name(c: ClassMetrics, limit: int = 32) -> str:
    """Return name and label in a form that cannot break a table: printable, of bounded length."""
    if c.name == str(c.label):
        return c.name
    plain = "".join(char if char.isprintable() else "?" for char in c.name)
    return f"{plain if len(plain) <= limit else plain[: limit - 1] + '…'} ({c.label})"

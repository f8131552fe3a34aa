"""From scores to curves: precision against recall per class, confidence against accuracy."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.errors import DataError
from featx.evaluate.exhibits import CurveExhibit, ReliabilityExhibit

FloatArray = npt.NDArray[np.float64]

POINTS = 60
"""Points of a thinned curve at most."""

BINS = 15
"""Bins of a reliability diagram: as in Guo et al., "On calibration of modern neural networks"."""

# What a thinned curve may be off, in recall or precision: less than a figure's line is wide.
_TOLERANCE = 0.002
# Decimals of the numbers that are kept.
_DIGITS = 4


def softmax(scores: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return ``exp(scores)``, each row divided by its sum.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes), any float type

    Returns
    -------
    ndarray of shape (n, n_classes), float64
    """
    shifted = scores.astype(np.float64)
    # The largest becomes exp(0): nothing overflows.
    shifted -= shifted.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def precision_recall(
    positive: npt.NDArray[np.bool_], scores: npt.NDArray[np.floating[Any]]
) -> tuple[FloatArray, FloatArray, float]:
    """Return precision against recall for every threshold, and the average precision.

    Parameters
    ----------
    positive : ndarray of shape (n,), bool
        Which samples are of the class; one at least.
    scores : ndarray of shape (n,), any float type
        The larger, the likelier of the class.

    Returns
    -------
    recall, precision : ndarray of shape (n_points,), float64
        From high to low thresholds, until all of the class are found; the first point is recall 0
        with precision 1, as in scikit-learn's ``precision_recall_curve``.
    average_precision : float
        Sum of (R_k - R_{k-1}) P_k over the thresholds, as in scikit-learn's
        ``average_precision_score``.

    Raises
    ------
    DataError
        If no sample is of the class, or the lengths differ.
    """
    n_positive = int(positive.sum())
    if positive.shape != scores.shape or n_positive == 0:
        raise DataError(
            f"A curve of {positive.shape} labels, {n_positive} of them of the class, and "
            f"{scores.shape} scores: give one of each per sample, and one of the class at least."
        )
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(positive[order])
    # Samples of equal score pass a threshold together.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    found, seen = found[last], last + 1
    complete = int(np.searchsorted(found, n_positive)) + 1
    recall = np.append(0.0, found[:complete] / n_positive)
    precision = np.append(1.0, found[:complete] / seen[:complete])
    return recall, precision, float(np.sum(np.diff(recall) * precision[1:]))


def thinned(x: FloatArray, y: FloatArray, most: int = POINTS) -> npt.NDArray[np.intp]:
    """Return which points of a line are enough to draw it, ascending.

    The points that the line drawn so far is farthest from are added one by one, until nothing is
    off by more than 0.002 or there are `most`: Douglas and Peucker, "Algorithms for the reduction
    of the number of points required to represent a digitized line", Cartographica 10 (1973),
    112-122, in the order of the distance.

    Parameters
    ----------
    x, y : ndarray of shape (n,), float64
        The line, from point to point; one point or more.
    most : int
        Points at most, 2 or more. Both ends are always kept.
    """
    kept = {0, len(x) - 1}
    waiting = [_farthest(x, y, 0, len(x) - 1)]
    while len(kept) < most:
        distance, middle, start, stop = heapq.heappop(waiting)
        if -distance <= _TOLERANCE:
            break
        kept.add(middle)
        heapq.heappush(waiting, _farthest(x, y, start, middle))
        heapq.heappush(waiting, _farthest(x, y, middle, stop))
    return np.array(sorted(kept))


def _farthest(x: FloatArray, y: FloatArray, start: int, stop: int) -> tuple[float, int, int, int]:
    """Return the point between two that is farthest from the straight line that joins them.

    Returns
    -------
    tuple of float and three int
        Minus its distance, its place, `start` and `stop`: the farthest sorts first.
    """
    if stop - start < 2:
        return 0.0, start, start, stop
    px, py = x[start + 1 : stop] - x[start], y[start + 1 : stop] - y[start]
    dx, dy = x[stop] - x[start], y[stop] - y[start]
    length = dx * dx + dy * dy
    along = np.clip((px * dx + py * dy) / length, 0.0, 1.0) if length else np.zeros(len(px))
    distances = np.hypot(px - along * dx, py - along * dy)
    middle = int(distances.argmax())
    return -float(distances[middle]), start + 1 + middle, start, stop


def class_curves(
    y: npt.NDArray[np.int64],
    scores: npt.NDArray[np.floating[Any]],
    labels: Sequence[int],
    most: int = POINTS,
) -> list[CurveExhibit]:
    """Return precision against recall of every class, each against all others.

    Parameters
    ----------
    y : ndarray of shape (n,), int64
        True labels.
    scores : ndarray of shape (n, n_classes), any float type
        The larger, the likelier; a column for each of `labels`.
    labels : sequence of int
        A class without samples in `y` has no recall, and no curve.
    most : int
        Points of a curve at most, 2 or more. Where these are enough, the line through them is off
        by 0.002 at most; where they are not, the largest deviations are the ones kept out.
    """
    curves = []
    for column, label in enumerate(labels):
        positive = y == label
        if not positive.any():
            continue
        recall, precision, average = precision_recall(positive, scores[:, column])
        kept = thinned(recall, precision, most)
        curves.append(
            CurveExhibit(
                label=int(label),
                recall=rounded(recall[kept]),
                precision=rounded(precision[kept]),
                average_precision=average,
            )
        )
    return curves


def reliability(
    confidence: FloatArray, correct: npt.NDArray[np.bool_], probabilities: str, n_bins: int = BINS
) -> ReliabilityExhibit:
    r"""Return accuracy against confidence, and the expected calibration error.

    Bin m of M holds the confidences in ((m - 1) / M, m / M]; the error is the sum over the bins of
    their share of the samples times :math:`|accuracy - confidence|` (Guo, Pleiss, Sun and
    Weinberger, "On calibration of modern neural networks", ICML 2017, eq. 3).

    Parameters
    ----------
    confidence : ndarray of shape (n,), float64
        Probability of what was predicted, from 0 to 1.
    correct : ndarray of shape (n,), bool
        Whether it was right.
    probabilities : str
        Where the confidences come from, for the reader.
    n_bins : int
        Bins of equal width.
    """
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.intp) - 1, 0, n_bins - 1)
    n = np.bincount(bins, minlength=n_bins)
    used = n > 0
    mean = np.bincount(bins, confidence, n_bins)[used] / n[used]
    accuracy = np.bincount(bins, correct, n_bins)[used] / n[used]
    ece = float(np.sum(n[used] * np.abs(accuracy - mean)) / len(confidence))
    return ReliabilityExhibit(
        confidence=rounded(mean),
        accuracy=rounded(accuracy),
        n=n[used].tolist(),
        ece=ece,
        probabilities=probabilities,
    )


def rounded(values: npt.NDArray[np.floating[Any]]) -> list[float]:
    """Return values as they are kept: with four decimals, finer than any figure shows."""
    return [round(value, _DIGITS) for value in values.astype(np.float64).tolist()]

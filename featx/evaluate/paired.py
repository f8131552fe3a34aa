"""Two classifiers on the same images: McNemar's exact test, a paired interval, Holm's correction.

What both classify alike says nothing about which of the two is better; all three work on the
images where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featx.errors import DataError


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p value of "both are right equally often".

    Under that hypothesis each of the images that just one of the two classifies correctly is a
    fair coin, so their split is binomial with p = 1/2: no approximation, whatever the counts.

    McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947), 153-157; recommended for classifiers that are trained
    once by Dietterich, "Approximate statistical tests for comparing supervised classification
    learning algorithms", Neural Computation 10 (1998), 1895-1923.

    Parameters
    ----------
    only_a, only_b : int
        Images that only the first, only the second classifies correctly.

    Raises
    ------
    DataError
        If a count is negative.

    Examples
    --------
    >>> mcnemar_exact(1, 5), mcnemar_exact(0, 0)
    (0.21875, 1.0)
    """
    from scipy.stats import binomtest

    if only_a < 0 or only_b < 0:
        raise DataError(f"{only_a} and {only_b} are no counts of images: expected 0 or more.")
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def paired_difference(
    correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, *, seed: int = 0, n_boot: int = 10_000
) -> tuple[float, float, float]:
    """Return the difference of two accuracies on the same images, with its 95 % interval.

    The interval is the bootstrap's, by percentiles (Efron and Tibshirani, "An introduction to the
    bootstrap", 1993, chapter 13), resampling images: both classifiers keep their answers to an
    image. A resample's difference depends on its counts of "only a" and "only b" alone, and those
    are multinomial, so the counts are drawn instead of the images.

    Parameters
    ----------
    correct_a, correct_b : array-like of shape (n_samples,), bool
        Whether each classifier is right, image by image in the same order.
    seed : int
        Of the resampling; the same seed gives the same interval.
    n_boot : int
        Resamples.

    Returns
    -------
    difference, low, high : float
        Accuracy of a minus accuracy of b, and its bounds. Where the two differ on no image, all
        three are 0: resampling cannot show what was not seen once.

    Raises
    ------
    DataError
        If the two are not booleans, one per image and as many of each, or `n_boot` is below 1.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise DataError(
            f"Answers of shape {a.shape} and {b.shape} cannot be paired: expected one of each for "
            "every image, and at least one image."
        )
    if a.dtype != bool or b.dtype != bool:
        raise DataError(
            f"Answers of type {a.dtype} and {b.dtype}: expected booleans, True where the image is "
            "classified correctly."
        )
    if n_boot < 1:
        raise DataError(f"n_boot is {n_boot}: expected at least 1 resample.")
    n, only_a, only_b = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    shares = np.array([only_a, only_b, n - only_a - only_b]) / n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=n_boot)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / n, [2.5, 97.5])
    return (only_a - only_b) / n, float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for how many there are, in the order they were given.

    Rejecting what is at most alpha after the correction keeps the chance of even one false
    rejection at alpha or less, whatever the dependence between the tests. Holm, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979),
    65-70.

    Raises
    ------
    DataError
        If a value is not from 0 to 1.

    Examples
    --------
    >>> holm([0.5, 0.01, 0.02])
    [0.5, 0.03, 0.04]
    """
    for p in p_values:
        if math.isnan(p) or not 0 <= p <= 1:
            raise DataError(f"{p} is no p value: expected 0 to 1.")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        # A value is never corrected to less than a smaller one was.
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted

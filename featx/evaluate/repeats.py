"""What repeats of one experiment say together: range, mean, deviation, interval of the mean."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from featx.errors import DataError


class Spread(NamedTuple):
    """Range, mean, sample deviation and the mean's 95 % interval; None where one value is all."""

    min: float
    mean: float
    max: float
    std: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of one share (an accuracy) over repeats.

    The interval is Student's ("The probable error of a mean", Biometrika 6 (1908), 1-25): mean
    plus or minus t(0.975, n - 1) times std / sqrt(n). It is cut off at 0 and 1, where no mean of
    shares can be, so nothing that it covers is lost. It speaks of what the repeats vary (seeds,
    subsets), and takes them for independent.

    Parameters
    ----------
    values : sequence of float
        One share per repeat, each from 0 to 1.

    Returns
    -------
    Spread
        ``(min, mean, max, std, low, high)``; `std` divides by n - 1. A single value has no `std`
        and no interval.

    Raises
    ------
    DataError
        If there is no value, or one is not from 0 to 1.

    Examples
    --------
    >>> [round(x, 3) for x in spread([0.5, 0.6, 0.7])]
    [0.5, 0.6, 0.7, 0.1, 0.352, 0.848]
    """
    from scipy.stats import t

    shares = [float(value) for value in values]
    if not shares:
        raise DataError("There is no value to summarize: expected at least one repeat.")
    for share in shares:
        if not 0 <= share <= 1:
            raise DataError(f"{share} is no share: expected values from 0 to 1.")
    # Exact sums: the mean never leaves the range, and equal values have a deviation of 0.
    mean, n = statistics.mean(shares), len(shares)
    if n == 1:
        return Spread(mean, mean, mean, None, None, None)
    std = statistics.stdev(shares)
    half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Spread(min(shares), mean, max(shares), std, max(0.0, mean - half), min(1.0, mean + half))

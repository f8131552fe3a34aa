"""Choosing C by a score on the validation split, with a log of what was compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from featx.errors import UsageError

C_GRIDS: dict[str, tuple[float, ...]] = {
    "svm": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    "logistic": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
}
"""Values of C that ``C: auto`` compares, by kind of head.

Decades, because accuracy over C is flat. The loss is summed over the samples, so on standardized
features the best C is far below 1: on ResNet-50 features of CIFAR-10 (500 to 8,000 samples of 512
to 4,096 values) it was 1e-3 to 1e-2 for the SVM and 1e-2 to 1e-1 for logistic regression. The grids
leave two decades or more on either side of that. Few samples ask for more: where the largest value
is the best, ``auto`` goes on by decades up to `C_MOST`.
"""
C_MOST = {"svm": 1e3, "logistic": 1e5}
"""Where ``C: auto`` ends: three decades above its grid."""


@dataclass(frozen=True)
class Choice:
    """A chosen C and what it was chosen from.

    Attributes
    ----------
    C : float
        The value with the best score; of equal ones the smallest (the most regularized).
    log : tuple of (float, float)
        Every (C, score), by ascending C.
    edge : {"low", "high"} or None
        The chosen value is the smallest or largest of several: a better one may lie beyond.
    """

    C: float
    log: tuple[tuple[float, float], ...]
    edge: Literal["low", "high"] | None

    @property
    def doubt(self) -> str | None:
        """What an edge means, in a sentence; None where there is none."""
        if self.edge is None:
            return None
        end, beyond = ("smallest", "smaller") if self.edge == "low" else ("largest", "larger")
        return (
            f"C {self.C:g} is the {end} of the values compared ({self.log[0][0]:g} to "
            f"{self.log[-1][0]:g}): a {beyond} one may be better."
        )

    @property
    def warning(self) -> str | None:
        """The doubt, and what to do where values of C can be given."""
        return f"{self.doubt} Extend the list with --C." if self.doubt else None


def next_C(kind: str, choice: Choice) -> float | None:
    """Return the C that ``auto`` tries next.

    Parameters
    ----------
    kind : {"svm", "logistic"}
        The head.
    choice : Choice
        Of all values tried so far.

    Returns
    -------
    float or None
        A decade above the largest value where that was the best; None where it was not, or where
        the next would be above `C_MOST`.
    """
    C = 10.0 * choice.C
    return C if choice.edge == "high" and C_MOST[kind] >= C else None


NAMED_GRIDS: dict[str, tuple[float, ...]] = {
    "dinov2": tuple(float(C) for C in 10.0 ** np.linspace(-6, 5, 45)),
    "vissl": tuple(sorted([2.0**k for k in range(-19, -3)] + [10.0**k for k in range(-7, 3)])),
}
"""Grids of well-known protocols, for ``C: dinov2`` and ``C: vissl``.

dinov2: the 45 values from 1e-6 to 1e5 of DINOv2's logistic regression (Oquab et al., "DINOv2:
Learning robust visual features without supervision", TMLR 2024, and its evaluation code).
vissl: the costs 2^-19 to 2^-4 and 10^-7 to 10^2 of Goyal et al., "Scaling and benchmarking
self-supervised visual representation learning", ICCV 2019, whose protocol VISSL runs.
"""


def pick_C(scores: Mapping[float, float]) -> Choice:
    """Choose the C with the best score, the smallest of equal ones.

    Parameters
    ----------
    scores : mapping of float to float
        Score of every C that was tried, higher is better: accuracy on the validation split, or
        over the folds of cross-validation.

    Returns
    -------
    Choice

    Raises
    ------
    UsageError
        If there is nothing to choose from, or a score is not finite.

    Examples
    --------
    >>> pick_C({0.01: 0.91, 0.1: 0.93, 1.0: 0.93}).C
    0.1
    """
    log = tuple((float(C), float(score)) for C, score in sorted(scores.items()))
    if not log:
        raise UsageError("No value of C to choose from: give at least one.")
    for C, score in log:
        if not np.isfinite(score):
            raise UsageError(f"The score of C {C:g} is {score}: C cannot be chosen by it.")
    best = max(score for _, score in log)
    chosen = next(C for C, score in log if score == best)
    edge: Literal["low", "high"] | None = None
    if len(log) > 1 and chosen in (log[0][0], log[-1][0]):
        edge = "low" if chosen == log[0][0] else "high"
    return Choice(chosen, log, edge)

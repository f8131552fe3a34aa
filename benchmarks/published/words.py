"""Accuracies, differences and lists in words."""

from __future__ import annotations

from collections.abc import Sequence

from featx.evaluate import wilson_interval as wilson


def listed(items: Sequence[object]) -> str:
    """Return ``a, b and c``."""
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last


def with_interval(score: float, n: int) -> str:
    low, high = wilson(round(score * n), n)
    return f"{score:.3f} ({low:.3f} to {high:.3f})"


def points(difference: float) -> str:
    """Return a difference of accuracies in percentage points, with its sign."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text

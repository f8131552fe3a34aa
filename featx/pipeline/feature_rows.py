"""Cached features, scaled, as rows that a solver reads in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.scaling import Scaler


class FeatureRows:
    """Feature sets one below the other, each with its scaler.

    Parameters
    ----------
    parts : sequence of (FeatureSet, Scaler or None)
        All with the same number of features.
    """

    def __init__(self, parts: Sequence[tuple[FeatureSet, Scaler | None]]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(features) for features, _ in parts)]).tolist()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all parts, and columns."""
        return self._starts[-1], self._parts[0][0].n_features

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return a slice of rows, float32, scaled."""
        start, stop, step = rows.indices(self._starts[-1])
        assert step == 1, "rows are read in blocks"
        found = []
        for (features, scaler), first in zip(self._parts, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(features))
            if low < high:
                block = features.read(slice(low, high))
                found.append(block if scaler is None else scaler.transform(block))
        return np.concatenate(found) if len(found) != 1 else found[0]

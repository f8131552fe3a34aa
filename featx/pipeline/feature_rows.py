"""Cached features, scaled, as rows that a solver reads in blocks."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.scaling import Scaler


class FeatureRows:
    """Feature sets one below the other, each with its scaler.

    The shard that was read last is kept, scaled: blocks of a pass over all rows are smaller.

    Parameters
    ----------
    parts : sequence of (FeatureSet, Scaler or None)
        All with the same number of features.
    """

    def __init__(self, parts: Sequence[tuple[FeatureSet, Scaler | None]]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(features) for features, _ in parts)]).tolist()
        self._kept: tuple[int, slice, np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of all parts, and columns."""
        return self._starts[-1], self._parts[0][0].n_features

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return a slice of rows, float32, scaled."""
        start, stop, step = rows.indices(self._starts[-1])
        assert step == 1, "rows are read in blocks"
        result: np.ndarray | None = None
        row = start
        while row < stop:
            part = bisect.bisect_right(self._starts, row) - 1
            first = self._starts[part]
            span, values = self._shard(part, row - first)
            end = min(stop, first + span.stop)
            piece = values[row - first - span.start : end - first - span.start]
            if (row, end) == (start, stop):
                return piece
            if result is None:
                # Filled in place: pieces that are put together would be held twice.
                result = np.empty((stop - start, self.shape[1]), dtype=np.float32)
            result[row - start : end - start] = piece
            row = end
        return np.empty((0, self.shape[1]), dtype=np.float32) if result is None else result

    def _shard(self, part: int, row: int) -> tuple[slice, np.ndarray]:
        """Return the rows of the shard that holds a row of a part, and its scaled features."""
        features, scaler = self._parts[part]
        span = features.shard_rows(row)
        if self._kept is None or self._kept[:2] != (part, span):
            self._kept = None
            values = features.read(span)
            if scaler is not None:
                scaler.transform(values, out=values)
            self._kept = part, span, values
        return span, self._kept[2]

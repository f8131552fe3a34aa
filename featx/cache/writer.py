"""Writes a feature set shard by shard, and goes on where another writer stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from featx.cache import fsio
from featx.cache.feature_set import FeatureSet, read_shard, read_summary
from featx.cache.keys import FeatureKey
from featx.cache.manifest import COMPLETE, PROGRESS, Manifest, StoredFile, corrupt, load_manifest
from featx.cache.shards import STORED_TYPES, encode_shard, encode_summary
from featx.errors import CacheError, NonFiniteFeatures, ShapeError
from featx.scaling import Moments


class FeatureWriter:
    """Takes features in order and publishes a shard whenever one is full.

    A context manager. Leaving it early keeps the published shards and drops the rows behind them;
    the next writer of the same key starts at `next_row`. Made by `FeatureStore.writer`.

    Any number of processes may write the same key at once. Shards are named by their content, so
    equal features meet in the same files; each writer's manifest lists its own shards; and a
    complete manifest is a file of its own that only another complete one replaces.

    Parameters
    ----------
    path : Path
        Folder of the entry.
    key : FeatureKey
        What the set is.
    n_rows, n_features : int
        Shape of the complete set.
    rebuild : bool
        Forget what is there and start at row 0.

    Attributes
    ----------
    next_row : int
        Rows that are safe in published shards: where to go on.

    Raises
    ------
    ShapeError
        If there are no rows or no features.
    CacheCorrupt, CacheSchemaMismatch
        If what is there cannot be continued.
    CacheWriteError
        If the disk refuses.
    """

    def __init__(
        self, path: Path, key: FeatureKey, n_rows: int, n_features: int, *, rebuild: bool
    ) -> None:
        if n_rows < 1 or n_features < 1:
            raise ShapeError(f"A feature set of {n_rows} x {n_features} values holds nothing.")
        self.path = path
        self._moments = Moments.empty(n_features)
        self._labels = np.zeros(n_rows, dtype=np.int64)
        self._filled = 0
        self._closed = False
        if rebuild:
            # Complete first: a crash in between leaves an entry that goes on, not one that is
            # believed.
            fsio.remove_file(path / COMPLETE)
            fsio.remove_file(path / PROGRESS)
        self._manifest = self._resume(Manifest(key, n_rows, n_features))
        self.next_row = self._manifest.rows
        buffer_rows = min(key.shard_rows, n_rows - self.next_row)
        self._buffer = np.empty((buffer_rows, n_features), dtype=STORED_TYPES[key.storage])

    def append(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        """Take the next rows.

        Parameters
        ----------
        features : ndarray of shape (n, n_features), float32
            Features of the rows behind those taken before.
        labels : ndarray of shape (n,), integer
            Their labels.

        Raises
        ------
        ShapeError
            If shape or dtype is not the expected one, or there are more rows than were announced.
        NonFiniteFeatures
            If a value of a shard is NaN or Inf, or does not fit the storage type; the shard is not
            published.
        CacheWriteError
            If the disk refuses.
        CacheError
            If the writer is closed: behind the end of the ``with`` block, or a shard that failed.
        """
        self._check(features, labels)
        taken = 0
        while taken < len(features):
            rows = min(len(self._buffer) - self._filled, len(features) - taken)
            with np.errstate(over="ignore"):  # found, with its row, when the shard is published
                self._buffer[self._filled : self._filled + rows] = features[taken : taken + rows]
            start = self.next_row + self._filled
            self._labels[start : start + rows] = labels[taken : taken + rows]
            self._filled += rows
            taken += rows
            if self._filled == self._manifest.key.shard_rows:
                self._publish_shard()

    def finish(self) -> FeatureSet:
        """Publish the rest and the complete manifest, and return the set.

        Raises
        ------
        CacheError
            If rows are missing, or the writer is closed.
        NonFiniteFeatures
            As `append`.
        CacheCorrupt
            If a published shard has been removed in the meantime.
        CacheWriteError
            If the disk refuses.
        """
        self._check_open()
        if not self._manifest.complete:
            rows = self.next_row + self._filled
            if rows != self._manifest.n_rows:
                raise CacheError(
                    f"The feature set '{self.path}' has {rows} of {self._manifest.n_rows} rows; "
                    "append the others before finish()."
                )
            if self._filled:
                self._publish_shard()
            data = encode_summary(self._labels, self._moments)
            summary = StoredFile.of("summary", data, rows)
            fsio.publish(self.path / summary.file, data)
            self._manifest = replace(self._manifest, summary=summary)
            for file in self._manifest.files:
                file.check_size(self.path)
            self._manifest.publish(self.path)
        fsio.remove_file(self.path / PROGRESS)
        return FeatureSet(self.path, self._manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True

    def _resume(self, fresh: Manifest) -> Manifest:
        """Return what can be continued, verified, and take over its labels and moments."""
        for name in (COMPLETE, PROGRESS):
            found = load_manifest(self.path, name, fresh.key)
            if found is None:
                continue
            if (found.n_rows, found.n_features) != (fresh.n_rows, fresh.n_features):
                raise corrupt(
                    self.path,
                    name,
                    f"it holds {found.n_rows} x {found.n_features} values, not the "
                    f"{fresh.n_rows} x {fresh.n_features} that are to be written",
                )
            start = 0
            for shard in found.shards:
                features, labels = read_shard(self.path, shard, found)
                self._take_over(features, labels, start)
                start += shard.rows
            if found.summary:
                read_summary(self.path, found.summary, found)
            return found
        return fresh

    def _take_over(self, features: npt.NDArray[Any], labels: npt.NDArray[Any], start: int) -> None:
        """Add moments and labels of a shard, from the stored values as when it was new."""
        self._moments = self._moments.merge(Moments.of(features))
        self._labels[start : start + len(labels)] = labels

    def _publish_shard(self) -> None:
        """Write the buffered rows as the next shard, then the manifest that lists it."""
        # Until the shard is safe: rows behind a shard that failed would be out of place.
        self._closed = True
        features = self._buffer[: self._filled]
        labels = self._labels[self.next_row : self.next_row + self._filled]
        moments = self._moments.merge(Moments.of(features))
        if not np.isfinite(moments.m2).all():
            raise self._non_finite(features)
        data = encode_shard(features, labels)
        shard = StoredFile.of(f"{len(self._manifest.shards):05d}", data, self._filled)
        fsio.make_folder(self.path)
        fsio.publish(self.path / shard.file, data)
        self._manifest = replace(self._manifest, shards=(*self._manifest.shards, shard))
        self._manifest.publish(self.path)
        self._moments = moments
        self.next_row += self._filled
        self._filled = 0
        self._closed = False

    def _check(self, features: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Refuse rows that are not what was announced."""
        self._check_open()
        d = self._manifest.n_features
        if features.ndim != 2 or features.shape[1] != d or features.dtype != np.float32:
            raise ShapeError(
                f"Features of shape {features.shape} and type {features.dtype}: expected "
                f"(n, {d}) and float32."
            )
        if labels.shape != (len(features),) or labels.dtype.kind not in "iu":
            raise ShapeError(
                f"Labels of shape {labels.shape} and type {labels.dtype}: expected "
                f"({len(features)},) and int64."
            )
        rows = self.next_row + self._filled + len(features)
        if rows > self._manifest.n_rows:
            raise ShapeError(f"Row {rows} appended to a set of {self._manifest.n_rows} rows.")

    def _check_open(self) -> None:
        """Refuse to go on after the end of the ``with`` block or a shard that failed."""
        if self._closed:
            raise CacheError(
                f"The writer of '{self.path}' is closed; a new one goes on at row {self.next_row}."
            )

    def _non_finite(self, features: npt.NDArray[Any]) -> NonFiniteFeatures:
        """Return the error that names the first value that is not a finite number."""
        row, column = np.argwhere(~np.isfinite(features))[0]
        key = self._manifest.key
        text = (
            f"Feature {column} of row {self.next_row + row} at '{key.module}' (split "
            f"'{key.split}') is {features[row, column]}."
        )
        if key.storage == "float16":
            text += " float16 ends at 65504: store float32 if the network gave a larger number."
        return NonFiniteFeatures(text)

"""Writes a feature set shard by shard, and goes on where another writer stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from featx.cache import fsio, fsread
from featx.cache.feature_set import FeatureSet, read_shard, read_summary
from featx.cache.keys import FeatureKey
from featx.cache.manifest import COMPLETE, PROGRESS, Manifest, StoredFile, corrupt, load_manifest
from featx.cache.shards import STORED_TYPES, encode_summary, shard_form
from featx.cache.streaming import Background, ShardStream, chunk_rows_for
from featx.errors import CacheError, NonFiniteFeatures, ShapeError
from featx.scaling import Moments


class FeatureWriter:
    """Takes features in order and publishes a shard whenever one is full.

    A context manager. Leaving it early keeps the published shards and drops the rows behind them;
    the next writer of the same key starts at `next_row`. Made by `FeatureStore.writer`.

    Rows are written, digested and measured in two threads behind the caller, who waits for a shard
    that is full to be safe: no more than one shard of work can be lost.

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
        self._closed = False
        self._chunk_rows = chunk_rows_for(n_features, key.storage, key.shard_rows)
        if rebuild:
            # Complete first: a crash in between leaves an entry that goes on, not one that is
            # believed.
            fsio.remove_file(path / COMPLETE)
            fsio.remove_file(path / PROGRESS)
        self._manifest = self._resume(Manifest(key, n_rows, n_features))
        self.next_row = self._manifest.rows
        self._row = self.next_row
        shape = (min(self._chunk_rows, n_rows - self._row), n_features)
        # One chunk is filled while the other is on its way to the disk.
        self._chunks = [np.empty(shape, dtype=STORED_TYPES[key.storage]) for _ in range(2)]
        self._under_way: list[list[Future[Any]]] = [[], []]
        self._filled = 0
        self._stream: ShardStream | None = None
        self._disk, self._statistics = Background(), Background()

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
            If a value of these or of earlier rows is NaN or Inf, or does not fit the storage type;
            its shard is not published.
        CacheWriteError
            If the disk refuses these or earlier rows.
        CacheError
            If the writer is closed: behind the end of the ``with`` block, or a shard that failed.
        """
        self._check(features, labels)
        with self._closing_on_errors():
            self._take(features, labels)

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
        manifest = self._manifest
        if not manifest.complete:
            if self._row != manifest.n_rows:
                raise CacheError(
                    f"The feature set '{self.path}' has {self._row} of {manifest.n_rows} "
                    "rows; append the others before finish()."
                )
            with self._closing_on_errors():
                data = encode_summary(self._labels, self._moments)
                summary = StoredFile.of("summary", data, self._row)
                fsio.publish(self.path / summary.file, data)
                manifest = replace(manifest, summary=summary)
                for file in manifest.files:
                    file.check_size(self.path)
                manifest.publish(self.path)
                self._manifest = manifest
        # Looked for first: a disk that only reads refuses to remove even what is not there.
        if fsread.size_bytes(self.path / PROGRESS) is not None:
            fsio.remove_file(self.path / PROGRESS)
        return FeatureSet(self.path, manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        # Each of these also where an interrupt cuts short the one before.
        try:
            self._disk.stop()
        finally:
            try:
                self._statistics.stop()
            finally:
                if self._stream is not None:
                    self._stream.discard()

    @contextlib.contextmanager
    def _closing_on_errors(self) -> Iterator[None]:
        """Take nothing any more behind an error or an interrupt: rows would be out of place."""
        try:
            yield
        except BaseException:
            self._closed = True
            raise

    def _take(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
        """Copy the next rows into chunks, and hand over those that are full."""
        taken = 0
        while taken < len(features):
            if self._filled == 0:
                _wait(self._under_way[0])
            end = self._chunk_end()
            rows = min(end - self._row, len(features) - taken)
            with np.errstate(over="ignore"):  # found, with its row, when the chunk is measured
                self._chunks[0][self._filled : self._filled + rows] = features[taken : taken + rows]
            self._labels[self._row : self._row + rows] = labels[taken : taken + rows]
            self._filled += rows
            self._row += rows
            taken += rows
            if self._row == end:
                self._hand_over()

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
        """Add moments and labels of a shard, chunk by chunk as when it was new."""
        for first in range(0, len(features), self._chunk_rows):
            self._moments.update(features[first : first + self._chunk_rows])
        self._labels[start : start + len(labels)] = labels

    def _shard_span(self, row: int) -> slice:
        """Return the rows of the shard that a row belongs to."""
        start = row - row % self._manifest.key.shard_rows
        return slice(start, min(start + self._manifest.key.shard_rows, self._manifest.n_rows))

    def _chunk_end(self) -> int:
        """Return the row at which the chunk that is being filled is full, or its shard is."""
        first = self._row - self._filled
        return min(first + self._chunk_rows, self._shard_span(first).stop)

    def _hand_over(self) -> None:
        """Let the filled chunk be written and measured, and behind the last its shard published."""
        chunk, first = self._chunks[0][: self._filled], self._row - self._filled
        measured = self._statistics.submit(self._measure, chunk, first)
        self._under_way[0] = [self._disk.submit(self._write, chunk, first), measured]
        self._chunks.reverse()
        self._under_way.reverse()
        self._filled = 0
        if self._row == self._shard_span(first).stop:
            # Rows behind a shard that is not safe would be lost with it.
            _wait([self._disk.submit(self._publish_shard, first, measured)])

    def _write(self, chunk: npt.NDArray[Any], first: int) -> None:
        """Write the next rows to the file of their shard."""
        if self._stream is None:
            key, span = self._manifest.key, self._shard_span(first)
            form = shard_form(span.stop - span.start, self._manifest.n_features, key.storage)
            self._stream = ShardStream(self.path, len(self._manifest.shards), form)
        self._stream.write(chunk)

    def _measure(self, chunk: npt.NDArray[Any], first: int) -> None:
        """Add the next rows to the moments, and refuse those that are no finite numbers."""
        self._moments.update(chunk)
        if not np.isfinite(self._moments.m2).all():
            raise self._non_finite(chunk, first)

    def _publish_shard(self, row: int, measured: Future[None]) -> None:
        """Publish the shard of a row, then the manifest that lists it."""
        measured.result()
        assert self._stream is not None
        span = self._shard_span(row)
        shard = self._stream.publish(self._labels[span])
        self._stream = None
        self._manifest = replace(self._manifest, shards=(*self._manifest.shards, shard))
        self._manifest.publish(self.path)
        self.next_row = span.stop

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
        rows = self._row + len(features)
        if rows > self._manifest.n_rows:
            raise ShapeError(f"Row {rows} appended to a set of {self._manifest.n_rows} rows.")

    def _check_open(self) -> None:
        """Refuse to go on after the end of the ``with`` block or a shard that failed."""
        if self._closed:
            raise CacheError(
                f"The writer of '{self.path}' is closed; a new one goes on at row {self.next_row}."
            )

    def _non_finite(self, features: npt.NDArray[Any], first: int) -> NonFiniteFeatures:
        """Return the error that names the first value that is not a finite number."""
        row, column = np.argwhere(~np.isfinite(features))[0]
        key = self._manifest.key
        text = (
            f"Feature {column} of row {first + row} at '{key.module}' (split "
            f"'{key.split}') is {features[row, column]}."
        )
        if key.storage == "float16":
            text += " float16 ends at 65504: store float32 if the network gave a larger number."
        return NonFiniteFeatures(text)


def _wait(results: Iterable[Future[Any]]) -> None:
    """Wait for what is under way, and raise its errors here."""
    for result in results:
        result.result()

"""A complete feature set, read from its shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.cache.keys import FeatureKey
from featx.cache.manifest import COMPLETE, Manifest, StoredFile, corrupt
from featx.cache.shards import STORED_TYPES, decode_shard, decode_summary, shard_form
from featx.scaling import Moments

AnyArray = npt.NDArray[Any]

# Reading and digests leave Python's lock free. More readers would hold more shards in memory.
_READERS = 2


class FeatureSet:
    """The features, labels and moments of one cut of one split, complete and on disk.

    Every file is read whole and its digest checked before anything is taken from it. Made by
    `FeatureStore.find` and `FeatureWriter.finish`.

    Parameters
    ----------
    path : Path
        Folder of the entry.
    manifest : Manifest
        Its complete manifest.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        if manifest.summary is None:
            raise corrupt(path, COMPLETE, "it is not complete")
        self.path = path
        self._manifest = manifest
        self._summary_file = manifest.summary

    @property
    def key(self) -> FeatureKey:
        """What the set is."""
        return self._manifest.key

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self._manifest.n_rows

    @property
    def n_features(self) -> int:
        """Values per row."""
        return self._manifest.n_features

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Labels, shape (n_samples,), int64.

        Raises
        ------
        CacheCorrupt
            If the summary file is missing or damaged.
        """
        return self._summary[0]

    @property
    def moments(self) -> Moments:
        """Mean and deviation of the values as they are stored.

        Raises
        ------
        CacheCorrupt
            If the summary file is missing or damaged.
        """
        return self._summary[1]

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the shards and the summary."""
        return sum(file.size_bytes for file in self._manifest.files)

    def read(
        self,
        rows: slice | npt.ArrayLike | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> AnyArray:
        """Return features, of which only the shards that hold them are read.

        Parameters
        ----------
        rows : slice or array of int or of bool, optional
            Which rows, as numpy indexes an array: in any order, repeated, negative. All by default.
        dtype : dtype, default float32
            Type of the result.

        Returns
        -------
        ndarray of shape (n, n_features)
            A new array.

        Raises
        ------
        CacheCorrupt
            If a shard that is needed is missing or damaged.
        IndexError
            If a row is outside the set.
        """
        if rows is None or (isinstance(rows, slice) and rows.step in (None, 1)):
            return self._read_span(*(rows or slice(None)).indices(self.n_samples)[:2], dtype)
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.size == 0:
                rows = slice(0)
        wanted = np.arange(self.n_samples)[rows].ravel()
        result = np.empty((len(wanted), self.n_features), dtype=dtype)
        order = np.argsort(wanted, kind="stable")
        starts = [span.start for span, _ in self._spans()]
        parts = np.split(order, np.searchsorted(wanted[order], starts[1:]))

        def copy(shard: StoredFile, to: AnyArray, start: int) -> None:
            result[to] = read_shard(self.path, shard, self._manifest)[0][wanted[to] - start]

        shards = zip(self._manifest.shards, parts, starts, strict=True)
        _together(copy, [work for work in shards if len(work[1])])
        return result

    def _read_span(self, start: int, stop: int, dtype: npt.DTypeLike) -> AnyArray:
        """Return the rows from `start` to `stop`; whole shards are read straight into place."""
        result = np.empty((max(stop - start, 0), self.n_features), dtype=dtype)

        def copy(shard: StoredFile, span: slice) -> None:
            low, high = max(span.start, start), min(span.stop, stop)
            to = result[low - start : high - start]
            if high - low == shard.rows:
                read_shard(self.path, shard, self._manifest, out=to)
            else:
                features, _ = read_shard(self.path, shard, self._manifest)
                to[...] = features[low - span.start : high - span.start]

        found = [(s, span) for span, s in self._spans() if span.start < stop and start < span.stop]
        _together(copy, found)
        return result

    def shard_rows(self, row: int) -> slice:
        """Return the rows of the shard that holds a row: what is read at once."""
        start = row - row % self.key.shard_rows
        return slice(start, min(start + self.key.shard_rows, self.n_samples))

    def shards(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield the rows of each shard, as a slice, and their features in float32.

        One shard is in memory at a time, and every array yielded is a new one.

        Raises
        ------
        CacheCorrupt
            If a shard is missing or damaged.
        """
        for span, shard in self._spans():
            features = np.empty((shard.rows, self.n_features), dtype=np.float32)
            read_shard(self.path, shard, self._manifest, out=features)
            yield span, features

    def verify(self) -> None:
        """Read every file and check its digest and its form.

        Raises
        ------
        CacheCorrupt
            For the first file that is missing or damaged.
        """
        read_summary(self.path, self._summary_file, self._manifest)
        _together(self._check, [(shard,) for shard in self._manifest.shards])

    def _check(self, shard: StoredFile) -> None:
        read_shard(self.path, shard, self._manifest)

    def __len__(self) -> int:
        return self.n_samples

    def __repr__(self) -> str:
        return (
            f"FeatureSet({self.key.backbone}, {self.key.module}, {self.key.pool}, "
            f"{self.key.split}: {self.n_samples} x {self.n_features})"
        )

    @cached_property
    def _summary(self) -> tuple[npt.NDArray[np.int64], Moments]:
        labels, moments = read_summary(self.path, self._summary_file, self._manifest)
        return labels.astype(np.int64), moments

    def _spans(self) -> Iterator[tuple[slice, StoredFile]]:
        """Yield each shard with the rows it holds."""
        start = 0
        for shard in self._manifest.shards:
            yield slice(start, start + shard.rows), shard
            start += shard.rows


def _together(work: Callable[..., None], items: Sequence[tuple[Any, ...]]) -> None:
    """Call `work` with each item, two at a time where there are two."""
    if len(items) == 1:
        work(*items[0])
        return
    with ThreadPoolExecutor(_READERS) as pool:
        for _ in pool.map(lambda item: work(*item), items):
            pass


def read_shard(
    folder: Path, shard: StoredFile, manifest: Manifest, out: AnyArray | None = None
) -> tuple[AnyArray, AnyArray]:
    """Return features (in their storage type) and labels of one shard, verified, read-only.

    Parameters
    ----------
    out : ndarray of shape (n_rows, n_features), optional
        Gets the features too, without a copy where it is contiguous and of their type. What is in
        it must not be used where this raises.

    Raises
    ------
    CacheCorrupt
        If the file is missing, damaged or not what the manifest says.
    """
    # Before memory is asked for: what a manifest says must be what is on the disk.
    shard.check_size(folder)
    form = shard_form(shard.rows, manifest.n_features, manifest.key.storage)
    dtype = STORED_TYPES[form.storage]
    target = out
    if shard.size_bytes != form.size_bytes:
        # Another version of HDF5 wrote it: where in the file its values are, is seen behind.
        target = None
        parts = [_memory(shard.size_bytes)]
    else:
        if target is None or target.dtype != dtype or not target.flags.c_contiguous:
            target = np.empty((form.n_rows, form.n_features), dtype)
        values = target.reshape(-1).view(np.uint8).data
        parts = [_memory(len(form.head)), values, _memory(form.tail_bytes)]
    shard.read_into(folder, parts)
    try:
        features, labels = decode_shard(parts, form)
    except ValueError as error:
        raise corrupt(folder, shard.file, str(error)) from error
    if out is not None and not np.may_share_memory(features, out):
        out[...] = features
    return features, labels


def _memory(n_bytes: int) -> memoryview:
    """Return writable bytes. A numpy array asks the system for huge pages: twice as fast."""
    return np.empty(n_bytes, dtype=np.uint8).data


def read_summary(folder: Path, file: StoredFile, manifest: Manifest) -> tuple[AnyArray, Moments]:
    """Return labels (read-only) and moments of a complete set, verified.

    Raises
    ------
    CacheCorrupt
        If the file is missing, damaged or not what the manifest says.
    """
    data = file.read(folder)
    try:
        return decode_summary(data, manifest.n_rows, manifest.n_features)
    except ValueError as error:
        raise corrupt(folder, file.file, str(error)) from error

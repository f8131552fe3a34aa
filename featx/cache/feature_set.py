"""A complete feature set, read from its shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featx.cache.keys import FeatureKey
from featx.cache.manifest import COMPLETE, Manifest, StoredFile, corrupt
from featx.cache.shards import decode_shard, decode_summary
from featx.scaling import Moments

AnyArray = npt.NDArray[Any]

# Hashing and copying leave Python's lock free: one shard is hashed while another is copied, and no
# more than two are in memory.
_READERS = 2


class FeatureSet:
    """The features, labels and moments of one cut of one split, complete and on disk.

    Every file is read whole and its SHA-256 checked before anything is taken from it. Made by
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
        if rows is None:
            result = np.empty((self.n_samples, self.n_features), dtype=dtype)
            self._fill(result, ((span, slice(None)) for span, _ in self._spans()))
            return result
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.size == 0:
                rows = slice(0)
        wanted = np.arange(self.n_samples)[rows].ravel()
        result = np.empty((len(wanted), self.n_features), dtype=dtype)
        order = np.argsort(wanted, kind="stable")
        starts = [span.start for span, _ in self._spans()]
        parts = np.split(order, np.searchsorted(wanted[order], starts[1:]))
        self._fill(
            result,
            ((to, wanted[to] - start) for to, start in zip(parts, starts, strict=True)),
        )
        return result

    def shards(self) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Yield the rows of each shard, as a slice, and their features in float32.

        One shard is in memory at a time, and every array yielded is a new one.

        Raises
        ------
        CacheCorrupt
            If a shard is missing or damaged.
        """
        for span, shard in self._spans():
            yield span, self._features(shard).astype(np.float32)

    def verify(self) -> None:
        """Read every file and check its digest and its form.

        Raises
        ------
        CacheCorrupt
            For the first file that is missing or damaged.
        """
        read_summary(self.path, self._summary_file, self._manifest)
        for shard in self._manifest.shards:
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

    def _features(self, shard: StoredFile) -> AnyArray:
        """Return the verified features of one shard, read-only, in their storage type."""
        return read_shard(self.path, shard, self._manifest)[0]

    def _fill(
        self, result: AnyArray, moves: Iterable[tuple[slice | AnyArray, slice | AnyArray]]
    ) -> None:
        """Copy rows of every shard, given as (rows of the result, rows of the shard)."""

        def copy(shard: StoredFile, move: tuple[slice | AnyArray, slice | AnyArray]) -> None:
            to, taken = move
            if isinstance(to, slice) or len(to):
                result[to] = self._features(shard)[taken]

        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(copy, self._manifest.shards, moves))


def read_shard(folder: Path, shard: StoredFile, manifest: Manifest) -> tuple[AnyArray, AnyArray]:
    """Return features (in their storage type) and labels of one shard, verified, read-only.

    Raises
    ------
    CacheCorrupt
        If the file is missing, damaged or not what the manifest says.
    """
    data = shard.read(folder)
    try:
        return decode_shard(data, shard.rows, manifest.n_features, manifest.key.storage)
    except ValueError as error:
        raise corrupt(folder, shard.file, str(error)) from error


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

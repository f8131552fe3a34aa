"""One shard on its way to the disk, behind the back of whoever computes its rows.

Rows go out in chunks: one thread writes and digests them, another takes their moments, and the rows
that come next are computed meanwhile. What is left when the last row is there is to sync and to
rename.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128

from featx.cache import fsio
from featx.cache.keys import ITEM_BYTES
from featx.cache.manifest import StoredFile
from featx.cache.shards import ShardForm

Result = TypeVar("Result")

_CHUNK_BYTES = 2**20
# As many rows as `Moments` takes at a time: fewer would make merging them a cost of its own.
_CHUNK_ROWS = 64


def chunk_rows_for(n_features: int, storage: str, shard_rows: int) -> int:
    """Return the rows of a chunk: of 1 MB or more, of a shard at most.

    Moments are merged chunk by chunk, so it depends on nothing but the shape: the same rows give
    the same bits, in one run or in several.
    """
    rows = _CHUNK_BYTES // (n_features * ITEM_BYTES[storage])
    return min(shard_rows, max(rows, _CHUNK_ROWS))


class Background:
    """A thread that does one thing after the other, until something fails.

    What is asked of it behind a failure fails in the same way, undone.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._failure: BaseException | None = None

    def submit(self, work: Callable[..., Result], *args: Any) -> Future[Result]:
        """Return the result that `work` will have."""
        return self._pool.submit(self._do, work, *args)

    def stop(self) -> None:
        """Wait for what is being done, forget what was not begun, and end the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _do(self, work: Callable[..., Result], *args: Any) -> Result:
        if self._failure is not None:
            raise self._failure
        try:
            return work(*args)
        except BaseException as error:
            self._failure = error
            raise


class ShardStream:
    """Writes the file of one shard as its rows come.

    Parameters
    ----------
    folder : Path
        Folder of the entry; made where it is missing.
    index : int
        Number of the shard.
    form : ShardForm
        Shape and layout.

    Raises
    ------
    CacheWriteError
        If the disk refuses, here and in `write` and `publish`.
    """

    def __init__(self, folder: Path, index: int, form: ShardForm) -> None:
        self._prefix = f"{index:05d}"
        self._form = form
        self._digest = xxh3_128()
        fsio.make_folder(folder)
        self._draft = fsio.Draft(folder, f"{self._prefix}.h5", form.size_bytes)
        self._put(form.head)

    def write(self, chunk: npt.NDArray[Any]) -> None:
        """Write the next rows, shape (n, n_features), in their storage type."""
        self._put(chunk.reshape(-1).view(np.uint8).data)

    def publish(self, labels: npt.NDArray[np.int64]) -> StoredFile:
        """Write the labels and put the file in its place, named by its digest."""
        self._put(self._form.tail(labels))
        file = StoredFile.named(
            self._prefix, self._form.size_bytes, self._digest.hexdigest(), self._form.n_rows
        )
        self._draft.publish(file.file)
        return file

    def discard(self) -> None:
        """Remove what was written, if it was not published."""
        self._draft.discard()

    def _put(self, data: bytes | memoryview) -> None:
        self._draft.write(data)
        self._digest.update(data)

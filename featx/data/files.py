"""Images in files, decoded when they are needed, by worker processes where asked."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.data.decode import Header, decode, probe_all, relative_name
from featx.data.images import Geometry, Hasher, Images, Indices, spans
from featx.errors import DataError, FeatxError, ShapeError

if TYPE_CHECKING:
    from PIL import Image

# Images per task of a worker process: small enough that few are in flight, large enough that
# handing over costs little beside decoding.
TASK_IMAGES = 16


class FileImages(Images):
    """Images in files.

    Sizes are read from the files when they are first asked for; then every file is decoded once,
    coarsely, so that all that are damaged are known before any work starts.

    Parameters
    ----------
    paths : sequence of Path
        Image files of any format and size.
    root : Path, optional
        Folder that names are relative to; the files' common folder otherwise.
    headers : sequence of Header, optional
        What is known of each file already.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        root: Path | None = None,
        headers: Sequence[Header] | None = None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        if not self.paths:
            raise DataError("There are no image files: give at least one.")
        self.root = root or Path(os.path.commonpath([path.parent for path in self.paths]))
        self._headers = list(headers) if headers is not None else None

    @property
    def headers(self) -> list[Header]:
        """Size and digest of each file; the first time, all files are read.

        Raises
        ------
        DataError
            Listing every file that cannot be decoded.
        """
        if self._headers is None:
            self._headers = probe_all(self.paths, self.root, os.cpu_count() or 1)
        return self._headers

    def set_headers(self, headers: Sequence[Header]) -> None:
        """Keep what was read of the files together with those of other splits."""
        self._headers = list(headers)

    @property
    def size(self) -> tuple[int, int] | None:
        """Common (height, width) of all images; None when they differ."""
        sizes = {header.size for header in self.headers}
        return sizes.pop() if len(sizes) == 1 else None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Indices) -> FileImages:
        """Return the images at `indices`, in that order."""
        chosen = np.arange(len(self))[indices].tolist()
        headers = None if self._headers is None else [self._headers[i] for i in chosen]
        return FileImages([self.paths[i] for i in chosen], root=self.root, headers=headers)

    def name_of(self, i: int) -> str:
        """Return the file's path relative to the root."""
        return relative_name(self.paths[i], self.root)

    def in_split(self, split: str, origin: str) -> FileImages:
        """Return itself: files are named by their paths."""
        return self

    def update_digest(self, hasher: Hasher) -> None:
        """Feed a hash with the size and the content of each file."""
        for header in self.headers:
            hasher.update(json.dumps({"file": header.size}).encode())
            hasher.update(header.digest)

    def picture(self, i: int, side: int) -> Image.Image:
        """Decode image `i`; a JPEG only as finely as `side` needs."""
        return decode(self.paths[i], side)

    def content_digests(self) -> list[bytes]:
        """Return the SHA-256 of each file."""
        return [header.digest for header in self.headers]

    def sizes(self) -> dict[tuple[int, int], int]:
        """Return (height, width) -> number of images, the most frequent first."""
        return dict(Counter(header.size for header in self.headers).most_common())

    def batches(
        self,
        batch_size: int,
        *,
        start: int = 0,
        geometry: Geometry | None = None,
        workers: int = 0,
    ) -> Iterator[np.ndarray]:
        """Yield decoded images; see `Images.batches`."""
        if self.size is None and geometry is None:
            raise ShapeError(
                f"The {len(self)} images have many sizes and cannot form a batch as they are. "
                "Give the network's input size: --image-size 224"
            )
        load = partial(_load, geometry=geometry if self.size is None else None, size=self.size)
        batches = list(spans(len(self), batch_size, start))
        # A task never crosses the end of a batch, so that a batch is a whole number of tasks.
        tasks = [
            [
                self.paths[first:end][at : at + TASK_IMAGES]
                for at in range(0, end - first, TASK_IMAGES)
            ]
            for first, end in batches
        ]
        parts = _in_order(load, (task for batch in tasks for task in batch), workers)
        for batch in tasks:
            yield np.concatenate([next(parts) for _ in batch])


def _load(
    paths: Sequence[Path], *, geometry: Geometry | None, size: tuple[int, int] | None
) -> np.ndarray:
    """Return the decoded images of some files as one array (n, height, width, 3)."""
    arrays = []
    for path in paths:
        image = decode(path)
        arrays.append(np.asarray(image) if geometry is None else geometry(image))
        if size is not None and arrays[-1].shape[:2] != size:
            raise DataError(
                f"Image {path} is {arrays[-1].shape[0]} x {arrays[-1].shape[1]} pixels, expected "
                f"{size[0]} x {size[1]}: it was changed meanwhile. Start again."
            )
    return np.stack(arrays)


def _in_order(
    load: partial[np.ndarray], tasks: Iterable[Sequence[Path]], workers: int
) -> Iterator[np.ndarray]:
    """Yield the result of each task in order, computed here or by `workers` processes."""
    if workers < 1:
        yield from map(load, tasks)
        return
    # Not fork: this process has threads (torch, HDF5), and a fork while one holds a lock hangs.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)
    pending: deque[Future[np.ndarray]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(load, task))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise FeatxError(
            "A process that decodes images died, most often for want of memory. "
            "Use fewer of them: --workers 0 decodes in the main process."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the main process, which stops the workers in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

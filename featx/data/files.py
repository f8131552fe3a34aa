"""Images in files, decoded when they are needed, by threads ahead of the reader where asked."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.data.blocks import Hasher
from featx.data.decode import (
    Header,
    decode,
    decode_quieted,
    probe_all,
    quiet_pillow,
    relative_name,
)
from featx.data.images import Geometry, Images, Indices, spans
from featx.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL import Image


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
    ) -> Generator[np.ndarray, None, None]:
        """Yield decoded images; see `Images.batches`."""
        if self.size is None and geometry is None:
            raise ShapeError(
                f"The {len(self)} images have many sizes and cannot form a batch as they are. "
                "Give the network's input size: --image-size 224"
            )
        load = partial(_load, geometry=geometry, size=None if geometry else self.size)
        rows = list(spans(len(self), batch_size, start))
        decoded = _in_order(load, self.paths[start:], workers, max(batch_size, 2 * workers))
        with contextlib.closing(decoded):
            for first, end in rows:
                yield np.stack(list(islice(decoded, end - first)))


def _load(path: Path, *, geometry: Geometry | None, size: tuple[int, int] | None) -> np.ndarray:
    """Return the decoded image of a file as an array (height, width, 3)."""
    image = decode_quieted(path)
    array = np.asarray(image) if geometry is None else geometry(image)
    if size is not None and array.shape[:2] != size:
        raise DataError(
            f"Image {path} is {array.shape[0]} x {array.shape[1]} pixels, expected "
            f"{size[0]} x {size[1]}: it was changed meanwhile. Start again."
        )
    return array


def _in_order(
    load: Callable[[Path], np.ndarray], paths: Sequence[Path], workers: int, most: int
) -> Generator[np.ndarray, None, None]:
    """Yield each file's image in order, decoded here or by `workers` threads.

    The threads are up to `most` images ahead. Pillow lets go of Python's lock while it decodes and
    resizes, so that they need no processes, which would cost seconds to start and a copy of every
    image.
    """
    if workers < 1:
        for path in paths:
            with quiet_pillow():
                array = load(path)
            yield array
        return
    with quiet_pillow(), ThreadPoolExecutor(workers, thread_name_prefix="featx-decode") as pool:
        pending: deque[Future[np.ndarray]] = deque()
        try:
            for path in paths:
                pending.append(pool.submit(load, path))
                if len(pending) > most:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

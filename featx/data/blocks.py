"""The digest of images in memory: of many bytes by several threads, in blocks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from featx.machine import n_cpus

# Both are part of every digest of more bytes: a change makes the caches of such images miss.

FLAT_BYTES = 256 * 2**20
"""Images of up to so many bytes are hashed in one piece, which takes some 0.2 s."""

BLOCK_BYTES = 16 * 2**20
"""Most bytes of a block, unless one image has more: of 256 MiB there are blocks for 16 threads."""

# Images that are gathered are hashed while the processor still has them.
_RUN_BYTES = 2**20


class Hasher(Protocol):
    """What `hashlib` gives: takes bytes."""

    def update(self, data: Any, /) -> None:
        """Take more bytes."""


def update_with_pixels(
    hasher: Hasher, shape: tuple[int, ...], images: Callable[[int, int], np.ndarray]
) -> None:
    """Feed a hash with the shape and every pixel of images.

    A hash takes its bytes one after the other, so that a second thread cannot help it. If the
    images have more than 256 MiB together, it is fed with the SHA-256 of each block of whole
    images instead, which threads compute: a tree of two levels, as in NIST SP 800-185
    (ParallelHash). The shape and the number of images of a block, which come first, say where every
    block begins, so that other images or other blocks are other bytes.

    Parameters
    ----------
    hasher : Hasher
        What is fed.
    shape : tuple of int
        Number, height, width and channels of the images.
    images : callable
        Gives those from one row to another as an array of uint8, in any order of memory; called
        from several threads.
    """
    image_bytes = math.prod(shape[1:])
    rows = max(1, BLOCK_BYTES // image_bytes)

    def feed(hasher: Hasher, first: int, end: int) -> None:
        step = max(1, _RUN_BYTES // image_bytes)
        for start in range(first, end, step):
            hasher.update(np.ascontiguousarray(images(start, min(start + step, end))).data)

    def digest(first: int) -> bytes:
        block = hashlib.sha256()
        feed(block, first, min(first + rows, shape[0]))
        return block.digest()

    if shape[0] * image_bytes <= FLAT_BYTES:
        hasher.update(json.dumps({"pixels": shape}).encode())
        feed(hasher, 0, shape[0])
        return
    hasher.update(json.dumps({"pixels": shape, "rows of a block": rows}).encode())
    starts = range(0, shape[0], rows)
    n_threads = min(n_cpus(), len(starts))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="featx-digest") as pool:
        for found in pool.map(digest, starts):
            hasher.update(found)

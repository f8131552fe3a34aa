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
    n_bytes = math.prod(shape)
    rows = max(1, BLOCK_BYTES // math.prod(shape[1:]))
    blocks = [(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows)]
    if n_bytes <= FLAT_BYTES:
        hasher.update(json.dumps({"pixels": shape}).encode())
        for first, end in blocks:
            hasher.update(np.ascontiguousarray(images(first, end)).data)
        return
    hasher.update(json.dumps({"pixels": shape, "rows of a block": rows}).encode())
    n_threads = min(n_cpus(), len(blocks))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="featx-digest") as pool:
        for digest in pool.map(lambda block: _digest(images(*block)), blocks):
            hasher.update(digest)


def _digest(block: np.ndarray) -> bytes:
    """Return the SHA-256 of images; Python's lock is free meanwhile."""
    return hashlib.sha256(np.ascontiguousarray(block).data).digest()

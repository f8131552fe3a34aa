"""The digest of images of many bytes, which threads share."""

from __future__ import annotations

import hashlib
import threading
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featx.data import ArrayImages, Split, blocks

SHAPES = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5).map(lambda s: (*s, 3))
IMAGES = arrays(np.uint8, SHAPES)


def digest(array: np.ndarray) -> str:
    """Return the digest of a split of these images, all of label 7."""
    return Split("train", ArrayImages(array), np.full(len(array), 7)).digest


def small_blocks(flat_bytes: int = 0, block_bytes: int = 48) -> mock._patch_dict:
    return mock.patch.multiple(blocks, FLAT_BYTES=flat_bytes, BLOCK_BYTES=block_bytes)


def test_digest_of_many_bytes_is_pinned() -> None:
    """A change of this value makes caches of large arrays miss: say so in the changelog."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    n = 2**28 // image.nbytes + 1
    # 46 images of 360,000 bytes are the most that 16 MiB hold: 746 are 16 such blocks, and 10.
    assert (n, 2**24 // image.nbytes, n - 16 * 46) == (746, 46, 10)
    expected = hashlib.sha256(b'{"images": 746}')
    expected.update(b'{"pixels": [746, 300, 400, 3], "rows of a block": 46}')
    for rows in [46] * 16 + [10]:
        expected.update(hashlib.sha256(image.tobytes() * rows).digest())
    expected.update(b"\x07\0\0\0\0\0\0\0" * 746)
    assert digest(np.broadcast_to(image, (n, *image.shape))) == expected.hexdigest()
    # One image less is no more than 256 MiB, and hashed as ever.
    flat = hashlib.sha256(b'{"images": 745}{"pixels": [745, 300, 400, 3]}')
    for _ in range(745):
        flat.update(image.tobytes())
    flat.update(b"\x07\0\0\0\0\0\0\0" * 745)
    assert digest(np.broadcast_to(image, (n - 1, *image.shape))) == flat.hexdigest()


@given(IMAGES, st.integers(1, 200))
def test_the_order_in_memory_has_no_part(array: np.ndarray, block_bytes: int) -> None:
    with small_blocks(block_bytes=block_bytes):
        wanted = digest(array)
        assert digest(np.asfortranarray(array)) == wanted
        assert digest(array[::-1].copy()[::-1]) == wanted


@given(IMAGES, st.data())
def test_every_pixel_and_the_order_of_images_have(array: np.ndarray, data: st.DataObject) -> None:
    with small_blocks(block_bytes=data.draw(st.integers(1, 200))):
        wanted = digest(array)
        changed = array.copy()
        changed.reshape(-1)[data.draw(st.integers(0, array.size - 1))] ^= 1
        assert digest(changed) != wanted
        assert (digest(array[::-1]) == wanted) == np.array_equal(array[::-1], array)
        n, height, width, _ = array.shape
        assert (digest(array.reshape(n, width, height, 3)) == wanted) == (height == width)
    assert digest(array) != wanted, "blocks and one piece are told apart"


def test_blocks_of_another_size_are_other_bytes() -> None:
    array = np.zeros((6, 2, 2, 3), np.uint8)
    found = []
    for block_bytes in (12, 24, 36):
        with small_blocks(block_bytes=block_bytes):
            found.append(digest(array))
    assert len(set(found)) == 3


def test_one_piece_up_to_the_limit() -> None:
    array = np.zeros((4, 2, 2, 3), np.uint8)
    with small_blocks(flat_bytes=48):
        one_piece = digest(array)
    with small_blocks(flat_bytes=47):
        assert digest(array) != one_piece
    assert digest(array) == one_piece


def test_blocks_are_hashed_by_other_threads_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "n_cpus", lambda: 2)
    # Passes only if two threads are inside at once.
    both = threading.Barrier(2, timeout=20)
    array = np.arange(96, dtype=np.uint8).reshape(8, 2, 2, 3)

    def images(first: int, end: int) -> np.ndarray:
        both.wait()
        return array[first:end]

    with small_blocks(block_bytes=12):
        found, wanted = hashlib.sha256(), hashlib.sha256()
        blocks.update_with_pixels(found, array.shape, images)
        blocks.update_with_pixels(wanted, array.shape, lambda first, end: array[first:end])
    assert found.digest() == wanted.digest()


@given(IMAGES, st.integers(1, 200), st.integers(1, 200))
def test_how_much_is_gathered_at_once_has_no_part(
    array: np.ndarray, block_bytes: int, run_bytes: int
) -> None:
    for flat_bytes in (0, array.nbytes):
        with small_blocks(flat_bytes, block_bytes):
            wanted = digest(array)
            with mock.patch.object(blocks, "_RUN_BYTES", run_bytes):
                assert digest(array) == wanted

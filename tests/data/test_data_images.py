"""Images in arrays: batches, names and digests."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.data import ArrayImages, Dataset, Split
from featx.errors import DataError


def noise(n: int, height: int = 3, width: int = 2) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def split(x: np.ndarray, y: list[int]) -> Split:
    return Split("train", ArrayImages(x), np.array(y, dtype=np.int64))


@given(st.integers(1, 20), st.integers(1, 25), st.data())
def test_batches_are_the_whole_in_order(n: int, batch_size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, n))
    batches = list(ArrayImages(noise(n)).batches(batch_size, start=start))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    joined = np.concatenate([noise(n)[:0], *batches])
    np.testing.assert_array_equal(joined, noise(n)[start:])


def test_batches_of_an_array_that_is_read_only_or_not_contiguous_can_become_tensors() -> None:
    x = noise(4, 5, 6)
    x.flags.writeable = False
    for array in (x, x.transpose(0, 2, 1, 3)):
        (batch,) = ArrayImages(array).batches(4)
        assert batch.flags.writeable
        assert batch.flags.c_contiguous
        np.testing.assert_array_equal(batch, array)


@pytest.mark.parametrize(("batch_size", "start"), [(0, 0), (2, 6), (2, -1)])
def test_impossible_batches_are_refused(batch_size: int, start: int) -> None:
    with pytest.raises(DataError, match="of 5 images are not possible"):
        list(ArrayImages(noise(5)).batches(batch_size, start=start))


def test_take_keeps_order_rows_and_labels() -> None:
    whole = split(noise(6), [5, 6, 7, 8, 9, 5])
    part = whole.take([4, 1, 1]).take(np.array([True, False, True]))
    assert isinstance(part.images, ArrayImages)
    np.testing.assert_array_equal(part.images.array, noise(6)[[4, 1]])
    np.testing.assert_array_equal(part.y, [9, 6])
    assert not np.shares_memory(whole.take(range(6)).images.array, whole.images.array)
    assert part.counts() == {6: 1, 9: 1}
    with pytest.raises(IndexError):
        whole.take([6])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 9), st.data())
def test_images_that_share_an_array_are_those_that_were_copied(
    rows: list[int], batch_size: int, data: st.DataObject
) -> None:
    whole = ArrayImages(noise(6), split="val", origin="train")
    shared, copied = whole.sharing(np.array(rows)), whole.take(rows)
    inner = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1)))
    for ours, other in ((shared, copied), (shared.sharing(inner), copied.take(inner))):
        assert (len(ours), ours.size, ours.sizes()) == (len(other), other.size, other.sizes())
        np.testing.assert_array_equal(ours.array, other.array)
        assert [ours.name_of(i) for i in range(len(ours))] == [
            other.name_of(i) for i in range(len(other))
        ]
        start = data.draw(st.integers(0, len(ours)))
        for found, wanted in zip(
            ours.batches(batch_size, start=start), other.batches(batch_size, start=start),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_array_equal(found, wanted)
            assert found.flags.writeable
        y = np.zeros(len(ours), np.int64)
        assert Split("val", ours, y).digest == Split("val", other, y).digest
        assert ours.content_digests() == other.content_digests()
        np.testing.assert_array_equal(ours.picture(0, 1), other.picture(0, 1))
        moved, wanted = (each.in_split("test", "train") for each in (ours, other))
        assert moved.name_of(0) == wanted.name_of(0)
        np.testing.assert_array_equal(moved.array, wanted.array)


def test_what_is_taken_of_a_shared_array_is_a_copy_of_nothing_else() -> None:
    whole = ArrayImages(noise(6))
    shared = whole.sharing(np.array([5, 2, 4]))
    assert np.shares_memory(shared._all, whole.array)
    taken = shared.take([2, 0])
    np.testing.assert_array_equal(taken.array, noise(6)[[4, 5]])
    for each in (taken, pickle.loads(pickle.dumps(shared))):
        assert not np.shares_memory(each._all, whole.array)
        assert each._all.nbytes == each.array.nbytes
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shared)).array, shared.array)


def test_sharing_takes_indices_as_take_does() -> None:
    whole = ArrayImages(noise(6))
    for chosen in ([5, -6], np.array([True, False] * 3), slice(1, None, 2)):
        shared, copied = whole.sharing(chosen), whole.take(chosen)
        np.testing.assert_array_equal(shared.array, copied.array)
        np.testing.assert_array_equal(shared.rows, copied.rows)
        np.testing.assert_array_equal(shared.picture(-1, 1), copied.picture(-1, 1))
    with pytest.raises(IndexError):
        whole.sharing([6])
    for nothing in ([False] * 6, slice(0)):
        with pytest.raises(DataError, match="None of 6 images is chosen: choose at least one"):
            whole.sharing(np.arange(6)[nothing] if isinstance(nothing, slice) else nothing)


def test_names_say_the_row_in_the_source() -> None:
    images = ArrayImages(noise(6)).take([2, 5])
    assert images.name_of(1) == "image 1"
    assert images.in_split("train", "train").name_of(1) == "train image 1 (source row 5)"
    assert images.in_split("val", "train").name_of(0) == "val image 0 (source row 2 of train)"


def test_greys_are_repeated() -> None:
    greys = noise(3)[..., 0]
    for array in (greys, greys[..., None]):
        images = ArrayImages(array)
        assert images.size == (3, 2)
        for channel in range(3):
            np.testing.assert_array_equal(images.array[..., channel], greys)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "float32 of shape .2, 4, 4, 3.*multiply with 255"),
        (np.zeros((2, 4, 4, 3), np.int64), "are int64"),
        (np.zeros((2, 3, 8, 8), np.uint8), "Channels come last: transpose.0, 2, 3, 1"),
        (np.zeros((2, 8, 8, 4), np.uint8), "shape .2, 8, 8, 4.; featx takes uint8"),
        (np.zeros((8, 8), np.uint8), "shape .8, 8."),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one image"),
        (np.zeros((2, 0, 8, 3), np.uint8), "at least one pixel"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArrayImages(array)


def test_one_label_per_image() -> None:
    with pytest.raises(DataError, match="3 images and 2 labels"):
        split(noise(3), [0, 1])


def test_digest_is_pinned() -> None:
    """A change of this value makes every cache of every user miss: say so in the changelog."""
    x = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    expected = hashlib.sha256(
        b'{"images": 2}{"pixels": [2, 2, 2, 3]}'
        + bytes(range(24))
        + b"\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"
    ).hexdigest()
    assert split(x, [5, 9]).digest == expected


def test_digest_sees_pixels_labels_order_and_size_and_nothing_else() -> None:
    x, y = noise(4), [0, 1, 0, 1]
    same = {
        split(x, y).digest,
        split(np.asfortranarray(x), y).digest,
        Split("test", ArrayImages(x).in_split("val", "train"), np.array(y, np.int64)).digest,
        split(x, y).take([0, 1, 2, 3]).digest,
    }
    assert len(same) == 1
    one_pixel = x.copy()
    one_pixel[3, 2, 1, 2] ^= 1
    different = [
        split(one_pixel, y),
        split(x, [0, 1, 0, 0]),
        split(x, y).take([1, 0, 2, 3]),
        split(x[::-1], y),
        split(x, y).take([0, 1, 2]),
        split(x.reshape(4, 2, 3, 3), y),
    ]
    assert len({*same, *(each.digest for each in different)}) == 1 + len(different)


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_equal_digests_mean_the_same_rows(rows: list[int]) -> None:
    whole = split(noise(6), [0, 1, 2, 0, 1, 2])
    assert (whole.take(rows).digest == whole.digest) == (rows == list(range(6)))


def test_dataset_size_is_common_to_all_splits() -> None:
    small, large = split(noise(2), [0, 1]), split(noise(2, 5, 5), [0, 1])
    assert Dataset("x", {}, {"train": small, "test": small}, {}).size == (3, 2)
    assert Dataset("x", {}, {"train": small, "test": large}, {}).size is None


def test_contents_and_sizes_of_arrays() -> None:
    x = noise(4)
    x[3] = x[0]
    images = ArrayImages(x)
    digests = images.content_digests()
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3
    # The same bytes in another shape are another image.
    turned = ArrayImages(x.reshape(4, 2, 3, 3))
    assert not set(digests) & set(turned.content_digests())
    # A view of every second row has the pixels it shows, not those that lie in memory.
    assert ArrayImages(x[::2]).content_digests() == [digests[0], digests[2]]
    assert images.sizes() == {(3, 2): 4}
    np.testing.assert_array_equal(np.asarray(images.picture(2, 1)), x[2])

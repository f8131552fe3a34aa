"""Images in files: order, workers, damage, digests."""

from __future__ import annotations

import os
import shutil
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featx.data import TORCH, FileImages, Split
from featx.errors import DataError, ShapeError

MIXED = ((9, 7), (12, 20), (30, 8))


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.png"))


def pixels(paths: list[Path]) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in paths]


@given(st.integers(1, 12), st.integers(0, 10))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_of_one_size_are_the_raw_pixels_in_order(
    tmp_path_factory: pytest.TempPathFactory, batch_size: int, start: int
) -> None:
    root = tmp_path_factory.getbasetemp() / "one-size"
    if not root.exists():
        root.mkdir()
        for i in range(10):
            noise = np.random.default_rng(i).integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / f"{i}.png")
    images = FileImages(files(root))
    assert images.size == (4, 5)
    batches = list(images.batches(batch_size, start=start, workers=batch_size % 3))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    joined = np.concatenate([np.empty((0, 4, 5, 3), np.uint8), *batches])
    np.testing.assert_array_equal(joined, np.stack(pixels(files(root)))[start:])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_of_many_sizes_get_their_geometry_while_decoded(make_folder, workers: int) -> None:
    images = FileImages(files(make_folder({"cat": 40}, sizes=MIXED)))
    geometry = TORCH.with_size(8).geometry
    assert images.size is None
    expected = np.stack([geometry(Image.open(path)) for path in images.paths])
    batches = list(images.batches(36, geometry=geometry, workers=workers))
    assert [len(batch) for batch in batches] == [36, 4]
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    (tail,) = images.batches(36, start=37, geometry=geometry, workers=workers)
    np.testing.assert_array_equal(tail, expected[37:])


def test_many_sizes_without_a_size_to_come_to_are_refused(make_folder) -> None:
    images = FileImages(files(make_folder({"cat": 3}, sizes=MIXED)))
    with pytest.raises(ShapeError, match=r"3 images have many sizes.*--image-size"):
        next(images.batches(2))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_damaged_after_the_check_is_named(make_folder, workers: int) -> None:
    images = FileImages(files(make_folder({"cat": 6})))
    assert images.size == (9, 7)
    images.paths[4].write_bytes(b"no longer an image")
    with pytest.raises(DataError, match=r"04\.png cannot be decoded: it is not an image"):
        list(images.batches(6, workers=workers))


def test_a_file_that_changed_its_size_after_the_check_is_named(make_folder) -> None:
    images = FileImages(files(make_folder({"cat": 3})))
    assert images.size == (9, 7)
    Image.new("RGB", (5, 5)).save(images.paths[1])
    with pytest.raises(DataError, match=r"01\.png is 5 x 5 pixels, expected 9 x 7"):
        list(images.batches(3))


def decoding_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("featx-decode")]


def test_images_of_one_size_get_a_geometry_while_decoded_where_one_is_given(make_folder) -> None:
    images = FileImages(files(make_folder({"cat": 5})))
    assert images.size == (9, 7)
    geometry = TORCH.with_size(4).geometry
    (batch,) = images.batches(5, geometry=geometry, workers=1)
    np.testing.assert_array_equal(batch, [geometry(Image.open(p)) for p in images.paths])


@pytest.mark.parametrize("leave", ["close", "error"])
def test_leaving_early_ends_the_threads(make_folder, leave: str) -> None:
    images = FileImages(files(make_folder({"cat": 40}, sizes=MIXED)))
    images.headers  # noqa: B018
    if leave == "error":
        images.paths[8].unlink()
    batches = images.batches(4, geometry=TORCH.with_size(8).geometry, workers=2)
    next(batches)
    assert len(decoding_threads()) == 2
    if leave == "close":
        batches.close()
    else:
        next(batches)
        with pytest.raises(DataError, match=r"08\.png cannot be decoded: No such file"):
            next(batches)
    assert not decoding_threads()


def test_threads_are_ahead_by_one_batch_and_no_more(make_folder) -> None:
    begun = []

    def count(image: Image.Image) -> np.ndarray:
        begun.append(image)
        return np.zeros((1, 1, 3), np.uint8)

    images = FileImages(files(make_folder({"cat": 40}, sizes=MIXED)))
    batches = images.batches(8, geometry=count, workers=2)
    next(batches)
    deadline = time.monotonic() + 10
    while len(begun) < 16 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(begun) == 16
    batches.close()


def test_what_was_not_begun_is_not_decoded_when_the_loop_is_left(make_folder) -> None:
    begun = []
    gate = threading.Event()

    def wait(image: Image.Image) -> np.ndarray:
        begun.append(image)
        if len(begun) > 2:
            gate.wait(30)
        return np.zeros((1, 1, 3), np.uint8)

    images = FileImages(files(make_folder({"cat": 20}, sizes=MIXED)))
    batches = images.batches(2, geometry=wait, workers=1)
    next(batches)
    threading.Timer(0.1, gate.set).start()
    batches.close()
    assert len(begun) <= 3


def test_warnings_of_others_pass_while_threads_decode(make_folder) -> None:
    images = FileImages(files(make_folder({"cat": 8}, sizes=MIXED)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        batches = images.batches(2, geometry=TORCH.with_size(8).geometry, workers=1)
        next(batches)
        warnings.warn("the caller's own", stacklevel=1)
        batches.close()
    assert [str(warning.message) for warning in seen] == ["the caller's own"]


def test_all_bad_files_are_found_when_the_size_is_asked(make_folder) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    for name in ("cat/01.png", "dog/03.png"):
        (root / name).write_bytes(b"")
    images = FileImages(files(root), root=root)
    with pytest.raises(DataError, match="2 of 8 images") as caught:
        _ = images.size
    assert "cat/01.png: it is empty" in str(caught.value)
    assert "dog/03.png: it is empty" in str(caught.value)


def test_names_are_paths_below_the_root(make_folder) -> None:
    root = make_folder({"cat": 2, "dog": 1})
    images = FileImages(files(root))
    assert images.root == root
    assert [images.name_of(i) for i in range(3)] == ["cat/00.png", "cat/01.png", "dog/00.png"]
    assert images.take([2]).name_of(0) == "dog/00.png"
    with pytest.raises(DataError, match="no image files"):
        FileImages([])


def digest(paths: list[Path], y: list[int]) -> str:
    return Split("train", FileImages(paths), np.array(y, dtype=np.int64)).digest


def test_digest_sees_bytes_labels_and_order_and_not_where_the_files_are(
    make_folder, tmp_path: Path
) -> None:
    paths = files(make_folder({"cat": 3, "dog": 3}, sizes=MIXED))
    y = [0, 0, 0, 1, 1, 1]
    reference = digest(paths, y)
    moved = tmp_path / "elsewhere"
    shutil.copytree(paths[0].parent.parent, moved)
    for path in files(moved):
        os.utime(path, (0, 0))
    assert digest(files(moved), y) == reference
    images = FileImages(paths)
    assert images.size is None
    assert images.take([0, 1, 2, 3, 4, 5]).size is None
    assert images.take([1, 4]).size == MIXED[1]
    assert Split("val", images.take(range(6)), np.array(y, np.int64)).digest == reference
    assert digest([paths[1], paths[0], *paths[2:]], y) != reference
    assert digest(paths, [0, 0, 1, 1, 1, 1]) != reference
    assert digest(paths[:5], y[:5]) != reference
    with files(moved)[2].open("ab") as file:
        file.write(b"\0")
    assert digest(files(moved), y) != reference


@pytest.mark.real
def test_real_photos_by_threads_equal_those_decoded_here(shared_dir: Path) -> None:
    images = FileImages(sorted((shared_dir / "data" / "photos").rglob("*.jpg")))
    geometry = TORCH.with_size(32).geometry
    assert images.size is None
    here = np.concatenate(list(images.batches(16, geometry=geometry)))
    there = np.concatenate(list(images.batches(7, geometry=geometry, workers=2)))
    assert here.shape == (60, 32, 32, 3)
    np.testing.assert_array_equal(here, there)


def test_contents_and_sizes_of_files(make_folder) -> None:
    paths = files(make_folder({"cat": 5}, sizes=MIXED))
    shutil.copy(paths[1], paths[0].with_name("copy.png"))
    images = FileImages([*paths, paths[0].with_name("copy.png")])
    digests = images.content_digests()
    assert digests[5] == digests[1]
    assert len(set(digests)) == 5
    assert list(images.sizes().items()) == [((12, 20), 3), ((9, 7), 2), ((30, 8), 1)]
    np.testing.assert_array_equal(np.asarray(images.picture(3, 1)), pixels(paths)[3])

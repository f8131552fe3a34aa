"""Facts about images that were made to have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from featx.analysis.data_facts import duplicates, leaks, samples, sizes
from featx.data import ArrayImages, Dataset, FileImages
from featx.data.dataset import Split


def split(name: str, array: np.ndarray, y: list[int]) -> Split:
    return Split(name, ArrayImages(array), np.array(y, dtype=np.int64))


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 4, 3), dtype=np.uint8)


def test_duplicates_are_found_pixel_for_pixel() -> None:
    train, val, test = pixels(8, 0), pixels(4, 1), pixels(5, 2)
    train[6] = train[2]
    val[3] = train[2]
    test[0] = val[1]
    test[4] = val[1]
    test[2] = train[7]
    test[2, 0, 0, 0] ^= 1
    splits = {
        "train": split("train", train, list(range(8))),
        "val": split("val", val, [0, 1, 2, 3]),
        "test": split("test", test, [9, 8, 7, 6, 5]),
    }
    found = {(d.first, d.second): d for d in duplicates(splits)}
    assert {names: d.n for names, d in found.items()} == {
        ("train", "val"): 1, ("train", "test"): 0, ("val", "test"): 2
    }  # fmt: skip
    ((first, second),) = found["train", "val"].pairs
    assert (first.index, first.label, second.index, second.label) == (2, 2, 3, 3)
    assert {d.compared for d in found.values()} == {"pixels"}
    assert leaks(list(found.values())) == [
        "Of the val images 1 is in the training split as well: what is measured there flatters "
        "every result. The report's page lists them under Data."
    ]
    pairs = found["val", "test"].pairs
    assert [(a.index, b.index, b.label) for a, b in pairs] == [(1, 0, 9), (1, 4, 5)]


def test_few_pairs_are_shown_and_all_are_counted() -> None:
    same = np.repeat(pixels(1, 0), 30, axis=0)
    splits = {name: split(name, same, [0] * 30) for name in ("train", "test")}
    (found,) = duplicates(splits)
    assert found.n == 30
    assert len(found.pairs) == 20


def test_files_are_compared_by_content_and_sizes_counted(tmp_path: Path) -> None:
    def save(name: str, size: tuple[int, int], seed: int) -> Path:
        array = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / name)
        return tmp_path / name

    train = [save("a.png", (4, 6), 0), save("b.png", (4, 6), 1), save("c.png", (9, 5), 2)]
    test = [save("copy.png", (4, 6), 1), save("d.png", (4, 6), 3)]
    splits = {
        "train": Split("train", FileImages(train), np.zeros(3, np.int64)),
        "test": Split("test", FileImages(test), np.zeros(2, np.int64)),
    }
    (found,) = duplicates(splits)
    assert (found.n, found.compared) == (1, "files")
    assert (found.pairs[0][0].index, found.pairs[0][1].index) == (1, 0)
    assert [(s.split, s.width, s.height, s.n) for s in sizes(splits)] == [
        ("train", 6, 4, 2), ("train", 5, 9, 1), ("test", 6, 4, 2)
    ]  # fmt: skip


def dataset(n_classes: int, per_class: int) -> Dataset:
    y = list(np.tile(np.arange(n_classes), per_class))
    array = np.zeros((len(y), 2, 2, 3), np.uint8)
    names = {k: str(k) for k in range(n_classes)}
    return Dataset("made", names, {"train": split("train", array, y)}, {})


def test_samples_are_of_every_class_fewer_where_there_are_many() -> None:
    found = samples(dataset(3, 20))["train"]
    assert sorted(image.label for image in found) == [0] * 5 + [1] * 5 + [2] * 5
    assert all(image.index % 3 == image.label for image in found)
    many = samples(dataset(1000, 3))["train"]
    assert [image.label for image in many] == list(range(1000))

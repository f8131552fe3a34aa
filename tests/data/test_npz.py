"""NumPy files as a source, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npz_cases import arrays

from featx.data import arrays as npz_source
from featx.data import load_dataset
from featx.data.arrays import _read
from featx.errors import DataError


def load(folder: Path, content: dict[str, np.ndarray], **options: Any) -> Any:
    np.savez(folder / "data.npz", **content)
    return load_dataset(f"npz:{folder / 'data.npz'}", **({"val": 0} | options))


def test_arrays_come_back_as_they_are(tmp_path: Path) -> None:
    dataset = load(tmp_path, arrays(), val=2, stratified=True)
    assert dataset.name == "npz:data"
    assert dataset.classes == {5: "5", 9: "9"}
    assert [len(split) for split in dataset.splits.values()] == [6, 2, 4]
    test = dataset.splits["test"]
    np.testing.assert_array_equal(test.images.array, arrays()["test_x"])
    assert test.y.dtype == np.int64
    assert test.y.tolist() == [9, 5, 9, 5]
    train = dataset.splits["train"].images
    np.testing.assert_array_equal(train.array, arrays()["train_x"][train.rows])


@pytest.mark.parametrize(
    ("options", "shares"),
    [({}, True), ({"val": 2}, True), ({"limit": 2}, True), ({"limit": 1}, False)],
)
def test_splits_share_the_array_that_was_read_unless_they_use_little_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], shares: bool
) -> None:
    read = []

    def remembering(path: Path) -> dict[str, np.ndarray]:
        read.append(_read(path))
        return read[-1]

    monkeypatch.setattr(npz_source, "_read", remembering)
    splits = load(tmp_path, arrays(), stratified=True, **options).splits
    for name, split in splits.items():
        source = read[0]["test_x" if name == "test" else "train_x"]
        images = split.images
        np.testing.assert_array_equal(images.array, source[images.rows])
        assert images.name_of(0).startswith(f"{name} image 0 (source row {images.rows[0]}")
        if name != "test":
            assert np.shares_memory(images._all, source) == shares
        is_all = len(split) == len(source)
        assert np.shares_memory(images.array, source) == is_all, "batches of all are no copies"


def test_every_image_lies_in_one_piece(tmp_path: Path) -> None:
    x = arrays()["train_x"]
    train = load(tmp_path, arrays(train_x=np.asfortranarray(x))).splits["train"].images
    assert train.array.flags.c_contiguous
    np.testing.assert_array_equal(train.array, x)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_class_names_are_by_label(tmp_path: Path, kind: str) -> None:
    names = np.array([f"class {i}" for i in range(10)], dtype=kind)
    dataset = load(tmp_path, arrays(classes=names))
    assert dataset.classes == {5: "class 5", 9: "class 9"}


def test_its_own_validation_split_and_greys(tmp_path: Path) -> None:
    greys = np.arange(40, dtype=np.uint8).reshape(2, 4, 5)
    dataset = load(tmp_path, arrays(val_x=greys, val_y=np.array([5, 9], np.uint8)), val=0.5)
    val = dataset.splits["val"]
    assert val.y.tolist() == [5, 9]
    np.testing.assert_array_equal(val.images.array, np.stack([greys] * 3, axis=-1))
    assert len(dataset.splits["train"]) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((8, 4, 5, 3))}, "images 'train_x' of .* are float64 of shape"),
        ({"test_x": np.zeros((4, 3, 6, 5), np.uint8)}, "'test_x' .*Channels come last"),
        (
            {"train_y": None, "test_x": None},
            "lacks 'train_y', 'test_x'; it has 'train_x', 'test_y'",
        ),
        ({"val_x": np.zeros((2, 4, 5, 3), np.uint8)}, "lacks 'val_y'"),
        ({"train_y": np.array([5, 9])}, "There are 8 images and 2 labels in 'train_y'"),
        (
            {"train_y": np.array([5.0, 9.0] * 4)},
            "'train_y' of .* are float64: featx takes",
        ),
        ({"train_y": np.array([[5], [9]] * 4)}, "have shape .8, 1.: featx takes .n,."),
        ({"train_y": np.array([5, -1] * 4)}, "run from -1 to 5"),
        ({"train_y": np.array([5, 2**63] * 4, np.uint64)}, "run from 5 to 9223372036854775808"),
        ({"test_y": np.array([5] * 4)}, "'9' .4 in all. in test"),
        ({"test_y": np.array([9, 5, 7, 7])}, "'7' .2 in all. in train"),
        ({"classes": np.array(list("abcdef"))}, "Label 9 of .* has no name: 'classes' has 6"),
        ({"classes": np.array(["a"] * 10)}, "a name twice"),
        ({"classes": np.arange(10)}, "'classes' of .* is int64"),
        ({"classes": np.array([{}, {}])}, "Python objects are refused"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, arrays(**changes))


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match=r"x\.npz does not exist. An npz source has 'train_x'"):
        load_dataset(f"npz:{path}")
    for content in (b"", b"PK\x03\x04 no zip file"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz is no npz file"):
            load_dataset(f"npz:{path}")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"x\.npz is no npz file"):
        load_dataset(f"npz:{path}")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_noticed(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "x.npz"
    save(path, **arrays())
    content = bytearray(path.read_bytes())
    content[300] ^= 16
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz cannot be read.*Get it again, or write it anew"):
        load_dataset(f"npz:{path}")

"""Folders of images, as users keep them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from featx.data import Dataset, FileImages, load_dataset
from featx.errors import DataError


def load(root: Path, **options: object) -> Dataset:
    return load_dataset(f"folder:{root}", **({"val": 0, "test": 0} | options))  # type: ignore[arg-type]


def names(dataset: Dataset, split: str = "train") -> list[str]:
    images = dataset.splits[split].images
    assert isinstance(images, FileImages)
    return [images.name_of(i) for i in range(len(images))]


def test_classes_and_files_are_in_order_of_their_names(make_folder) -> None:
    root = make_folder({"dog": 2, "Zebra": 1, "cat": 2})
    dataset = load(root)
    assert dataset.name == "folder:pets"
    assert dataset.classes == {0: "Zebra", 1: "cat", 2: "dog"}
    expected = ["Zebra/00.png", "cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png"]
    assert names(dataset) == expected
    assert dataset.splits["train"].y.tolist() == [0, 1, 1, 2, 2]


def test_what_counts_as_an_image(make_folder) -> None:
    root = make_folder({"cat": 2, "dog": 1})
    shutil.copy(root / "cat" / "00.png", root / "cat" / "LOUD.PNG")
    (root / "cat" / "deeper").mkdir()
    shutil.copy(root / "cat" / "00.png", root / "cat" / "deeper" / "00.png")
    (root / "cat" / "link.png").symlink_to(root / "dog" / "00.png")
    for ignored in ("cat/.hidden.png", "cat/notes.txt", "cat/phone.HEIC", "readme.png"):
        (root / ignored).write_bytes(b"not looked at")
    (root / ".git").mkdir()
    (root / "cat" / ".thumbs").mkdir()
    (root / "cat" / ".thumbs" / "x.png").write_bytes(b"")
    dataset = load(root)
    assert names(dataset) == [
        "cat/00.png",
        "cat/01.png",
        "cat/LOUD.PNG",
        "cat/deeper/00.png",
        "cat/link.png",
        "dog/00.png",
    ]
    assert dataset.provenance["origin"]["ignored_files"] == {".heic": 1, ".txt": 1}


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_own_splits(make_folder, val: str) -> None:
    counts = {"train": 3, val: 2, "test": 1}
    root = make_folder({f"{s}/{c}": n for s, n in counts.items() for c in ("cat", "dog")})
    (root / "annotations").mkdir()
    dataset = load(root, val=0.3, test=0.3)
    assert {s: split.counts() for s, split in dataset.splits.items()} == {
        "train": {0: 3, 1: 3},
        "val": {0: 2, 1: 2},
        "test": {0: 1, 1: 1},
    }
    assert names(dataset, "val")[0] == f"{val}/cat/00.png"
    assert dataset.provenance["origin"]["ignored_folders"] == ["annotations"]


def test_a_train_folder_alone_is_split(make_folder) -> None:
    root = make_folder({"train/cat": 10, "train/dog": 10})
    dataset = load(root, val=4, test=4, stratified=True)
    assert dataset.classes == {0: "cat", 1: "dog"}
    assert [len(split) for split in dataset.splits.values()] == [12, 4, 4]


def test_a_class_may_be_called_train(make_folder) -> None:
    dataset = load(make_folder({"bus": 2, "train": 2}))
    assert dataset.classes == {0: "bus", 1: "train"}


@pytest.mark.parametrize(
    ("train", "val", "test"), [("Train", "VAL", "Test"), ("training", "dev", "testing")]
)
def test_split_folders_have_the_names_people_give_them(make_folder, train, val, test) -> None:
    counts = {f"{split}/{name}": 2 for split in (train, val, test) for name in ("cat", "dog")}
    dataset = load(make_folder(counts), val=0.2)
    assert dataset.classes == {0: "cat", 1: "dog"}
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 4, "val": 4, "test": 4,
    }  # fmt: skip


def test_splits_of_one_folder_are_disjoint_and_cover(make_folder) -> None:
    root = make_folder({"cat": 12, "dog": 9})
    dataset = load(root, val=0.25, test=5, stratified=True, seed=3)
    parts = [names(dataset, split) for split in dataset.splits]
    assert sorted(name for part in parts for name in part) == names(load(root))
    assert [len(part) for part in parts] == [12, 4, 5]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "does not exist. featx takes PATH/<class>/<images>"),
        ({".": 2}, "holds images, but no folder per class"),
        ({"cat": 1, "dog": 0, "eel": 0}, "No images in class 'dog', 'eel' of"),
        ({"test/cat": 1, "val/cat": 1}, "has 'test', 'val' but no 'train' with class folders"),
        ({"train/cat": 1, "val/cat": 1, "valid/cat": 1}, "two val sets, val/ and valid/"),
        ({"train/cat": 1, "train/dog": 1, "test/cat": 1}, "test/ lacks 'dog'"),
        ({"train/cat": 1, "test/cat": 1, "test/dog": 1}, "test/ has 'dog', which train/ has not"),
        ({"train/cat": 1, "test/cat": 0}, "No images in class 'cat' of .*test"),
    ],
)
def test_folders_that_cannot_be_used(make_folder, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(make_folder(counts))


def test_a_folder_that_cannot_be_listed_is_not_skipped(
    make_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 2, "dog": 2, "dog/locked": 2})
    listed = os.scandir

    def scandir(path: object) -> object:
        if Path(str(path)).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot be read: .*dog/locked: Permission denied"):
        load(root)


def test_an_empty_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folders"):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder"):
        load(tmp_path / "file")


def test_the_name_is_the_last_part_of_the_path(
    make_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 1})
    monkeypatch.chdir(root)
    assert load(Path()).name == "folder:pets"

"""From a source's name to splits: order of the steps, provenance, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from featx.data import SOURCES, ArrayImages, Dataset, load_dataset
from featx.data.sources import default_data_dir
from featx.errors import DataError, UnknownName


def rows(dataset: Dataset, split: str) -> np.ndarray:
    images = dataset.splits[split].images
    assert isinstance(images, ArrayImages)
    return images.rows


def test_digits_are_scikit_learns_and_the_splits_cover_them() -> None:
    dataset = load_dataset("digits")
    bunch = load_digits()
    assert list(dataset.splits) == ["train", "val", "test"]
    assert dataset.classes == {label: str(label) for label in range(10)}
    covered = np.concatenate([rows(dataset, split) for split in dataset.splits])
    np.testing.assert_array_equal(np.sort(covered), np.arange(1797))
    for name, split in dataset.splits.items():
        images = split.images
        assert isinstance(images, ArrayImages)
        expected = np.round(bunch.images[rows(dataset, name)] * 255 / 16)
        for channel in range(3):
            np.testing.assert_array_equal(images.array[..., channel], expected)
        np.testing.assert_array_equal(split.y, bunch.target[rows(dataset, name)])
        assert split.y.dtype == np.int64
    # Test is stratified whatever is asked; validation is drawn at random.
    share = np.bincount(bunch.target) * 359 / 1797
    assert (np.abs(np.bincount(dataset.splits["test"].y) - share) < 1).all()
    made = dataset.provenance["splits"]
    assert (made["test"]["rule"], made["val"]["rule"]) == ("stratified", "random")


def test_class_filter_comes_first_then_hold_out_then_limit() -> None:
    dataset = load_dataset("digits", classes=["7", "3"], val=0.25, test=100, limit={"train": 20})
    assert dataset.classes == {3: "3", 7: "7"}
    bunch = load_digits()
    of_both = int(np.isin(bunch.target, [3, 7]).sum())
    assert len(dataset.splits["test"]) == 100
    assert len(dataset.splits["val"]) == round((of_both - 100) * 0.25)
    assert dataset.splits["train"].counts() == {3: 20, 7: 20}
    unlimited = load_dataset("digits", classes=["7", "3"], val=0.25, test=100)
    assert unlimited.splits["val"].digest == dataset.splits["val"].digest
    assert set(rows(dataset, "train")) <= set(rows(unlimited, "train"))


def test_limits_are_nested_in_every_split() -> None:
    small, large = (load_dataset("digits", limit=limit, seed=4) for limit in (2, 5))
    for split in small.splits:
        assert set(rows(small, split)) < set(rows(large, split))
        assert set(small.splits[split].counts().values()) == {2}


def test_the_seed_makes_the_splits() -> None:
    first, same, other = (load_dataset("digits", seed=seed) for seed in (0, 0, 1))
    for split in first.splits:
        assert first.splits[split].digest == same.splits[split].digest
        assert first.splits[split].digest != other.splits[split].digest


def test_no_validation_and_no_test_where_none_is_wanted() -> None:
    assert list(load_dataset("digits", val=0).splits) == ["train", "test"]
    assert list(load_dataset("digits", val=0.0, test=0).splits) == ["train"]


def test_a_stratified_validation_split() -> None:
    dataset = load_dataset("digits", test=0, val=300, stratified=True)
    share = np.bincount(load_digits().target) * 300 / 1797
    assert (np.abs(np.bincount(dataset.splits["val"].y) - share) < 1).all()


def test_provenance_is_json_and_says_how_the_splits_came_to_be() -> None:
    dataset = load_dataset("digits", classes=["1", "2"], limit=3, seed=9)
    told = json.loads(json.dumps(dataset.provenance))
    assert told["source"] == "digits"
    assert told["classes"] == ["1", "2"]
    assert told["limit_per_class"] == {"train": 3, "val": 3, "test": 3}
    assert list(told["splits"]) == ["train", "val", "test"]
    assert told["splits"]["val"] == {
        "from": "held out of train",
        "rule": "random",
        "amount": 0.2,
        "images": round((359 - 72) * 0.2),
        "seed": 9,
    }
    assert load_dataset("digits").provenance["limit_per_class"] is None


def test_own_splits_are_used_as_they_are(make_folder) -> None:
    root = make_folder({f"{s}/{c}": 3 for s in ("train", "valid", "test") for c in "ab"})
    dataset = load_dataset(f"folder:{root}", val=0.5)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 6,
        "val": 6,
        "test": 6,
    }
    assert dataset.provenance["splits"]["val"] == {"from": "the source's own"}
    assert list(load_dataset(f"folder:{root}", val=0).splits) == ["train", "test"]


def test_a_class_too_small_for_its_splits_is_named(make_folder) -> None:
    root = make_folder({"cat": 30, "rare": 1})
    for stratified in (False, True):
        with pytest.raises(DataError, match=r"'rare' \(1 in all\) in .*stratified"):
            load_dataset(f"folder:{root}", stratified=stratified)


def test_damaged_files_of_all_splits_are_listed_together(make_folder) -> None:
    root = make_folder({f"{s}/{c}": 3 for s in ("train", "val", "test") for c in "ab"})
    for name in ("train/a/00.png", "test/b/02.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(DataError, match="2 of 18 images in") as caught:
        load_dataset(f"folder:{root}")
    assert "train/a/00.png: it is empty" in str(caught.value)
    assert "test/b/02.png: it is empty" in str(caught.value)


def test_only_files_that_are_used_are_checked(make_folder) -> None:
    root = make_folder({"cat": 6, "dog": 6, "broken": 1})
    (root / "broken" / "00.png").write_bytes(b"")
    dataset = load_dataset(f"folder:{root}", classes=["cat", "dog"], stratified=True)
    assert dataset.classes == {1: "cat", 2: "dog"}
    assert dataset.size == (9, 7)


def test_unknown_names(make_folder) -> None:
    with pytest.raises(UnknownName, match=r"Dataset 'cifar-10' is not known. Closest: 'cifar10'"):
        load_dataset("cifar-10")
    with pytest.raises(UnknownName) as caught:
        load_dataset("imagenet")
    for source in SOURCES.values():
        assert source.form in str(caught.value)
    root = make_folder({"cat": 1})
    with pytest.raises(UnknownName, match=f"For this folder: folder:{root}"):
        load_dataset(str(root))
    with pytest.raises(UnknownName, match="Class 'ten' is not in digits"):
        load_dataset("digits", classes="ten")
    with pytest.raises(UnknownName, match=r"Split 'tset'.*'test'"):
        load_dataset("digits", limit={"tset": 3})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("folder", "'folder' needs a path: folder:PATH"),
        ("npz:", "'npz:' needs a path: npz:PATH"),
        ("digits:here", "'digits' takes no path, but 'here' was given"),
    ],
)
def test_paths_where_they_belong(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(source)


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "featx" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_dir() == Path.home() / ".cache" / "featx" / "data"
    monkeypatch.setenv("FEATX_DATA_DIR", "~/pictures")
    assert default_data_dir() == Path.home() / "pictures"


@pytest.mark.real
def test_the_study_on_five_classes_has_its_sizes(cifar_dir: Path) -> None:
    """D1: 20,000 / 5,000 / 5,000 with labels 5 to 9, the hold-out random and not stratified."""
    dataset = load_dataset("cifar5", data_dir=cifar_dir)
    assert dataset.classes == {5: "dog", 6: "frog", 7: "horse", 8: "ship", 9: "truck"}
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 20_000, "val": 5_000, "test": 5_000}
    assert dataset.splits["test"].counts() == dict.fromkeys(range(5, 10), 1000)
    train, val = dataset.splits["train"].counts(), dataset.splits["val"].counts()
    assert {label: train[label] + val[label] for label in val} == dict.fromkeys(val, 5000)
    assert len(set(val.values())) > 1


@pytest.mark.real
def test_real_photos(shared_dir: Path) -> None:
    dataset = load_dataset(f"folder:{shared_dir / 'data' / 'photos'}", val=0, test=0)
    assert dataset.name == "folder:photos"
    assert list(dataset.classes.values()) == ["bird", "dog", "insect", "reptile", "vehicle"]
    assert dataset.splits["train"].counts() == {0: 14, 1: 14, 2: 6, 3: 12, 4: 14}
    assert dataset.size is None

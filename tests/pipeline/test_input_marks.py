"""Marks of a run's files: a file is its content, a folder the images that are read of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_runs import training

from featx.pipeline import finished_record, finished_runs, prepare_training, run_training
from featx.pipeline.input_marks import dataset_mark, input_marks
from featx.pipeline.train_run import run_prepared_training
from featx.recipes import make_recipe, make_study

AN_HOUR_NS = 3_600_000_000_000


def digest(**values: str) -> str:
    settings = {"backbone": "resnet18", "cuts": ["layer1"], "dataset": "digits", **values}
    return input_marks(make_recipe(settings)).digest


def touch(path: Path) -> None:
    """Make a file an hour younger."""
    changed = path.stat().st_mtime_ns + AN_HOUR_NS
    os.utime(path, ns=(changed, changed))


def photo(path: Path | bytes, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with Path(os.fsdecode(path)).open("wb") as file:
        Image.fromarray(pixels).save(file, "png")


def photos(folder: Path, n: int = 1) -> Path:
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            photo(folder / name / f"{i}.png", seed=2 * i + label)
    return folder


def test_a_run_without_files_has_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither has one in whose folder something is called as its network, dataset or weights.
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "resnet18")
    (tmp_path / "digits").write_text("notes")
    (tmp_path / "default").write_text("notes")
    assert digest(weights="none") == digest() == ""


@pytest.mark.parametrize("field", ["weights", "dataset"])
def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path: Path, field: str) -> None:
    def of(path: Path) -> str:
        return digest(**{field: f"npz:{path}" if field == "dataset" else str(path)})

    one, two = tmp_path / "a:b.npz", tmp_path / "elsewhere.npz"
    one.write_bytes(b"a" * 100)
    two.write_bytes(b"a" * 100)
    first = of(one)
    assert first
    assert of(two) == first
    touch(one)
    assert of(one) == first
    # As long as before, another content.
    one.write_bytes(b"b" * 100)
    assert of(one) != first
    # What cannot be read has no mark; to load it says why.
    one.unlink()
    assert of(one) == ""
    assert dataset_mark(f"folder:{tmp_path / 'nowhere'}") == ""


def test_a_folder_counts_by_the_images_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos")
    (tmp_path / "owls").mkdir()
    photo(tmp_path / "owls" / "0.png")
    (folder / "owl").symlink_to(tmp_path / "owls")
    first = dataset_mark(f"folder:{folder}")
    assert first
    # The same folder named from where the user stands, and wherever it is moved to.
    monkeypatch.chdir(tmp_path)
    assert dataset_mark("folder:photos") == first
    folder = folder.rename(tmp_path / "a:b")
    assert dataset_mark(f"folder:{folder}") == first
    # What is no image of it does not count.
    for name in (".hidden.png", "notes.txt", ".DS_Store"):
        (folder / "cat" / name).write_bytes(b"a")
    assert dataset_mark(f"folder:{folder}") == first
    new = folder / "cat" / "1.png"
    changes: list[Callable[[], object]] = [
        lambda: photo(new),
        lambda: photo(new, seed=7),
        lambda: touch(new),
        lambda: new.rename(folder / "dog" / "1.png"),
        # In a class that lies elsewhere.
        lambda: photo(tmp_path / "owls" / "1.png"),
    ]
    marks = [first]
    for change in changes:
        change()
        marks.append(dataset_mark(f"folder:{folder}"))
    assert len(set(marks)) == len(changes) + 1


def test_train_and_test_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "test"):
        photos(tmp_path / split)
    before = dataset_mark(f"folder:{tmp_path}")
    (tmp_path / "train").rename(tmp_path / "other")
    (tmp_path / "test").rename(tmp_path / "train")
    (tmp_path / "other").rename(tmp_path / "test")
    photo(tmp_path / "other.png")
    assert dataset_mark(f"folder:{tmp_path}") != before


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux'")
def test_a_name_that_is_no_text_has_a_mark(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    before = dataset_mark(f"folder:{folder}")
    photo(os.fsencode(folder) + b"/cat/caf\xe9.png")
    assert dataset_mark(f"folder:{folder}") not in ("", before)


def test_a_run_on_photos_is_finished_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val", "test"):
        photos(tmp_path / split, n=4)
    monkeypatch.chdir(tmp_path)
    # Reports and cache lie in the very folder.
    recipe = training(tmp_path, dataset="folder:.", limit=None, epochs=1)
    run_training(recipe)
    assert finished_record(recipe) is not None
    prepared = prepare_training(recipe)
    photo(tmp_path / "train" / "cat" / "new.png")
    assert finished_record(recipe) is None
    # One that was added behind the reading is not in what was trained.
    run_prepared_training(prepared)
    assert finished_record(recipe) is None


def test_a_folder_is_listed_once_for_all_runs_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featx.pipeline import studies

    folder = photos(tmp_path / "photos", n=10)
    study = make_study(
        {
            "task": "train", "network": "conv2", "dataset": f"folder:{folder}", "image_size": 16,
            "epochs": 1, "lr": [0.1, 0.01], "out": str(tmp_path / "reports"), "exhibits": False,
        }
    )  # fmt: skip
    for member in study.members:
        run_training(member.recipe)
    listed: list[str] = []
    real = studies.dataset_mark
    monkeypatch.setattr(studies, "dataset_mark", lambda name: (listed.append(name), real(name))[1])
    assert finished_runs(study) == 2
    assert len(listed) == 1

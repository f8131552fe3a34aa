"""The mark of a run's files: a file is its content, a folder the names, lengths and times in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.pipeline.about import inputs_digest
from featx.recipes import make_recipe

AN_HOUR_NS = 3_600_000_000_000


def mark(**values: str) -> str:
    settings = {"backbone": "resnet18", "cuts": ["layer1"], "dataset": "digits", **values}
    return inputs_digest(make_recipe(settings))


def touch(path: Path) -> None:
    """Make a file an hour younger."""
    changed = path.stat().st_mtime_ns + AN_HOUR_NS
    os.utime(path, ns=(changed, changed))


def photos(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / name / "1.png")
    return folder


def test_a_run_without_files_has_no_mark() -> None:
    assert mark(weights="none") == mark() == ""


@pytest.mark.parametrize("field", ["weights", "dataset"])
def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path: Path, field: str) -> None:
    def of(path: Path) -> str:
        return mark(**{field: f"npz:{path}" if field == "dataset" else str(path)})

    one, two = tmp_path / "one.npz", tmp_path / "elsewhere.npz"
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


def test_a_folder_counts_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(tmp_path / "photos")
    marks = [mark(dataset=f"folder:{folder}")]
    assert mark(dataset=f"folder:{folder}") == marks[0]
    # The same folder, named from where the user stands.
    monkeypatch.chdir(tmp_path)
    assert mark(dataset="folder:photos") == marks[0]
    changes: dict[str, Callable[[], object]] = {
        "one more": lambda: (folder / "cat" / "2.png").write_bytes(b"a"),
        "longer": lambda: (folder / "cat" / "2.png").write_bytes(b"ab"),
        "newer": lambda: touch(folder / "cat" / "2.png"),
        "renamed": lambda: (folder / "cat" / "2.png").rename(folder / "dog" / "2.png"),
    }
    for change in changes.values():
        change()
        marks.append(mark(dataset=f"folder:{folder}"))
    assert len(set(marks)) == len(changes) + 1
    # A link to nothing is no image, and no reason to fail.
    (folder / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert mark(dataset=f"folder:{folder}") == marks[-1]


def test_a_folder_that_is_called_as_a_network_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "resnet18")
    monkeypatch.chdir(tmp_path)
    assert mark() == ""

"""Exhibits come back as they were, and broken files say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featx.errors import FeatxError
from featx.evaluate import Exhibits, read_exhibits
from featx.evaluate.exhibits import (
    CellExhibit,
    DataExhibit,
    DuplicateExhibit,
    HeatMapExhibit,
    MapExhibit,
    ResultExhibit,
    ShownImage,
    TileSheet,
)


def image(index: int, tile: int | None = None) -> ShownImage:
    return ShownImage(index=index, label=1, tile=tile)


def full() -> Exhibits:
    """One of everything that shows images."""
    cell = CellExhibit(label=1, predicted=2, n=1, images=[image(1, 0)])
    duplicate = DuplicateExhibit(first="train", second="val", n=1, pairs=[(image(4, 1), image(5))])
    heat = HeatMapExhibit(
        what="activation", split="test", image=image(6), files={"layer1": "exhibits/heat-0.png"}
    )
    return Exhibits(
        name="run",
        created="2026-01-02T03:04:05+00:00",
        tiles=TileSheet(file="exhibits/tiles.webp", tile=32, columns=2, n=2),
        results=[ResultExhibit(cut="layer1", head="svm", split="test", cells=[cell])],
        maps=[MapExhibit(cut="layer1", split="val", method="pca", x=[0], y=[0], images=[image(2)])],
        data=DataExhibit(samples={"train": [image(3)]}, duplicates=[duplicate]),
        heat_maps=[heat],
    )


def write(folder: Path, values: Any) -> Path:
    (folder / "exhibits").mkdir(exist_ok=True)
    for name in ("tiles.webp", "heat-0.png"):
        (folder / "exhibits" / name).write_bytes(b"picture")
    text = values if isinstance(values, str) else json.dumps(values)
    (folder / "exhibits.json").write_text(text)
    return folder


def values() -> dict[str, Any]:
    return full().model_dump(mode="json")


def test_come_back_through_json(tmp_path: Path) -> None:
    assert read_exhibits(write(tmp_path, full().model_dump_json(exclude_none=True))) == full()


def test_nothing_is_none(tmp_path: Path) -> None:
    assert read_exhibits(tmp_path) is None
    assert read_exhibits(tmp_path / "missing") is None


def test_every_image_is_listed_with_its_split() -> None:
    assert [(split, shown.index) for split, shown in full().shown()] == [
        ("test", 1), ("val", 2), ("train", 3), ("train", 4), ("val", 5), ("test", 6)
    ]  # fmt: skip
    assert full().files() == ["exhibits/tiles.webp", "exhibits/heat-0.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "exhibits.json is not valid JSON.*Run the experiment again, or remove the file"),
        ("[1]", "holds no exhibits: it has no 'exhibits_version'"),
        ("{}", "holds no exhibits: it has no 'exhibits_version'"),
        ('{"exhibits_version": 2}', "has version 2; this featx reads version 1. Use the featx"),
        ('{"exhibits_version": 1}', "holds no valid exhibits: name: Field required; created"),
    ],
)
def test_files_that_are_no_exhibits(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FeatxError, match=message):
        read_exhibits(write(tmp_path, text))


def test_unknown_fields_and_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatxError, match="extra: Extra inputs are not permitted"):
        read_exhibits(write(tmp_path, {**values(), "extra": 1}))
    broken = values()
    broken["maps"][0]["x"] = [float("nan")]
    with pytest.raises(FeatxError, match=r"maps\.0\.x\.0: Input should be a finite number"):
        read_exhibits(write(tmp_path, broken))


@pytest.mark.parametrize(
    "file",
    [
        "../secret.png", "/etc/passwd", "exhibits/../../secret.png", "exhibits/..", "exhibits/",
        "tiles.webp", "exhibits\\..\\x.png", "exhibits/C:x.png", "exhibits/a/b.png", "exhibits/\0",
    ],
)  # fmt: skip
def test_no_file_of_another_folder_is_taken(file: str, tmp_path: Path) -> None:
    broken = values()
    broken["heat_maps"][0]["files"] = {"layer1": file}
    with pytest.raises(FeatxError, match="expected one in exhibits/"):
        read_exhibits(write(tmp_path, broken))


def test_missing_pictures_and_tiles_are_said(tmp_path: Path) -> None:
    write(tmp_path, values())
    (tmp_path / "exhibits" / "tiles.webp").unlink()
    with pytest.raises(FeatxError, match=r"'exhibits/tiles\.webp', which is not there"):
        read_exhibits(tmp_path)
    for tile in (2, -1):
        broken = values()
        broken["results"][0]["cells"][0]["images"][0]["tile"] = tile
        with pytest.raises(FeatxError, match=f"image 1 of test the thumbnail {tile}; there are 2"):
            read_exhibits(write(tmp_path, broken))
    broken = {**values(), "tiles": None}
    with pytest.raises(FeatxError, match="thumbnail 0; there are 0"):
        read_exhibits(write(tmp_path, broken))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "exhibits.json").mkdir()
    with pytest.raises(FeatxError, match=r"exhibits\.json cannot be read: .* permissions"):
        read_exhibits(tmp_path)

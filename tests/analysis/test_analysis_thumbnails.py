"""The sheet of thumbnails, opened again, against the images it was made of."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.analysis import thumbnails
from featx.analysis.thumbnails import encode, give_tiles, in_turn, make_sheet, tile_side
from featx.data import ArrayImages, FileImages
from featx.evaluate.exhibits import (
    CellExhibit,
    DataExhibit,
    Exhibits,
    ResultExhibit,
    ShownImage,
    TileSheet,
)


def plain(n: int, side: int = 32, first: int = 0) -> ArrayImages:
    """Images of one colour each, which says their number: any mix-up is seen."""
    colours = np.array([colour(first + i) for i in range(n)], dtype=np.uint8)
    return ArrayImages(np.broadcast_to(colours[:, None, None], (n, side, side, 3)).copy())


def colour(i: int) -> tuple[int, int, int]:
    return (40 * (i % 6) + 20, 40 * (i // 6 % 6) + 20, 40 * (i // 36 % 6) + 20)


def noise(n: int, side: int) -> ArrayImages:
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8))


def tile(data: bytes, about: TileSheet, t: int) -> np.ndarray:
    """Cut a tile out as the schema says where it lies."""
    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    row, column = t // about.columns * about.tile, t % about.columns * about.tile
    return sheet[row : row + about.tile, column : column + about.tile]


def test_queues_take_turns_and_no_image_comes_twice() -> None:
    a = [("test", 1), ("test", 1), ("test", 2), ("test", 3), ("test", 4)]
    b = [("val", 1), ("test", 2)]
    found = in_turn([a, b, []])
    assert found == [("test", 1), ("val", 1), ("test", 2), ("test", 3), ("test", 4)]


def test_tiles_lie_where_the_sheet_says() -> None:
    splits = {"val": plain(40), "test": plain(60, first=100)}
    wanted = [("test", i) for i in range(50)] + [("val", 39), ("val", 3)]
    sheet = make_sheet(splits, wanted)
    assert sheet is not None
    assert (sheet.about.tile, sheet.about.n) == (32, 52)
    assert list(sheet.places) == wanted
    for (split, index), t in sheet.places.items():
        expected = colour(index + (100 if split == "test" else 0))
        # The lossy format blurs the edges of neighbours of another colour.
        inside = tile(sheet.data, sheet.about, t)[6:-6, 6:-6]
        assert np.abs(inside - expected).max() <= 12


def test_small_images_are_kept_exactly() -> None:
    images = noise(9, 8)
    sheet = make_sheet({"test": images}, [("test", i) for i in range(9)])
    assert sheet is not None
    assert sheet.about.tile == 8
    for i in range(9):
        assert np.array_equal(tile(sheet.data, sheet.about, i), images.array[i])


def test_the_budget_is_kept_and_the_most_wanted_stay() -> None:
    splits = {"test": noise(400, 32)}
    wanted = [("test", i) for i in range(399, -1, -1)]
    sheet = make_sheet(splits, wanted, most_bytes=60_000)
    assert sheet is not None
    assert 40_000 < len(sheet.data) <= 60_000
    assert list(sheet.places) == wanted[: sheet.about.n]
    again = make_sheet(splits, wanted, most_bytes=60_000)
    assert again == sheet
    assert make_sheet(splits, wanted, most_bytes=30) is None
    assert make_sheet(splits, [], most_bytes=60_000) is None


def test_files_of_any_size_are_shown_whole(tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, :150] = (250, 0, 0)
    wide[:, 150:] = (0, 0, 250)
    paths = [tmp_path / "wide.jpg", tmp_path / "tiny.png"]
    Image.fromarray(wide).save(paths[0], quality=95)
    Image.fromarray(np.full((5, 9, 3), 200, np.uint8)).save(paths[1])
    splits = {"train": FileImages(paths)}
    assert tile_side(splits) == 48
    sheet = make_sheet(splits, [("train", 0), ("train", 1)])
    assert sheet is not None
    first, second = (tile(sheet.data, sheet.about, t) for t in range(2))
    # 48 x 16 pixels in the middle, grey above and below.
    assert np.abs(first[20:28, 4:20] - (250, 0, 0)).max() < 40
    assert np.abs(first[20:28, 28:44] - (0, 0, 250)).max() < 40
    assert np.abs(first[:12] - 128).max() < 40
    assert np.abs(second[23:25, 21:27] - 200).max() < 30
    assert np.abs(second[:16] - 128).max() < 40


def test_a_pillow_without_webp_writes_png(monkeypatch) -> None:
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: False)
    sheet = make_sheet({"test": plain(3)}, [("test", 1)])
    assert sheet is not None
    assert sheet.about.file == "exhibits/tiles.png"
    assert Image.open(io.BytesIO(sheet.data)).format == "PNG"
    assert np.array_equal(tile(sheet.data, sheet.about, 0)[0, 0], colour(1))
    assert encode([]) == b""


def exhibits_with_errors(*indices: int) -> Exhibits:
    images = [ShownImage(index=i, label=0, predicted=1) for i in indices]
    cells = [CellExhibit(label=0, predicted=1, n=9, images=images[k : k + 2]) for k in (0, 2)]
    return Exhibits(
        name="a",
        created="b",
        results=[
            ResultExhibit(cut="x", head="svm", split="test", cells=cells),
            ResultExhibit(cut="y", head="svm", split="test", cells=cells[1:]),
        ],
        data=DataExhibit(samples={"val": [ShownImage(index=0, label=0)]}),
    )


def test_shown_images_get_the_tile_of_their_split_and_index() -> None:
    exhibits = exhibits_with_errors(5, 6, 7, 8)
    sheet = give_tiles(exhibits, {"test": plain(9), "val": plain(9, first=100)})
    assert sheet is not None
    assert exhibits.tiles == sheet.about
    # The first cell of every result comes first, and the samples in turn with them.
    assert list(sheet.places) == [
        ("test", 5), ("val", 0), ("test", 6), ("test", 7), ("test", 8)
    ]  # fmt: skip
    for split, image in exhibits.shown():
        assert image.tile == sheet.places[split, image.index]
    assert exhibits.notes == []


def test_where_the_budget_ends_images_stay_without_a_tile(monkeypatch) -> None:
    monkeypatch.setattr(thumbnails, "_MOST_TILES", 2)
    exhibits = exhibits_with_errors(5, 6, 7, 8)
    give_tiles(exhibits, {"test": plain(9), "val": plain(9)})
    tiles = {(split, image.index): image.tile for split, image in exhibits.shown()}
    assert tiles == {
        ("test", 5): 0, ("val", 0): 1, ("test", 6): None, ("test", 7): None, ("test", 8): None
    }  # fmt: skip
    assert exhibits.notes[0].startswith("2 of the 5 images that are listed have a thumbnail")


@pytest.mark.parametrize("side", [8, 32, 48, 300])
def test_a_tile_is_no_larger_than_the_images(side: int) -> None:
    assert tile_side({"train": plain(2, side)}) == min(side, 48)

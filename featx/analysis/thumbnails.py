"""Thumbnails: which images get one within a budget, and the one picture that holds them all."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.evaluate.exhibits import EXHIBITS_FOLDER, Exhibits, ResultExhibit, TileSheet
from featx.text import human_bytes

if TYPE_CHECKING:
    from PIL import Image

    from featx.data import Images

Place = tuple[str, int]
"""An image: its split, and its index there."""

SHEET_BYTES = 600_000
"""Bytes of a sheet at most."""

TILE = 48
"""Side of a tile in pixels, where the images have as many."""

COLUMNS = 32
# So many JPEGs are decoded for one report at most; 48-pixel tiles hit the budget before.
_MOST_TILES = 2000
# Tiles whose bytes tell those of the others.
_PROBED = 96
# Up to here a tile is no more than one block of the lossy format, which would blur its edges.
_EXACT_BELOW = 16
_QUALITY = 80
# What is beside an image that is no square.
_MARGIN = (128, 128, 128)


@dataclass(frozen=True)
class Sheet:
    """Tiles in one picture.

    Attributes
    ----------
    about : TileSheet
        File name and layout.
    data : bytes
        The picture.
    places : dict of (str, int) to int
        By split and index: the number of the tile.
    """

    about: TileSheet
    data: bytes
    places: dict[Place, int]


def in_turn(queues: Sequence[Iterable[Place]]) -> list[Place]:
    """Return the images of several queues, one from each in turn, each image once.

    So none of them takes the whole budget.
    """
    waiting: list[Iterator[Place]] = [iter(dict.fromkeys(queue)) for queue in queues]
    found: dict[Place, None] = {}
    while waiting:
        for queue in list(waiting):
            place = next((place for place in queue if place not in found), None)
            if place is None:
                waiting.remove(queue)
            else:
                found[place] = None
    return list(found)


def tile_side(splits: Mapping[str, Images], most: int = TILE) -> int:
    """Return the side of a tile in pixels: `most`, or the longest side of any image if smaller."""
    return min(most, max(max(size) for images in splits.values() for size in images.sizes()))


def make_sheet(
    splits: Mapping[str, Images], wanted: Sequence[Place], *, most_bytes: int = SHEET_BYTES
) -> Sheet | None:
    """Return the thumbnails of the first images of a list, as many as the budget allows.

    Parameters
    ----------
    splits : mapping of str to Images
        By name.
    wanted : sequence of (str, int)
        Split and index of each image, each once, the most wanted first.
    most_bytes : int
        Size of the picture at most.

    Returns
    -------
    Sheet or None
        A WebP, or a PNG where Pillow was built without WebP; None where not one tile fits.

    Raises
    ------
    DataError
        When an image file cannot be decoded any more.
    """
    side = tile_side(splits)
    wanted = wanted[:_MOST_TILES]
    tiles = _Tiles(splits, wanted, side)
    n = min(len(wanted), _PROBED)
    data = encode(tiles.first(n))
    if n < len(wanted):
        n = min(len(wanted), max(n, most_bytes * n // len(data)))
        data = encode(tiles.first(n))
    while len(data) > most_bytes:
        # A little less than in proportion: every round is another encoding.
        n = min(n - 1, int(0.97 * n * most_bytes / len(data)))
        if n < 1:
            return None
        data = encode(tiles.first(n))
    if n < 1:
        return None
    file = f"{EXHIBITS_FOLDER}/tiles.{_format()}"
    about = TileSheet(file=file, tile=side, columns=min(COLUMNS, n), n=n)
    return Sheet(about, data, {place: t for t, place in enumerate(wanted[:n])})


class _Tiles:
    """Tiles that are made when they are first asked for."""

    def __init__(self, splits: Mapping[str, Images], places: Sequence[Place], side: int) -> None:
        self._splits, self._places, self._side = splits, places, side
        self._made: list[Image.Image] = []

    def first(self, n: int) -> list[Image.Image]:
        """Return the first `n` tiles."""
        for split, index in self._places[len(self._made) : n]:
            picture = self._splits[split].picture(index, self._side)
            self._made.append(_square(picture, self._side))
        return self._made[:n]


def _square(picture: Image.Image, side: int) -> Image.Image:
    """Return the whole picture in a square tile; it is made smaller, never larger."""
    from PIL import Image, ImageOps

    if max(picture.size) > side:
        picture = ImageOps.contain(picture, (side, side), Image.Resampling.BOX)
    if picture.size == (side, side):
        return picture
    tile = Image.new("RGB", (side, side), _MARGIN)
    tile.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return tile


def encode(tiles: Sequence[Image.Image]) -> bytes:
    """Return the picture of square RGB tiles of one size, row by row; empty for no tiles."""
    from PIL import Image

    if not tiles:
        return b""
    side = tiles[0].width
    columns = min(COLUMNS, len(tiles))
    sheet = Image.new("RGB", (columns * side, math.ceil(len(tiles) / columns) * side), _MARGIN)
    for t, tile in enumerate(tiles):
        sheet.paste(tile, (t % columns * side, t // columns * side))
    stream = io.BytesIO()
    if _format() == "png":
        sheet.save(stream, "PNG", optimize=True)
    else:
        exact = side <= _EXACT_BELOW
        sheet.save(stream, "WEBP", quality=_QUALITY, lossless=exact, method=4)
    return stream.getvalue()


def _format() -> str:
    from PIL import features

    return "webp" if features.check("webp") else "png"


def give_tiles(exhibits: Exhibits, splits: Mapping[str, Images]) -> Sheet | None:
    """Give the images of exhibits thumbnails until the budget ends, and return them.

    Errors, images of the data and of the maps take turns; then come all others. Where not all
    have one, a note says so.

    Parameters
    ----------
    exhibits : Exhibits
        Gets `tiles`, and its images their `tile`.
    splits : mapping of str to Images
        By name.

    Raises
    ------
    DataError
        When an image file cannot be decoded any more.
    """
    queues = [
        _error_places(exhibits.results),
        _places(Exhibits(name="", created="", data=exhibits.data)),
        _places(Exhibits(name="", created="", maps=exhibits.maps)),
    ]
    wanted = in_turn([*queues, _places(exhibits)])
    sheet = make_sheet(splits, wanted)
    places = {} if sheet is None else sheet.places
    exhibits.tiles = None if sheet is None else sheet.about
    for split, image in exhibits.shown():
        image.tile = places.get((split, image.index))
    if len(places) < len(wanted):
        exhibits.notes.append(
            f"{len(places):,} of the {len(wanted):,} images that are listed have a thumbnail: the "
            f"picture of them ends at {human_bytes(SHEET_BYTES)}, or {_MOST_TILES:,} images."
        )
    return sheet


def _places(exhibits: Exhibits) -> list[Place]:
    return [(split, image.index) for split, image in exhibits.shown()]


def _error_places(results: Sequence[ResultExhibit]) -> list[Place]:
    """Return the images of all cells: the first cell of every result, the second, ..."""
    in_rank = itertools.zip_longest(*(result.cells for result in results))
    return [
        (result.split, image.index)
        for cells in in_rank
        for result, cell in zip(results, cells, strict=True)
        if cell is not None
        for image in cell.images
    ]

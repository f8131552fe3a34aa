"""One image file: is it whole, how large is it, which pixels does it hold.

Every file becomes 8-bit RGB, the way a viewer shows it:

- the EXIF orientation is applied;
- of an animation, the first frame is taken;
- 16-bit greys are scaled to 8 bits (65535 becomes 255, rounded);
- palettes, CMYK, YCbCr and Lab are converted; transparency is dropped, as torchvision does.

Only formats that Pillow decodes by itself are read: EPS would start Ghostscript.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI",
    "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip

# Bad files are all counted; so many are named.
SHOWN = 20

_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Header:
    """What is known of a file that can be decoded.

    Attributes
    ----------
    size : tuple of (height, width)
        Pixels, after the EXIF orientation.
    digest : bytes
        SHA-256 of the file's content.
    """

    size: tuple[int, int]
    digest: bytes


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read, by Pillow's names; a Pillow may be built without some."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def extensions() -> frozenset[str]:
    """Return the file name endings (lower case, with the dot) of the formats that are read."""
    from PIL import Image

    return frozenset(
        ending for ending, name in Image.registered_extensions().items() if name in formats()
    )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where the tag is missing or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged tag raises nearly anything, and the pixels are good
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned and mirrored as its EXIF orientation asks (Exif 2.32, 4.6.4 A)."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image in mode RGB.

    Raises
    ------
    ValueError
        For pixels without a known range: floats, or integers beyond 16 bits.
    """
    from PIL import Image

    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey values do not fit 16 bits; save it with 8 or 16 bits")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats without a known range; save it with 8 or 16 bits")
    return image.convert("RGB")


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Make Pillow's warning of a decompression bomb an error, and keep its others quiet.

    The others tell of damaged EXIF data and the like, without naming the file; the pixels are
    good. Filters belong to the whole process: enter this before threads start. Warnings of other
    packages are left alone.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode(path: Path, side: int | None = None) -> Image.Image:
    """Return an image file's pixels, upright, in mode RGB.

    Parameters
    ----------
    path : Path
        The file.
    side : int, optional
        Pixels that are enough for both sides: a JPEG, where it saves most, is then decoded at the
        smallest of its scales (1/8 to 1) that has them.

    Raises
    ------
    DataError
        Naming the file, when it cannot be decoded.
    """
    with quiet_pillow():
        return decode_quieted(path, side)


def decode_quieted(path: Path, side: int | None = None) -> Image.Image:
    """Return what `decode` does, inside of `quiet_pillow`: for threads, which share it."""
    from PIL import Image

    try:
        with Image.open(path, formats=formats()) as image:
            if side is not None:
                image.draft("RGB", (side, side))
            image.load()
            return _upright(_to_rgb(image), _orientation(image))
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise DataError(
            f"Image {path} cannot be decoded: {_reason(error)}. Replace it or take it out."
        ) from error


def probe(path: Path) -> Header | str:
    """Decode a file far enough to know that it is whole.

    JPEG files, where it saves most, are decoded at an eighth of their size: all compressed data
    is read, but few pixels are computed.

    Returns
    -------
    Header or str
        The header, or what is wrong with the file.
    """
    from PIL import Image

    try:
        content = path.read_bytes()
        if not content:
            return "it is empty"
        with Image.open(io.BytesIO(content), formats=formats()) as image:
            full_size = image.size
            coarse = image.draft("RGB", (1, 1)) is not None
            image.load()
            # Asked after loading where possible: Pillow turns a TIFF upright while it loads it.
            width, height = full_size if coarse else image.size
            if image.mode.startswith(("I", "F")):
                _to_rgb(image)
            turned = _orientation(image) >= 5
    except Exception as error:  # decoders raise nearly anything on damaged data
        return _reason(error)
    size = (width, height) if turned else (height, width)
    return Header(size, hashlib.sha256(content).digest())


def _reason(error: Exception) -> str:
    """Return in a few words why a file cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than the {Image.MAX_IMAGE_PIXELS} pixels that Pillow takes for safe"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def probe_all(paths: Iterable[Path], root: Path, threads: int) -> list[Header]:
    """Return the headers of all files, read in parallel.

    Parameters
    ----------
    paths : iterable of Path
        Image files.
    root : Path
        The folder that messages name files relative to.
    threads : int
        How many files are read at a time.

    Raises
    ------
    DataError
        When any cannot be decoded: counts them all, names the first 20.
    """
    files = list(paths)
    with quiet_pillow(), ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(probe, files))
    bad = [
        f"  {relative_name(path, root)}: {result}"
        for path, result in zip(files, results, strict=True)
        if isinstance(result, str)
    ]
    if bad:
        more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        listed = "\n".join(bad[:SHOWN])
        raise DataError(
            f"{len(bad)} of {len(files)} images in {root} cannot be decoded:\n{listed}{more}\n"
            "Replace them or take them out."
        )
    return [result for result in results if isinstance(result, Header)]


def relative_name(path: Path, root: Path) -> str:
    """Return a file's path below `root`, with forward slashes; the whole path elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

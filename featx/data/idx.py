"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) from its four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from featx.data.images import ArrayImages
from featx.data.raw import Part, Raw, Request
from featx.errors import DataError

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

# MD5 of each compressed file, as published with the data set (its README, and torchvision).
FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

# Where the files may lie below the data folder: MNIST's have the same names, so that a folder of
# its own comes first; the last but one is torchvision's.
_PLACES = ("fashion-mnist", "FashionMNIST/raw", ".")

_UINT8 = 8  # type code of the IDX format


def parse_idx(content: bytes, axes: int, where: str) -> np.ndarray:
    """Return the uint8 array of an IDX file.

    The format (LeCun, yann.lecun.com/exdb/mnist): two zero bytes, the type (8 is uint8), the number
    of axes, each length as a big-endian 32-bit integer, then the values.

    Raises
    ------
    DataError
        When the header is another one, or the length does not agree with it.
    """
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes([0, 0, _UINT8, axes]):
        raise DataError(
            f"{where} is no IDX file of uint8 with {axes} axes: it begins with "
            f"{content[:4].hex() or 'nothing'}, expected 0000{_UINT8:02x}{axes:02x}."
        )
    shape = struct.unpack(f">{axes}I", content[4:header])
    size = int(np.prod(shape, dtype=object))
    if len(content) - header != size:
        raise DataError(
            f"{where} announces {size} values and holds {len(content) - header}: it is damaged. "
            "Get it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _read(name: str, request: Request) -> tuple[bytes, Path]:
    """Return the content of a file (found, or downloaded), and where it was."""
    folders = [request.data_dir / place for place in _PLACES]
    for folder in folders:
        plain, packed = folder / name, folder / f"{name}.gz"
        if packed.is_file():
            return _unpacked(packed, name), packed
        if plain.is_file():
            return plain.read_bytes(), plain
    target = folders[0] / f"{name}.gz"
    url = f"{URL}{name}.gz"
    by_hand = f"Download {url} by hand and put it at {target}, or name its folder: --data-dir"
    if not request.download:
        raise DataError(
            f"Fashion-MNIST's {name} is not in {request.data_dir}, and downloads are off. {by_hand}"
        )
    from featx.fetch import fetch

    fetch(url, target, md5=FILES[name], what=f"Fashion-MNIST {name}", by_hand=by_hand)
    return _unpacked(target, name), target


def _unpacked(path: Path, name: str) -> bytes:
    """Return the content of a compressed file that is the official one."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != FILES[name]:
        raise DataError(
            f"{path} is not Fashion-MNIST's file: its MD5 is {found}, expected {FILES[name]} "
            "(MNIST's files have the same names). Delete it, or name another folder: --data-dir"
        )
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: {error}. Get it again.") from error


def load_fashion_mnist(request: Request) -> Raw:
    """Return Fashion-MNIST: 60,000 training and 10,000 test greys of 28 x 28, ten classes.

    Compressed files are compared with their published MD5. Unpacked ones have no published
    checksum: their header, lengths and labels are checked, and the record says so.

    Raises
    ------
    DataError
        When a file is not the right one, or is missing and downloads are off.
    DownloadError
        When a file cannot be fetched.
    """
    parts = {}
    checked = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        content, images_path = _read(f"{prefix}-images-idx3-ubyte", request)
        images = parse_idx(content, 3, str(images_path))
        content, labels_path = _read(f"{prefix}-labels-idx1-ubyte", request)
        labels = parse_idx(content, 1, str(labels_path))
        if len(images) != len(labels) or (len(labels) and labels.max() >= len(CLASSES)):
            raise DataError(
                f"{images_path} has {len(images)} images and {labels_path} {len(labels)} labels up "
                f"to {labels.max(initial=0)}: they do not belong together. Get both again."
            )
        parts[split] = Part(ArrayImages(images), labels.astype(np.int64))
        for path in (images_path, labels_path):
            checked[path.name] = (
                FILES[path.stem] if path.suffix == ".gz" else "header, length and labels only"
            )
    return Raw(
        name="fashion-mnist",
        classes=dict(enumerate(CLASSES)),
        parts=parts,
        origin={"url": URL, "files_md5": checked},
    )

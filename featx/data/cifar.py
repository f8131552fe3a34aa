"""CIFAR-10 (Krizhevsky, 2009) from its official Python archive, without executing pickle code."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from featx.data.images import ArrayImages
from featx.data.raw import Part, Raw, Request
from featx.errors import DataError

ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # as published at cs.toronto.edu/~kriz/cifar.html
ARCHIVE_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
FOLDER = "cifar-10-batches-py"
META = "batches.meta"
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"

# MD5 of the files in the official archive.
FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}

# The classes of the five-class study (experiment D1), with their CIFAR-10 labels 5 to 9.
FIVE = ("dog", "frog", "horse", "ship", "truck")


class _Dtype:
    """Stands for the only dtype the files hold: numpy's own crashes on a state it did not write."""

    def __init__(self, code: str, *rest: object) -> None:
        if code != "u1":
            raise pickle.UnpicklingError(f"a dtype of {code!r}, where only 'u1' is expected")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment mean nothing to single bytes."""


class _Array:
    """Stands for an array and its class until its shape and bytes are known and checked."""

    values: np.ndarray | None = None

    def __init__(self, *rest: object) -> None:
        """Take what numpy's `_reconstruct` takes: class, shape and type of an empty array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or fortran or not isinstance(raw, str):
            raise pickle.UnpicklingError("an array that is no rows of bytes")
        values = np.frombuffer(raw.encode("latin-1"), np.uint8)
        if min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"an array of shape {shape}")
        self.values = values.reshape(shape)


class _PlainUnpickler(pickle.Unpickler):
    """Resolves the three globals that the official files name, and no other.

    They stand for numpy's, which never sees what a file says.
    """

    GLOBALS = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for the global '{module}.{name}'") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def read_pickle(content: bytes, path: Path) -> dict[str, Any]:
    """Return the dict that a file of the archive holds, executing nothing.

    Parameters
    ----------
    content : bytes
        The file's content.
    path : Path
        Its name, for messages.

    Raises
    ------
    DataError
        When the file asks for anything but a plain uint8 array, or is damaged.
    """
    try:
        # Written by Python 2: its byte strings are read as latin-1, one character per byte.
        loaded = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} is refused: {error}. It is no file of CIFAR-10; nothing of it was executed. "
            f"Delete it and get {ARCHIVE} from {URL}"
        ) from error
    if not isinstance(loaded, dict):
        raise DataError(f"{path} is refused: it holds a {type(loaded).__name__}, not a dict.")
    for name, value in loaded.items():
        if isinstance(value, _Array):
            if value.values is None:
                raise DataError(f"{path} is refused: its array {name!r} has no values.")
            loaded[name] = value.values
    return loaded


def unpack(archive: Path, folder: Path) -> None:
    """Write the seven data files of the archive to `folder`, each whole or not at all.

    Only members with exactly the expected names are read, and only plain files.

    Raises
    ------
    DataError
        When a file is missing from the archive, is not the official one, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = set(FILES)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix(f"{FOLDER}/")
                if member.name != f"{FOLDER}/{name}" or name not in missing or not member.isreg():
                    continue
                opened = tar.extractfile(member)
                assert opened is not None, "a plain file opens"
                with opened:
                    content = opened.read()
                _check(content, name, f"{archive}: {member.name}")
                _write(folder / name, content)
                missing.discard(name)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(
            f"{archive} could not be unpacked to {folder}: {error}. "
            "Unpack it by hand, or choose another folder with --data-dir."
        ) from error
    if missing:
        raise DataError(f"{archive} lacks {', '.join(sorted(missing))}: get it again from {URL}")


def _write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and move it to its place."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check(content: bytes, name: str, where: str) -> None:
    """Refuse a file whose MD5 is not the official one."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != FILES[name]:
        raise DataError(
            f"{where} is not the official file: its MD5 is {found}, expected {FILES[name]}. "
            f"Delete it and get {ARCHIVE} again from {URL}"
        )


def _folder(request: Request) -> Path:
    """Return the folder with the seven files: found, unpacked, or downloaded and unpacked."""
    data_dir = request.data_dir
    target = data_dir / FOLDER
    for folder in (data_dir, target):
        if all((folder / name).is_file() for name in FILES):
            return folder
    archive = data_dir / ARCHIVE
    by_hand = f"Download {URL} by hand and put it into {data_dir}, or name its folder: --data-dir"
    if not archive.is_file() and not request.download:
        raise DataError(f"CIFAR-10 is not in {data_dir}, and downloads are off. {by_hand}")
    from featx.fetch import fetch

    fetch(URL, archive, sha256=ARCHIVE_SHA256, md5=ARCHIVE_MD5, what="CIFAR-10", by_hand=by_hand)
    unpack(archive, target)
    return target


def load_cifar10(request: Request) -> Raw:
    """Return CIFAR-10: 50,000 training and 10,000 test images of 32 x 32, ten classes.

    Raises
    ------
    DataError
        When a file is not the official one, or is missing and downloads are off.
    DownloadError
        When the archive cannot be fetched.
    """
    folder = _folder(request)

    def read(name: str) -> dict[str, Any]:
        content = (folder / name).read_bytes()
        _check(content, name, str(folder / name))
        return read_pickle(content, folder / name)

    def part(names: tuple[str, ...]) -> Part:
        batches = [read(name) for name in names]
        # Each row is 32 x 32 reds, then greens, then blues.
        pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([batch["labels"] for batch in batches]).astype(np.int64)
        return Part(ArrayImages(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))), labels)

    names = read(META)["label_names"]
    return Raw(
        name="cifar10",
        classes=dict(enumerate(names)),
        parts={"train": part(TRAIN), "test": part((TEST,))},
        origin={
            "url": URL,
            "archive_sha256": ARCHIVE_SHA256,
            "archive_md5": ARCHIVE_MD5,
            "files_md5": dict(FILES),
        },
    )


def load_cifar5(request: Request) -> Raw:
    """Return CIFAR-10's dog, frog, horse, ship and truck, with their labels 5 to 9."""
    whole = load_cifar10(request)
    classes = {label: name for label, name in whole.classes.items() if name in FIVE}
    parts = {}
    for split, part in whole.parts.items():
        rows = np.flatnonzero(np.isin(part.y, list(classes)))
        parts[split] = Part(part.images.take(rows), part.y[rows])
    return Raw(name="cifar5", classes=classes, parts=parts, origin=whole.origin)

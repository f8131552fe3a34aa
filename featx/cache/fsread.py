"""The only module that reads and lists cache files.

Every `OSError` leaves as a `CacheError` that names the path and the reason.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from featx.errors import CacheError

Result = TypeVar("Result")

# Measured: a piece that is read into the second-level cache is digested from there; of 64 kB to
# 4 MB this was the fastest.
_PIECE_BYTES = 2**18


@dataclass(frozen=True)
class FileStat:
    """One file of a folder; the time of its last change is in seconds since the epoch."""

    name: str
    size_bytes: int
    changed_s: float


def read(path: Path, at_most: int) -> memoryview | None:
    """Return the content of a file, or None where there is no such file.

    Parameters
    ----------
    path : Path
        The file.
    at_most : int
        Bytes that are expected. Of a longer file one byte more is returned, so that a wrong file
        cannot fill the memory and is seen to be too long.

    Raises
    ------
    CacheError
        If the file cannot be read.
    """

    def whole(file: io.FileIO) -> memoryview:
        # A numpy array asks the system for huge pages, a bytes object does not: twice as fast.
        content = np.empty(min(at_most, os.fstat(file.fileno()).st_size) + 1, dtype=np.uint8).data
        return content[: _fill(file, [content], None)].toreadonly()

    return _with_file(path, whole)


def read_into(
    path: Path, parts: Sequence[memoryview], seen: Callable[[memoryview], object] | None = None
) -> int | None:
    """Fill pieces of memory with a file, one behind the other, and return how many bytes came.

    Parameters
    ----------
    path : Path
        The file.
    parts : sequence of memoryview
        Writable bytes.
    seen : callable, optional
        Gets what has been read, piece by piece while it is in the processor's cache: for digests.

    Returns
    -------
    int or None
        Less than there is room for where the file is shorter; None where there is no such file.

    Raises
    ------
    CacheError
        If the file cannot be read.
    """
    return _with_file(path, lambda file: _fill(file, parts, seen))


def _with_file(path: Path, work: Callable[[io.FileIO], Result]) -> Result | None:
    """Return what `work` makes of an open file, or None where there is no such file."""
    try:
        # Before it is opened: a pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            raise CacheError(f"Cannot read '{path}': it is not a file. Remove it.")
        with path.open("rb", buffering=0) as file:
            return work(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(_read_failed(path, error)) from error


def _fill(
    file: io.FileIO, parts: Sequence[memoryview], seen: Callable[[memoryview], object] | None
) -> int:
    """Fill pieces of memory from an open file, and return how many bytes came."""
    filled = 0
    for part in parts:
        for start in range(0, len(part), _PIECE_BYTES):
            piece = part[start : start + _PIECE_BYTES]
            at = 0
            while at < len(piece) and (n_bytes := file.readinto(piece[at:])):
                at += n_bytes
            if seen is not None:
                seen(piece[:at])
            filled += at
            if at < len(piece):
                return filled
    return filled


def size_bytes(path: Path) -> int | None:
    """Return the size of a file, or None where there is no such file.

    Raises
    ------
    CacheError
        If the folder cannot be read.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(_read_failed(path, error)) from error


def changed_s(path: Path) -> float | None:
    """Return when a file was last changed, seconds since the epoch, or None where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def is_own_folder(path: Path) -> bool:
    """Return whether a folder is there and lies where its name does: no link, no junction."""
    try:
        found = path.lstat()
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return stat.S_ISDIR(found.st_mode) and (
        junction is None or getattr(found, "st_reparse_tag", None) != junction
    )


def files(folder: Path) -> list[FileStat]:
    """Return the files of a folder by name; none where there is no such folder.

    Raises
    ------
    CacheError
        If the folder cannot be read.
    """
    found = []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                try:
                    if entry.is_file(follow_symlinks=False):
                        stat = entry.stat(follow_symlinks=False)
                        found.append(FileStat(entry.name, stat.st_size, stat.st_mtime))
                except FileNotFoundError:
                    continue  # removed by another process since the folder was listed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CacheError(_read_failed(folder, error)) from error
    return sorted(found, key=lambda file: file.name)


def folders(folder: Path) -> list[Path]:
    """Return the folders inside a folder by name; none where there is no such folder.

    Links to folders are among them, as a user may keep a part of a cache on another disk.

    Raises
    ------
    CacheError
        If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as scan:
            return sorted(Path(entry.path) for entry in scan if _leads_to_folder(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CacheError(_read_failed(folder, error)) from error


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look: one hides no others
        return False


def free_bytes(path: Path) -> int:
    """Return the free space, in bytes, of the disk that holds `path`, which need not exist.

    Raises
    ------
    CacheError
        If the disk does not say.
    """
    folder = path.absolute()
    try:
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise CacheError(_read_failed(folder, error)) from error


def _read_failed(path: Path, error: OSError) -> str:
    return f"Cannot read '{path}': {error.strerror or error}. Check the disk and its permissions."

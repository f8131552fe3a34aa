"""The only module that touches cache files: read, publish atomically, remove, list.

A published file is complete or not there at all: it is written under a temporary name in its own
folder, synced, renamed, and the folder is synced. Every `OSError` leaves as a `CacheError` that
names the path and the reason, and a failed write leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import CacheError, CacheWriteError

TEMPORARY_SUFFIX = ".tmp"
"""Ends the names of files that are not published yet."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class FileStat:
    """One file of a folder; the time of its last change is in seconds since the epoch."""

    name: str
    size_bytes: int
    changed_s: float


def publish(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely and stays, or is not there at all.

    An existing file of that name is replaced in one step.

    Raises
    ------
    CacheWriteError
        If the disk refuses: names the path and the reason, for a full disk also the bytes needed
        and free.
    """
    with _replacing(path, len(data)) as temporary:
        _write_synced(temporary, data)


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a large file to; it is published when the block ends.

    Raises
    ------
    CacheWriteError
        If the disk refuses; nothing is left behind then, nor when the block raises.
    """
    with _replacing(path) as temporary:
        yield temporary
        _sync(temporary, os.O_RDWR)


@contextlib.contextmanager
def _replacing(path: Path, needed: int = 0) -> Iterator[Path]:
    """Yield a temporary path; what the block has written and synced there replaces `path`."""
    temporary = _temporary(path)
    try:
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            _discard(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _write_error("write", path, error, needed) from error


def touch(path: Path) -> None:
    """Set the time of a file to now, making it where it is missing; a disk that refuses may.

    For times that are good to know and prove nothing: a cache that cannot be written to keeps none.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        path.touch()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, synced so that they survive a power loss.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
    except OSError as error:
        raise _write_error("make", path, error) from error


def remove_file(path: Path) -> bool:
    """Remove a file and return whether it was there.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    try:
        path.unlink()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _write_error("remove", path, error) from error
    return True


def remove_empty_folder(path: Path) -> None:
    """Remove a folder if nothing is in it; a folder that is in use or gone is left alone.

    Raises
    ------
    CacheWriteError
        If the disk refuses for another reason.
    """
    try:
        path.rmdir()
        _sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise _write_error("remove", path, error) from error


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
    try:
        with path.open("rb", buffering=0) as file:
            # Twice as fast as a bytes object: numpy asks the system for huge pages.
            content = np.empty(min(at_most, _length(file)) + 1, dtype=np.uint8).data
            filled = 0
            while n_bytes := file.readinto(content[filled:]):
                filled += n_bytes
            return content[:filled].toreadonly()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CacheError(_read_failed(path, error)) from error


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

    Raises
    ------
    CacheError
        If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as scan:
            return sorted(Path(e.path) for e in scan if e.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CacheError(_read_failed(folder, error)) from error


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


def _length(file: io.FileIO) -> int:
    """Return the length of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def _write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """Return a name for a file that is not published yet.

    It is unique, so that processes writing the same file at once do not share a temporary one.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(6)}{TEMPORARY_SUFFIX}")


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    if os.name == "nt":
        return  # Windows cannot open a folder for this, and keeps names in its journal
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    """Remove a temporary file; what fails here must not hide the error that led here."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # `gc` finds it by its name


def _write_error(verb: str, path: Path, error: OSError, needed: int = 0) -> CacheWriteError:
    """Return the error that says what could not be written, why, and what to do."""
    reason = error.strerror or str(error)
    text = f"Cannot {verb} '{path}': {reason}."
    if error.errno in _FULL:
        with contextlib.suppress(CacheError):
            wanted = f"Needed: {needed:,} bytes, free" if needed else "Free"
            text += f" {wanted}: {free_bytes(path.parent):,} bytes."
        text += " Free some space, or choose another disk (--cache-dir, for reports --out)."
    else:
        text += " Check the disk and its permissions, or choose another folder"
        text += " (--cache-dir, for reports --out)."
    return CacheWriteError(text)


def _read_failed(path: Path, error: OSError) -> str:
    return f"Cannot read '{path}': {error.strerror or error}. Check the disk and its permissions."

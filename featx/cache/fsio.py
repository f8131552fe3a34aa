"""The only module that writes cache files: publish atomically, remove.

A published file is complete or not there at all: it is written under a temporary name in its own
folder, synced, renamed, and the folder is synced. Every `OSError` leaves as a `CacheError` that
names the path and the reason, and a failed write leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from featx.cache.fsread import free_bytes, is_own_folder
from featx.errors import CacheError, CacheWriteError

TEMPORARY_SUFFIX = ".tmp"
"""Ends the names of files that are not published yet."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Draft:
    """A new file under a temporary name, until it is published or discarded.

    Parameters
    ----------
    folder : Path
        Where it will be.
    name : str
        Its name, which `publish` may change.
    size_bytes : int
        Its length, for the message of a full disk.

    Raises
    ------
    CacheWriteError
        If the disk refuses, here and in all methods but `discard`: names the path and the reason,
        for a full disk also the bytes needed and free. Nothing is left behind then.
    """

    def __init__(self, folder: Path, name: str, size_bytes: int) -> None:
        self._path = folder / name
        self._size_bytes = size_bytes
        self._temporary = _temporary(self._path)
        self._descriptor: int | None = None
        self._written = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with self._named():
            self._descriptor = os.open(self._temporary, flags, 0o666)

    def write(self, data: bytes | memoryview) -> None:
        """Write what comes next."""
        rest = memoryview(data).cast("B")
        with self._named():
            assert self._descriptor is not None
            while rest:
                n_bytes = os.write(self._descriptor, rest)
                _send(self._descriptor, self._written, n_bytes)
                self._written += n_bytes
                rest = rest[n_bytes:]

    def publish(self, name: str | None = None) -> None:
        """Put the file in its place, complete and safe; what has its name is replaced in one step.

        Parameters
        ----------
        name : str, optional
            The name, where it is not the one it was begun with.
        """
        path = self._path.with_name(name) if name else self._path
        with self._named():
            assert self._descriptor is not None
            _flush(self._descriptor)
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            self._temporary.replace(path)
            _sync_folder(path.parent)

    def discard(self) -> None:
        """Remove what was written; what fails here must not hide the error that led here."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _discard(self._temporary)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Give errors of the block the path, and remove the file."""
        try:
            yield
        except OSError as error:
            # Before the file is removed: what is free then would be no explanation.
            told = _write_error("write", self._path, error, self._size_bytes - self._written)
            self.discard()
            raise told from error
        except BaseException:
            self.discard()
            raise


def publish(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely and stays, or is not there at all.

    An existing file of that name is replaced in one step.

    Raises
    ------
    CacheWriteError
        If the disk refuses: names the path and the reason, for a full disk also the bytes needed
        and free.
    """
    draft = Draft(path.parent, path.name, len(data))
    draft.write(data)
    draft.publish()


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write a large file to; it is published when the block ends.

    Raises
    ------
    CacheWriteError
        If the disk refuses; nothing is left behind then, nor when the block raises.
    """
    temporary = _temporary(path)
    try:
        try:
            yield temporary
            _sync(temporary, os.O_RDWR)
            temporary.replace(path)
        except BaseException:
            _discard(temporary)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _write_error("write", path, error) from error


def touch(path: Path) -> None:
    """Set the time of a file to now, making it where it is missing; a disk that refuses may.

    For times that are good to know and prove nothing: a cache that cannot be written to keeps none.
    No link is followed, neither in the place of the file nor of its folder.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        if path.is_symlink() or not is_own_folder(path.parent):
            return
        # The flags are for what comes between: a link fails, and no pipe is waited for.
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        try:
            os.utime(descriptor if os.utime in os.supports_fd else path)
        finally:
            os.close(descriptor)


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
    """Remove a folder if nothing is in it; what is in use, gone or only a link is left alone.

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
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _write_error("remove", path, error) from error


def _send(descriptor: int, start: int, n_bytes: int) -> None:
    """Let the disk begin with what was written, so that the sync behind it is short.

    Linux begins to write dirty pages that are said not to be needed, and keeps them meanwhile.
    """
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, start, n_bytes, os.POSIX_FADV_DONTNEED)


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
        _flush(descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Wait until the disk has what was written; macOS keeps it in the drive unless told so."""
    if sys.platform == "darwin":
        import fcntl

        # Not every file system knows it; those that do not get what others get.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


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

"""One process at a time computes an entry; the others wait, and find it done.

Nothing but work depends on these locks: where a file system has none, or they do nothing, processes
write the same bytes at the same time, and the writer is made for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.cache import fsio, fsread
from featx.cache.keys import FeatureKey
from featx.errors import CacheError
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from filelock import FileLock

LOCKS = ".locks"
"""Folder of the lock files in a store."""

_POLL_S = 0.2


@contextlib.contextmanager
def computing(
    root: Path, keys: Sequence[FeatureKey], progress: Progress = SILENT
) -> Iterator[bool]:
    """Hold the locks of entries; yield whether another process held one of them before.

    Parameters
    ----------
    root : Path
        The store's folder.
    keys : sequence of FeatureKey
        Of the entries. They are locked in one order, so that no two processes wait for each other.
    progress : Progress, optional
        Is told what is waited for.
    """
    waited = False
    with contextlib.ExitStack() as stack:
        for key in sorted(keys, key=lambda key: key.digest):
            held = _lock(root, key, progress)
            if held is not None:
                lock, had_to_wait = held
                stack.callback(_release, lock)
                waited |= had_to_wait
        yield waited


@contextlib.contextmanager
def unless_locked(root: Path, digits: str) -> Iterator[bool]:
    """Hold the lock of an entry, if no other process does; yield whether the entry may be changed.

    Where there are no locks it may.

    Parameters
    ----------
    root : Path
        The store's folder.
    digits : str
        First digits of the key's digest, with which the entry's folder ends.
    """
    from filelock import Timeout

    lock = _file_lock(root, digits)
    try:
        if lock is not None:
            lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):
        lock = None
    try:
        yield True
    finally:
        if lock is not None:
            _release(lock)


def lock_path(root: Path, digits: str) -> Path:
    """Return the lock file of an entry."""
    return root / LOCKS / f"{digits}.lock"


def _lock(root: Path, key: FeatureKey, progress: Progress) -> tuple[FileLock, bool] | None:
    """Return a lock that is held, and whether it took waiting; None where there are no locks."""
    from filelock import Timeout

    lock = _file_lock(root, key.digest[:16])
    if lock is None:
        return None
    try:
        try:
            lock.acquire(timeout=0)
            return lock, False
        except Timeout:
            progress.say(
                f"Another process is extracting {key.backbone} at {key.module} ({key.split}): "
                "waiting for it. Ctrl-C stops this one only."
            )
            lock.acquire(poll_interval=_POLL_S)
            return lock, True
    except (OSError, NotImplementedError):
        return None


def _release(lock: FileLock) -> None:
    """Let others have a lock; a disk that refuses to close its file has closed it nevertheless."""
    with contextlib.suppress(OSError):
        lock.release()


def _file_lock(root: Path, digits: str) -> FileLock | None:
    """Return the lock of an entry, not held yet; None where there are no locks.

    The library refuses a link in the place of the file. One in the place of the folder has no
    locks either: files would be made elsewhere.
    """
    from filelock import FileLock

    try:
        fsio.make_folder(root / LOCKS)
    except CacheError:
        return None
    if not fsread.is_own_folder(root / LOCKS):
        return None
    return FileLock(lock_path(root, digits), thread_local=False)

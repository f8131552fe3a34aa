"""What interrupted writers leave in a store: files that no manifest lists."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from featx.cache import fsio, fsread, names
from featx.cache.locks import LOCKS, lock_path, unless_locked
from featx.cache.manifest import COMPLETE, PROGRESS, load_manifest
from featx.errors import CacheError

USED = ".used"
"""Folder of empty files in a store, one per entry, whose time is that of the last use."""


def leftovers(root: Path, entries: Sequence[Path], oldest: float) -> list[Path]:
    """Return the files of a store that may go.

    Parameters
    ----------
    root : Path
        The store.
    entries : sequence of Path
        Folders of its entries.
    oldest : float
        Files that were changed later, in seconds since the epoch, may belong to a writer at work.
    """
    inside = [path for folder in entries for path in _inside(folder, oldest)]
    return [*inside, *_marks(root, entries, oldest), *_locks(root, entries, oldest)]


def remove_leftovers(
    root: Path, entries: Sequence[Path], oldest: float, planned: Collection[Path]
) -> list[Path]:
    """Remove files that `leftovers` has found, and return those that were removed.

    Each is looked at again, while the lock of its entry is held: a run may have made it part of a
    set meanwhile. The files of an entry that is locked stay.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    removed = []
    for folder in sorted({path.parent for path in planned} & set(entries)):
        with unless_locked(root, names.digits_of(folder.name)) as free:
            if not free:
                continue
            for path in _inside(folder, oldest):
                if path in planned and _is_old(path, oldest) and fsio.remove_file(path):
                    removed.append(path)
            fsio.remove_empty_folder(folder)
            if not fsread.is_own_folder(folder):
                forget_lock(root, folder)
    for path in _marks(root, entries, oldest):
        if path in planned and fsio.remove_file(path):
            removed.append(path)
    for path in _locks(root, entries, oldest):
        if path in planned:
            with unless_locked(root, path.stem) as free:
                if free and fsio.remove_file(path):
                    removed.append(path)
    return removed


def forget_use(root: Path, entry: Path) -> None:
    """Remove the time of the last use of an entry.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    if fsread.is_own_folder(root / USED):
        fsio.remove_file(root / USED / entry.name)


def forget_lock(root: Path, entry: Path) -> None:
    """Remove the lock file of an entry that is gone, while its lock is held."""
    if fsread.is_own_folder(root / LOCKS):
        # Windows removes no file that is open: a later `gc` finds it.
        with contextlib.suppress(CacheError):
            fsio.remove_file(lock_path(root, names.digits_of(entry.name)))


def _inside(folder: Path, oldest: float) -> list[Path]:
    """Return the files in the folder of an entry that may go."""
    stale = [file for file in _stale_progress(folder) if file.changed_s <= oldest]
    # What only a stale manifest lists goes with it.
    manifests = (COMPLETE,) if stale else (COMPLETE, PROGRESS)
    unlisted = [file for file in _unlisted(folder, manifests) if file.changed_s <= oldest]
    return [folder / file.name for file in (*stale, *unlisted)]


def _marks(root: Path, entries: Sequence[Path], oldest: float) -> list[Path]:
    """Return the times of use of entries that are gone."""
    there = {folder.name for folder in entries}
    return [
        root / USED / file.name
        for file in _beside(root / USED, oldest)
        if names.ENTRY.fullmatch(file.name) and not file.size_bytes and file.name not in there
    ]


def _locks(root: Path, entries: Sequence[Path], oldest: float) -> list[Path]:
    """Return the lock files of entries that are gone.

    A lock that is held is as old as the run that holds it: those of entries stay.
    """
    there = {lock_path(root, names.digits_of(folder.name)).name for folder in entries}
    return [
        root / LOCKS / file.name
        for file in _beside(root / LOCKS, oldest)
        if names.LOCK.fullmatch(file.name) and file.name not in there
    ]


def _beside(folder: Path, oldest: float) -> list[fsread.FileStat]:
    """Return the old files of a folder of a store that is no link: behind one are a user's own."""
    found = fsread.files(folder) if fsread.is_own_folder(folder) else []
    return [file for file in found if file.changed_s <= oldest]


def _is_old(path: Path, oldest: float) -> bool:
    changed = fsread.changed_s(path)
    return changed is not None and changed <= oldest


def _stale_progress(folder: Path) -> list[fsread.FileStat]:
    """Return the progress file of a set that has been completed since."""
    try:
        complete = load_manifest(folder, COMPLETE) is not None
    except CacheError:
        return []
    return [file for file in fsread.files(folder) if complete and file.name == PROGRESS]


def _unlisted(folder: Path, manifests: Sequence[str]) -> list[fsread.FileStat]:
    """Return the temporary files, shards and summaries of a folder that no manifest lists."""
    files = [file for file in fsread.files(folder) if names.is_ours(file.name)]
    try:
        listed = {
            file.file
            for name in manifests
            if (manifest := load_manifest(folder, name)) is not None
            for file in manifest.files
        }
    except CacheError:  # what it lists is not known: only temporary files are certain
        listed = {file.name for file in files if not names.is_temporary(file.name)}
    return [file for file in files if file.name not in listed]

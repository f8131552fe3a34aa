"""What interrupted writers leave in a store: files that no manifest lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featx.cache import fsio, fsread
from featx.cache.locks import LOCKS
from featx.cache.manifest import COMPLETE, PROGRESS, SHARD_NAME, SUMMARY_NAME, load_manifest
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
    found = []
    for folder in entries:
        stale = [file for file in _stale_progress(folder) if file.changed_s <= oldest]
        # What only a stale manifest lists goes with it.
        names = (COMPLETE,) if stale else (COMPLETE, PROGRESS)
        unlisted = [file for file in _unlisted(folder, names) if file.changed_s <= oldest]
        found += [folder / file.name for file in (*stale, *unlisted)]
    # A lock that is held is as old as the run that holds it: those of entries stay.
    there = {name for folder in entries for name in (folder.name, f"{folder.name[-16:]}.lock")}
    for name in (LOCKS, USED):
        found += [
            root / name / file.name
            for file in fsread.files(root / name)
            if file.name not in there and file.changed_s <= oldest
        ]
    return found


def _stale_progress(folder: Path) -> list[fsread.FileStat]:
    """Return the progress file of a set that has been completed since."""
    try:
        complete = load_manifest(folder, COMPLETE) is not None
    except CacheError:
        return []
    return [file for file in fsread.files(folder) if complete and file.name == PROGRESS]


def _unlisted(folder: Path, manifests: Sequence[str]) -> list[fsread.FileStat]:
    """Return the temporary files, shards and summaries of a folder that no manifest lists."""
    files = [file for file in fsread.files(folder) if is_ours(file.name)]
    try:
        listed = {
            file.file
            for name in manifests
            if (manifest := load_manifest(folder, name)) is not None
            for file in manifest.files
        }
    except CacheError:  # what it lists is not known: only temporary files are certain
        listed = {file.name for file in files if not file.name.endswith(fsio.TEMPORARY_SUFFIX)}
    return [file for file in files if file.name not in listed]


def is_ours(name: str) -> bool:
    """Return whether a name is one that featx gives to a shard, a summary or a temporary file."""
    temporary = name.startswith(".") and name.endswith(fsio.TEMPORARY_SUFFIX)
    return bool(temporary or SHARD_NAME.fullmatch(name) or SUMMARY_NAME.fullmatch(name))

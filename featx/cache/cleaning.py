"""What of a cache may go: leftovers, and entries not used for long, over a limit or too old."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.cache import fsread
from featx.cache.entries import EntryInfo
from featx.cache.keys import SCHEMA_VERSION
from featx.cache.store import ORPHAN_AGE_S, FeatureStore


@dataclass(frozen=True)
class Cleaning:
    """What would be removed, or was.

    Attributes
    ----------
    orphans : list of Path
        Files that no manifest lists.
    entries : list of EntryInfo
        Whole entries, those first that were not used for longest.
    n_bytes : int
        Bytes of all of them.
    oldest_s : float
        Orphans that were changed later, in seconds since the epoch, stay.
    """

    orphans: list[Path]
    entries: list[EntryInfo]
    n_bytes: int
    oldest_s: float


def plan_cleaning(
    store: FeatureStore,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    old_format: bool = False,
    orphan_age_s: float = ORPHAN_AGE_S,
) -> Cleaning:
    """Return what would be removed, without removing it.

    Entries that are only linked from the cache stay, and of those whose network's folder is a link
    all that are not known to be entries.

    Parameters
    ----------
    store : FeatureStore
        The cache.
    older_than_s : float, optional
        Entries that were last used longer ago than this go.
    max_bytes : int, optional
        The entries that were used last stay, as many as fit; the others go.
    old_format : bool
        Entries in an earlier version of the format go, whose features are computed anew.
    orphan_age_s : float
        Leftovers of writers go if they are older: younger ones may belong to one at work.
    """
    now = time.time()
    orphans = store.orphans(orphan_age_s)
    known = sorted(store.entries(), key=lambda entry: entry.used_s)
    kept = [entry for entry in known if store.may_remove(entry)]
    gone: list[EntryInfo] = []

    def go(wrong: Callable[[EntryInfo], bool]) -> None:
        gone.extend(entry for entry in kept if wrong(entry))
        kept[:] = [entry for entry in kept if not wrong(entry)]

    if old_format:
        go(lambda entry: entry.format < SCHEMA_VERSION)
    if older_than_s is not None:
        go(lambda entry: now - entry.used_s > older_than_s)
    if max_bytes is not None:
        lost = {path.parent: 0 for path in orphans}
        for path in orphans:
            lost[path.parent] += fsread.size_bytes(path) or 0
        total = sum(entry.n_bytes - lost.get(entry.path, 0) for entry in kept)
        while kept and total > max_bytes:
            total -= kept[0].n_bytes - lost.get(kept[0].path, 0)
            gone.append(kept.pop(0))
    folders = {entry.path for entry in gone}
    orphans = [path for path in orphans if path.parent not in folders]
    return Cleaning(orphans, gone, _n_bytes(orphans, gone), now - orphan_age_s)


def clean(store: FeatureStore, cleaning: Cleaning) -> Cleaning:
    """Remove what was planned and is still as it was, and return what was removed.

    Entries stay that another process is writing, or that were used since.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    entries = [entry for entry in cleaning.entries if store.remove_unused(entry)]
    sizes = {path: _n_bytes([path], []) for path in cleaning.orphans}
    orphans = store.remove_orphans(cleaning.orphans, cleaning.oldest_s)
    n_bytes = sum(sizes[path] for path in orphans) + _n_bytes([], entries)
    return Cleaning(orphans, entries, n_bytes, cleaning.oldest_s)


def _n_bytes(orphans: Sequence[Path], entries: Sequence[EntryInfo]) -> int:
    """Return the bytes of files and entries."""
    return sum(fsread.size_bytes(path) or 0 for path in orphans) + sum(
        entry.n_bytes for entry in entries
    )

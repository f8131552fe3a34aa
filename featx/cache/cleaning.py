"""What of a cache may go: leftovers, entries that were not used for long, entries over a limit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from featx.cache import fsio, fsread
from featx.cache.store import ORPHAN_AGE_S, EntryInfo, FeatureStore


@dataclass(frozen=True)
class Cleaning:
    """What would be removed.

    Attributes
    ----------
    orphans : list of Path
        Files that no manifest lists.
    entries : list of EntryInfo
        Whole entries, those first that were not used for longest.
    n_bytes : int
        Bytes of all of them.
    """

    orphans: list[Path]
    entries: list[EntryInfo]
    n_bytes: int


def plan_cleaning(
    store: FeatureStore,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    orphan_age_s: float = ORPHAN_AGE_S,
) -> Cleaning:
    """Return what would be removed, without removing it.

    Parameters
    ----------
    store : FeatureStore
        The cache.
    older_than_s : float, optional
        Entries that were last used longer ago than this go.
    max_bytes : int, optional
        The entries that were used last stay, as many as fit; the others go.
    orphan_age_s : float
        Leftovers of writers go if they are older: younger ones may belong to one at work.
    """
    now = time.time()
    orphans = store.orphans(orphan_age_s)
    kept = sorted(store.entries(), key=lambda entry: entry.used_s)
    gone = []
    if older_than_s is not None:
        gone = [entry for entry in kept if now - entry.used_s > older_than_s]
        kept = kept[len(gone) :]
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
    n_bytes = sum(fsread.size_bytes(path) or 0 for path in orphans)
    return Cleaning(orphans, gone, n_bytes + sum(entry.n_bytes for entry in gone))


def clean(store: FeatureStore, cleaning: Cleaning) -> None:
    """Remove what was planned; files that have gone meanwhile do not matter.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    for entry in cleaning.entries:
        store.remove_folder(entry.path)
    for path in cleaning.orphans:
        fsio.remove_file(path)
        fsio.remove_empty_folder(path.parent)

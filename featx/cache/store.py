"""The feature store: a folder of feature sets, found by their keys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from featx.cache import fsio, fsread, names
from featx.cache.entries import UNFINISHED, EntryInfo
from featx.cache.feature_set import FeatureSet, read_shard
from featx.cache.keys import SCHEMA_VERSION, FeatureKey
from featx.cache.leftovers import USED, forget_lock, forget_use, leftovers, remove_leftovers
from featx.cache.locks import unless_locked
from featx.cache.manifest import COMPLETE, PROGRESS, Manifest, corrupt, load_manifest
from featx.cache.writer import FeatureWriter
from featx.errors import CacheError, CacheSchemaMismatch, UnknownName, UsageError
from featx.progress import SILENT, Progress

ORPHAN_AGE_S = 3600.0
"""Files that no manifest lists are left to a writer that may be at work for this long."""

# A time of use is no finer than this: most runs write nothing.
_USE_STEP_S = 3600.0


class FeatureStore:
    """Feature sets in a folder: ``<root>/<backbone>/<module>-<pool>-<split>-<digest>/``.

    Parameters
    ----------
    root : str or Path
        The folder. It is made when something is written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    def path_for(self, key: FeatureKey) -> Path:
        """Return the folder of a key, there or not; its name is safe on every system."""
        name = "-".join(names.safe(part) for part in (key.module, key.pool, key.split))
        return self.root / names.safe(key.backbone) / f"{name}-{key.digest[:16]}"

    def find(self, key: FeatureKey, shape: tuple[int, int] | None = None) -> FeatureSet | None:
        """Return the complete set of a key, or None.

        The manifest is checked whole, files for presence and length; their digests are checked when
        they are read.

        Parameters
        ----------
        key : FeatureKey
            What the set is.
        shape : (int, int), optional
            Rows and features that it must have; any by default.

        Raises
        ------
        CacheCorrupt
            If the manifest is damaged, a file is missing or has another length, or the set has
            another shape.
        CacheSchemaMismatch
            If the entry was written in another version of the format.
        """
        path = self.path_for(key)
        manifest = load_manifest(path, COMPLETE, key)
        if manifest is None:
            return None
        there = (manifest.n_rows, manifest.n_features)
        if shape not in (None, there):
            reason = f"it holds {there[0]} x {there[1]} values instead of {shape[0]} x {shape[1]}"
            raise corrupt(path, COMPLETE, reason)
        for file in manifest.files:
            file.check_size(path)
        if time.time() - self._used_s(path) > _USE_STEP_S:
            fsio.touch(self.root / USED / path.name)
        return FeatureSet(path, manifest)

    def entry(self, name: str) -> EntryInfo:
        """Return an entry by the name of its folder, or the beginning of that.

        Parameters
        ----------
        name : str
            ``layer4-avg-train-0123456789abcdef``, with or without ``resnet18/`` in front.

        Raises
        ------
        UnknownName
            If no entry begins so.
        UsageError
            If more than one does: names them.
        """
        paths = {self.name_of(path): path for path in self._folders()}
        found = [n for n in paths if n.startswith(name) or n.partition("/")[2].startswith(name)]
        exact = [n for n in found if name in (n, n.partition("/")[2])]
        if len(exact or found) == 1:
            return self._info(paths[(exact or found)[0]], deep=False)
        if not found:
            raise UnknownName("Entry", name, paths, where=f"'{self.root}'")
        raise UsageError(
            f"{len(found)} entries begin with '{name}': {', '.join(found[:8])}. Say more of the "
            "name."
        )

    def name_of(self, path: Path) -> str:
        """Return the name of an entry's folder, with that of its backbone in front."""
        return path.relative_to(self.root).as_posix()

    def nearest(self, key: FeatureKey) -> tuple[EntryInfo, list[str]] | None:
        """Return the undamaged entry whose key differs least, and the names of what differs.

        Of equally near ones the one that was used last. None where nothing is cached.
        """
        found = [
            (info, key.difference(info.key))
            for info in self.entries()
            if info.key and not info.problem
        ]
        return min(found, key=lambda pair: (len(pair[1]), -pair[0].used_s), default=None)

    def problem(self, key: FeatureKey) -> str | None:
        """Return why the entry of a key cannot be used, without reading its shards.

        None where nothing is wrong, or there is no entry.
        """
        path = self.path_for(key)
        try:
            manifest = _load_any(path, key)
            for file in manifest.files if manifest else ():
                file.check_size(path)
        except CacheError as error:
            return str(error)
        return None

    def progress(self, key: FeatureKey) -> int:
        """Return the rows of an entry that need not be computed again, 0 if there is none.

        Raises
        ------
        CacheCorrupt, CacheSchemaMismatch
            If the manifest cannot be used.
        """
        manifest = _load_any(self.path_for(key), key)
        return manifest.rows if manifest else 0

    def writer(
        self, key: FeatureKey, *, n_rows: int, n_features: int, rebuild: bool = False
    ) -> FeatureWriter:
        """Return a writer that goes on behind the rows that are there, all of which it verifies.

        Parameters
        ----------
        key : FeatureKey
            What the set is.
        n_rows, n_features : int
            Shape of the complete set.
        rebuild : bool
            Forget what is there, damaged or not, and start at row 0.

        Raises
        ------
        CacheCorrupt, CacheSchemaMismatch
            If what is there cannot be used.
        CacheWriteError
            If the disk refuses.
        """
        return FeatureWriter(self.path_for(key), key, n_rows, n_features, rebuild=rebuild)

    def entries(self) -> list[EntryInfo]:
        """Return every entry, without reading shards."""
        return [self._info(path, deep=False) for path in self._folders()]

    def verify(
        self, key: FeatureKey | None = None, *, progress: Progress = SILENT
    ) -> list[EntryInfo]:
        """Read every file of one entry or of all, check every digest, and say what is wrong.

        Parameters
        ----------
        key : FeatureKey, optional
            The entry; all by default.
        progress : Progress, optional
            Hears of every entry that is done.

        Returns
        -------
        list of EntryInfo
            With `problem` set where something is wrong; empty if there is no such entry.
        """
        paths = self._folders()
        if key is not None:
            paths = [path for path in paths if path == self.path_for(key)]
        found = []
        with progress.task("verify", len(paths), "entries") as advance:
            for path in paths:
                found.append(self._info(path, deep=True))
                advance(1)
        return found

    def remove(self, key: FeatureKey) -> None:
        """Remove the entry of a key, damaged or not; files that featx did not write stay.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        self.remove_folder(self.path_for(key))

    def remove_folder(self, path: Path) -> None:
        """Remove the entry in a folder; files that featx did not write stay.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        # Manifests first: a removal that is cut short leaves orphans, not an entry with holes.
        for name in (COMPLETE, PROGRESS):
            fsio.remove_file(path / name)
        for file in fsread.files(path):
            if names.is_ours(file.name):
                fsio.remove_file(path / file.name)
        forget_use(self.root, path)
        fsio.remove_empty_folder(path)
        fsio.remove_empty_folder(path.parent)

    def may_remove(self, entry: EntryInfo) -> bool:
        """Return whether the folder of an entry is the cache's own, or known to hold one.

        A folder of a user's may be linked, in which names like ``manifest.json`` say nothing.
        """
        if not fsread.is_own_folder(entry.path):
            return False
        known = entry.key is not None or entry.other_format
        return known or fsread.is_own_folder(entry.path.parent)

    def remove_unused(self, entry: EntryInfo) -> bool:
        """Remove an entry, if no process holds its lock and it was not used since it was listed.

        Returns
        -------
        bool
            Whether it was removed.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        with unless_locked(self.root, names.digits_of(entry.path.name)) as free:
            unused = free and self._info(entry.path, deep=False).used_s <= entry.used_s
            if unused:
                self.remove_folder(entry.path)
                forget_lock(self.root, entry.path)
        return unused

    def gc(self, older_than_s: float = ORPHAN_AGE_S) -> list[Path]:
        """Remove what interrupted writers left: temporary files and shards that no manifest lists.

        Files that changed less than `older_than_s` seconds ago may belong to a writer at work and
        stay, as do all shards of an entry whose manifest cannot be read, and files that featx did
        not write.

        Returns
        -------
        list of Path
            The files that were removed.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        removed = self.remove_orphans(self.orphans(older_than_s), time.time() - older_than_s)
        for folder in self._own_folders():
            if not fsread.files(folder):
                fsio.remove_empty_folder(folder)
        return removed

    def orphans(self, older_than_s: float = ORPHAN_AGE_S) -> list[Path]:
        """Return the files that `gc` removes."""
        return leftovers(self.root, self._own_folders(), time.time() - older_than_s)

    def remove_orphans(self, planned: Sequence[Path], oldest_s: float) -> list[Path]:
        """Remove files that `orphans` gave, and return those that were removed.

        They stay where a run has changed or listed them since, or holds the lock of their entry.

        Parameters
        ----------
        planned : sequence of Path
            The files.
        oldest_s : float
            Files that were changed later, in seconds since the epoch, stay.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        return remove_leftovers(self.root, self._own_folders(), oldest_s, set(planned))

    def free_bytes(self) -> int:
        """Return the free space, in bytes, of the disk the store is on.

        Raises
        ------
        CacheError
            If the disk does not say.
        """
        return fsread.free_bytes(self.root)

    def _used_s(self, path: Path) -> float:
        """Return when an entry was last used, 0 where that is not known."""
        return fsread.changed_s(self.root / USED / path.name) or 0.0

    def _own_folders(self) -> list[Path]:
        """Return the folders of the entries that are no links themselves."""
        return [path for path in self._folders() if fsread.is_own_folder(path)]

    def _folders(self) -> list[Path]:
        """Return the folder of every entry, as a run would find it: also behind a link."""
        return [
            entry
            for backbone in fsread.folders(self.root)
            if names.BACKBONE.fullmatch(backbone.name)
            for entry in fsread.folders(backbone)
            if names.ENTRY.fullmatch(entry.name)
        ]

    def _info(self, path: Path, *, deep: bool) -> EntryInfo:
        """Return what is in a folder; with `deep`, after reading and checking every file."""
        manifest: Manifest | None = None
        problem = None
        version = SCHEMA_VERSION
        n_bytes = 0
        changed = used = 0.0
        try:
            files = fsread.files(path)
            n_bytes = sum(file.size_bytes for file in files)
            changed = max((file.changed_s for file in files), default=0.0)
            used = max(changed, self._used_s(path))
            manifest = _load_any(path)
            if manifest is None:
                problem = UNFINISHED
            elif self.path_for(manifest.key) != path:
                name = COMPLETE if manifest.complete else PROGRESS
                problem = f"{name} belongs to '{self.path_for(manifest.key)}'"
            else:
                for file in manifest.files:
                    file.check_size(path)
                if deep:
                    _read_everything(path, manifest)
        except (CacheError, MemoryError) as error:
            problem = str(error) or "it needs more memory than there is"
            if isinstance(error, CacheSchemaMismatch) and type(error.version) is int:
                version = error.version
        return EntryInfo(
            path=path,
            key=manifest.key if manifest else None,
            rows=manifest.rows if manifest else 0,
            n_rows=manifest.n_rows if manifest else 0,
            n_features=manifest.n_features if manifest else 0,
            n_bytes=n_bytes,
            complete=manifest is not None and manifest.complete,
            problem=problem,
            changed_s=changed,
            used_s=used,
            format=version,
        )


def _load_any(path: Path, key: FeatureKey | None = None) -> Manifest | None:
    """Return the complete manifest of a folder, else that of its progress, else None."""
    return load_manifest(path, COMPLETE, key) or load_manifest(path, PROGRESS, key)


def _read_everything(path: Path, manifest: Manifest) -> None:
    """Read and check every file of an entry, complete or not."""
    if manifest.complete:
        FeatureSet(path, manifest).verify()
        return
    for shard in manifest.shards:
        read_shard(path, shard, manifest)

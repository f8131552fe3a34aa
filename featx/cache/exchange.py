"""Features in files that other tools open, and back: npz, HDF5 and Parquet.

An exported file says what its features and labels are: the ingredients of their key, and the
SHA-256 of these, the bytes of all features (row by row, little-endian, in their storage type) and
all labels, which an import checks. It has a version of its own, and outlives that of the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.cache import fsio
from featx.cache.exchange_files import (
    LABELS,
    READERS,
    UNREADABLE,
    VERSION,
    WRITERS,
    Blocks,
    Opener,
    stored_shards,
)
from featx.cache.feature_set import FeatureSet
from featx.cache.keys import FeatureKey, canonical_json
from featx.cache.locks import computing
from featx.cache.shards import STORED_TYPES
from featx.errors import CacheCorrupt, CacheError, FeatxError, NonFiniteFeatures, UsageError
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.cache.store import FeatureStore
    from featx.cache.writer import FeatureWriter


def export_features(found: FeatureSet, path: Path, *, force: bool = False) -> Path:
    """Write a complete feature set into one file, a shard at a time.

    Parameters
    ----------
    found : FeatureSet
        What to write; every shard is verified as it is read.
    path : Path
        The file; its ending says the format: ``.npz``, ``.h5`` or ``.parquet``.
    force : bool
        Replace a file that is there.

    Raises
    ------
    UsageError
        If the ending is another one, the file is there already, or pyarrow is missing (Parquet).
    CacheCorrupt
        If a shard is missing or damaged.
    CacheWriteError
        If the disk refuses.
    """
    write = WRITERS[_format_of(path)]
    if path.exists() and not path.is_file():
        raise UsageError(f"'{path}' is no file. Choose another name.")
    if path.exists() and not force:
        raise UsageError(f"'{path}' is there already and was left as it is. Replace it: --force")
    fsio.make_folder(path.parent)
    with fsio.publishing(path) as temporary:
        write(found, temporary, _about(found))
    return path


def import_features(
    store: FeatureStore, path: Path, *, force: bool = False, progress: Progress = SILENT
) -> FeatureSet:
    """Put an exported file into a cache, where runs find it under its key.

    A file that is refused leaves nothing in the cache. What an interrupted extraction of the same
    features has left is replaced; one that is under way is waited for.

    Parameters
    ----------
    store : FeatureStore
        The cache.
    path : Path
        A file that `export_features` wrote.
    force : bool
        Replace an entry of the same key, damaged or not.
    progress : Progress, optional
        Is told when an entry is there already, and what is waited for.

    Returns
    -------
    FeatureSet
        The entry; one that is there already stays, unless `force` is given.

    Raises
    ------
    CacheCorrupt
        If the content is not what the file says it is, or the entry that is there is damaged.
    NonFiniteFeatures
        If a value is NaN or Inf.
    UsageError
        If there is no such file, or it is none that this version of featx wrote.
    CacheWriteError
        If the disk refuses.
    """
    if not path.is_file():
        raise UsageError(f"There is no file '{path}' to import.")
    form = _format_of(path)
    try:
        return _take(store, path, READERS[form], force=force, progress=progress)
    except FeatxError:
        raise
    except UNREADABLE as error:
        raise UsageError(
            f"'{path}' is no file that 'featx cache export' wrote ({error}). Features of other "
            "tools cannot be imported: nothing says what they are."
        ) from error


def _take(
    store: FeatureStore, path: Path, opener: Opener, *, force: bool, progress: Progress
) -> FeatureSet:
    """Check a file as a whole, then write it into the cache."""
    with opener(path) as (about, blocks):
        key = FeatureKey.from_dict(about["key"])
        # Before anything is touched: an entry in the making must not suffer from a bad file.
        _check_digest(path, about, _digest(key, _checked(blocks, key, path)))
    with computing(store.root, [key], progress):
        if not force:
            if problem := store.problem(key):
                name = store.name_of(store.path_for(key))
                raise CacheCorrupt(
                    f"The cache has a damaged entry of these features, {name}: {problem} To "
                    "replace it by the file: --force."
                )
            there = store.find(key)
            if there is not None:
                name = store.name_of(there.path)
                progress.say(f"{name} is in the cache already and stays. Replace it: --force.")
                return there
        try:
            return _written(store, key, path, opener, about)
        except BaseException:
            # What was published of it must not be gone on with.
            with contextlib.suppress(CacheError):
                store.remove(key)
            raise


def _written(
    store: FeatureStore, key: FeatureKey, path: Path, opener: Opener, about: dict[str, Any]
) -> FeatureSet:
    """Write a file that was checked into the cache; it is checked again as it is read."""
    shape = {"n_rows": int(about["n_rows"]), "n_features": int(about["n_features"])}
    with opener(path) as (again, blocks):
        if again != about:
            raise ValueError("it was replaced while it was read")
        with store.writer(key, rebuild=True, **shape) as writer:
            _check_digest(path, about, _digest(key, _appended(writer, _checked(blocks, key, path))))
            return writer.finish()


def _checked(blocks: Blocks, key: FeatureKey, path: Path) -> Blocks:
    """Pass blocks on that have the types of the key, and finite numbers only."""
    row = 0
    for values, labels in blocks:
        if values.dtype != STORED_TYPES[key.storage] or labels.dtype != LABELS:
            raise ValueError(f"its values are {values.dtype}, its labels {labels.dtype}")
        if not np.isfinite(values).all():
            first, column = np.argwhere(~np.isfinite(values))[0]
            raise NonFiniteFeatures(
                f"'{path}' cannot be imported: feature {column} of row {row + first} is "
                f"{values[first, column]}."
            )
        row += len(values)
        yield values, labels


def _appended(writer: FeatureWriter, blocks: Blocks) -> Blocks:
    """Append blocks to a feature set, and pass them on."""
    for values, labels in blocks:
        writer.append(values.astype(np.float32, copy=False), labels)
        yield values, labels


def _digest(key: FeatureKey, blocks: Blocks) -> str:
    """Return the SHA-256 of the ingredients of the key, then all features, then all labels."""
    digest, labels = hashlib.sha256(canonical_json(key.describe()).encode()), []
    for values, own in blocks:
        digest.update(np.ascontiguousarray(values).data)
        labels.append(np.ascontiguousarray(own))
    for own in labels:
        digest.update(own.data)
    return digest.hexdigest()


def _check_digest(path: Path, about: dict[str, Any], digest: str) -> None:
    if digest != about["sha256"]:
        raise CacheCorrupt(
            f"'{path}' does not hold what it says: its content does not match its SHA-256. Export "
            "it again."
        )


def _about(found: FeatureSet) -> dict[str, Any]:
    """Return what a file says of its features; reads all of them once, for the digest."""
    y = found.y.astype(LABELS)
    return {
        "version": VERSION,
        "key": found.key.describe(),
        "n_rows": found.n_samples,
        "n_features": found.n_features,
        "sha256": _digest(found.key, ((values, y[rows]) for rows, values in stored_shards(found))),
    }


def _format_of(path: Path) -> str:
    ending = path.suffix.lower().lstrip(".")
    if ending not in READERS:
        raise UsageError(
            f"'{path.name}' has the ending '{path.suffix}': expected .npz, .h5 or .parquet, which "
            "says the format."
        )
    return ending

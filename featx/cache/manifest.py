"""The manifest: which files make a feature set, how long they are, and their XXH3-128 digests.

A folder holds ``manifest.json`` once its set is complete and ``progress.json``, of the same form,
until then. They are two files so that a slower second writer of the same set can never replace a
complete manifest by an incomplete one.

The text is JSON, ``{"xxh3":"...","manifest":{...}}``; the digest is that of the exact bytes of
the inner value and is checked before the JSON is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128

from featx.cache import fsio, fsread, names
from featx.cache.keys import SCHEMA_VERSION, FeatureKey, canonical_json, item_bytes
from featx.errors import CacheCorrupt, CacheSchemaMismatch, UsageError

COMPLETE = "manifest.json"
PROGRESS = "progress.json"

REMOVE_OLD = "featx cache gc --old-format --yes"
"""What removes entries of earlier versions of the format."""

# 100,000 shards, which are 6 TB; what is longer is not a manifest and must not fill the memory.
_MANIFEST_BYTES = 16 * 2**20
# What HDF5 puts around the values of a shard or a summary is 2 kB.
_AROUND_BYTES = 2**16

_FORM = re.compile(rb'\{"(xxh3|sha256)":"([0-9a-f]{32,64})","manifest":(\{.*\})\}\n', re.DOTALL)
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class StoredFile:
    """A file of a feature set, as its manifest lists it.

    Parameters
    ----------
    file : str
        Its name, which holds the first 16 digits of its digest.
    size_bytes : int
        Its length.
    digest : str
        XXH3-128 of its content.
    rows : int
        Rows it holds.
    """

    file: str
    size_bytes: int
    digest: str
    rows: int

    @classmethod
    def of(cls, prefix: str, data: bytes, rows: int) -> StoredFile:
        """Return the description of `data`, named by its content: ``<prefix>-<16 digits>.h5``."""
        return cls.named(prefix, len(data), xxh3_128(data).hexdigest(), rows)

    @classmethod
    def named(cls, prefix: str, size_bytes: int, digest: str, rows: int) -> StoredFile:
        """Return the description of a file of this digest, which its name holds."""
        return cls(f"{prefix}-{digest[:16]}.h5", size_bytes, digest, rows)

    @cached_property
    def as_json(self) -> str:
        """Its canonical JSON, made once."""
        return canonical_json(asdict(self))

    def read(self, folder: Path) -> memoryview:
        """Return the content, after its length and digest have been checked.

        Raises
        ------
        CacheCorrupt
            If the file is missing or is not the one that was written.
        """
        # A wrong manifest cannot fill the memory: the length must be that of the file.
        self.check_size(folder)
        content = np.empty(self.size_bytes, dtype=np.uint8).data
        self.read_into(folder, [content])
        return content.toreadonly()

    def read_into(self, folder: Path, parts: Sequence[memoryview]) -> None:
        """Fill pieces of memory, together as long as the file, with its content and check that.

        What is in them must not be used where this raises.

        Raises
        ------
        CacheCorrupt
            If the file is missing or is not the one that was written.
        """
        self.check_size(folder)
        digest = xxh3_128()
        filled = fsread.read_into(folder / self.file, parts, digest.update)
        if filled is None:
            raise corrupt(folder, self.file, "the file is missing")
        if filled != self.size_bytes:
            raise corrupt(folder, self.file, f"it has {filled} bytes instead of {self.size_bytes}")
        if digest.hexdigest() != self.digest:
            raise corrupt(folder, self.file, "its content does not match its digest")

    def check_size(self, folder: Path) -> None:
        """Check that the file is there with its length, without reading it.

        Raises
        ------
        CacheCorrupt
            If it is not.
        """
        size = fsread.size_bytes(folder / self.file)
        if size is None:
            raise corrupt(folder, self.file, "the file is missing")
        if size != self.size_bytes:
            raise corrupt(folder, self.file, f"it has {size} bytes instead of {self.size_bytes}")


@dataclass(frozen=True)
class Manifest:
    """What a folder of the cache holds.

    Parameters
    ----------
    key : FeatureKey
        What the set is.
    n_rows, n_features : int
        Shape of the set when it is complete.
    shards : tuple of StoredFile
        The shards that are safe, in order of their rows.
    summary : StoredFile or None
        The file with all labels and the moments; there is one when the set is complete.
    """

    key: FeatureKey
    n_rows: int
    n_features: int
    shards: tuple[StoredFile, ...] = ()
    summary: StoredFile | None = None

    @property
    def complete(self) -> bool:
        """Whether all rows are there."""
        return self.summary is not None

    @property
    def rows(self) -> int:
        """Rows in the listed shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every listed file."""
        return (*self.shards, self.summary) if self.summary else self.shards

    def publish(self, folder: Path) -> None:
        """Write the manifest, which makes what it lists part of the set.

        Raises
        ------
        CacheWriteError
            If the disk refuses.
        """
        inner = self.canonical().encode()
        digest = xxh3_128(inner).hexdigest().encode()
        name = COMPLETE if self.complete else PROGRESS
        fsio.publish(folder / name, b'{"xxh3":"%b","manifest":%b}\n' % (digest, inner))

    def canonical(self) -> str:
        """Return the canonical JSON of all of it.

        A set is published once a shard: each shard's text is made once, or a large set would take
        longer per image than a small one.
        """
        texts = {
            name: canonical_json(value)
            for name, value in (
                ("schema", SCHEMA_VERSION),
                ("complete", self.complete),
                ("key", self.key.describe()),
                ("n_rows", self.n_rows),
                ("n_features", self.n_features),
            )
        }
        texts["shards"] = f"[{','.join(shard.as_json for shard in self.shards)}]"
        texts["summary"] = self.summary.as_json if self.summary else "null"
        return "{" + ",".join(f'"{name}":{text}' for name, text in sorted(texts.items())) + "}"


def load_manifest(folder: Path, name: str, key: FeatureKey | None = None) -> Manifest | None:
    """Return a manifest of a folder, checked as far as it can be without shards, or None.

    Parameters
    ----------
    folder : Path
        Folder of the entry.
    name : str
        `COMPLETE` or `PROGRESS`.
    key : FeatureKey, optional
        The key it must belong to.

    Raises
    ------
    CacheCorrupt
        If it is damaged, contradicts itself or belongs to another key.
    CacheSchemaMismatch
        If it was written in another version of the format.
    """
    data = fsread.read(folder / name, _MANIFEST_BYTES)
    if data is None:
        return None
    form = _FORM.fullmatch(data)
    if form is None:
        raise corrupt(folder, name, "it is not a manifest, or only a part of one")
    if form[1] == b"sha256":
        raise _other_schema(folder, 1)
    if xxh3_128(form[3]).hexdigest().encode() != form[2]:
        raise corrupt(folder, name, "its content does not match its digest")
    try:
        content = json.loads(form[3])
        schema = content["schema"]
    except (ValueError, KeyError, RecursionError) as error:
        raise corrupt(folder, name, f"it is not a manifest ({error!r})") from error
    if schema != SCHEMA_VERSION:
        raise _other_schema(folder, schema)
    try:
        manifest, complete = _from_content(content), content["complete"]
    except (KeyError, TypeError, AttributeError, UsageError, RecursionError) as error:
        raise corrupt(folder, name, f"it is not a manifest ({error!r})") from error
    problem = _contradiction(manifest)
    if problem is None and (complete, manifest.complete) != (name == COMPLETE,) * 2:
        problem = f"it is the manifest of a set with {manifest.rows} of {manifest.n_rows} rows"
    if problem is None and key is not None and manifest.key != key:
        problem = f"it belongs to another key, which differs in {key.difference(manifest.key)}"
    if problem:
        raise corrupt(folder, name, problem)
    return manifest


def corrupt(folder: Path, file: str, reason: str) -> CacheCorrupt:
    """Return the error that names entry, file and reason, and says what to do."""
    return CacheCorrupt(
        f"Cache entry '{folder}' cannot be used: {file}: {reason}. Run again with --rebuild to "
        "compute it anew, or remove the folder."
    )


def _other_schema(folder: Path, schema: object) -> CacheSchemaMismatch:
    """Return the error for an entry of another version of the format.

    A run that wants the same features uses another folder: the version is part of the key.
    """
    if type(schema) is int and schema < SCHEMA_VERSION:
        advice = f"To remove all such entries: {REMOVE_OLD}"
    else:
        advice = "Use the featx that wrote it, or remove the folder."
    error = CacheSchemaMismatch(
        f"Cache entry '{folder}' was written in version {schema!r} of the cache format; this "
        f"featx reads and writes version {SCHEMA_VERSION} only. {advice}"
    )
    error.version = schema
    return error


def _from_content(content: dict[str, Any]) -> Manifest:
    """Return the manifest of parsed JSON; wrong types and missing fields raise."""
    shards = tuple(_stored_file(shard) for shard in content["shards"])
    summary = content["summary"]
    return Manifest(
        FeatureKey.from_dict(content["key"]),
        _count(content["n_rows"]),
        _count(content["n_features"]),
        shards,
        None if summary is None else _stored_file(summary),
    )


def _stored_file(content: dict[str, Any]) -> StoredFile:
    file = StoredFile(**content)
    if not (isinstance(file.file, str) and _DIGEST.fullmatch(file.digest)):
        raise TypeError(f"{content!r} does not describe a file")
    _count(file.size_bytes)
    _count(file.rows)
    return file


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"{value!r} is not a number above 0")
    return value


def _contradiction(manifest: Manifest) -> str | None:
    """Return what in a manifest cannot be, or None.

    Names are those featx gives, so nothing outside the folder is ever opened, and a shard is as
    long as its rows, so the memory that is asked for is bounded by the length of files.
    """
    shard_rows = manifest.key.shard_rows
    row_bytes = manifest.n_features * item_bytes(manifest.key.storage)
    for index, shard in enumerate(manifest.shards):
        rows = min(shard_rows, manifest.n_rows - index * shard_rows)
        if not names.SHARD.fullmatch(shard.file) or not shard.file.startswith(f"{index:05d}-"):
            return f"shard {index} has the name {shard.file!r}"
        spare = shard.size_bytes - rows * (row_bytes + 8)
        if shard.rows != rows or not 0 <= spare <= _AROUND_BYTES:
            return f"shard {shard.file} cannot have {shard.rows} rows in {shard.size_bytes} bytes"
    if manifest.summary:
        if not names.SUMMARY.fullmatch(manifest.summary.file):
            return f"the summary has the name {manifest.summary.file!r}"
        spare = manifest.summary.size_bytes - 8 * manifest.n_rows - 16 * manifest.n_features
        if not 0 <= spare <= _AROUND_BYTES:
            return f"the summary cannot have {manifest.summary.size_bytes} bytes"
        if manifest.rows != manifest.n_rows or manifest.summary.rows != manifest.n_rows:
            return f"its shards have {manifest.rows} of {manifest.n_rows} rows"
    return None

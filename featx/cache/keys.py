"""What makes a feature set itself: everything that can change its numbers, in one canonical key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from featx.errors import UnknownName, UsageError

SCHEMA_VERSION = 2
"""Version of the cache format: of the key, the manifest and the shards."""

ITEM_BYTES = {"float32": 4, "float16": 2}
"""Bytes per stored value, for every storage type there is."""

SHARD_BYTES = 64 * 2**20
"""Upper bound of a shard: large for sequential speed, small to hold in memory and to lose."""

SHARD_ROWS = 4096
"""Upper bound of the rows of a shard, so that narrow features resume in small steps too."""

# Measured: besides its values a shard has 1672 bytes and a summary 2224; a manifest has 1 kB and
# 0.15 kB per shard.
_FILE_OVERHEAD_BYTES = 4096

_CHOICES = {
    "storage": tuple(ITEM_BYTES),
    "precision": ("fp32", "bf16", "fp16"),
    "device_kind": ("cpu", "cuda", "mps"),
}
_NUMBERS = ("batch_size", "shard_rows")


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureKey:
    """Everything that makes a feature set what it is.

    Two keys are equal if, and only if, their canonical JSON is. No path, date or host name is
    part of it: moving, copying or downloading again changes nothing.

    Parameters
    ----------
    backbone : str
        Name of the network.
    weights_digest : str
        Digest of the weights in memory.
    dataset_digest : str
        Digest of the split's pixels, labels and order.
    split : str
        Name of the split.
    preprocess : mapping of str to JSON values
        Geometry and normalization.
    module : str
        Native name of the module at which the network is cut.
    pool : str
        Pooling of the map.
    storage : {"float32", "float16"}
        Type of the stored values.
    precision : {"fp32", "bf16", "fp16"}
        Type the network computed in.
    numerics : str
        What else changes the last digits: memory order, folding, compilation; threads where they
        were set and may change them.
    device_kind : {"cpu", "cuda", "mps"}
        Kind of device the network ran on.
    batch_size : int
        Images per forward pass; rounding depends on it.
    shard_rows : int
        Rows per shard, a multiple of `batch_size`: a resumed run then sees the same batches.
    versions : str
        Versions of the libraries that compute the numbers: ``"pillow 13.0, torch 2.13"``.

    Raises
    ------
    UsageError
        If an ingredient is empty, of the wrong type or cannot be written as JSON.
    """

    backbone: str
    weights_digest: str
    dataset_digest: str
    split: str
    preprocess: Mapping[str, Any]
    module: str
    pool: str
    storage: str
    precision: str
    numerics: str
    device_kind: str
    batch_size: int
    shard_rows: int
    versions: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "preprocess":
                object.__setattr__(self, field.name, _as_json(value))
            elif field.name in _NUMBERS:
                if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                    raise UsageError(f"{field.name} is {value!r}: expected a whole number above 0.")
            elif not isinstance(value, str) or not value:
                raise UsageError(f"{field.name} is {value!r}: expected a text that is not empty.")
            elif not value.isprintable():
                raise UsageError(f"{field.name} is {value!r}: expected printable characters only.")
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise UnknownName(name.capitalize(), getattr(self, name), valid)
        if self.shard_rows % self.batch_size:
            raise UsageError(
                f"shard_rows is {self.shard_rows}, not a multiple of the batch size "
                f"{self.batch_size}: a resumed run would see other batches. Take it from "
                "shard_rows_for()."
            )

    def describe(self) -> dict[str, Any]:
        """Return the ingredients as JSON values, as `from_dict` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, ingredients: Mapping[str, Any]) -> FeatureKey:
        """Return the key of the ingredients that `describe` gives.

        Raises
        ------
        UsageError
            If an ingredient is missing, unknown or not valid.
        """
        known = {field.name for field in fields(cls)}
        missing, unknown = known - set(ingredients), set(ingredients) - known
        if missing or unknown:
            raise UsageError(
                f"Not the ingredients of a feature key: missing {sorted(missing)}, "
                f"unknown {sorted(unknown)}."
            )
        return cls(**ingredients)

    def canonical(self) -> str:
        """Return the one text of this key: sorted compact JSON with the schema version."""
        return canonical_json({"schema": SCHEMA_VERSION, **self.describe()})

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical text, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def difference(self, other: FeatureKey) -> list[str]:
        """Return the names of the ingredients that differ.

        Ingredients of the preprocessing are named one by one, as ``preprocess.size``.
        """
        mine, theirs = self._flat(), other._flat()
        names = dict.fromkeys([*mine, *theirs])
        return [
            name
            for name in names
            if name not in mine
            or name not in theirs
            # 1, 1.0 and True are equal in Python but not in the key.
            or canonical_json(mine[name]) != canonical_json(theirs[name])
        ]

    def _flat(self) -> dict[str, Any]:
        """Return the ingredients with those of the preprocessing beside the others."""
        flat: dict[str, Any] = {}
        for name, value in self.describe().items():
            if name == "preprocess":
                flat |= {f"preprocess.{inner}": part for inner, part in value.items()}
            else:
                flat[name] = value
        return flat

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureKey) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.canonical())


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII only, no NaN.

    Raises
    ------
    TypeError, ValueError
        If the value has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def shard_rows_for(n_features: int, batch_size: int, storage: str) -> int:
    """Return the rows of a shard: whole batches, at least one, up to 64 MB and 4096 rows.

    Parameters
    ----------
    n_features : int
        Values per row.
    batch_size : int
        Images per forward pass.
    storage : {"float32", "float16"}
        Type of the stored values.

    Raises
    ------
    UnknownName
        If there is no such storage type.
    """
    rows = min(SHARD_ROWS, SHARD_BYTES // (n_features * item_bytes(storage)))
    return max(1, rows // batch_size) * batch_size


def size_bytes_for(n_rows: int, n_features: int, storage: str) -> int:
    """Return the bytes a feature set takes on disk, rounded up by some kB per shard.

    Parameters
    ----------
    n_rows, n_features : int
        Its shape.
    storage : {"float32", "float16"}
        Type of the stored values.

    Raises
    ------
    UnknownName
        If there is no such storage type.
    """
    values = n_rows * n_features * item_bytes(storage)
    labels = 2 * 8 * n_rows
    moments = 2 * 8 * n_features
    n_files = 2 + values // SHARD_BYTES + n_rows // SHARD_ROWS
    return values + labels + moments + n_files * _FILE_OVERHEAD_BYTES


def item_bytes(storage: str) -> int:
    """Return the bytes of one stored value.

    Raises
    ------
    UnknownName
        If there is no such storage type.
    """
    if storage not in ITEM_BYTES:
        raise UnknownName("Storage", storage, ITEM_BYTES)
    return ITEM_BYTES[storage]


def _as_json(preprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in plain JSON values (lists for tuples): a key read back is then equal."""
    if not isinstance(preprocess, Mapping) or not all(isinstance(name, str) for name in preprocess):
        raise UsageError(f"preprocess is {preprocess!r}: expected a mapping with names as keys.")
    try:
        copy: dict[str, Any] = json.loads(canonical_json(dict(preprocess)))
    except RecursionError as error:
        raise UsageError("preprocess is nested too deeply to be part of a key.") from error
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"preprocess is {dict(preprocess)!r}: only JSON values can be part of a key ({error})."
        ) from error
    return copy

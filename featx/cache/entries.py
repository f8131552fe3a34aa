"""What a listing of a cache says of each of its entries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featx.cache.keys import SCHEMA_VERSION, FeatureKey

UNFINISHED = "no manifest: a first shard was never finished"
"""Problem of an entry that is not damaged: whoever extracts it begins at row 0."""


@dataclass(frozen=True)
class EntryInfo:
    """One entry of the store, as a listing shows it.

    Parameters
    ----------
    path : Path
        Its folder.
    key : FeatureKey or None
        What it is; None where the manifest cannot be read.
    rows : int
        Rows that are there.
    n_rows, n_features : int
        Shape when complete.
    n_bytes : int
        Bytes of all files in the folder.
    complete : bool
        Whether all rows are there.
    problem : str or None
        Why it cannot be used.
    changed_s, used_s : float
        When a file of it was last written, and when it was last read by a run; seconds since the
        epoch, 0 for an empty folder. A cache that cannot be written to keeps no time of use.
    format : int
        Version of the cache format it was written in; of another one nothing else is known.
    """

    path: Path
    key: FeatureKey | None
    rows: int
    n_rows: int
    n_features: int
    n_bytes: int
    complete: bool
    problem: str | None
    changed_s: float = 0.0
    used_s: float = 0.0
    format: int = SCHEMA_VERSION

    @property
    def damaged(self) -> bool:
        """Whether it should be usable and is not: neither unfinished nor in another format."""
        return self.problem not in (None, UNFINISHED) and not self.other_format

    @property
    def other_format(self) -> bool:
        """Whether another version of featx wrote it, in another version of the format."""
        return self.format != SCHEMA_VERSION

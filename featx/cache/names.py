"""The names that featx gives to folders and files of a cache, and nobody else does."""

from __future__ import annotations

import re

ENTRY = re.compile(r"[A-Za-z0-9._-]+-[0-9a-f]{16}")
"""Folder of an entry: its cut, pooling and split, and the first digits of its key's digest."""

BACKBONE = re.compile(r"[A-Za-z0-9._-]+")
"""Folder of the entries of one network."""

LOCK = re.compile(r"[0-9a-f]{16}\.lock")
"""Lock file of an entry."""

SHARD = re.compile(r"[0-9]{5,}-[0-9a-f]{16}\.h5")
SUMMARY = re.compile(r"summary-[0-9a-f]{16}\.h5")

_TEMPORARY = re.compile(
    r"\.([0-9]{5,}(-[0-9a-f]{16})?\.h5|summary-[0-9a-f]{16}\.h5|(manifest|progress)\.json)"
    r"\.[0-9]+-[0-9a-f]+\.tmp"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# Windows keeps these names for devices, whatever their ending.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LENGTH = 40
_DIGITS = 16


def safe(text: str) -> str:
    """Return a name for a folder that every file system takes."""
    name = _UNSAFE.sub("_", text)[:_LENGTH].strip(".") or "_"
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def digits_of(entry: str) -> str:
    """Return the digits of the key's digest with which the folder of an entry ends."""
    return entry[-_DIGITS:]


def is_ours(name: str) -> bool:
    """Return whether a name is one that featx gives to a shard, a summary or a temporary file."""
    return is_temporary(name) or bool(SHARD.fullmatch(name) or SUMMARY.fullmatch(name))


def is_temporary(name: str) -> bool:
    """Return whether a name is that of a file of an entry that was never published."""
    return bool(_TEMPORARY.fullmatch(name))

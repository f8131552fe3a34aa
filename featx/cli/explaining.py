"""Why features are found in the cache or not, and ages in words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError

if TYPE_CHECKING:
    from featx.cache import EntryInfo, FeatureKey, FeatureStore
    from featx.extraction.planning import PlannedSet

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([smhdw])")
_MOST_SHOWN = 60


def parse_age(text: str) -> float:
    """Return an age in seconds: of ``90d``, ``12h``, ``30m``, ``2w`` or ``45s``.

    Raises
    ------
    UsageError
        If the text is none of these.

    Examples
    --------
    >>> parse_age("1.5h")
    5400.0
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no age: expected a number and s, m, h, d or w, like 90d.")
    return float(match[1]) * _UNITS[match[2]]


def age_text(seconds: float) -> str:
    """Return an age in its largest whole unit.

    Examples
    --------
    >>> age_text(5400), age_text(200_000), age_text(3)
    ('1 h', '2 d', 'now')
    """
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def explained(store: FeatureStore, sets: Sequence[PlannedSet]) -> Iterator[str]:
    """Yield a line per cut and split: whether it is cached, else what differs from the nearest."""
    for item in sets:
        where = f"{item.cut}, {item.split}"
        entry = store.name_of(store.path_for(item.key))
        if item.cached:
            yield f"{where}: cached in {entry}."
        elif item.rows_done:
            yield (
                f"{where}: {item.rows_done:,} of {item.n_rows:,} rows are cached in {entry}; a run "
                "goes on behind them."
            )
        elif item.problem:
            yield f"{where}: its entry is damaged. {item.problem} {_nearest_text(store, item)}"
        else:
            yield f"{where}: not cached. {_nearest_text(store, item)}"


def _nearest_text(store: FeatureStore, item: PlannedSet) -> str:
    found = store.nearest(item.key)
    if found is None:
        nothing = "nothing else" if item.problem else "nothing"
        others = other_formats(store.entries())
        return f"The cache holds {nothing} yet.{' ' if others else ''}{others}"
    info, names = found
    assert info.key is not None
    changes = [f"{n}: {_value(info.key, n)} there, {_value(item.key, n)} here" for n in names]
    used = age_text(time.time() - info.used_s)
    ago = "now" if used == "now" else f"{used} ago"
    return (
        f"Nearest is {store.name_of(info.path)} (used {ago}), which differs in "
        f"{'; '.join(changes)}."
    )


def other_formats(entries: Sequence[EntryInfo]) -> str:
    """Return what to do about entries in other versions of the cache format; empty without any."""
    from featx.cache.keys import SCHEMA_VERSION
    from featx.cache.manifest import REMOVE_OLD
    from featx.text import counted

    parts = []
    if older := sum(entry.format < SCHEMA_VERSION for entry in entries):
        count = counted(older, "entry", "entries")
        parts.append(f"{count} of an older format, which nothing reads any more: {REMOVE_OLD}")
    if newer := sum(entry.format > SCHEMA_VERSION for entry in entries):
        parts.append(f"{counted(newer, 'entry', 'entries')} of a newer featx.")
    return " ".join(parts)


def _value(key: FeatureKey, name: str) -> str:
    """Return an ingredient by its name, as `FeatureKey.difference` gives it."""
    ingredients: Any = key.describe()
    value = (
        ingredients["preprocess"].get(name.partition(".")[2], "nothing")
        if (name.startswith("preprocess."))
        else ingredients[name]
    )
    text = str(value)
    # The first digits of a digest are enough.
    return text[:12] if name.endswith("_digest") else text[:_MOST_SHOWN]

"""What a run will compute and write, before it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import BudgetExceeded
from featx.extraction.settings import Settings
from featx.machine import available_memory_bytes, versions
from featx.text import counted, human_bytes

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.cache import FeatureKey, FeatureStore
    from featx.data import Split

MEMORY_SHARE = 0.8


def memory_budget_bytes(budget: int | None) -> int:
    """Return the budget that was given, or 80 % of the memory that is free."""
    return budget or int(MEMORY_SHARE * available_memory_bytes())


def feature_key(
    backbone: Backbone, split: Split, settings: Settings, point: CutPoint, batch_size: int
) -> FeatureKey:
    """Return the key under which features of a split at a cut are cached."""
    from featx.cache import FeatureKey, shard_rows_for

    preprocess = settings.preprocess.as_dict()
    # The name of a preprocessing changes no number.
    preprocess.pop("name", None)
    return FeatureKey(
        backbone=backbone.name,
        weights_digest=backbone.weights.digest,
        dataset_digest=split.digest,
        split=split.name,
        preprocess=preprocess,
        module=point.module,
        pool=point.pool,
        storage=settings.storage,
        precision=settings.precision,
        numerics=_numerics(settings, point),
        device_kind=settings.device.type,
        batch_size=batch_size,
        shard_rows=shard_rows_for(point.n_pooled, batch_size, settings.storage),
        versions=_versions_that_matter(backbone),
    )


def _numerics(settings: Settings, point: CutPoint) -> str:
    """Return what changes the last digits besides the precision: ``channels-last, ...``."""
    text = ", ".join(settings.numerics.parts())
    if settings.compile:
        text += f" for {' '.join(settings.compiled_for)}"
    # Nobody promises that compiled kernels give the same bits whatever the threads.
    by_torch = settings.device.type == "cpu" and (point.threads_matter or settings.numerics.plain)
    if settings.threads and (settings.compile or by_torch):
        text += f" with {counted(settings.threads, 'thread', 'threads')}"
    return text


def _versions_that_matter(backbone: Backbone) -> str:
    """Return the minor versions of what decodes, resizes, defines the network and computes."""
    from featx import __version__

    found = versions() | {"featx": __version__}
    names = ("pillow", backbone.library, "torch")
    return ", ".join(f"{name} {'.'.join(found[name].split('.')[:2])}" for name in names)


@dataclass(frozen=True)
class PlannedSet:
    """One feature set of a run: what it is, and what of it is there.

    Attributes
    ----------
    cut, split : str
    key : FeatureKey
        Of the entry that is there, or of the one that will be tried first.
    n_rows, n_features, n_bytes : int
        Size of the whole set.
    rows_done : int
        Rows already in the cache.
    problem : str or None
        Why what is there cannot be used; only where damage was asked for instead of an error.
    """

    cut: str
    split: str
    key: FeatureKey
    n_rows: int
    n_features: int
    n_bytes: int
    rows_done: int
    problem: str | None = None

    @property
    def cached(self) -> bool:
        """Whether nothing is left to compute."""
        return self.rows_done == self.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and values a row of the whole set."""
        return self.n_rows, self.n_features

    @property
    def shard_bytes(self) -> int:
        """Bytes of its largest shard: of the features, and a label of 8 bytes a row."""
        from featx.cache.keys import item_bytes

        rows = min(self.key.shard_rows, self.n_rows)
        return rows * (self.n_features * item_bytes(self.key.storage) + 8)


def plan_split(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    split: Split,
    store: FeatureStore,
    settings: Settings,
    *,
    rebuild: bool = False,
    tell_damage: bool = False,
) -> dict[str, PlannedSet]:
    """Return, for each cut of one split, what is cached and what is to be computed.

    Parameters
    ----------
    rebuild : bool
        Take nothing for cached.
    tell_damage : bool
        Note what cannot be used as the `problem` of its set.

    Raises
    ------
    CacheCorrupt, CacheSchemaMismatch
        If an entry cannot be used, unless damage is to be told.
    """
    from featx.cache import size_bytes_for

    planned = {}
    settings = settings.of_pass(points.values())
    for cut, point in points.items():
        keys = [feature_key(backbone, split, settings, point, b) for b in settings.batch_sizes()]
        problems = {key: store.problem(key) for key in keys} if tell_damage else {}
        done = {
            key: 0 if rebuild or problems.get(key) is not None else store.progress(key)
            for key in keys
        }
        # A run that had to halve its batches left its entry under the smaller size.
        key = next((k for k in keys if done[k] == len(split)), keys[0])
        planned[cut] = PlannedSet(
            cut=cut,
            split=split.name,
            key=key,
            n_rows=len(split),
            n_features=point.n_pooled,
            n_bytes=size_bytes_for(len(split), point.n_pooled, settings.storage),
            rows_done=done[key],
            problem=problems.get(key) or next(filter(None, problems.values()), None),
        )
    return planned


def check_budget(
    planned: Sequence[PlannedSet],
    points: Mapping[str, CutPoint],
    store: FeatureStore,
    memory_budget: int,
) -> None:
    """Refuse what would fill the disk, or whose rows would not fit in memory on their way to it.

    Raises
    ------
    BudgetExceeded
        Says what is needed, what there is, and what pooling would need.
    """
    from featx.cache.keys import item_bytes
    from featx.cache.streaming import chunk_rows_for

    missing = [item for item in planned if not item.cached]
    needed = sum(item.n_bytes * (item.n_rows - item.rows_done) // item.n_rows for item in missing)
    free = store.free_bytes()
    if needed > free:
        raise BudgetExceeded(over_budget_message("The features", needed, "disk", free, points))
    # Of each cut a chunk of rows is collected while the one before is written; what an interrupted
    # run has left is read before, one shard at a time.
    widest = {(item.cut, item.key.pool): item for item in missing}
    buffers = sum(
        2 * item.n_features * item_bytes(item.key.storage)
        * chunk_rows_for(item.n_features, item.key.storage, min(item.key.shard_rows, item.n_rows))
        for item in widest.values()
    ) + max((item.shard_bytes for item in missing if item.rows_done), default=0)  # fmt: skip
    if buffers > memory_budget:
        raise BudgetExceeded(
            over_budget_message(
                "Rows on their way to the disk", buffers, "memory", memory_budget, points
            )
        )


def over_budget_message(
    what: str, needed: int, where: str, limit: int, points: Mapping[str, CutPoint]
) -> str:
    """Return the message of a BudgetExceeded, with what pooling would save."""
    kept = sum(point.n_pooled for point in points.values())
    pooled = sum(
        # Channels of a map (C, H, W), width of tokens (T, D).
        point.shape[0 if point.kind == "map" else -1]
        for point in points.values()
    )
    room = "is free on the disk" if where == "disk" else "may be used (--memory-budget)"
    text = f"{what} would take {human_bytes(needed)}; {human_bytes(limit)} {room}."
    if pooled < kept:
        text += (
            f" Pooling takes 1/{kept / pooled:.0f} of it: --pool avg "
            f"({pooled} instead of {kept} values an image)."
        )
    else:
        text += " Use fewer images (--limit), fewer cuts, or --storage float16."
    return text

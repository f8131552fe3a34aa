"""Images through a cut network into the cache: what is there is kept, what is missing computed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from featx.backbones.pooling import parse_pooling
from featx.cache.locks import computing
from featx.extraction.forward import with_batches_that_fit
from featx.extraction.planning import feature_key, plan_split
from featx.extraction.processes import batches_of_all_devices
from featx.extraction.settings import Settings, cut_points
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.cache import FeatureKey, FeatureSet, FeatureStore
    from featx.data import Split


def extract_to_store(
    backbone: Backbone,
    cuts: Sequence[str],
    split: Split,
    store: FeatureStore,
    settings: Settings,
    *,
    rebuild: bool = False,
    also: Sequence[str] = (),
    progress: Progress = SILENT,
) -> dict[str, FeatureSet]:
    """Return the features of a split at named cuts from the cache, computing what is missing.

    All missing cuts share one forward pass. What an interrupted run has published is kept and
    not computed again.

    Parameters
    ----------
    split : Split
        Images and labels.
    store : FeatureStore
        Where features are cached.
    settings : Settings
        From `make_settings`.
    rebuild : bool
        Compute everything anew, also what is cached.
    also : sequence of str
        Poolings of the same cuts that will be asked for next: where they are not cached, they are
        computed and cached in the same pass. Of a compiled network, whose last digits may depend
        on what else it computes, nothing is.

    Returns
    -------
    dict of str to FeatureSet
        A complete set per cut, as asked.

    Raises
    ------
    CacheCorrupt, CacheSchemaMismatch
        When an entry that is there cannot be trusted.
    CacheWriteError
        When the disk refuses; what was published stays.
    """
    points = cut_points(backbone, cuts, settings)
    settings = settings.of_pass(points.values())
    names = dict.fromkeys(parse_pooling(pool).name for pool in also)
    names.pop(parse_pooling(settings.pool).name, None)
    for pool in names if not settings.compile else ():
        others = cut_points(backbone, cuts, replace(settings, pool=pool))
        points |= {f"{cut} ({pool})": point for cut, point in others.items()}
    planned = plan_split(backbone, points, split, store, settings, rebuild=rebuild)
    found = {}
    for cut, item in planned.items():
        entry = store.find(item.key, item.shape) if item.cached else None
        if entry is not None:
            found[cut] = entry
    missing = {cut: points[cut] for cut in planned if cut not in found}
    if missing:
        with computing(store.root, [planned[cut].key for cut in missing], progress) as waited:
            if waited and not rebuild:
                # Another process has computed what this one wanted, or a part of it.
                again = plan_split(backbone, missing, split, store, settings)
                done = {
                    cut: store.find(item.key, item.shape)
                    for cut, item in again.items()
                    if item.cached
                }
                found |= {cut: entry for cut, entry in done.items() if entry is not None}
                missing = {cut: missing[cut] for cut in missing if cut not in found}
            found |= _compute(
                backbone, missing, split, store, settings, rebuild=rebuild, progress=progress
            )
    return {cut: found[cut] for cut in cuts}


def _compute(
    backbone: Backbone,
    missing: Mapping[str, CutPoint],
    split: Split,
    store: FeatureStore,
    settings: Settings,
    *,
    rebuild: bool,
    progress: Progress,
) -> dict[str, FeatureSet]:
    """Compute what is missing, with smaller batches where memory is short."""
    if not missing:
        return {}
    begun: set[FeatureKey] = set()

    def keys(batch_size: int) -> list[FeatureKey]:
        points = missing.values()
        return [feature_key(backbone, split, settings, point, batch_size) for point in points]

    def write(batch_size: int) -> dict[str, FeatureSet]:
        begun.update(key for key in keys(batch_size) if not rebuild and store.progress(key))
        return _write_split(
            backbone, missing, split, store, settings,
            batch_size=batch_size, rebuild=rebuild, progress=progress,
        )  # fmt: skip

    def remove(batch_size: int) -> None:
        # What this attempt began will not be gone on with; what an earlier run published stays.
        for key in keys(batch_size):
            if key not in begun:
                store.remove(key)

    return with_batches_that_fit(settings, write, progress, given_up=remove)


def _write_split(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    split: Split,
    store: FeatureStore,
    settings: Settings,
    *,
    batch_size: int,
    rebuild: bool,
    progress: Progress,
) -> dict[str, FeatureSet]:
    """Compute the missing rows of several cuts in one pass; return the finished sets."""
    with contextlib.ExitStack() as stack:
        writers = {
            cut: stack.enter_context(
                store.writer(
                    feature_key(backbone, split, settings, point, batch_size),
                    n_rows=len(split),
                    n_features=point.n_pooled,
                    rebuild=rebuild,
                )
            )
            for cut, point in points.items()
        }
        start = min(writer.next_row for writer in writers.values())
        label = f"extract {backbone.short_name} {split.name}"
        with progress.task(label, len(split), "images", done=start) as advance:
            if start < len(split):
                for row, features in batches_of_all_devices(
                    backbone, _computed(backbone, points, settings), split.images, settings,
                    batch_size, start=start,
                ):  # fmt: skip
                    for cut in points:
                        values = features[cut]
                        # Cuts have shards of different length: some are ahead after a restart.
                        skip = max(0, min(writers[cut].next_row - row, len(values)))
                        rows = slice(row + skip, row + len(values))
                        writers[cut].append(values[skip:], split.y[rows])
                    advance(len(values))
        return {cut: writer.finish() for cut, writer in writers.items()}


def _computed(
    backbone: Backbone, points: Mapping[str, CutPoint], settings: Settings
) -> dict[str, CutPoint]:
    """Return the cut points of a pass that is to give some.

    A compiled pass computes all of its cuts: others would give other last digits.
    """
    modules = {point.module for point in points.values()}
    others = [module for module in settings.compiled_for if module not in modules]
    return {**points, **cut_points(backbone, others, settings)}

"""The heat maps of a run: a few images of one split, at its cuts, with its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from featx.analysis.activations import cut_grids, seen_images
from featx.analysis.evidence import check_has_places
from featx.analysis.heatmaps import heat_map_exhibits, heat_maps
from featx.errors import UsageError, quoted
from featx.evaluate.exhibits import HeatMapExhibit, ShownImage
from featx.scaling import Scaler

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.data import Dataset, Split
    from featx.heads import LinearHead
    from featx.pipeline.fitting import CutFit
    from featx.pipeline.prepare import Prepared

N_IMAGES = 4
MAX_CUTS = 24
# Any would do: it is the same one at every cut, so that depth is all that differs.
CHANNEL = 0


@dataclass(frozen=True)
class HeatMaps:
    """What a report shows of a run's heat maps.

    Attributes
    ----------
    exhibits : list of HeatMapExhibit
    files : dict of str to bytes
        By name, relative to the report's folder.
    notes : list of str
        What was left out, and why.
    """

    exhibits: list[HeatMapExhibit]
    files: dict[str, bytes]
    notes: list[str]


def heat_maps_of(
    prepared: Prepared,
    fits: Mapping[str, CutFit],
    features: Mapping[str, Mapping[str, FeatureSet]],
) -> HeatMaps:
    """Return the heat maps of up to 4 images of different classes, from the test split if any.

    The images go through the network once more, one by one. Activations are shown of all of them,
    single channels of the first, and at every cut the evidence for the class that its head
    predicts.

    Parameters
    ----------
    fits : mapping of str to CutFit
        By cut.
    features : mapping of str to mapping of str to FeatureSet
        By cut, then by split: their statistics standardize a split with its own.
    """
    name = last_split(prepared.dataset)
    split = prepared.dataset.splits[name]
    cuts, notes = _cuts_with_maps(prepared)
    if not cuts:
        return HeatMaps([], {}, notes)
    heads = {cut: _head_for(prepared, fits[cut], features[cut][name]) for cut in cuts}
    try:
        check_has_places(prepared.settings.pool)
    except UsageError as error:
        heads = {}
        notes.append(f"Class evidence is left out. {error}")
    n = min(N_IMAGES, len(np.unique(split.y)))
    rows = random_rows(split, n, prepared.recipe.seed)
    images = split.images.take(rows)
    maps = heat_maps(
        prepared.backbone, cuts, images, prepared.settings, channel=CHANNEL, heads=heads
    )
    kept = [
        [heat_map for heat_map in of_image if number == 0 or heat_map.what != "channel"]
        for number, of_image in enumerate(maps)
    ]
    shown = [ShownImage(index=row, label=int(split.y[row])) for row in rows]
    exhibits, files = heat_map_exhibits(kept, seen_images(images, prepared.settings), shown, name)
    return HeatMaps(exhibits, files, notes)


def last_split(dataset: Dataset) -> str:
    """Return the name of the split that is seen last: test, where there is one."""
    return next(name for name in ("test", "val", "train") if name in dataset.splits)


def random_rows(split: Split, n: int, seed: int) -> list[int]:
    """Return the rows of up to `n` random images, of as many classes as there are."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.unique(split.y))
    by_class = [rng.permutation(np.flatnonzero(split.y == label)) for label in labels]
    turns = zip_longest(*by_class)
    return [int(row) for turn in turns for row in turn if row is not None][:n]


def _head_for(prepared: Prepared, fitted: CutFit, features: FeatureSet) -> LinearHead:
    """Return a head that scores this split as the run did."""
    if prepared.recipe.standardize != "per-split":
        return fitted.head
    return replace(fitted.head, scaler=Scaler.from_moments(features.moments))


def _cuts_with_maps(prepared: Prepared) -> tuple[list[str], list[str]]:
    """Return the cuts that are shown, and notes of those that are not."""
    grids, refused = cut_grids(prepared.backbone, list(prepared.points), prepared.settings)
    notes = [f"No heat map: {reason}" for reason in refused.values()]
    cuts = list(grids)
    if len(cuts) > MAX_CUTS:
        # Over the whole depth, with the first and the last.
        kept = {round(place) for place in np.linspace(0, len(cuts) - 1, MAX_CUTS)}
        left_out = [cut for number, cut in enumerate(cuts) if number not in kept]
        cuts = [cut for number, cut in enumerate(cuts) if number in kept]
        notes.append(_left_out(left_out, len(grids)))
    return cuts, notes


def _left_out(cuts: Sequence[str], n: int) -> str:
    more = f" and {len(cuts) - 12} more" if len(cuts) > 12 else ""
    return (
        f"Heat maps are made of {MAX_CUTS} of the {n} cuts, evenly over the depth. Left out: "
        f"{quoted(cuts[:12])}{more}."
    )

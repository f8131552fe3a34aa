"""What a network is trained on: images, or the frozen part's features from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featx.cache import FeatureStore
from featx.extraction import (
    Settings,
    cut_points,
    extract_to_store,
    memory_budget_bytes,
    plan_split,
)
from featx.progress import SILENT, Progress
from featx.training import (
    FeatureInputs,
    ImageInputs,
    Inputs,
    Learner,
    check_room,
    encode,
    resident_images,
    tail_behind,
)

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone, CutPoint
    from featx.cache import FeatureSet
    from featx.data import Split
    from featx.pipeline.train_prepare import PreparedTraining

# How many modules before the trained part are tried as the place to cut: the last ones may be
# reshapes or dropouts that no graph can be cut at.
_TRIES = 6
_ALL = ("train", "val", "test")


@dataclass(frozen=True)
class CachedPart:
    """The frozen part of a network, whose features come from the cache.

    Attributes
    ----------
    backbone : Backbone
        The network as it was loaded.
    point : CutPoint
        Where the frozen part ends.
    learner : Learner
        Of what stands behind it: a tail that shares the network's layers.
    channels_last : bool
        Whether the tail takes maps as (n, h, w, c).
    settings : Settings
        How the features are computed.
    """

    backbone: Backbone
    point: CutPoint
    learner: Learner
    channels_last: bool
    settings: Settings


def cached_part(prepared: PreparedTraining) -> CachedPart | None:
    """Return where the frozen part's features can be cut off, if they can and fit in memory."""
    part = part_in_front(prepared)
    budget = memory_budget_bytes(prepared.recipe.memory_budget)
    return part if part is not None and feature_bytes(prepared, part) <= budget else None


def feature_bytes(prepared: PreparedTraining, part: CachedPart) -> int:
    """Return the memory that the features of all images take, in float32."""
    n_rows = sum(len(split) for split in prepared.dataset.splits.values())
    return 4 * n_rows * part.point.n_flat


def part_in_front(prepared: PreparedTraining) -> CachedPart | None:
    """Return the frozen part in front of what is trained, if its features can be cut off.

    They cannot where nothing is frozen, where images are augmented, or where the network has
    another way around the cut.
    """
    learner, trainable = prepared.learner, prepared.trainable
    if learner.frozen_up_to is None or prepared.settings.augment:
        return None
    from featx.backbones import Backbone
    from featx.backbones.probe import kind_and_shape, modules_up_to
    from featx.errors import FeatxError

    found = trainable.trace
    last = found.seen[learner.frozen_up_to].order
    before = [name for name, seen in found.seen.items() if seen.order <= last and name]
    backbone = Backbone(
        trainable.network,
        trainable.model,
        trainable.weights,
        prepared.preprocess,
        image_size=prepared.input_size,
        absent=trainable.head,
    )
    settings = Settings(
        preprocess=prepared.preprocess,
        input_size=prepared.input_size,
        pool="flatten",
        device=prepared.device,
        precision=prepared.settings.precision,
        storage=prepared.recipe.storage,
        workers=prepared.workers,
        channels_last=prepared.recipe.channels_last,
        fold=prepared.recipe.fold,
        threads=None if prepared.recipe.threads == "auto" else prepared.recipe.threads,
    )
    try:
        for module in reversed(before[-_TRIES:]):
            # A cut that was asked for by name is that very place.
            tail = tail_behind(trainable.model, module, modules_up_to(found, module))
            if tail is None or not _trains_all(tail, learner):
                continue
            try:
                point = cut_points(backbone, [module], settings)[module]
            except FeatxError:
                continue
            output = found.seen[module].output
            assert output is not None
            kind, _, nhwc = kind_and_shape(
                output, prepared.input_size, channels_last=backbone.channels_last()
            )
            return CachedPart(
                backbone, point, replace(learner, module=tail), kind == "map" and nhwc, settings
            )
    finally:
        for parameter in learner.parameters.values():
            parameter.requires_grad_(True)
    return None


def _trains_all(tail: object, learner: Learner) -> bool:
    """Return whether every trained parameter stands in the tail."""
    inside = {id(parameter) for parameter in tail.parameters()}  # type: ignore[attr-defined]
    return all(id(parameter) in inside for parameter in learner.parameters.values())


def image_inputs(
    prepared: PreparedTraining, progress: Progress = SILENT, *, splits: Sequence[str] = _ALL
) -> dict[str, Inputs]:
    """Return the images of those of `splits` that there are, resized, on the device."""
    n_images = sum(len(split) for _, split in _chosen(prepared, splits))
    budget = memory_budget_bytes(prepared.recipe.memory_budget)
    check_room(n_images, prepared.input_size, budget)
    inputs: dict[str, Inputs] = {}
    for name, split in _chosen(prepared, splits):
        images = prepared.images.get(name)
        if images is None:
            progress.say(f"Reading {len(split):,} {name} images.")
            images = resident_images(
                split, prepared.preprocess, prepared.device, workers=prepared.workers
            )
        targets = encode(split.y, prepared.labels, prepared.device)
        inputs[name] = ImageInputs(
            images, targets, prepared.preprocess, prepared.settings.channels_last
        )
    return inputs


def images_to_extract(
    prepared: PreparedTraining, part: CachedPart, *, splits: Sequence[str] = _ALL
) -> int:
    """Return how many images of those of `splits` that there are have no cached features yet."""
    store = FeatureStore(prepared.recipe.cache_path)
    planned = [
        plan_split(
            part.backbone,
            {part.point.module: part.point},
            split,
            store,
            part.settings,
            rebuild=prepared.recipe.rebuild,
        )[part.point.module]
        for _, split in _chosen(prepared, splits)
    ]
    return sum(item.n_rows - item.rows_done for item in planned)


def feature_inputs(
    prepared: PreparedTraining,
    part: CachedPart,
    progress: Progress = SILENT,
    *,
    splits: Sequence[str] = _ALL,
) -> dict[str, Inputs]:
    """Return the frozen part's features of those of `splits` that there are.

    What is not cached is computed.
    """
    store = FeatureStore(prepared.recipe.cache_path)
    inputs: dict[str, Inputs] = {}
    for name, split in _chosen(prepared, splits):
        found = extract_to_store(
            part.backbone,
            [part.point.module],
            split,
            store,
            part.settings,
            rebuild=prepared.recipe.rebuild,
            progress=progress,
        )[part.point.module]
        targets = encode(split.y, prepared.labels, prepared.device)
        inputs[name] = FeatureInputs(_shaped(found, part).to(prepared.device), targets)
    return inputs


def _chosen(prepared: PreparedTraining, splits: Sequence[str]) -> list[tuple[str, Split]]:
    return [(name, split) for name, split in prepared.dataset.splits.items() if name in splits]


def _shaped(features: FeatureSet, part: CachedPart) -> torch.Tensor:
    """Return cached rows in the shape that the module put out."""
    import torch

    x = torch.from_numpy(features.read()).float().reshape(-1, *part.point.shape)
    return x.permute(0, 2, 3, 1).contiguous() if part.channels_last else x

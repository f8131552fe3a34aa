"""From a recipe to everything a run needs, and the plan of what it will do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.backbones import load_backbone, parse_pooling
from featx.cache import FeatureStore
from featx.data import FileImages, load_dataset
from featx.errors import DataError, FeatxError, RecipeError, UsageError, quoted
from featx.extraction import (
    PlannedSet,
    Settings,
    Tuning,
    check_budget,
    cut_points,
    make_settings,
    memory_budget_bytes,
    plan_split,
    tune,
)
from featx.extraction.tuning import FREE
from featx.machine import n_cpus, pick_devices
from featx.pipeline.input_marks import InputMarks, dataset_mark, input_marks, weights_mark
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.data import Dataset
    from featx.recipes import Recipe


@dataclass(frozen=True)
class Prepared:
    """A recipe with its images, its network and its cuts found; nothing computed yet.

    Attributes
    ----------
    recipe : Recipe
    dataset : Dataset
    backbone : Backbone
    settings : Settings
    points : dict of str to CutPoint
        By the cut's name as the recipe writes it, in order of execution.
    store : FeatureStore
    marks : InputMarks
        Of the files, as they were before they were read.
    tuning : Tuning or None
        What ``tune`` has measured.
    """

    recipe: Recipe
    dataset: Dataset
    backbone: Backbone
    settings: Settings
    points: dict[str, CutPoint]
    store: FeatureStore
    marks: InputMarks
    tuning: Tuning | None = None


@dataclass(frozen=True)
class Plan:
    """What a run will compute and write.

    Attributes
    ----------
    sets : tuple of PlannedSet
        One per split and cut.
    memory_budget : int
        Bytes the run stays within.
    """

    sets: tuple[PlannedSet, ...]
    memory_budget: int

    def fit_sizes(self, recipe: Recipe) -> dict[str, tuple[int, int]]:
        """Return, by cut, the rows its head is fitted on at most, and the values a row."""
        fitted_on = ("train", "val") if recipe.refit else ("train",)
        rows: dict[str, int] = {}
        for item in self.sets:
            if item.split in fitted_on:
                rows[item.cut] = rows.get(item.cut, 0) + item.n_rows
        return {item.cut: (rows[item.cut], item.n_features) for item in self.sets}

    def when_done(self) -> Plan:
        """Return the plan as it stands once everything is computed."""
        done = tuple(replace(item, rows_done=item.n_rows) for item in self.sets)
        return replace(self, sets=done)

    @property
    def bytes_to_write(self) -> int:
        """Bytes of features that are not cached yet."""
        return sum(
            item.n_bytes * (item.n_rows - item.rows_done) // item.n_rows for item in self.sets
        )

    @property
    def images_to_extract(self) -> int:
        """Images that will go through the network."""
        return sum(self._left().values())

    def reaches(self, cut: str) -> bool:
        """Return whether all images that will go through the network go as far as a cut."""
        return self.images_to_extract == sum(self._left(cut).values())

    def _left(self, cut: str | None = None) -> dict[str, int]:
        """Return how many images of each split are to be extracted, at any cut or at one."""
        left: dict[str, int] = {}
        for item in self.sets:
            if cut in (None, item.cut):
                left[item.split] = max(left.get(item.split, 0), item.n_rows - item.rows_done)
        return left


# What decides which images there are, and which network; a network is built for a size.
_IMAGES = ("dataset", "data_dir", "classes", "val", "test", "stratified", "seed", "limit")
_NETWORK = ("backbone", "weights", "preprocess", "seed", "image_size")
# What else decides what comes out of the network at the cuts, and where it is kept.
_PASS = (
    *_IMAGES, *_NETWORK, "cuts", "crop", "interpolation", "device", "precision", "allow",
    "batch_size", "storage", "channels_last", "fold", "cache_dir",
)  # fmt: skip


def prepare(
    recipe: Recipe,
    progress: Progress = SILENT,
    *,
    like: Prepared | None = None,
    measure: bool = True,
) -> Prepared:
    """Load images and network of a recipe and find its cuts.

    Parameters
    ----------
    recipe : Recipe
    progress : Progress, optional
        Hears what is done.
    like : Prepared, optional
        Another run of the same process: its images and its network are taken over where the
        recipes ask for the same ones.
    measure : bool
        Whether ``tune`` may measure; otherwise it takes what an earlier run has found.

    Raises
    ------
    FeatxError
        A wrong name, size, label or file: before anything is computed or written.
    """
    if not recipe.cuts:
        raise RecipeError(
            f"No cut is given. List those of the network: featx layers {recipe.backbone}. "
            "Then: --cut NAME (more than one is fine)"
        )
    # What costs nothing to check comes before weights and images, which may be downloads.
    pick_devices(recipe.device)
    parse_pooling(recipe.pool)
    marks = _marks(recipe, like)
    backbone = _backbone(recipe, like)
    for cut in recipe.cuts:
        backbone.check_cut(cut)
    dataset = _dataset(recipe, like)
    images = [split.images for split in dataset.splits.values()]
    settings = make_settings(
        backbone,
        dataset.size,
        decodes=any(isinstance(source, FileImages) for source in images),
        image_size=recipe.image_size,
        pool=recipe.pool,
        crop=recipe.crop,
        interpolation=recipe.interpolation,
        device=recipe.device,
        precision=recipe.precision,
        batch_size=recipe.batch_size,
        storage=recipe.storage,
        workers=recipe.workers,
        allow=recipe.allow,
        channels_last=recipe.channels_last,
        fold=recipe.fold,
        compile=recipe.compile,
        threads=recipe.threads,
    )
    points = cut_points(backbone, recipe.cuts, settings)
    in_order = dict(sorted(points.items(), key=lambda item: item[1].order))
    for note in repeated_values(in_order):
        progress.warn(note)
    store = FeatureStore(recipe.cache_path)
    tuning = _tuned(recipe, backbone, list(points.values()), settings, measure, progress)
    settings = tuning.settings if tuning else settings
    return Prepared(recipe, dataset, backbone, settings, in_order, store, marks, tuning)


def repeated_values(points: Mapping[str, CutPoint]) -> list[str]:
    """Return a sentence for each cut that a grid makes more values of than its map holds."""
    return [
        f"{cut}: {point.pool} makes {point.n_pooled:,} values an image of a map that holds "
        f"{point.n_flat:,} ({' x '.join(map(str, point.shape))}), so that values repeat: flatten "
        "keeps all there is."
        for cut, point in points.items()
        if point.n_pooled > point.n_flat and point.pool.startswith("grid")
    ]


def _marks(recipe: Recipe, like: Prepared | None) -> InputMarks:
    """Return the marks of a recipe's files; what is taken over keeps the mark it was read with."""
    if like is None:
        return input_marks(recipe)
    same_images = _same(recipe, like.recipe, _IMAGES)
    same_network = _same(recipe, like.recipe, _NETWORK)
    return InputMarks(
        like.marks.dataset if same_images else dataset_mark(recipe.dataset),
        like.marks.weights if same_network else weights_mark(recipe),
    )


def _backbone(recipe: Recipe, like: Prepared | None) -> Backbone:
    if like is not None and _same(recipe, like.recipe, _NETWORK):
        return like.backbone
    return load_backbone(
        recipe.backbone,
        recipe.weights,
        preprocess=recipe.preprocess,
        seed=recipe.seed,
        image_size=recipe.image_size if isinstance(recipe.image_size, int) else None,
    )


def _dataset(recipe: Recipe, like: Prepared | None) -> Dataset:
    if like is not None and _same(recipe, like.recipe, _IMAGES):
        return like.dataset
    return load_dataset(
        recipe.dataset,
        data_dir=recipe.data_dir,
        classes=recipe.classes or None,
        val=recipe.val,
        test=recipe.test,
        stratified=recipe.stratified,
        seed=recipe.seed,
        limit=recipe.limit,
        workers=n_cpus() if recipe.workers == "auto" else recipe.workers,
    )


def _same(recipe: Recipe, other: Recipe, fields: tuple[str, ...]) -> bool:
    return all(getattr(recipe, name) == getattr(other, name) for name in fields)


def _tuned(
    recipe: Recipe,
    backbone: Backbone,
    points: list[CutPoint],
    settings: Settings,
    measure: bool,
    progress: Progress,
) -> Tuning | None:
    """Return what is measured of the settings that the recipe leaves open; None if unasked."""
    if not recipe.tune:
        return None
    left_open = {name for name in FREE if name not in recipe.model_fields_set}
    if recipe.precision == "auto":
        left_open.add("precision")
    left_open |= {name for name in ("batch_size", "threads") if getattr(recipe, name) == "auto"}
    precisions = ("fp32", *recipe.allow)
    return tune(
        backbone, points, settings,
        free=left_open, precisions=precisions, measure=measure, progress=progress,
    )  # fmt: skip


def prepare_fit(
    recipe: Recipe,
    progress: Progress = SILENT,
    *,
    like: Prepared | None = None,
    measure: bool = True,
) -> Prepared:
    """Prepare a recipe whose heads will be fitted; see `prepare`.

    Raises
    ------
    DataError
        When there is nothing to tell apart, besides what `prepare` raises.
    """
    prepared = prepare(recipe, progress, like=like, measure=measure)
    classes = prepared.dataset.classes.values()
    if len(classes) < 2:
        raise DataError(
            f"There is only one class ({quoted(classes)}): a head needs two or more to tell apart."
        )
    check_writable(recipe.report_path)
    return prepared


def check_writable(folder: Path) -> None:
    """Refuse a report folder that cannot be written, before anything is computed for it."""
    nearest = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "is not writable" if nearest.is_dir() else "is a file"
        raise UsageError(
            f"The report cannot go to {folder}: {nearest} {reason}. "
            "Choose another place with --out."
        )


def make_plan(prepared: Prepared) -> Plan:
    """Return what is cached and what will be computed.

    Raises
    ------
    BudgetExceeded
        When it would not fit the disk or the memory budget.
    """
    budget = memory_budget_bytes(prepared.recipe.memory_budget)
    sets = plan_sets(prepared)
    check_budget(sets, prepared.points, prepared.store, budget)
    return Plan(sets, budget)


def poolings_to_share(prepared: Prepared, later: Iterable[Recipe]) -> tuple[str, ...]:
    """Return the poolings of later runs that one pass can compute with those of this run.

    They are of the same images, network and cuts, and there is room for all. What a compiled
    network computes may depend on what else it does, and what is tuned or rebuilt is so for
    one run: these share nothing.
    """
    recipe, settings = prepared.recipe, prepared.settings
    sets = [item for item in plan_sets(prepared) if not item.cached]
    if not sets or recipe.rebuild or recipe.tune or recipe.compile:
        return ()
    others = dict.fromkeys(other.pool for other in later if _same(other, recipe, _PASS))
    own = parse_pooling(recipe.pool).name
    shared: list[str] = []
    for pool in others:
        pooled = replace(settings, pool=pool)
        try:
            name = parse_pooling(pool).name
            if name == own or name in shared:
                continue
            points = cut_points(prepared.backbone, recipe.cuts, pooled)
            planned = plan_sets(replace(prepared, settings=pooled, points=points))
            more = [item for item in planned if not item.cached]
            budget = memory_budget_bytes(recipe.memory_budget)
            check_budget([*sets, *more], points, prepared.store, budget)
        except FeatxError:
            # The run that asks for it will say why.
            continue
        if more:
            shared.append(name)
            sets += more
    return tuple(shared)


def plan_sets(prepared: Prepared, *, tell_damage: bool = False) -> tuple[PlannedSet, ...]:
    """Return what is cached of each split and cut; see `featx.extraction.plan_split`."""
    sets: list[PlannedSet] = []
    for split in prepared.dataset.splits.values():
        planned = plan_split(
            prepared.backbone, prepared.points, split, prepared.store, prepared.settings,
            rebuild=prepared.recipe.rebuild, tell_damage=tell_damage,
        )  # fmt: skip
        sets.extend(planned.values())
    return tuple(sets)

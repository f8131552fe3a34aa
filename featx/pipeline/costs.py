"""What each approach of a comparison takes, from images to its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.evaluate import RunRecord, TrainingRecord
from featx.extraction import sample_rate
from featx.machine import cpu_name, device_names, n_cpus
from featx.pipeline.linear_first import frozen_part
from featx.pipeline.prepare import prepare_fit
from featx.pipeline.train_inputs import part_in_front
from featx.pipeline.train_prepare import prepare_training
from featx.progress import SILENT, Progress
from featx.recipes.recipe import SHARED
from featx.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from featx.backbones import Backbone, CutPoint
    from featx.data import Split
    from featx.extraction import Settings
    from featx.recipes import Recipe

Result = RunRecord | TrainingRecord

# A rate of a few images that were left tells of what it takes to begin.
_LEAST_SHARE = 0.5
# What both modes are told, and does not change how fast a frozen network's features come.
_OWN = {"name", "description", "batch_size", "exhibits", "map_method", "memory_budget", "rebuild"}


@dataclass(frozen=True)
class Extraction:
    """How fast the features of an approach come.

    Attributes
    ----------
    images_per_s : float or None
        None where it could not be measured.
    sampled : int
        0 where the run itself extracted them; else how many images the rate was measured on
        afterwards, since the features came from the cache.
    problem : str
        Why it could not be measured.
    """

    images_per_s: float | None
    sampled: int = 0
    problem: str = ""

    @property
    def note(self) -> str:
        """What a record says of a rate that was measured afterwards, or not at all; else empty."""
        if self.images_per_s is None:
            return (
                "The features came from the cache, and what extracting them takes could not be "
                f"measured, so that times leave it out: {self.problem}"
            )
        if not self.sampled:
            return ""
        return (
            "The features came from the cache: extracting them is counted at "
            f"{self.images_per_s:.3g} images/s, measured for this table on "
            f"{counted(self.sampled, 'image', 'images')}."
        )


def extraction_rates(
    runs: Sequence[tuple[Recipe, Result]], progress: Progress = SILENT
) -> dict[str, Extraction]:
    """Return how fast the features of those runs come that learn from features, by run name.

    A run that extracted most of its images knows it. Of LP-FT's and of a frozen network's features,
    which are the same, the one that comes second finds them in the cache: one rate holds for both.
    Where nobody has extracted them, some images are.
    """
    groups: list[list[tuple[Recipe, Result]]] = []
    for recipe, record in runs:
        if _learns_from_features(record):
            same = (group for group in groups if _same_features(group[0][0], recipe))
            group = next(same, None)
            if group is None:
                groups.append(group := [])
            group.append((recipe, record))
    found: dict[str, Extraction] = {}
    for group in groups:
        rate = next(filter(None, (_measured(record) for _, record in group)), None)
        extraction = Extraction(rate) if rate else _sampled(*group[0], progress)
        found |= {recipe.run_name: extraction for recipe, _ in group}
    return found


def training_seconds(record: TrainingRecord, recipe: Recipe) -> float:
    """Return what a training took, with what it evaluated to choose an epoch."""
    timing, splits = record.timing, record.dataset.splits
    n_val = splits["val"].n if "val" in splits else 0
    n_test = splits["test"].n if "test" in splits and recipe.test_each_epoch else 0
    choosing = timing.get("evaluation_s", 0.0) * n_val / max(1, n_val + n_test)
    return timing["train_s"] + timing.get("head_s", 0.0) + choosing


def reading_seconds(record: Result, extraction: Extraction | None) -> float:
    """Return what it takes to read and extract the images a model is made with.

    By the rate of extraction, whatever was in the cache: who begins with images has nothing cached.
    """
    needed = _n_needed(record)
    share = needed / sum(split.n for split in record.dataset.splits.values())
    rate = extraction.images_per_s if extraction else None
    extracting = needed / rate if rate else 0.0
    return extracting + share * record.timing.get("read_s", 0.0)


def _learns_from_features(record: Result) -> bool:
    return isinstance(record, RunRecord) or record.mode == "lp-ft" or record.features == "cached"


def _measured(record: Result) -> float | None:
    """Return the rate at which a run extracted its images, if these were more than a few."""
    name = "images_per_s" if isinstance(record, RunRecord) else "extract_images_per_s"
    rate = record.timing.get(name)
    if not rate:
        return None
    extracted = rate * record.timing["extract_s"]
    return rate if extracted >= _LEAST_SHARE * _n_needed(record) else None


def _n_needed(record: Result) -> int:
    """Return how many images a model is made with: those of training and validation."""
    splits = record.dataset.splits
    return splits["train"].n + (splits["val"].n if "val" in splits else 0)


def _same_features(one: Recipe, other: Recipe) -> bool:
    """Return whether two trainings of a frozen network's head, or LP-FT, use the same features."""
    fields = {"network", *SHARED} - _OWN
    return {one.mode, other.mode} <= {"frozen", "lp-ft"} and all(
        getattr(one, field) == getattr(other, field) for field in fields
    )


def _sampled(recipe: Recipe, record: Result, progress: Progress) -> Extraction:
    """Measure the rate of a run whose features were in the cache, if it can be.

    A table of finished runs is never lost for that.
    """
    progress.say(f"Measuring how fast the cached features of {recipe.run_name} are extracted.")
    try:
        backbone, points, split, settings = _pass_of(recipe)
        problem = _ran_elsewhere(record, settings)
        if problem:
            return Extraction(None, problem=problem)
        rate = sample_rate(backbone, points, split, settings)
    except FeatxError as error:
        return Extraction(None, problem=str(error))
    return Extraction(rate.images_per_s, rate.n_images)


def _pass_of(recipe: Recipe) -> tuple[Backbone, Mapping[str, CutPoint], Split, Settings]:
    """Return what a run extracts: network, cuts, training images and settings."""
    if recipe.task == "probe":
        probe = prepare_fit(recipe)
        return probe.backbone, probe.points, probe.dataset.splits["train"], probe.settings
    training = prepare_training(recipe)
    part = frozen_part(training)[1] if training.mode == "lp-ft" else part_in_front(training)
    # The record says that there was one, and the network is the same.
    assert part is not None
    points = {part.point.module: part.point}
    return part.backbone, points, training.dataset.splits["train"], part.settings


def _ran_elsewhere(record: Result, settings: Settings) -> str:
    """Return on what other machine or device a run was made; empty if it would be here."""
    ran = record.environment
    if (ran.cpu, ran.n_cpus) != (cpu_name(), n_cpus()):
        return f"the run was made on {ran.cpu}, {counted(ran.n_cpus, 'core', 'cores')}."
    device, here = ran.device.partition(": ")[0], device_names(settings.devices)
    return "" if device == here else f"the run was made on {device}; here it would be {here}."

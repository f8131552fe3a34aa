"""What each approach of a comparison takes, from images to its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.errors import BudgetExceeded
from featx.evaluate import RunRecord, TrainingRecord
from featx.extraction import sample_rate
from featx.pipeline.linear_first import frozen_part
from featx.pipeline.prepare import prepare_fit
from featx.pipeline.train_inputs import cached_part
from featx.pipeline.train_prepare import prepare_training
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featx.extraction import SampledRate
    from featx.recipes import Recipe

Result = RunRecord | TrainingRecord

# A rate of a few images that were left tells of what it takes to begin.
_LEAST_SHARE = 0.5
# What else decides how fast a frozen network's features are.
_SAME_PASS = ("backbone", "network", "weights", "image_size", "precision", "device")


@dataclass(frozen=True)
class Extraction:
    """How fast the features of an approach come.

    Attributes
    ----------
    images_per_s : float
    sampled : int
        0 where the run itself extracted them; else how many images the rate was measured on
        afterwards, since the features were in the cache.
    """

    images_per_s: float
    sampled: int = 0

    @property
    def note(self) -> str:
        """What a record says of a rate that was measured afterwards; empty otherwise."""
        if not self.sampled:
            return ""
        return (
            "The features were in the cache: extracting them is counted at "
            f"{self.images_per_s:.3g} images/s, measured for this table on {self.sampled:,} "
            "images."
        )


def extraction_rates(
    runs: Sequence[tuple[Recipe, Result]], progress: Progress = SILENT
) -> dict[str, Extraction]:
    """Return how fast the features of those runs come that learn from features, by run name.

    A run that extracted most of its images knows it. Of LP-FT's and of a frozen network's features,
    which are the same, the one that comes second finds them in the cache: the other's rate holds
    for both. Where nobody has extracted them, some images are.
    """
    measured = {recipe.run_name: _measured(record) for recipe, record in runs}
    found: dict[str, Extraction] = {}
    for recipe, record in runs:
        if not _learns_from_features(record):
            continue
        rates = (
            measured[other.run_name]
            for other, of in runs
            if other is recipe or (_same_features(recipe, other) and _learns_from_features(of))
        )
        rate = measured[recipe.run_name] or next(filter(None, rates), None)
        found[recipe.run_name] = Extraction(rate) if rate else _sampled(recipe, progress)
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
    extracting = needed / extraction.images_per_s if extraction else 0.0
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
    trained = {"frozen", "lp-ft"}
    return {one.mode, other.mode} <= trained and all(
        getattr(one, field) == getattr(other, field) for field in _SAME_PASS
    )


def _sampled(recipe: Recipe, progress: Progress) -> Extraction:
    """Measure the rate of a run whose features were all in the cache."""
    progress.say(f"Measuring how fast the cached features of {recipe.run_name} are extracted.")
    rate = _probe_rate(recipe) if recipe.task == "probe" else _frozen_rate(recipe)
    return Extraction(rate.images_per_s, rate.n_images)


def _probe_rate(recipe: Recipe) -> SampledRate:
    prepared = prepare_fit(recipe)
    split = prepared.dataset.splits["train"]
    return sample_rate(prepared.backbone, prepared.points, split, prepared.settings)


def _frozen_rate(recipe: Recipe) -> SampledRate:
    prepared = prepare_training(recipe)
    part = frozen_part(prepared)[1] if prepared.mode == "lp-ft" else cached_part(prepared)
    if part is None:
        raise BudgetExceeded(
            f"The features of {recipe.run_name} no longer fit in the memory that is free, so that "
            "their extraction cannot be measured. Free some, or give --memory-budget."
        )
    points = {part.point.module: part.point}
    return sample_rate(part.backbone, points, prepared.dataset.splits["train"], part.settings)

"""Runs as trackers hear of them: settings, metrics per epoch, and the files of the report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.pipeline.about import portable_settings
from featx.progress import SILENT, Progress
from featx.tracking import TrackedRun, make_tracker

if TYPE_CHECKING:
    from featx.evaluate import ComparisonRecord, EpochRecord, RunRecord, StudyRecord, TrainingRecord
    from featx.recipes import Recipe
    from featx.training import RateRange

# What is worth keeping of a report folder; a checkpoint is not.
_KEPT = (
    "*.json", "*.csv", "*.md", "*.safetensors", "figures/*.png", "heads/*.safetensors",
    "exhibits/*.webp", "exhibits/*.png",
)  # fmt: skip
_MOST_STEPS = 50


@contextlib.contextmanager
def tracked_run(
    recipe: Recipe,
    *,
    parent: str | None = None,
    suffix: str = "",
    progress: Progress = SILENT,
) -> Iterator[TrackedRun]:
    """Track what happens in the ``with`` block as one run of a recipe.

    Parameters
    ----------
    parent : str, optional
        `TrackedRun.id` of the study this run belongs to.
    suffix : str
        What tells it from the recipe's own run, which it is not.
    """
    name = f"{recipe.run_name}-{suffix}" if suffix else recipe.run_name
    tracker = make_tracker(recipe.track, progress=progress, folder=recipe.report_path)
    tags = {"featx.task": recipe.task, "featx.dataset": recipe.dataset.partition(":")[0]}
    with tracker, tracker.run(name, parent=parent, tags=tags) as run:
        run.parameters(_settings(recipe))
        yield run


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return every setting of the task, defaults as well, without the places of this machine."""
    from featx.recipes import PLACES, TASK_FIELDS

    values = recipe.model_dump(mode="json", include=set(TASK_FIELDS[recipe.task]) - set(PLACES))
    return {**values, **portable_settings(recipe)}


def track_epoch(run: TrackedRun, epoch: EpochRecord) -> None:
    """Track one epoch of a training, by split: ``val_loss``, ``val_top1``, ..."""
    values = {f"{split}_loss": value for split, value in epoch.loss.items()}
    values |= {f"{split}_top1": value for split, value in epoch.top1.items()}
    values |= {f"{split}_top5": value for split, value in epoch.top5.items()}
    values |= {
        "learning_rate": epoch.learning_rate,
        "epoch_s": epoch.seconds,
        "images_per_s": epoch.images_per_s,
    }
    run.metrics(values, step=epoch.epoch)


def track_rates(run: TrackedRun, found: RateRange, files: Sequence[Path]) -> None:
    """Track a range test: the smoothed loss at the rate of every step, the suggestion, its files.

    A step costs a server one request: of a long test every few steps are told.
    """
    every = max(1, len(found.rates) // _MOST_STEPS)
    for step in range(0, len(found.rates), every):
        run.metrics({"rate": found.rates[step], "smoothed_loss": found.losses[step]}, step=step)
    if found.suggestion is not None:
        run.metrics({"suggested_rate": found.suggestion})
    run.files(files[0].parent, [path.relative_to(files[0].parent) for path in files])


def track_training(run: TrackedRun, record: TrainingRecord, folder: Path) -> None:
    """Track what a finished training came to, and its files."""
    run.parameters(
        {
            "resolved": record.settings,
            "network_parameters": record.network.n_parameters,
            "trained_parameters": record.network.n_trained,
            "state": record.state,
        }
    )
    values: dict[str, float] = {"best_epoch": record.best_epoch, **record.timing}
    for split, metrics in record.splits.items():
        values[f"final_{split}_top1"] = metrics.accuracy
        values[f"final_{split}_macro_f1"] = metrics.macro_avg.f1
        if metrics.top5 is not None:
            values[f"final_{split}_top5"] = metrics.top5
    run.metrics(values)
    track_files(run, folder)


def track_probe(run: TrackedRun, record: RunRecord, folder: Path) -> None:
    """Track the accuracies of a probe's cuts, and its files."""
    values = dict(record.timing)
    for result in record.results:
        for split, metrics in result.splits.items():
            values[f"{result.cut}/{split}_top1"] = metrics.accuracy
            values[f"{result.cut}/{split}_macro_f1"] = metrics.macro_avg.f1
        values[f"{result.cut}/fit_s"] = result.fit_s
    run.metrics(values)
    track_files(run, folder)


def track_summary(run: TrackedRun, record: StudyRecord | ComparisonRecord, folder: Path) -> None:
    """Track the files of a study or a comparison; its runs are tracked by themselves."""
    run.metrics(dict(record.timing))
    track_files(run, folder)


def track_files(run: TrackedRun, folder: Path) -> None:
    """Track a report's files."""
    names = sorted({path for pattern in _KEPT for path in folder.glob(pattern)})
    run.files(folder, [path.relative_to(folder) for path in names])

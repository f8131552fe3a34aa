"""Run a prepared training: inputs, loop, evaluation, model file, record, report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.analysis.results import Scored
from featx.cache import fsio
from featx.errors import FeatxError, TrainingDiverged
from featx.evaluate import evaluate_predictions
from featx.extraction.forward import is_out_of_memory
from featx.machine import keep_freed_memory
from featx.pipeline.exhibits import keep_exhibits, training_exhibits
from featx.pipeline.linear_first import linear_first
from featx.pipeline.predictions import save_predictions
from featx.pipeline.tracked import track_epoch, track_training, tracked_run
from featx.pipeline.train_inputs import (
    cached_part,
    feature_inputs,
    image_inputs,
    images_to_extract,
)
from featx.pipeline.train_prepare import prepare_training
from featx.pipeline.train_record import make_training_record
from featx.progress import SILENT, Progress
from featx.report import write_report
from featx.training import predicted_labels, scores_of, train

if TYPE_CHECKING:
    from featx.evaluate import EpochRecord, SplitMetrics, TrainingRecord
    from featx.pipeline.train_prepare import PreparedTraining
    from featx.recipes import Recipe
    from featx.training import Inputs, Learner, Outcome

CHECKPOINT = "checkpoint.pt"
MODEL = "model.safetensors"


def run_training(recipe: Recipe, *, progress: Progress = SILENT) -> TrainingRecord:
    """Run a recipe of task ``train`` and write its report to ``recipe.report_path``.

    Raises
    ------
    TrainingDiverged
        When the loss was not finite; record, report and last good checkpoint are written.
    FeatxError
        Bad input, before anything is computed; or a failure, with the checkpoint kept.
    """
    record, _ = run_tracked_training(prepare_training(recipe), progress=progress)
    raise_if_diverged(record)
    return record


def run_tracked_training(
    prepared: PreparedTraining, *, parent: str | None = None, progress: Progress = SILENT
) -> tuple[TrainingRecord, Path]:
    """Train what `prepare_training` made, tracked as the recipe asks for.

    Parameters
    ----------
    parent : str, optional
        The tracked run of the study this training belongs to.

    Returns
    -------
    record : TrainingRecord
        Also of a training that diverged.
    report : Path
        ``report.md``.
    """
    # A tracker calls a run failed that an error leaves; the caller gets its record all the same.
    with (
        contextlib.suppress(TrainingDiverged),
        tracked_run(prepared.recipe, parent=parent, progress=progress) as tracked,
    ):
        heard: set[int] = set()

        def on_epoch(epoch: EpochRecord) -> None:
            heard.add(epoch.epoch)
            track_epoch(tracked, epoch)

        record, report = run_prepared_training(prepared, on_epoch=on_epoch, progress=progress)
        for epoch in record.history:
            # What ran before an interruption was tracked by a run that is closed.
            if epoch.epoch not in heard:
                track_epoch(tracked, epoch)
        track_training(tracked, record, prepared.recipe.report_path)
        raise_if_diverged(record)
    return record, report


def raise_if_diverged(record: TrainingRecord) -> None:
    """Raise what stopped a training that has its report already."""
    if record.state == "diverged":
        raise TrainingDiverged(str(record.message))


def run_prepared_training(
    prepared: PreparedTraining,
    *,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    progress: Progress = SILENT,
) -> tuple[TrainingRecord, Path]:
    """Train what `prepare_training` made; return the record and the path of the report."""
    recipe, settings = prepared.recipe, prepared.settings
    if prepared.device.type == "cpu":
        keep_freed_memory()
    timing: dict[str, float] = {}
    checkpoint = recipe.report_path / CHECKPOINT
    before = None
    if prepared.mode == "lp-ft" and not (recipe.resume and checkpoint.is_file()):
        before = linear_first(prepared, progress).as_dict()
    start = time.perf_counter()
    feed = learner_and_inputs(prepared, progress)
    learner, inputs, cached = feed.learner, feed.inputs, feed.cached
    timing["extract_s" if cached else "read_s"] = time.perf_counter() - start
    if feed.n_extracted:
        timing["extract_images_per_s"] = feed.n_extracted / timing["extract_s"]
    learner.module.to(prepared.device)
    start = time.perf_counter()
    # Test chooses nothing: behind every epoch it only draws a curve.
    watched = {k: v for k, v in inputs.items() if k != "test" or recipe.test_each_epoch}
    try:
        outcome = train(
            learner,
            watched,
            settings,
            n_classes=len(prepared.labels),
            image_size=prepared.input_size,
            checkpoint=checkpoint,
            identity={**prepared.identity(), "features": "cached" if cached else "computed"},
            resume=recipe.resume,
            before=before,
            on_epoch=on_epoch,
            progress=progress,
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FeatxError(
            f"Out of memory on {prepared.device} with batches of {settings.batch_size} images of "
            f"{prepared.input_size[0]} px. Use a smaller --batch-size or --image-size; --resume "
            "goes on behind the last epoch that was finished."
        ) from error
    timing |= outcome.before.get("timing", {})
    notes = [*prepared.trainable.notes, *outcome.before.get("notes", [])]
    timing["train_s"] = sum(epoch.seconds for epoch in outcome.history)
    timing["evaluation_s"] = sum(epoch.evaluation_s for epoch in outcome.history)
    timing["loop_s"] = time.perf_counter() - start
    if outcome.history:
        images = len(inputs["train"]) * len(outcome.history)
        timing["images_per_s"] = images / timing["train_s"]
    splits, scored = _evaluate(prepared, learner, inputs, outcome)
    model_bytes = _save_model(prepared, outcome) if outcome.best_epoch else None
    record = make_training_record(
        prepared, learner, outcome, splits, timing, notes,
        cached=cached, model=(MODEL, model_bytes) if model_bytes else None,
    )  # fmt: skip
    keep_exhibits(
        record, recipe, lambda: training_exhibits(record, prepared.dataset, scored, progress)
    )
    report = write_report(record, recipe.report_path)
    if outcome.state != "diverged":
        fsio.remove_file(checkpoint)
    return record, report


@dataclass(frozen=True)
class Feed:
    """What is trained, and on what.

    Attributes
    ----------
    learner : Learner
        The network, or the tail of one whose frozen part's features are cached.
    inputs : mapping of str to Inputs
        By split.
    cached : bool
        Whether the inputs are features from the cache.
    n_extracted : int
        Images whose features were not cached before.
    """

    learner: Learner
    inputs: Mapping[str, Inputs]
    cached: bool = False
    n_extracted: int = 0


def learner_and_inputs(
    prepared: PreparedTraining,
    progress: Progress = SILENT,
    *,
    splits: Sequence[str] = ("train", "val", "test"),
) -> Feed:
    """Return what is trained on what: the tail on cached features where that is possible.

    Inputs are of those of `splits` that there are.
    """
    part = cached_part(prepared)
    if part is not None:
        progress.say(
            f"The network up to {part.point.module} is frozen: its features come from the "
            "cache, and what stands behind it trains on them."
        )
        n_extracted = images_to_extract(prepared, part, splits=splits)
        features = feature_inputs(prepared, part, progress, splits=splits)
        return Feed(part.learner, features, cached=True, n_extracted=n_extracted)
    return Feed(prepared.learner, image_inputs(prepared, progress, splits=splits))


def _evaluate(
    prepared: PreparedTraining, learner: Learner, inputs: Mapping[str, Inputs], outcome: Outcome
) -> tuple[dict[str, SplitMetrics], list[Scored]]:
    """Return metrics and outputs of the kept weights on validation and test; keep what it predicts.

    Both are empty where no epoch was finished.
    """
    if not outcome.best_epoch:
        return {}, []
    dataset, labels = prepared.dataset, prepared.labels
    metrics, predictions, scored = {}, {}, []
    for split in ("val", "test"):
        if split not in inputs:
            continue
        outputs = scores_of(learner.module, inputs[split], prepared.settings.precision)
        predictions[split] = predicted_labels(outputs, labels)
        y, scores = dataset.splits[split].y, outputs.double().numpy()
        metrics[split] = evaluate_predictions(y, predictions[split], dataset.classes, scores=scores)
        scored.append(Scored("", "network", split, y, predictions[split], scores, labels))
    save_predictions(prepared.recipe.report_path, dataset, {"": predictions})
    return metrics, scored


def _save_model(prepared: PreparedTraining, outcome: Outcome) -> int:
    """Write the kept weights with all that is needed to use them; return the bytes."""
    from featx.backbones.saved import model_bytes
    from featx.pipeline.about import repeat_command

    trainable, dataset = prepared.trainable, prepared.dataset
    data = model_bytes(
        model=trainable.model,
        network=trainable.network,
        n_classes=len(dataset.classes),
        class_names=list(dataset.classes.values()),
        labels=prepared.labels,
        image_size=prepared.input_size,
        preprocess=prepared.preprocess,
        provenance={
            "began_with": trainable.weights.tag,
            "mode": prepared.mode,
            "epoch": outcome.best_epoch,
            "dataset": dataset.name,
            "train_digest": dataset.splits["train"].digest,
            "repeat": repeat_command(prepared.recipe),
        },
    )
    folder = prepared.recipe.report_path
    fsio.make_folder(folder)
    fsio.publish(folder / MODEL, data)
    return len(data)

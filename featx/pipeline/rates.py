"""The learning-rate range test of a recipe, with its plot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from featx.cache import fsio
from featx.machine import keep_freed_memory
from featx.pipeline.linear_first import linear_first
from featx.pipeline.tracked import track_rates, tracked_run
from featx.pipeline.train_run import learner_and_inputs
from featx.progress import SILENT, Progress
from featx.report import rate_range_png
from featx.training import rate_range

if TYPE_CHECKING:
    from featx.pipeline.train_prepare import PreparedTraining
    from featx.training import RateRange

STEPS = 200


def run_rate_range(
    prepared: PreparedTraining, *, progress: Progress = SILENT
) -> tuple[RateRange, Path]:
    """Run the range test on the training images; write its numbers and its plot, and track them.

    With mode lp-ft the head is fitted first, as it is before the training itself.

    Returns
    -------
    found : RateRange
    plot : Path
        ``lr-range.png`` in the recipe's report folder, with ``lr-range.json`` beside it.
    """
    if prepared.device.type == "cpu":
        keep_freed_memory()
    with tracked_run(prepared.recipe, suffix="lr-range", progress=progress) as tracked:
        if prepared.mode == "lp-ft":
            for note in linear_first(prepared, progress).notes:
                progress.say(note)
        feed = learner_and_inputs(prepared, progress, splits=("train",))
        feed.learner.module.to(prepared.device)
        found = rate_range(
            feed.learner,
            feed.inputs["train"],
            prepared.settings,
            n_classes=len(prepared.labels),
            image_size=prepared.input_size,
            steps=STEPS,
        )
        plot = _write(found, prepared.recipe.report_path)
        track_rates(tracked, found, [plot, plot.with_suffix(".json")])
    return found, plot


def _write(found: RateRange, folder: Path) -> Path:
    """Write the numbers and the plot of a range test; return the plot's path."""
    fsio.make_folder(folder)
    plot = folder / "lr-range.png"
    numbers = json.dumps(dataclasses.asdict(found)) + "\n"
    fsio.publish(plot.with_suffix(".json"), numbers.encode())
    fsio.publish(plot, rate_range_png(found.rates, found.losses, found.suggestion))
    return plot

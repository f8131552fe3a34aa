"""Train a network and print what came of it; the learning-rate range test."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.evaluate import TrainingRecord
    from featx.pipeline import PreparedTraining
    from featx.recipes import Recipe


def train_and_print(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run a training, or print its plan."""
    from featx.cli.console import ConsoleProgress, out, tell_places
    from featx.pipeline import prepare_training, raise_if_diverged, run_tracked_training

    progress = ConsoleProgress()
    prepared = prepare_training(recipe)
    if dry_run:
        out().print(training_in_words(prepared), soft_wrap=True)
        return
    for note in prepared.trainable.notes:
        progress.say(note)
    progress.say(training_in_words(prepared))
    record, report = run_tracked_training(prepared, progress=progress)
    print_training(record)
    tell_places(report)
    if record.model_file:
        model = recipe.report_path / record.model_file
        out().print(f"Model: {model} (use it: --backbone {model})", soft_wrap=True)
    raise_if_diverged(record)


def training_in_words(prepared: PreparedTraining) -> str:
    """Return what will be trained on what, in two sentences."""
    from featx.text import human_count

    learner, settings = prepared.learner, prepared.settings
    images = ", ".join(f"{len(s):,} {name}" for name, s in prepared.dataset.splits.items())
    height, width = prepared.input_size
    total = sum(p.numel() for p in prepared.trainable.model.parameters())
    behind = f", behind {learner.frozen_up_to}" if learner.frozen_up_to else ""
    name = prepared.trainable.network.short_name
    return (
        f"{name}, {prepared.mode}: {human_count(learner.n_trained)} "
        f"of {human_count(total)} parameters are trained{behind}. {images} images of {height} x "
        f"{width} px, at most {settings.epochs} epochs in batches of {settings.batch_size}, "
        f"{settings.optimizer} at {settings.lr:g}, on {prepared.device}. "
        f"Report: {prepared.recipe.report_path}"
    )


def print_training(record: TrainingRecord) -> None:
    """Print a classification report per split, and how the training went."""
    from featx.cli.console import out
    from featx.evaluate import format_report
    from featx.report import answer_text

    console = out()
    for split, metrics in record.splits.items():
        console.print(f"\n{record.network.name} · {record.mode} · {split}", style="bold")
        console.print(format_report(metrics), markup=False)
    console.print()
    console.print(answer_text(record), soft_wrap=True)
    for note in record.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)


def find_rate(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run the learning-rate range test, write its plot, and print the suggestion; or say so."""
    from featx.cli.console import ConsoleProgress, out
    from featx.pipeline import prepare_training, run_rate_range

    prepared = prepare_training(recipe)
    if dry_run:
        name = prepared.trainable.network.short_name
        plot = recipe.report_path / "lr-range.png"
        out().print(f"{name}, {prepared.mode}: a range test. Plot: {plot}", soft_wrap=True)
        return
    found, path = run_rate_range(prepared, progress=ConsoleProgress())
    if found.suggestion is None:
        out().print("The loss never falls between these rates: look at the plot.")
    else:
        out().print(
            f"The loss falls fastest at a rate of {found.suggestion:.2g}: try --lr "
            f"{found.suggestion:.2g}, and half or twice of it."
        )
    out().print(f"Plot: {path}", soft_wrap=True)

"""Run what a recipe comes to: one run, or a study of many, and print the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.evaluate import StudyRecord
    from featx.recipes import Recipe, Study


def run_study_and_print(study: Study, *, dry_run: bool = False) -> None:
    """Run a study, or the one run it comes to."""
    if study.is_single:
        run_single(study.recipe, dry_run=dry_run)
        return
    from featx.cli.console import ConsoleProgress, out, tell_places
    from featx.pipeline import finished_runs, run_study

    if dry_run:
        done = finished_runs(study)
        out().print(study_in_words(study), soft_wrap=True)
        out().print(f"{done} of {len(study.members)} runs are finished already.")
        return
    progress = ConsoleProgress()
    progress.say(study_in_words(study))
    record, report = run_study(study, progress=progress)
    print_study(record)
    tell_places(report)


def run_single(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run one recipe of any task."""
    if recipe.task == "train":
        from featx.cli.training import train_and_print

        train_and_print(recipe, dry_run=dry_run)
    elif recipe.task == "compare":
        from featx.cli.comparing import compare_and_print

        compare_and_print(recipe, dry_run=dry_run)
    else:
        from featx.cli.running import run_and_print

        run_and_print(recipe, dry_run=dry_run)


def study_in_words(study: Study) -> str:
    """Return what will be run, in one sentence."""
    axes = [f"{len(values)} values of {field}" for field, values in study.axes.items()]
    repeats = study.recipe.repeats
    if repeats > 1:
        axes.append(f"{repeats} repeats")
    return (
        f"{len(study.members)} runs: {', '.join(axes)}. Report: {study.recipe.report_path}; what "
        "is finished is not run again."
    )


def print_study(record: StudyRecord) -> None:
    """Print the answer and the table of a study."""
    from featx.cli.console import fitting_table, out
    from featx.report import answer_text, study_rows

    console = out()
    header, rows = study_rows(record)
    spare = ("multiply-adds", "epochs run", "parameters", "seed")
    console.print()
    console.print(fitting_table(console, record.name, header, rows, left=(0,), spare=spare))
    console.print(answer_text(record), soft_wrap=True)
    for note in record.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)

"""Run a recipe and print what came of it: reports per cut and split, the ranking, the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.text import counted

if TYPE_CHECKING:
    from featx.evaluate import RunRecord
    from featx.recipes import Recipe


def run_and_print(recipe: Recipe, *, dry_run: bool = False) -> None:
    """Run a recipe, or print its plan."""
    from featx.cli.console import ConsoleProgress, out, tell_places
    from featx.cli.plans import plan_table, summary, tell_tuning
    from featx.pipeline import jobs_that_fit, make_plan, prepare_fit, run_prepared

    progress = ConsoleProgress()
    prepared = prepare_fit(recipe, progress, measure=not dry_run)
    tell_tuning(prepared)
    plan = make_plan(prepared)
    jobs_that_fit(plan.fit_sizes(recipe), recipe, plan.memory_budget)
    if dry_run:
        console = out()
        console.print(plan_table(prepared, plan))
        console.print(summary(prepared, plan))
        console.print(fits_in_words(recipe))
        return
    for note in prepared.backbone.notes:
        progress.say(note)
    progress.say(summary(prepared, plan))
    record, report = run_prepared(prepared, plan, progress=progress)
    print_record(record)
    tell_places(report)


def fits_in_words(recipe: Recipe) -> str:
    """Return what will be fitted, in one sentence."""
    from featx.pipeline import candidates

    values = candidates(recipe)
    n_cuts = len(recipe.cuts)
    n_fits = n_cuts * len(values)
    chosen = " (chosen on validation)" if len(values) > 1 else ""
    listed = ", ".join(f"{value:g}" for value in values)
    return (
        f"Then {counted(n_fits, 'fit', 'fits')}: {recipe.head} for "
        f"{counted(n_cuts, 'cut', 'cuts')}, "
        f"C = {listed}{chosen}, standardized: {recipe.standardize}. Report: {recipe.report_path}"
    )


def print_record(record: RunRecord) -> None:
    """Print a classification report per cut and split, and the table that ranks the cuts."""
    from featx.cli.console import fitting_table, out
    from featx.evaluate import format_report
    from featx.report.text import ranked_rows

    console = out()
    for result in record.results:
        for split, metrics in result.splits.items():
            console.print(
                f"\n{result.cut} · {result.head} (C = {result.C:g}) · {split}", style="bold"
            )
            console.print(format_report(metrics), markup=False)
    header, rows = ranked_rows(record)
    console.print()
    spare = ("parameters", "head", "solver", "fit time", "multiply-adds", "test macro F1", "C")
    title = f"{record.name}: cuts ranked"
    console.print(fitting_table(console, title, header, rows, left=(0, 1), spare=spare))
    for note in record.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)

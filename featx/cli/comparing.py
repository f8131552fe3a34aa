"""Run a comparison and print its table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featx.evaluate import ComparisonRecord
    from featx.recipes import Recipe


def compare_and_print(recipe: Recipe, *, dry_run: bool = False, show: bool = False) -> None:
    """Run a comparison, or print its plan; open its page if that is asked for."""
    from featx.cli.console import ConsoleProgress, out, tell_places
    from featx.cli.places import open_page
    from featx.pipeline import compared_runs, finished_record, run_comparison

    if dry_run:
        for run in compared_runs(recipe):
            what = ", ".join(run.recipe.cuts) or run.recipe.network
            done = "finished" if finished_record(run.recipe) else "to run"
            out().print(f"{run.approach}: {what}: {done}", soft_wrap=True)
        return
    record, report = run_comparison(recipe, progress=ConsoleProgress())
    print_comparison(record)
    tell_places(report)
    if show:
        open_page(report.with_name("index.html"))


def print_comparison(record: ComparisonRecord) -> None:
    """Print the table of a comparison, the answer and the notes."""
    from featx.cli.console import fitting_table, out
    from featx.report import answer_text, comparison_rows

    console = out()
    header, rows = comparison_rows(record)
    spare = ("multiply-adds", "extraction time", "settings", "bytes to keep", "macro F1")
    console.print()
    console.print(fitting_table(console, record.name, header, rows, left=(0, 1, 2), spare=spare))
    console.print(answer_text(record), soft_wrap=True)
    for note in record.notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)

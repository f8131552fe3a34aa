"""Say what is different between reports, and make the page of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from featx.report.differences import Compared

_MOST_SHOWN = 20


def show_differences(
    names: Sequence[str], settings: Mapping[str, Any], *, dry_run: bool, show: bool
) -> None:
    """Print what is different between reports and write its page; `UsageError` if it cannot be.

    Parameters
    ----------
    names : sequence of str
        Of the reports, or their folders.
    settings : mapping
        The options that were given: `name` and `out` say where the page goes, others make no sense.
    dry_run : bool
        Say where the page would be.
    show : bool
        Open the page.
    """
    from featx.cli.console import out as console
    from featx.cli.places import joined_name, page_place, tell_page
    from featx.recipes import flag
    from featx.report import page_folder, read_compared, write_differences

    alien = [flag(field) for field in settings if field not in ("name", "out")]
    if alien:
        raise UsageError(
            f"{', '.join(alien)}: reports were named, and what they ran is done. With reports "
            "only --name, --out and --open make sense; without them a comparison is run."
        )
    if len(names) < 2:
        raise UsageError(
            f"There is one report, '{names[0]}': expected at least two to tell apart. Name another "
            f"one, or see this one with: featx report {names[0]}"
        )
    place = settings.get("out") or "reports"
    folders = [_folder(name, place) for name in names]
    page = page_place(place, settings.get("name") or joined_name(folders))
    compared = read_compared(folders)
    page_folder(page)
    _print(console(), compared)
    if dry_run:
        console().print(f"The page would be: {page / 'index.html'}", soft_wrap=True)
        return
    tell_page(write_differences(compared, page), show)


def _folder(name: str, out: str) -> Path:
    """Return the folder of a report, from `out` or from where reports usually are."""
    from featx.cli.places import report_folder

    if not (Path(out) / name / "results.json").is_file():
        usual = Path("reports") / name
        if (usual / "results.json").is_file():
            return usual
    return report_folder(name, out)


def _print(console: Console, compared: Compared) -> None:
    """Print the best of each, what was different, and the answer."""
    from featx.cli.console import fitting_table
    from featx.report import TERMINAL, best_rows, cautions, difference_answer, setting_rows

    header, rows = best_rows(compared)
    spare = ("multiply-adds", "time to fit or train", "head or kind")
    console.print()
    title = "the best of each"
    console.print(fitting_table(console, title, header, rows, left=(0, 1, 2), spare=spare))
    changed, n_equal = setting_rows(compared)
    if changed:
        columns = ["what", *compared.names]
        shown = changed[:_MOST_SHOWN]
        left = tuple(range(len(columns)))
        console.print(fitting_table(console, "what differs", columns, shown, left=left, spare=()))
    more = len(changed) - _MOST_SHOWN
    also = f"{more} more differ (the page has all), " if more > 0 else ""
    console.print(f"{also}{n_equal} settings, digests and versions are equal.")
    console.print(difference_answer(compared, TERMINAL), markup=False, soft_wrap=True)
    for caution in cautions(compared):
        console.print(f"note: {caution}", style="yellow", markup=False, soft_wrap=True)

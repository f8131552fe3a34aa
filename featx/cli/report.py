"""``featx report``: build reports again from their records alone, or one page of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    names: Annotated[
        list[str], typer.Argument(help="Names of runs under OUT, or their folders.", metavar="NAME")
    ],
    out: Annotated[str, typer.Option(help="Where reports are.")] = "reports",
    merged: Annotated[
        str, typer.Option(help="Make one page of all of them: OUT/MERGED/index.html.")
    ] = "",
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Build a run's report again from its results.json: page, tables, figures, Markdown.

    Example:  featx report demo --open
    """
    from featx.cli.places import page_place, report_folder, tell_page
    from featx.errors import UsageError
    from featx.report import write_merged

    folders = [report_folder(name, out) for name in names]
    if merged:
        tell_page(write_merged(folders, page_place(out, merged)), show)
    elif len(folders) > 1:
        raise UsageError(
            f"There are {len(folders)} reports: expected one, or the name of a page to merge them "
            "into. Add --merged NAME."
        )
    else:
        _rebuild(folders[0], show)


def _rebuild(folder: Path, show: bool) -> None:
    from featx.cli.places import tell_page
    from featx.cli.printing import print_any_record
    from featx.evaluate import read_record
    from featx.report import rebuild_report

    path = rebuild_report(folder)
    print_any_record(read_record(folder / "results.json"))
    tell_page(path.parent / "index.html", show)
    typer.echo(f"Report: {path}")

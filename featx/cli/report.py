"""``featx report``: build a report again from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    name: Annotated[str, typer.Argument(help="Name of a run under OUT, or its folder.")],
    out: Annotated[str, typer.Option(help="Where reports are.")] = "reports",
) -> None:
    """Build a run's report again from its results.json: tables, figures, Markdown.

    Example:  featx report demo
    """
    from featx.cli.printing import print_any_record
    from featx.errors import UnknownName
    from featx.evaluate import read_record
    from featx.report import rebuild_report

    folder = Path(name) if (Path(name) / "results.json").is_file() else Path(out) / name
    if not (folder / "results.json").is_file():
        there = sorted(path.parent.name for path in Path(out).glob("*/results.json"))
        raise UnknownName("Report", name, there, where=str(out), hint="It needs a results.json.")
    path = rebuild_report(folder)
    print_any_record(read_record(folder / "results.json"))
    typer.echo(f"Report: {path}")

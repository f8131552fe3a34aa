"""Where reports are, and where a page was written."""

from __future__ import annotations

from pathlib import Path

import typer


def report_folder(name: str, out: str) -> Path:
    """Return the folder of a report; `UnknownName` if there is none."""
    from featx.errors import UnknownName

    folder = Path(name) if (Path(name) / "results.json").is_file() else Path(out) / name
    if not (folder / "results.json").is_file():
        there = sorted(path.parent.name for path in Path(out).glob("*/results.json"))
        raise UnknownName("Report", name, there, where=str(out), hint="It needs a results.json.")
    return folder


def tell_page(page: Path, show: bool) -> None:
    """Say where the page is, and open it if that was asked for."""
    typer.echo(f"Page: {page}")
    if show:
        open_page(page)


def open_page(page: Path) -> None:
    """Open a page in the browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo("No browser could be started: open the page by hand.", err=True)

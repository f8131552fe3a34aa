"""Where reports are, and where a page was written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import typer

# Bytes; file systems take 255.
_LONGEST_NAME = 120


def report_folder(name: str, out: str) -> Path:
    """Return the folder of a report; `UnknownName` if there is none."""
    from featx.errors import UnknownName

    folder = Path(name) if (Path(name) / "results.json").is_file() else Path(out) / name
    if not (folder / "results.json").is_file():
        there = sorted(path.parent.name for path in Path(out).glob("*/results.json"))
        raise UnknownName("Report", name, there, where=str(out), hint="It needs a results.json.")
    return folder


def page_place(out: str, name: str) -> Path:
    """Return the folder of a page of several runs; `UsageError` if the name is a path."""
    from featx.errors import UsageError

    if Path(name).name != name or name in ("", ".", ".."):
        raise UsageError(
            f"'{name}' is no name for a page: expected one folder name, which is made in {out} "
            "(--out)."
        )
    return Path(out) / name


def joined_name(folders: Sequence[Path]) -> str:
    """Return a name for a page of several reports, the same for the same reports only.

    Examples
    --------
    >>> joined_name([Path("reports/a"), Path("reports/b")])
    'a-vs-b'
    """
    name = "-vs-".join(folder.resolve().name for folder in folders)
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{kept}-{digest}"


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

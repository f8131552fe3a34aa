"""Writing a report's files, each complete or not at all, from a record alone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.cache import fsio, fsread
from featx.errors import CacheError, FeatxError
from featx.evaluate.reading import RECORD_NAME, read_record
from featx.evaluate.records import RunRecord
from featx.report.canvas import ReportFigure
from featx.report.differences import Compared, compare_records
from featx.report.exhibits import read_beside
from featx.report.figures import draw_figures
from featx.report.markdown import render_markdown
from featx.report.rows import csv_files

if TYPE_CHECKING:
    from featx.evaluate.reading import Record

FIGURES = "figures"
PAGE_NAME = "index.html"
# A page draws these by itself, from the same record.
_DRAWN_BY_PAGE = ("classes.png", "confusion.png", "history.png")
# Every figure that a report of any kind may have.
_OURS = re.compile(
    r"(accuracy|classes|confusion|confusion-\d{2,}-[A-Za-z0-9-]*|curves|history|time)\.png"
)


def write_report(record: Record, folder: str | Path) -> Path:
    """Write ``results.json``, ``results.csv``, ``report.md``, ``index.html`` and ``figures/*.png``.

    A training has a ``history.csv`` as well. The files depend on the record alone, the page on the
    exhibits that stand beside it too; those of an earlier report are replaced.

    Parameters
    ----------
    record : RunRecord, TrainingRecord, StudyRecord or ComparisonRecord
        Everything the report says.
    folder : str or Path
        Made if it is not there.

    Returns
    -------
    Path
        ``report.md``.

    Raises
    ------
    FeatxError
        If the disk refuses: names the file and the reason; if exhibits are damaged.
    """
    folder = Path(folder)
    # First of all what cannot be made again.
    write_record(record, folder)
    return _write_views(record, folder)


def write_record(record: Record, folder: str | Path) -> Path:
    """Write ``results.json`` alone, and return it.

    Raises
    ------
    FeatxError
        If the disk refuses: names the file and the reason.
    """
    path = Path(folder) / RECORD_NAME
    _write(path, (record.model_dump_json(indent=2) + "\n").encode())
    return path


def rebuild_report(folder: str | Path) -> Path:
    """Write a report again from its ``results.json``, which stays; return ``report.md``.

    Raises
    ------
    FeatxError
        If the record or its exhibits cannot be read, or the disk refuses.
    """
    folder = Path(folder)
    return _write_views(read_record(folder / RECORD_NAME), folder)


def write_merged(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page of several reports, from their records and exhibits; return ``index.html``.

    Parameters
    ----------
    folders : sequence of str or Path
        The reports' folders.
    out : str or Path
        The page's folder; made if it is not there. Its name is the page's title.

    Raises
    ------
    FeatxError
        If a record or its exhibits cannot be read, `out` holds a report of its own, or the disk
        refuses.
    """
    from featx.report.page import Source, render_merged

    out = page_folder(out)
    sources = []
    for folder in map(Path, folders):
        record = read_record(folder / RECORD_NAME)
        figures = [] if isinstance(record, RunRecord) else draw_figures(record)
        sources.append(Source(record, read_beside(folder, record), _for_page(record, figures)))
    page = out / PAGE_NAME
    _write(page, render_merged(out.name, sources).encode())
    return page


def read_compared(folders: Sequence[str | Path]) -> Compared:
    """Read the records of several reports and set them beside each other.

    Raises
    ------
    FeatxError
        If a record cannot be read, two of the folders are the same, or nothing was measured in all
        of them.
    """
    places = [Path(folder).resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise FeatxError(f"The report in '{place}' is named twice: expected different ones.")
    records = [read_record(place / RECORD_NAME) for place in places]
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    compared = compare_records(names, records, places)
    if isinstance(compared, str):
        raise FeatxError(compared)
    return compared


def write_differences(compared: Compared, out: str | Path) -> Path:
    """Write the page of differences between runs; return ``index.html``.

    Parameters
    ----------
    compared : Compared
        From `read_compared`.
    out : str or Path
        The page's folder; made if it is not there. Its name is the page's title.

    Raises
    ------
    FeatxError
        If `out` holds a report of its own, or the disk refuses.
    """
    from featx.report.page import render_differences

    out = page_folder(out)
    page = out / PAGE_NAME
    _write(page, render_differences(out.name, compared).encode())
    return page


def page_folder(out: str | Path) -> Path:
    """Return the folder of a page of several runs; `FeatxError` if it holds a run's own report."""
    out = Path(out)
    if (out / RECORD_NAME).exists():
        raise FeatxError(
            f"'{out}' is the report of a run, whose page would be overwritten: expected a folder "
            f"without {RECORD_NAME}. Choose another name for the page of several runs."
        )
    return out


def _write_views(record: Record, folder: Path) -> Path:
    """Write all that can be made again from the record."""
    for name, text in csv_files(record).items():
        _write(folder / name, text.encode())
    figures = draw_figures(record)
    for figure in figures:
        _write(folder / FIGURES / figure.name, figure.png)
    _remove_stale(folder / FIGURES, {figure.name for figure in figures})
    report = folder / "report.md"
    _write(report, render_markdown(record, figures, FIGURES).encode())
    _write(folder / PAGE_NAME, _page(record, folder, figures).encode())
    return report


def _page(record: Record, folder: Path, figures: Sequence[ReportFigure]) -> str:
    from featx.report.page import Source, render_page

    beside = read_beside(folder, record)
    return render_page(Source(record, beside, _for_page(record, figures)))


def _for_page(record: Record, figures: Sequence[ReportFigure]) -> list[ReportFigure]:
    """Return the figures that a page shows as they are; a probe's page draws all of its own."""
    if isinstance(record, RunRecord):
        return []
    return [figure for figure in figures if figure.name not in _DRAWN_BY_PAGE]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error that names the report's file."""
    try:
        yield
    except CacheError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise FeatxError(
            f"Cannot write the report's '{path}': {reason}. Check the disk and its permissions, or "
            "choose another folder with --out."
        ) from error


def _write(path: Path, data: bytes) -> None:
    with _told(path):
        fsio.make_folder(path.parent)
        fsio.publish(path, data)


def _remove_stale(figures: Path, names: set[str]) -> None:
    """Remove the figures of an earlier report that had other cuts, or was of another kind."""
    with _told(figures):
        for file in fsread.files(figures):
            if _OURS.fullmatch(file.name) and file.name not in names:
                fsio.remove_file(figures / file.name)

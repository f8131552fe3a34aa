"""What the command line prints: tables, and progress as a bar or as plain lines."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from featx.progress import Progress
from featx.text import human_seconds

PLAIN_WIDTH = 200
PLAIN_EVERY_S = 10.0


def out() -> Console:
    """Return the console of results; wide where there is no terminal to fit into."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    # Names of cuts, classes and folders are not markup.
    return Console(width=width, highlight=False, markup=False)


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], left: Sequence[int] = (0,)
) -> Table:
    """Return a table; columns are right-aligned but for those in `left`."""
    made = Table(title=title or None, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        made.add_column(name, justify="left" if index in left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(str(value) for value in row))
    return made


def fitting_table(
    console: Console,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    left: Sequence[int] = (0,),
    spare: Sequence[str] = (),
) -> Table:
    """Return a table, without as many of its `spare` columns (first to go first) as do not fit."""
    names = list(header)
    unlimited = console.options.update_width(10_000)
    for dropped in range(len(spare) + 1):
        kept = [i for i, name in enumerate(names) if name not in spare[:dropped]]
        made = table(
            title,
            [names[i] for i in kept],
            [[row[i] for i in kept] for row in rows],
            left=[kept.index(i) for i in left if i in kept],
        )
        # Asked with room to spare: a measure is never wider than what it is offered.
        if console.measure(made, options=unlimited).maximum <= console.width:
            return made
    return made


class ConsoleProgress(Progress):
    """Progress on stderr: a bar with rate and time left, or plain lines without a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """Print one line for the user."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print one warning."""
        self.console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(
        self, label: str, total: int, unit: str, done: int = 0
    ) -> Iterator[Callable[[int], None]]:
        """Draw a task; the value yielded is called with units done."""
        draw = self._bar if self.console.is_terminal else self._lines
        with draw(label, total, _Rate(unit, done)) as advance:
            yield advance

    @contextlib.contextmanager
    def _bar(self, label: str, total: int, rate: _Rate) -> Iterator[Callable[[int], None]]:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self.console) as bar:
            task = bar.add_task(label, total=total, completed=rate.done, rate="")

            def advance(n: int) -> None:
                rate.done += n
                bar.update(task, advance=n, rate=rate.text())

            yield advance

    @contextlib.contextmanager
    def _lines(self, label: str, total: int, rate: _Rate) -> Iterator[Callable[[int], None]]:
        before = f", {rate.done:,} of them done before" if rate.done else ""
        self.say(f"{label}: {total:,} {rate.unit}{before}")
        printed = time.monotonic()

        def advance(n: int) -> None:
            nonlocal printed
            rate.done += n
            now = time.monotonic()
            if now - printed >= PLAIN_EVERY_S and rate.done < total:
                printed = now
                left = human_seconds((total - rate.done) / rate.per_s) if rate.per_s else "?"
                self.say(f"{label}: {rate.done:,} of {total:,}, {rate.text()}, {left} left")

        yield advance
        self.say(f"{label}: done in {human_seconds(rate.elapsed_s)}, {rate.text()}")


class _Rate:
    """Units per second of a task; what was there before it began is not counted as speed."""

    def __init__(self, unit: str, done: int) -> None:
        self.unit = unit
        self.before = done
        self.done = done
        self.start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.start

    @property
    def per_s(self) -> float:
        return (self.done - self.before) / max(self.elapsed_s, 1e-9)

    def text(self) -> str:
        if self.per_s >= 10:
            return f"{self.per_s:,.0f} {self.unit}/s"
        return f"{self.per_s:.2g} {self.unit}/s"


def tell_places(report: Path) -> None:
    """Print where a report's page and its Markdown are, last of all that a run prints."""
    out().print(f"Page: {report.with_name('index.html')}", soft_wrap=True)
    out().print(f"Report: {report}", soft_wrap=True)

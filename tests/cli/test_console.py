"""Progress: a bar on a terminal, plain lines elsewhere; tables that do not cut their content."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from featx.cli import console
from featx.cli.console import ConsoleProgress, fitting_table, table


class _Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(console, "time", made)
    return made


def plain() -> tuple[ConsoleProgress, io.StringIO]:
    progress, text = ConsoleProgress(), io.StringIO()
    progress.console = Console(file=text, highlight=False, width=200)
    return progress, text


def test_without_a_terminal_there_are_plain_lines(clock: _Clock) -> None:
    progress, text = plain()
    with progress.task("extract", 1000, "images") as advance:
        for _ in range(10):
            clock.now += 4
            advance(100)
    assert text.getvalue().splitlines() == [
        "extract: 1,000 images",
        "extract: 300 of 1,000, 25 images/s, 28 s left",
        "extract: 600 of 1,000, 25 images/s, 16 s left",
        "extract: 900 of 1,000, 25 images/s, 4 s left",
        "extract: done in 40 s, 25 images/s",
    ]


def test_what_was_done_before_is_no_speed(clock: _Clock) -> None:
    progress, text = plain()
    with progress.task("extract", 1000, "images", done=900) as advance:
        clock.now += 10
        advance(100)
    assert text.getvalue().splitlines() == [
        "extract: 1,000 images, 900 of them done before",
        "extract: done in 10 s, 10 images/s",
    ]


def test_on_a_terminal_there_is_a_bar() -> None:
    progress, text = ConsoleProgress(), io.StringIO()
    progress.console = Console(file=text, force_terminal=True, width=100)
    with progress.task("extract", 10, "images") as advance:
        advance(10)
    assert "10/10" in text.getvalue()
    assert "images/s" in text.getvalue()


def test_warnings_and_lines_are_not_markup() -> None:
    progress, text = plain()
    progress.say("[bold]x[/bold]")
    progress.warn("out of [memory]")
    assert text.getvalue() == "[bold]x[/bold]\nwarning: out of [memory]\n"


def test_a_table_leaves_out_what_does_not_fit() -> None:
    header, rows = ("cut", "accuracy", "time"), [("layer1", "0.912 (0.9 to 0.92)", "12 min")]

    def shown(width: int) -> str:
        console = Console(file=io.StringIO(), width=width)
        console.print(fitting_table(console, "t", header, rows, spare=("time", "accuracy")))
        return console.file.getvalue()  # type: ignore[attr-defined]

    assert "12 min" in shown(80)
    assert "12 min" not in shown(36)
    assert "0.912 (0.9 to 0.92)" in shown(36)
    assert "0.912" not in shown(14)
    assert "layer1" in shown(14)


def test_a_table_shows_long_names_whole() -> None:
    text = io.StringIO()
    name = "conv4_block6_out" * 3
    Console(file=text, width=200).print(table("t", ("cut", "n"), [(name, 1)]))
    assert name in text.getvalue()

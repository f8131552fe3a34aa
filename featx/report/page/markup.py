"""Names, sentences and tables as HTML: whatever a record says is shown as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from featx.report.answers import answer_in
from featx.report.labels import plain
from featx.report.text import Style

if TYPE_CHECKING:
    from featx.evaluate.reading import Record

_LONGEST_SHOWN = 60
_ONE_LINE = 44
# A study's label is made of its settings, which the answer is there to tell: about 20 of a field.
_LONGEST_IN_ANSWER = 240
_LONGEST_SENTENCE = 2000
_LONGEST_KEPT = 20_000
# Marks around a name within a sentence. `plain` lets no such character through.
_BEGIN, _END = "\ue000", "\ue001"
_FACTORS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(
    r"(?:NOT converged, )?(?:gap )?<?([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"(?: ?([kMGTPE])?B?)?(?: [(/].*)?"
)
# Longer than any flag there is: a line may break in it.
_FLAG = re.compile(r"(?<![\w-])--[A-Za-z][\w-]{0,40}(?![\w-])")
_TIME = re.compile(r"\d[\d.]* (?:s|min|h)(?: \d+ (?:s|min))?")


def kept(text: object) -> str:
    """Return text on one line without control and direction characters, nearly all of it."""
    return plain(str(text), _LONGEST_KEPT)


def name(text: object, limit: int = _LONGEST_SHOWN) -> Markup:
    """Return a name as HTML: shortened where it is long, its direction kept to itself.

    Examples
    --------
    >>> print(name("<dog>"), name("x" * 9, 5))
    <bdi>&lt;dog&gt;</bdi> <bdi title="xxxxxxxxx">x…xxx</bdi>
    """
    full = kept(text)
    short = plain(full, limit)
    if short == full:
        return Markup("<bdi>{}</bdi>").format(full)
    return Markup('<bdi title="{}">{}</bdi>').format(full, short)


def sentence(text: object) -> Markup:
    """Return a sentence as HTML, with every flag in one piece: lines break at hyphens otherwise.

    Examples
    --------
    >>> print(sentence("Give --C or --max-iter."))
    <bdi>Give <span class="flag">--C</span> or <span class="flag">--max-iter</span>.</bdi>
    """
    full = kept(text)
    if len(full) > _LONGEST_SENTENCE:
        return name(full, _LONGEST_SENTENCE)
    escaped = str(escape(full))
    return Markup("<bdi>{}</bdi>").format(
        Markup(_FLAG.sub(r'<span class="flag">\g<0></span>', escaped))  # of word characters alone
    )


def lines(text: object) -> Markup:
    """Return text of several lines, such as a command, with its line breaks."""
    return Markup("\n").join(kept(line) for line in re.split(r"\r\n|\r|\n", str(text)))


def answer_markup(record: Record) -> Markup:
    """Return the answer of a record as HTML, with the names in bold."""
    return in_markup(lambda style: answer_in(record, style))


def in_markup(say: Callable[[Style], str]) -> Markup:
    """Return what is said in a style as HTML, with the names in bold."""
    marked = Style(
        name=lambda text: f"{_BEGIN}{plain(text, _LONGEST_IN_ANSWER)}{_END}",
        said=lambda text: plain(text, _LONGEST_SENTENCE),
    )
    text = str(escape(say(marked)))
    begun = text.replace(_BEGIN, "<strong><bdi>").replace(_END, "</bdi></strong>")
    return Markup(begun)  # escaped above


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, and the number it is sorted by (None: by its text).

    A long one is broken into lines.
    """

    shown: Markup
    value: float | None = None
    is_long: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption; `left` are the columns of words, the first one names the row."""

    caption: str
    header: list[str]
    rows: list[list[Cell]]
    sortable: bool = False
    left: frozenset[int] = frozenset({0})


def make_table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    sortable: bool = False,
    longest: int = 120,
) -> Table:
    """Return a table of texts; columns without a single number are words.

    Parameters
    ----------
    caption : str
        What the table is of.
    header : sequence of str
        A name per column.
    rows : sequence of sequence
        A value per column, shown as text.
    sortable : bool
        Whether its columns get buttons to sort by.
    longest : int
        Characters of a cell before it is shortened.
    """
    texts = [[kept(value) for value in row] for row in rows]
    values = [[sort_value(text) for text in row] for row in texts]
    numeric = {
        i
        for i in range(len(header))
        if any(row[i] is not None for row in values)
        and all(v[i] is not None or t[i] in ("-", "") for v, t in zip(values, texts, strict=True))
    }
    cells = [
        [
            Cell(name(text, longest), value if i in numeric else None, len(text) > _ONE_LINE)
            for i, (text, value) in enumerate(zip(*row, strict=True))
        ]
        for row in zip(texts, values, strict=True)
    ]
    left = frozenset({0, *range(len(header))} - (numeric - {0}))
    return Table(caption, list(header), cells, sortable, left)


def sort_value(text: str) -> float | None:
    """Return the number that a text of `featx.text` stands for, None if it is not one.

    Examples
    --------
    >>> sort_value("4.09 G"), sort_value("2 min 05 s"), sort_value("0.91 (0.90 to 0.92)")
    (4090000000.0, 125.0, 0.91)
    """
    if _TIME.fullmatch(text):
        words = text.split()
        pairs = zip(words[::2], words[1::2], strict=True)
        return sum(float(n) * _UNITS[unit] for n, unit in pairs)
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return float(match[1].replace(",", "")) * _FACTORS.get(match[2] or "", 1.0)

"""Labels of axes that hold any number of names of any length without touching each other."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import XAxis, YAxis

UNKNOWN = "\N{REPLACEMENT CHARACTER}"

_POINTS_PER_INCH = 72
# In units of the font size: a line, and the air between two names beside each other.
_LINE = 1.35
_GAP = 0.8
_SIZES = (10.0, 9.0, 8.0, 7.0, 6.0)
_SMALLEST_FLAT = 8.0


def plain(name: str, limit: int = 24) -> str:
    """Return a name on one line, of bounded length, without control and direction characters.

    What is too long loses its middle: the names of layers differ at their ends.
    """
    text = "".join(" " if c.isspace() else c if c.isprintable() else UNKNOWN for c in name)
    head = limit // 3
    return text if len(text) <= limit else f"{text[:head]}…{text[len(text) - limit + head + 1 :]}"


def drawable(text: str) -> str:
    """Return text with U+FFFD for what the figures' font cannot draw, or not from left to right."""
    return "".join(c if _can_draw(c) else UNKNOWN for c in text)


def class_labels(classes: Mapping[int, str]) -> list[str]:
    """Return a short name for every class: its label where the font cannot draw the name."""
    names = {label: plain(name) for label, name in classes.items()}
    return [name if drawable(name) == name else str(label) for label, name in names.items()]


def label_axis(axis: XAxis | YAxis, names: Sequence[str], inches: float, limit: int = 24) -> None:
    """Put one tick per name at 0, 1, 2, ... and label as many of them as fit.

    Names of an x axis lie flat where they fit and stand upright otherwise; the font shrinks before
    names are skipped, and skipped names leave their tick.

    Parameters
    ----------
    axis : XAxis or YAxis
        The axis, with one position per name.
    names : sequence of str
        In order of the positions.
    inches : float
        Length of the axis.
    limit : int
        Characters of a name.
    """
    names = [drawable(plain(name, limit)) for name in names]
    slot = inches / len(names) * _POINTS_PER_INCH
    widest = max(text_width(name) for name in names) + _GAP
    is_x = axis.axis_name == "x"
    flat = is_x and widest * _SMALLEST_FLAT <= slot
    needed = widest if flat else _LINE
    size = next((size for size in _SIZES if size * needed <= slot), _SIZES[-1])
    every = max(1, math.ceil(size * needed / slot))
    axis.set_ticks(
        range(len(names)),
        labels=[name if i % every == 0 else "" for i, name in enumerate(names)],
        fontsize=size,
        rotation=90 if is_x and not flat else 0,
        parse_math=False,
    )
    if every > 1:
        axis.set_tick_params(length=2)


def fit_lines(text: str, inches: float, size: float, n_lines: int = 2) -> str:
    """Return text in lines of at most a width, at a font size in points.

    What needs more lines than there may be loses its middle.
    """
    room = inches * _POINTS_PER_INCH / size
    for limit in range(min(len(text), 160), 3, -2):
        lines = _wrapped(drawable(plain(text, limit)), room)
        if len(lines) <= n_lines:
            return "\n".join(lines)
    return drawable(plain(text, 3))


def _wrapped(text: str, room: float) -> list[str]:
    """Break text at spaces into lines of at most a width in font sizes; a long word anywhere."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if text_width(joined) <= room:
            lines[-1] = joined
            continue
        lines.append(word)
        while text_width(lines[-1]) > room and len(lines[-1]) > 1:
            whole = lines.pop()
            n = next(
                n for n in range(len(whole) - 1, 0, -1) if n == 1 or text_width(whole[:n]) <= room
            )
            lines += [whole[:n], whole[n:]]
    return [line for line in lines if line]


@functools.lru_cache(maxsize=4096)
def text_width(name: str) -> float:
    """Return the width of a name, in units of its font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(name, FontProperties(size=100), False)
    return float(width) / 100


@functools.cache
def _glyphs() -> frozenset[int]:
    """Return the characters that matplotlib's own font has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def _can_draw(character: str) -> bool:
    # Right-to-left scripts need an order and shapes that matplotlib does not always give them.
    right_to_left = unicodedata.bidirectional(character) in ("R", "AL")
    return ord(character) in _glyphs() and not right_to_left

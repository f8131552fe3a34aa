"""Labels of axes that hold any number of names of any length without touching each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis

_POINTS_PER_INCH = 72
# Of DejaVu Sans, in units of the font size: a wide average letter, and a line with air around it.
_LETTER = 0.66
_LINE = 1.35
_SIZES = (10.0, 9.0, 8.0, 7.0, 6.0)


def plain(name: str, limit: int = 24) -> str:
    """Return a name on one line, of bounded length, without control and direction characters."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def label_axis(axis: Axis, names: Sequence[str], inches: float) -> None:
    """Put one tick per name at 0, 1, 2, ... and label as many of them as fit.

    Names of an x axis lie flat where they fit and stand upright otherwise; the font shrinks before
    names are skipped, and skipped names leave their tick.

    Parameters
    ----------
    axis : Axis
        The axis, with one position per name.
    names : sequence of str
        In order of the positions.
    inches : float
        Length of the axis.
    """
    names = [plain(name) for name in names]
    slot = inches / len(names) * _POINTS_PER_INCH
    longest = max(len(name) for name in names)
    flat = axis.axis_name == "x" and longest * _LETTER * _SIZES[2] < slot
    needed = longest * _LETTER if flat else _LINE
    size = next((size for size in _SIZES if size * needed <= slot), _SIZES[-1])
    every = max(1, math.ceil(size * needed / slot))
    shown = [name if i % every == 0 else "" for i, name in enumerate(names)]
    axis.set_ticks(
        range(len(names)),
        labels=shown,
        fontsize=size,
        rotation=90 if axis.axis_name == "x" and not flat else 0,
        parse_math=False,
    )
    if every > 1:
        axis.set_tick_params(length=2)

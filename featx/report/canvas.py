"""What all figures share: colours, the canvas, axes of shares, and the finished picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
# Okabe and Ito's palette: told apart with every common form of colour blindness.
COLOURS = {"val": "#0072B2", "test": "#D55E00", "train": "#666666"}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = {"val": "o", "test": "s", "train": "^"}
LINES = {"val": "--", "test": "-", "train": ":"}
HATCHES = {"train": "", "val": "//", "test": ".."}
GREY = "#bbbbbb"
DARK = "#333333"


@dataclass(frozen=True)
class ReportFigure:
    """A drawn figure: file name, PNG, text for those who do not see it, the result it belongs to.

    `result` is the index in a probe's results, or None for a figure of the whole run.
    """

    name: str
    png: bytes
    alt: str
    result: int | None = None


def new_figure(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    ratios: Sequence[float] | None = None,
    share: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row, without pyplot's global state.

    Parameters
    ----------
    width, height : float
        Of the figure, in inches.
    rows, columns : int
        Of axes.
    ratios : sequence of float, optional
        Heights of the rows.
    share : bool
        One x axis for every column, one y axis for every row, numbered at the outer axes only; a
        single column keeps a y axis for every row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=share,
        sharey=share and columns > 1,
        height_ratios=ratios,
    )
    return figure, list(axes.flat)


def inches(figure: Figure, margin: float) -> float:
    """Return about how wide the axes of a figure will be, in inches."""
    return float(figure.get_figwidth()) - margin


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = io.BytesIO()
    # `savefig` lays the figure out in a pass of its own, and again while it draws.
    FigureCanvasAgg(figure).print_png(data, metadata={"Software": None})
    return data.getvalue()


def limit_to_shares(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Keep an axis within 0 to 1, but for the room that a marker at either end needs."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    room = 0.03 * (high - low)
    low, high = max(low, -room), min(high, 1 + room)
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(low, high)
    shown = [tick for tick in ticks if max(0, low) <= tick <= min(1, high)]
    if which == "y":
        axes.set_yticks(shown)
        axes.set_ylim(low, high)
    else:
        axes.set_xticks(shown)
        axes.set_xlim(low, high)


def light_grid(axes: Axes, which: Literal["both", "x", "y"] = "y") -> None:
    """Draw pale lines behind everything else."""
    axes.grid(axis=which, color="#dddddd")
    axes.set_axisbelow(True)

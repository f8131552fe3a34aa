"""The figures of a comparison's report: accuracy per approach, and accuracy against time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.report.canvas import ReportFigure, light_grid, limit_to_shares, new_figure, png
from featx.report.comparison_text import APPROACH_NAMES, ranked_approaches
from featx.report.labels import drawable, label_axis, plain, text_width
from featx.report.text import SPLIT_NAMES
from featx.text import human_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.training_records import ApproachRecord, ComparisonRecord

_LOOKS = {
    "probe": ("#0072B2", "o"),
    "frozen": ("#56B4E9", "s"),
    "lp-ft": ("#009E73", "^"),
    "finetune": ("#D55E00", "D"),
    "scratch": ("#CC79A7", "v"),
}
_LONGEST_NAME = 48
# Where a logarithmic axis of times has its numbers, in seconds; nothing is quicker than the first.
_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000, 3_600_000)


def comparison_figures(record: ComparisonRecord) -> list[ReportFigure]:
    """Return every figure of a comparison's report; without a common split there is none."""
    split = drawn_split(record)
    if split is None:
        return []
    return [
        ReportFigure("accuracy.png", png(approaches_figure(record)), _approaches_alt(record)),
        ReportFigure("time.png", png(time_figure(record)), _time_alt(record)),
    ]


def drawn_split(record: ComparisonRecord) -> str | None:
    """Return the split that is drawn: test where any approach has it, else validation."""
    there = {split for approach in record.approaches for split in approach.splits}
    return next((split for split in ("test", "val") if split in there), None)


def approaches_figure(record: ComparisonRecord) -> Figure:
    """Draw the accuracy of every approach with its 95 % interval, the best on top."""
    drawn = _drawn(record)
    names = [approach.name for approach, _ in drawn]
    longest = max(text_width(drawable(plain(name, _LONGEST_NAME))) for name in names) * 10 / 72
    height = max(1.2, 0.34 * len(drawn) + 0.4)
    figure, (axes,) = new_figure(min(14.0, 5.0 + longest), height + 1.6)
    for place, (approach, metrics) in enumerate(drawn):
        _draw_point(axes, approach, metrics, metrics.accuracy, place, across=True)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlabel(f"{_split_name(record)} accuracy (95 % interval)")
    light_grid(axes, "x")
    limit_to_shares(axes, "x")
    axes.set_title(drawable(plain(_title(record), 70)), fontsize=11, parse_math=False)
    label_axis(axes.yaxis, names, height, _LONGEST_NAME)
    _add_legend(figure, axes)
    return figure


def time_figure(record: ComparisonRecord) -> Figure:
    """Draw accuracy against the time of extraction and training, on a logarithmic axis.

    Names stand in a column at the right, each with a line to its point: they cannot touch.
    """
    drawn = _drawn(record)
    names = [drawable(plain(approach.name, _LONGEST_NAME)) for approach, _ in drawn]
    longest = max(text_width(name) for name in names) * 9 / 72
    figure, (axes,) = new_figure(min(15.0, 7.0 + longest), max(4.6, 0.24 * len(drawn) + 1.8))
    for approach, metrics in drawn:
        _draw_point(axes, approach, metrics, _time(approach), metrics.accuracy, across=False)
    axes.set_ylabel(f"{_split_name(record)} accuracy (95 % interval)")
    axes.set_xlabel("time of extraction and training")
    light_grid(axes, "both")
    limit_to_shares(axes)
    _number_times(axes, [_time(approach) for approach, _ in drawn])
    axes.set_title(drawable(plain(_title(record), 70)), fontsize=11, parse_math=False)
    _add_legend(figure, axes)
    _name_points(axes, drawn, names)
    return figure


def _drawn(record: ComparisonRecord) -> list[tuple[ApproachRecord, SplitMetrics]]:
    """Return the approaches that have the drawn split, the best first."""
    split = drawn_split(record)
    assert split is not None
    return [(a, a.splits[split]) for a in ranked_approaches(record) if split in a.splits]


def _draw_point(
    axes: Axes, approach: ApproachRecord, metrics: SplitMetrics, x: float, y: float, *, across: bool
) -> None:
    colour, marker = _LOOKS[approach.approach]
    error = [[metrics.accuracy - metrics.accuracy_low], [metrics.accuracy_high - metrics.accuracy]]
    axes.errorbar(
        [x],
        [y],
        xerr=error if across else None,
        yerr=None if across else error,
        fmt=marker,
        color=colour,
        markersize=7,
        elinewidth=1.4,
        capsize=3,
        label=APPROACH_NAMES[approach.approach],
        zorder=3,
    )


def _name_points(
    axes: Axes, drawn: list[tuple[ApproachRecord, SplitMetrics]], names: list[str]
) -> None:
    """Write the names right of the axes, in the order of the accuracies, spread evenly."""
    order = sorted(range(len(drawn)), key=lambda i: (-drawn[i][1].accuracy, _time(drawn[i][0])))
    low, high = axes.get_ylim()
    points = {i: (drawn[i][1].accuracy - low) / (high - low) for i in order}
    # A line of text at 9 points, as a share of about the height of the axes.
    step = 1.5 * 9 / 72 / (axes.figure.get_figheight() - 1.4)  # type: ignore[union-attr]
    for i, place in zip(order, spread_out([points[i] for i in order], step), strict=True):
        axes.annotate(
            names[i],
            xy=(_time(drawn[i][0]), drawn[i][1].accuracy),
            xycoords="data",
            xytext=(1.06, place),
            textcoords="axes fraction",
            va="center",
            ha="left",
            fontsize=9,
            parse_math=False,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkB": 5},
            zorder=1,
        )


def spread_out(places: list[float], step: float) -> list[float]:
    """Return falling places at least a step apart, near the given ones and within 0 to 1.

    Parameters
    ----------
    places : list of float
        From 1 down to 0.
    step : float
        The least distance; smaller where so many places need it.
    """
    n = len(places)
    step = min(step, 1 / max(1, n - 1))
    spread: list[float] = []
    for i, place in enumerate(places):
        highest = spread[-1] - step if spread else 1.0
        # Whatever follows needs a step each.
        spread.append(min(highest, max(place, (n - 1 - i) * step)))
    return spread


def _number_times(axes: Axes, times: list[float]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    low, high = min(times) / 2, max(times) * 2
    ticks = [time for time in _TIMES if low <= time <= high]
    if len(ticks) < 2:
        low, high = low / 5, high * 5
        ticks = [time for time in _TIMES if low <= time <= high]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, labels=[human_seconds(time) for time in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=5, frameon=False)


def _time(approach: ApproachRecord) -> float:
    return max(_TIMES[0], approach.extract_s + approach.train_s)


def _split_name(record: ComparisonRecord) -> str:
    return SPLIT_NAMES[drawn_split(record) or "test"]


def _title(record: ComparisonRecord) -> str:
    return f"{record.name} on {record.dataset.name}"


def _approaches_alt(record: ComparisonRecord) -> str:
    scores = "; ".join(f"{a.name} {m.accuracy:.3f}" for a, m in _drawn(record))
    return f"{_split_name(record).capitalize()} accuracy per approach: {scores}"


def _time_alt(record: ComparisonRecord) -> str:
    scores = "; ".join(
        f"{a.name} {m.accuracy:.3f} in {human_seconds(_time(a))}" for a, m in _drawn(record)
    )
    return f"{_split_name(record).capitalize()} accuracy against time: {scores}"

"""The charts of trainings and studies: histories, the range test, a grid as parallel lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from featx.report.labels import plain
from featx.report.page.charts import (
    N_COLOURS,
    Chart,
    Scale,
    legend,
    number_axis,
    share_scale,
    value_axis,
)
from featx.report.study_text import best_group, deciding_split, study_groups, value_text
from featx.report.text import SPLIT_NAMES
from featx.report.training_text import history_splits

if TYPE_CHECKING:
    from featx.evaluate.exhibits import RateRangeExhibit
    from featx.evaluate.training_records import StudyRecord, TrainingRecord

_METRICS = {"loss": "loss", "top1": "top-1 accuracy", "top5": "top-5 accuracy"}
_SPLIT_LOOKS = {"val": "s0 dashed", "test": "s1", "train": "s6"}
# Above this ratio of the largest to the smallest value an axis of losses or rates is logarithmic.
_LOG_FROM = 30.0
_MARKED = 40
_MOST_LINES = 300
_BUNDLE = 24.0  # pixels that the lines through one value of an axis spread over
_LEFT, _RIGHT, _HEIGHT = 64.0, 864.0, 220.0
# For the text of a mark, between legend and plot.
_MARK_ROOM = 14.0


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, class of colour and dashes, marker and points."""

    name: str
    look: str
    marker: int
    points: Sequence[tuple[float, float]]


def history_charts(record: TrainingRecord) -> list[tuple[str, Markup]]:
    """Return loss, accuracies and learning rate over the epochs, a line per split.

    Parameters
    ----------
    record : TrainingRecord
        One with a history, or there is no chart.

    Returns
    -------
    list of (str, Markup)
        Titles and charts. A vertical line marks the epoch whose weights were kept.
    """
    charts = []
    for metric, title in _METRICS.items():
        lines = [
            Line(
                SPLIT_NAMES.get(split, split),
                _SPLIT_LOOKS.get(split, "s2"),
                number,
                [(e.epoch, getattr(e, metric)[split]) for e in record.history
                 if split in getattr(e, metric)],
            )
            for number, split in enumerate(history_splits(record))
        ]  # fmt: skip
        lines = [line for line in lines if line.points]
        if lines:
            shown = f"{title.capitalize()} per epoch"
            charts.append((shown, _lines(shown, lines, "epoch", title, record.best_epoch)))
    if record.history:
        rates = Line("learning rate", "s6", 0, [(e.epoch, e.learning_rate) for e in record.history])
        shown = "Learning rate per epoch"
        charts.append((shown, _lines(shown, [rates], "epoch", "learning rate", record.best_epoch)))
    return charts


def histories_charts(records: Sequence[TrainingRecord]) -> list[tuple[str, Markup]]:
    """Return loss and accuracies of several trainings, each metric in one chart.

    A line is a run on its validation split; without one on the test split, else on the training
    split.
    """
    charts = []
    for metric, title in _METRICS.items():
        lines = []
        for number, record in enumerate(records):
            there = {s for e in record.history for s in getattr(e, metric)}
            split = next((s for s in ("val", "test") if s in there), "train")
            points = [(e.epoch, getattr(e, metric)[split]) for e in record.history
                      if split in getattr(e, metric)]  # fmt: skip
            look = f"s{number % N_COLOURS}{' dashed' if number >= N_COLOURS else ''}"
            if points:
                name = f"{record.name}, {SPLIT_NAMES[split]}"
                lines.append(Line(name, look, number, points))
        if lines:
            shown = f"{title.capitalize()} per epoch, every training"
            charts.append((shown, _lines(shown, lines, "epoch", title)))
    return charts


def rate_chart(found: RateRangeExhibit) -> tuple[str, Markup]:
    """Return the smoothed loss over the learning rate of a range test."""
    title = "Learning-rate range test"
    points = list(zip(found.rates, found.losses, strict=True))
    line = Line("training loss, smoothed", "s0", 0, points)
    if found.suggestion is None:
        said = f"{title}: no rate is suggested"
    else:
        said = f"{title}: the loss falls fastest at {found.suggestion:.2g}"
    chart = _lines(said, [line], "learning rate", "training loss, smoothed", found.suggestion,
                   log_x=True)  # fmt: skip
    return said, chart


def _lines(
    title: str,
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    mark: float | None = None,
    *,
    log_x: bool = False,
) -> Markup:
    """Draw lines over numbers, with a vertical line at `mark`."""
    words = "; ".join(
        f"{plain(line.name, 40)} {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}"
        for line in lines[:12]
    )
    chart = Chart(_RIGHT + 16, 0, f"{title}: {words}")
    xs = [x for line in lines for x, _ in line.points]
    marked = mark is not None and min(xs) <= mark <= max(xs)
    top = legend(chart, [(line.look, line.marker, line.name) for line in lines], _LEFT, 18) + 6
    top += _MARK_ROOM if marked else 0
    bottom = top + _HEIGHT
    ys = [y for line in lines for _, y in line.points]
    x = Scale(min(xs), max(xs), _LEFT + 8, _RIGHT - 8, log_x)
    y = share_scale(ys, bottom, top) if "accuracy" in y_title else _spread(ys, bottom, top)
    value_axis(chart, y, _LEFT, _RIGHT, y_title)
    if mark is not None and marked:
        chart.line([(x(mark), top), (x(mark), bottom)], "front")
        said = f"{mark:.2g}" if log_x else f"kept: epoch {mark:g}"
        # Above the plot: inside of it, it would lie on a line sooner or later.
        anchor = "end" if x(mark) > (_LEFT + _RIGHT) / 2 else "start"
        chart.text(x(mark), top - 5, said, anchor)
    number_axis(chart, x, top, bottom, x_title, "")
    for line in lines:
        points = [(x(px), y(py)) for px, py in line.points]
        chart.line(points, line.look)
        if len(points) <= _MARKED:
            for (px, py), (epoch, value) in zip(points, line.points, strict=True):
                said = f"{plain(line.name, 40)}, {x_title} {epoch:g}: {value:.4g}"
                chart.point(px, py, line.look, line.marker, said, 3.2)
    chart.height = bottom + 46
    return chart.svg()


def _spread(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale for losses or rates, logarithmic where they span much."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= _LOG_FROM:
        return Scale(low / 1.2, high * 1.2, start, end, log=True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - room, high + room, start, end)


def parallel_chart(record: StudyRecord) -> tuple[str, Markup] | None:
    """Return the grid of a study as parallel coordinates; None where it has no grid.

    An axis is a setting that was varied, the last one the accuracy on the split that decides; a
    line is a group, the stronger the better. The best one is dashed on top.
    """
    split = deciding_split(record)
    groups = [(g, g.mean("top1", split)) for g in study_groups(record)] if split else []
    winner = best_group(record)
    scored = sorted(
        ((v, g) for g, v in groups if v is not None),
        key=lambda pair: (pair[0], pair[1] == winner),
    )
    axes = {axis: values for axis, values in record.axes.items() if len(values) > 1}
    if split is None or not axes or len(scored) < 2:
        return None
    of = f"the best {_MOST_LINES} of {len(scored)}" if len(scored) > _MOST_LINES else len(scored)
    scored = scored[-_MOST_LINES:]
    shown = SPLIT_NAMES[split]
    best, worst = scored[-1], scored[0]
    title = f"The grid: {of} groups over {', '.join(axes)}"
    said = (f"{title}; {shown} accuracy from {worst[0]:.3f} ({plain(worst[1].name, 60)}) to "
            f"{best[0]:.3f} ({plain(best[1].name, 60)})")  # fmt: skip
    chart = Chart(880, 330, said)
    top, bottom = 20.0, 270.0
    step = 660.0 / len(axes)
    places = {axis: 70 + step * i for i, axis in enumerate(axes)}
    y = share_scale([value for value, _ in scored], bottom, top)
    end = 70 + step * len(axes)
    heights = {
        axis: _heights(
            [*values, *[g.rows[0].settings[axis] for _, g in scored if axis in g.rows[0].settings]],
            top,
            bottom,
        )
        for axis, values in axes.items()
    }
    low, high = worst[0], best[0]
    for rank, (value, group) in enumerate(scored):
        # Side by side where they share a value, the better the higher.
        shift = _BUNDLE * (0.5 - rank / (len(scored) - 1))
        points = [
            (places[axis], heights[axis][value_text(group.rows[0].settings[axis])] + shift)
            for axis in axes
            if axis in group.rows[0].settings
        ]
        points.append((end, y(value)))
        strength = 0.12 + 0.88 * ((value - low) / (high - low) if high > low else 1.0) ** 2
        is_best = group is best[1]
        path = "M" + "L".join(f"{px:g} {py:g}" for px, py in points)
        name = f"{plain(group.name, 200)} {plain(group.label, 60)}".strip()
        chart.add(
            '<path class="line {}" d="{}" style="stroke-opacity:{:.2f}"><title>{}</title></path>',
            "s1 dashed" if is_best else "s0", path, strength, f"{name}: {value:.3f}",
        )  # fmt: skip
    for axis, px in places.items():
        chart.line([(px, top), (px, bottom)], "axis s6")
        for text, py in heights[axis].items():
            chart.text(px + 6, py - 0.5 * _BUNDLE - 3, plain(text, 20), "start", kind="halo")
        chart.text(px, bottom + 24, plain(axis.replace("_", " "), 24), kind="title")
    chart.line([(end, top), (end, bottom)], "axis s6")
    for tick in y.ticks():
        chart.text(end + 8, y(tick) + 4, f"{tick:.4g}", "start")
    chart.text(end, bottom + 24, f"{shown} accuracy", kind="title")
    return title, chart.svg()


def _heights(values: Sequence[object], top: float, bottom: float) -> Mapping[str, float]:
    """Return the place of every value on its axis, evenly, in the recipe's order from below."""
    names = list(dict.fromkeys(map(value_text, values)))
    room = 0.5 * _BUNDLE + 4
    step = (bottom - top - 2 * room - 12) / max(1, len(names) - 1)
    return {name: bottom - room - i * step for i, name in enumerate(names)}

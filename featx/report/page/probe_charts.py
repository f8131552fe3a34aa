"""The charts of a probe's page that stand in it from the start: over cuts, and of the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from featx.evaluate.reading import ranking_split
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import ComparisonRecord, TrainingRecord
from featx.report.labels import plain
from featx.report.page.charts import (
    N_COLOURS,
    Chart,
    Scale,
    legend,
    marker_path,
    matrix_chart,
    name_axis,
    name_axis_height,
    number_axis,
    share_scale,
    slots,
    value_axis,
)
from featx.report.text import HEAD_NAMES, SPLIT_NAMES, accuracy_text

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.reading import Record
    from featx.evaluate.records import CutRecord, DatasetRecord, ResultRecord

_MOST_LINES = 8
MOST_NUMBERED = 24
"""Results of which every bubble of the cost charts has its cut's number."""
_NAME_WIDTH, _ACROSS = 6.4, 34  # pixels of a character, most characters of a line's name
_LARGEST = "largest class of training"
_SPLIT_COLOURS = {"val": 0, "test": 1, "train": 6}
_COSTS = {
    "multiply_adds": ("multiply-adds per image", "count"),
    "feature_bytes": ("bytes of all features", "bytes"),
    "fit_s": ("time to fit the head", "seconds"),
}


@dataclass(frozen=True)
class Series:
    """A line of the layer curve: its name, and the place and metrics of every cut it has."""

    name: str
    points: list[tuple[int, str, SplitMetrics]]
    colour: int
    marker: int
    dashed: bool


def probe_series(record: RunRecord) -> list[Series]:
    """Return a line per head and split of a run."""
    place = {cut.cut: i for i, cut in enumerate(record.cuts)}
    heads = list(dict.fromkeys(result.head for result in record.results))
    splits = list(dict.fromkeys(s for result in record.results for s in result.splits))
    splits = [s for s in ("test", "val") if s in splits] or splits
    series = []
    for number, head in enumerate(heads):
        for split in splits:
            points = [
                (place[r.cut], r.cut, r.splits[split])
                for r in record.results
                if r.head == head and split in r.splits
            ]
            title = SPLIT_NAMES.get(split, split)
            if len(heads) > 1:
                title = f"{title}, {HEAD_NAMES[head]}"
            colour = (_SPLIT_COLOURS.get(split, 2) + 2 * number) % N_COLOURS
            series.append(Series(title, sorted(points, key=lambda p: p[0]), colour,
                                 2 * number + (split == "val"), split == "val"))  # fmt: skip
    return series


def run_series(records: Sequence[RunRecord]) -> list[Series]:
    """Return a line per run and head: the accuracy on the split that ranks the run's cuts."""
    series: list[Series] = []
    for record in records:
        split = ranking_split(record)
        place = {cut.cut: i for i, cut in enumerate(record.cuts)}
        for head in dict.fromkeys(result.head for result in record.results):
            points = [
                (place[r.cut], r.cut, r.splits[split]) for r in record.results if r.head == head
            ]
            number = len(series)
            title = f"{record.name}, {HEAD_NAMES[head]}, {SPLIT_NAMES.get(split, split)}"
            series.append(Series(title, sorted(points, key=lambda p: p[0]), number % N_COLOURS,
                                 number, number >= N_COLOURS))  # fmt: skip
    return series


def runs_curve(records: Sequence[Record]) -> Markup | None:
    """Draw the layer curves of several runs, whose cuts are numbered in order of execution.

    Networks that were trained are lines across. Without a probe there is nothing to draw.
    """
    probes = [record for record in records if isinstance(record, RunRecord)]
    if not probes:
        return None
    names = [str(i + 1) for i in range(max(len(record.cuts) for record in probes))]
    across = [line for record in records for line in _baselines(record)]
    return layer_curve(run_series(probes), names, "Accuracy per cut of every run", across)


def _baselines(record: Record) -> Iterator[tuple[str, float]]:
    """Yield name and accuracy of the networks that a record trained, on the split that ranks."""
    found: Sequence[tuple[str, Mapping[str, SplitMetrics]]] = ()
    if isinstance(record, TrainingRecord):
        found = [(record.name, record.splits)]
    elif isinstance(record, ComparisonRecord):
        found = [(a.name, a.splits) for a in record.approaches if a.approach != "probe"]
    for name, splits in found:
        split = next((s for s in ("val", "test") if s in splits), None)
        if split is not None:
            yield f"{name}, {SPLIT_NAMES[split]}", splits[split].accuracy


def layer_curve(
    series: Sequence[Series],
    names: Sequence[str],
    title: str,
    across: Sequence[tuple[str, float]] = (),
    least: float | None = None,
) -> Markup:
    """Draw accuracies with their intervals over the cuts, in order of execution.

    Parameters
    ----------
    series : sequence of Series
        The lines.
    names : sequence of str
        Of the places on the x axis.
    title : str
        What is drawn.
    across : sequence of (str, float)
        Baselines to draw as lines across: their names and accuracies.
    least : float, optional
        Accuracy of always naming the class with most training images: a line across, or an arrow
        down to it where the axis ends above.
    """
    values = [v for s in series for _, _, m in s.points for v in (m.accuracy_low, m.accuracy_high)]
    values += [value for _, value in across]
    axis = share_scale(values, 0.0, 1.0)
    lines, below_axis = list(across), ""
    if least is not None and least >= axis.low:
        lines.append((_LARGEST, least))
        values.append(least)
    elif least is not None:
        # Down there it would press all other differences together.
        below_axis = f"\u2193 {_LARGEST} {least:.3f}"
    width, left = 880.0, 56.0
    # The names of lines across stand beside the chart, where no point can hide them.
    beside = [plain(text, _ACROSS) for text in (*(text for text, _ in lines), below_axis) if text]
    right = width - 16 - _NAME_WIDTH * max(map(len, beside), default=0)
    left, slot = slots(names, left, right)
    chart = Chart(width, 0, f"{title}: {curve_words(series)}")
    top = legend(chart, [(_look(s), s.marker, s.name) for s in series], left, 18) + 6
    bottom = top + 290
    scale = share_scale(values, bottom, top)
    value_axis(chart, scale, left, right, "accuracy (95 % interval)")
    x = Scale(-0.5, len(names) - 0.5, left, right)
    for _, value in lines:
        chart.add('<path class="line across" d="M{} {}H{}"/>', left, scale(value), right)
    _name_lines(chart, [(text, scale(value)) for text, value in lines], right + 6)
    if below_axis:
        chart.text(right + 6, bottom, plain(below_axis, _ACROSS), "start")
    for number, s in enumerate(series):
        # Side by side within a cut's slot, so that intervals do not hide each other.
        shift = min(8.0, slot / (len(series) + 2)) * (number - (len(series) - 1) / 2)
        places = [(round(x(i) + shift, 1), scale(m.accuracy)) for i, _, m in s.points]
        chart.line(places, _look(s))
        for (px, py), (_, cut, m) in zip(places, s.points, strict=True):
            low, high = scale(m.accuracy_low), scale(m.accuracy_high)
            chart.add('<path class="bar {}" d="M{} {}V{}"/>', _look(s), px, low, high)
            said = f"{plain(cut)}, {s.name}: {accuracy_text(m)}"
            chart.point(px, py, _look(s), s.marker, said, 4.5 if slot > 16 else 2.5)
    name_axis(chart, names, [x(i) for i in range(len(names))], bottom)
    below = bottom + name_axis_height(names, slot) + 18
    chart.text((left + right) / 2, below, "cut, in order of execution", kind="title")
    chart.height = below + 10
    return chart.svg()


def _name_lines(chart: Chart, lines: Sequence[tuple[str, float]], x: float) -> None:
    """Write the names of lines across beside them, each below the one before it at least."""
    free = -math.inf
    for text, y in sorted(lines, key=lambda line: line[1]):
        place = max(y + 4, free)
        chart.text(x, place, plain(text, _ACROSS), "start")
        free = place + 13


def curve_words(series: Sequence[Series], most: int = 40) -> str:
    """Return the layer curve in words: every accuracy, or of many cuts the best ones."""
    parts = []
    for s in series:
        ranked = sorted(s.points, key=lambda p: -p[2].accuracy)
        shown = s.points if len(s.points) <= most else ranked[:5]
        listed = ", ".join(f"{plain(cut)} {m.accuracy:.3f}" for _, cut, m in shown)
        more = f"; the best 5 of {len(s.points)}" if len(s.points) > most else ""
        parts.append(f"{s.name}: {listed}{more}")
    return ". ".join(parts)


def _look(series: Series) -> str:
    return f"s{series.colour}{' dashed' if series.dashed else ''}"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that no other beats in cost (x) and value (y), by cost."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def cost_charts(record: RunRecord) -> list[tuple[Markup, str]]:
    """Return accuracy against each kind of cost, with the Pareto front, and the front in words."""
    split = ranking_split(record)
    number = {cut.cut: i + 1 for i, cut in enumerate(record.cuts)}
    charts = []
    for cost, (title, unit) in _COSTS.items():
        points = [
            (max(1e-3, _cost(record.cut_record(r.cut), r, cost)), r.accuracy[split])
            for r in record.results
        ]
        front = pareto(points)
        words = ", ".join(f"{number[record.results[i].cut]} {plain(record.results[i].cut)} "
                          f"({points[i][1]:.3f})" for i in front[:12])  # fmt: skip
        chart = _cost_chart(record, points, front, (title, unit, split))
        charts.append((chart, f"Nothing is both cheaper and better than: {words}."))
    return charts


def _cost_chart(
    record: RunRecord,
    points: Sequence[tuple[float, float]],
    front: Sequence[int],
    of: tuple[str, str, str],
) -> Markup:
    title, unit, split = of
    shown = SPLIT_NAMES.get(split, split)
    best = f"{len(front)} of {len(points)} are on the Pareto front"
    chart = Chart(330, 330, f"{shown} accuracy against {title}: {best}")
    x = Scale(min(p[0] for p in points) / 1.6, max(p[0] for p in points) * 1.6, 56, 318, log=True)
    y = share_scale([p[1] for p in points], 280, 24)
    value_axis(chart, y, 56, 318, f"{shown} accuracy")
    number_axis(chart, x, 24, 280, title, unit)
    chart.line([(x(points[i][0]), y(points[i][1])) for i in front], "front")
    most = max(cut.n_parameters for cut in record.cuts) or 1
    numbers = []
    for i, result in enumerate(record.results):
        cut = record.cut_record(result.cut)
        radius = 5 + 12 * (cut.n_parameters / most) ** 0.5
        px, py = x(points[i][0]), y(points[i][1])
        look, marker = ("s0", 0) if result.head == "svm" else ("s1", 1)
        chart.add('<path class="bubble {}" d="{}"><title>{}</title></path>',
                  look, marker_path(px, py, marker, round(radius, 1)),
                  f"{plain(cut.cut)}, {HEAD_NAMES[result.head]}: {points[i][1]:.3f}")  # fmt: skip
        numbers.append((px, py, str(record.cuts.index(cut) + 1)))
    if len(numbers) <= MOST_NUMBERED:
        _number_bubbles(chart, numbers)
    return chart.svg()


def _number_bubbles(chart: Chart, numbers: Sequence[tuple[float, float, str]]) -> None:
    """Write the numbers of the cuts into their bubbles, as one text where bubbles overlap."""
    left = list(numbers)
    while left:
        x, y, _ = left[0]
        near = [n for n in left if abs(n[0] - x) < 13 and abs(n[1] - y) < 13]
        left = [n for n in left if n not in near]
        middle = sum(n[0] for n in near) / len(near), sum(n[1] for n in near) / len(near) + 4
        text = ", ".join(dict.fromkeys(number for _, _, number in near))
        chart.text(*middle, text, kind="in halo")


def number_key(record: RunRecord) -> str:
    """Return which number stands for which cut, where the bubbles have numbers."""
    if len(record.results) > MOST_NUMBERED:
        return ""
    return ", ".join(f"{i + 1} {plain(cut.cut)}" for i, cut in enumerate(record.cuts))


def _cost(cut: CutRecord, result: ResultRecord, cost: str) -> float:
    return float(result.fit_s if cost == "fit_s" else getattr(cut, cost))


def f1_charts(record: RunRecord) -> list[tuple[str, Markup]]:
    """Return the F1 of every class over the cuts, per head: lines, or a matrix of many classes."""
    charts = []
    split = ranking_split(record)
    names = [cut.cut for cut in record.cuts]
    for head in dict.fromkeys(result.head for result in record.results):
        by_cut = {r.cut: r.splits[split] for r in record.results if r.head == head}
        classes = [(c.label, c.name) for c in next(iter(by_cut.values())).per_class]
        values: list[list[float | None]] = []
        for place, _ in enumerate(classes):
            row = [by_cut[n].per_class[place].f1 if n in by_cut else None for n in names]
            values.append(row)
        title = (
            f"F1 of every class at every cut, {HEAD_NAMES[head]}, {SPLIT_NAMES.get(split, split)}"
        )
        labels = [_class_name(label, name) for label, name in classes]
        draw = _f1_lines if len(classes) <= _MOST_LINES else _f1_matrix
        charts.append((title, draw(title, labels, names, values)))
    return charts


def _f1_matrix(
    title: str, labels: list[str], cuts: list[str], values: list[list[float | None]]
) -> Markup:
    best = sorted(
        (max((v, cut) for v, cut in zip(row, cuts, strict=True) if v is not None), label)
        for row, label in zip(values, labels, strict=True)
    )
    words = ", ".join(f"{plain(label)} {v:.3f} at {plain(cut)}" for (v, cut), label in best[:12])
    return matrix_chart(f"{title}; the hardest at their best cuts: {words}", labels, cuts, values,
                        "F1")  # fmt: skip


def _f1_lines(
    title: str, labels: list[str], cuts: list[str], values: list[list[float | None]]
) -> Markup:
    best = [max(v for v in row if v is not None) for row in values]
    words = ", ".join(f"{plain(n)} at best {b:.3f}" for n, b in zip(labels, best, strict=True))
    left, right = 56.0, 864.0
    left, slot = slots(cuts, left, right)
    chart = Chart(880, 0, f"{title}: {words}")
    looks = [f"s{i % N_COLOURS}{' dashed' if i >= N_COLOURS else ''}" for i in range(len(labels))]
    entries = [(look, i, name) for i, (look, name) in enumerate(zip(looks, labels, strict=True))]
    top = legend(chart, entries, left, 18) + 6
    bottom = top + 230
    x = Scale(-0.5, len(cuts) - 0.5, left, right)
    y = share_scale([v for row in values for v in row if v is not None], bottom, top)
    value_axis(chart, y, left, right, "F1")
    for i, row in enumerate(values):
        there = [(j, v) for j, v in enumerate(row) if v is not None]
        chart.line([(x(j), y(v)) for j, v in there], looks[i])
        for j, v in there:
            said = f"{plain(labels[i])}, {plain(cuts[j])}: {v:.3f}"
            chart.point(x(j), y(v), looks[i], i, said)
    name_axis(chart, cuts, [x(j) for j in range(len(cuts))], bottom)
    chart.height = bottom + name_axis_height(cuts, slot) + 12
    return chart.svg()


def class_charts(dataset: DatasetRecord) -> list[tuple[str, Markup]]:
    """Return the images per class of every split as bars."""
    names = [_class_name(label, name) for label, name in dataset.classes.items()]
    charts = []
    for split, of in dataset.splits.items():
        counts = [of.counts.get(label, 0) for label in dataset.classes]
        title = f"{SPLIT_NAMES.get(split, split)}: {of.n:,} images"
        words = f"{min(counts):,} to {max(counts):,} images per class, {len(counts)} classes"
        charts.append((title, _bars(f"{title}; {words}", names, counts, split)))
    return charts


def _bars(label: str, names: list[str], counts: list[int], split: str) -> Markup:
    left, right, top, bottom = 70.0, 864.0, 22.0, 150.0
    left, slot = slots(names, left, right)
    chart = Chart(880, bottom + name_axis_height(names, slot) + 8, label)
    y = Scale(0, max([*counts, 1]), bottom, top)
    value_axis(chart, y, left, right, "images")
    x = Scale(-0.5, len(counts) - 0.5, left, right)
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        wide = min(60.0, slot * 0.8)
        chart.add('<rect class="fill s{}" x="{:.4g}" y="{}" width="{:.3g}" height="{:.4g}">'
                  "<title>{}: {:,}</title></rect>",
                  _SPLIT_COLOURS.get(split, 2), x(i) - wide / 2, y(count), wide,
                  bottom - y(count), plain(name), count)  # fmt: skip
        if slot >= 42:
            chart.text(x(i), y(count) - 4, f"{count:,}")
    name_axis(chart, names, [x(i) for i in range(len(names))], bottom)
    return chart.svg()


def _class_name(label: int, name: str) -> str:
    return str(label) if name == str(label) else name

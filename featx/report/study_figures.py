"""The figures of a study's report: accuracies by group, and the curves of every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from featx.evaluate.metrics import wilson_interval
from featx.report.canvas import (
    COLOURS,
    DARK,
    GREY,
    LINES,
    MARKERS,
    SERIES,
    ReportFigure,
    light_grid,
    limit_to_shares,
    new_figure,
    png,
)
from featx.report.labels import drawable, fit_lines, label_axis, plain, text_width
from featx.report.study_text import (
    CONVERGED,
    Group,
    best_group,
    deciding_split,
    group_titles,
    published_of,
    spread_of,
    study_groups,
    study_splits,
)
from featx.report.text import SPLIT_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featx.evaluate.training_records import Curve, StudyRecord

_LONGEST_TITLE = 48
_MOST_PANELS = 36
# More of them cannot be read, and weigh more than all else on a page.
_MOST_ACCURACIES = 40
_ALT_GROUPS = 12


def study_figures(record: StudyRecord) -> list[ReportFigure]:
    """Return every figure of a study's report; without an accuracy or a curve there is none."""
    figures = []
    if study_splits(record):
        figures.append(
            ReportFigure("accuracy.png", png(accuracies_figure(record)), _accuracies_alt(record))
        )
    metric = curves_metric(record)
    if metric:
        draw = overlaid_figure if len(study_groups(record)) <= len(SERIES) else panels_figure
        figures.append(ReportFigure("curves.png", png(draw(record)), _curves_alt(record, metric)))
    return figures


def accuracies_figure(record: StudyRecord) -> Figure:
    """Draw the top-1 accuracy of every group, one below the other.

    With repeats: every run as a pale point, their mean and its 95 % interval. Without: the run's
    accuracy with its Wilson interval where the split's size gives one. Figures that the source
    document published stand beside as crosses, with their range. Of very many groups the best are
    drawn.
    """
    groups, of_all = _accuracy_groups(record)
    titles = group_titles(groups)
    splits = study_splits(record)
    longest = max(text_width(drawable(plain(t, _LONGEST_TITLE))) for t in titles) * 10 / 72
    height = min(30.0, max(1.2, 0.34 * len(groups) + 0.4))
    figure, (axes,) = new_figure(min(14.0, 5.5 + longest), height + 1.5)
    for number, split in enumerate(splits):
        offset = 0.26 * (number - (len(splits) - 1) / 2)
        _draw_accuracies(axes, record, groups, split, offset)
    _draw_published(axes, record, groups, 0.26 * (len(splits) + 1) / 2)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel("top-1 accuracy (95 % interval)")
    light_grid(axes, "x")
    limit_to_shares(axes, "x")
    title = f"{record.name} on {record.dataset.name}{of_all}"
    axes.set_title(drawable(plain(title, 90)), fontsize=11, parse_math=False)
    label_axis(axes.yaxis, titles, height, _LONGEST_TITLE)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _accuracy_groups(record: StudyRecord) -> tuple[list[Group], str]:
    """Return the groups whose accuracy is drawn, in the recipe's order; ": the best 40 of 96"."""
    groups = [g for g in study_groups(record) if any(row.top1 for row in g.rows)]
    if len(groups) <= _MOST_ACCURACIES:
        return groups, ""
    split = deciding_split(record) or study_splits(record)[0]
    ranked = sorted(groups, key=lambda group: group.mean("top1", split) or -1.0, reverse=True)
    kept = ranked[:_MOST_ACCURACIES]
    shown = [group for group in groups if group in kept]
    return shown, f": the best {len(shown)} of {len(groups)} on {SPLIT_NAMES.get(split, split)}"


def _draw_accuracies(
    axes: Axes, record: StudyRecord, groups: Sequence[Group], split: str, offset: float
) -> None:
    """Draw one split's accuracies beside the middle of every group's slot."""
    colour, marker = COLOURS.get(split, DARK), MARKERS.get(split, "D")
    points = []
    for place, group in enumerate(groups):
        mean = group.mean("top1", split)
        if mean is None:
            continue
        low, high = _interval(record, group, split)
        points.append((mean, place + offset, mean - low, high - mean))
        if record.repeats > 1:
            values = group.values("top1", split)
            axes.plot(
                values, [place + offset] * len(values), marker, color=colour, alpha=0.35,
                markersize=4, markeredgewidth=0,
            )  # fmt: skip
    axes.errorbar(
        [p[0] for p in points],
        [p[1] for p in points],
        xerr=[[p[2] for p in points], [p[3] for p in points]],
        fmt=marker,
        color=colour,
        markersize=5.5,
        elinewidth=1.3,
        capsize=2.5,
        label=SPLIT_NAMES.get(split, drawable(plain(split))),
    )


def _draw_published(
    axes: Axes, record: StudyRecord, groups: Sequence[Group], offset: float
) -> None:
    points = []
    for place, group in enumerate(groups):
        values = sorted(published_of(record, group, "top1"))
        if values:
            middle = values[len(values) // 2]
            points.append((middle, place + offset, middle - values[0], values[-1] - middle))
    if points:
        axes.errorbar(
            [p[0] for p in points],
            [p[1] for p in points],
            xerr=[[p[2] for p in points], [p[3] for p in points]],
            fmt="x",
            color=DARK,
            markersize=5.5,
            elinewidth=1.0,
            capsize=2.5,
            label="published (min to max)" if any(p[2] or p[3] for p in points) else "published",
        )


def _interval(record: StudyRecord, group: Group, split: str) -> tuple[float, float]:
    """Return the interval of a group's accuracy, or the accuracy twice where there is none."""
    mean = group.mean("top1", split)
    assert mean is not None
    s = spread_of(record, group, "top1", split)
    if s is not None and s.low is not None and s.high is not None:
        return min(s.low, mean), max(s.high, mean)
    n = record.dataset.splits[split].n if split in record.dataset.splits else 0
    n_correct = round(mean * n)
    # A run on another number of images than the record's has no count to take an interval of.
    if record.repeats > 1 or not n or not math.isclose(n_correct / n, mean, abs_tol=1e-9):
        return mean, mean
    return wilson_interval(n_correct, n)


def curves_metric(record: StudyRecord) -> str | None:
    """Return the curve that is drawn: validation accuracy, else that of test or training."""
    there = {name for curve in record.curves for name, values in curve.values.items() if values}
    return next((f"top1 {s}" for s in ("val", "test", "train") if f"top1 {s}" in there), None)


def overlaid_figure(record: StudyRecord) -> Figure:
    """Draw few groups in one panel for accuracy and one for loss, a colour and line per group.

    With repeats the line is their mean as long as all of them run, the band reaches from the
    least to the largest of those that still run.
    """
    accuracy = curves_metric(record)
    assert accuracy is not None
    loss = accuracy.replace("top1", "loss")
    metrics = [m for m in (accuracy, loss) if any(c.values.get(m) for c in record.curves)]
    groups = study_groups(record)
    names = {g.name: t for g, t in zip(groups, group_titles(groups), strict=True)}
    figure, all_axes = new_figure(
        8.0, 3.0 * len(metrics) + 1.0 + 0.22 * len(names), len(metrics), share=True
    )
    for axes, metric in zip(all_axes, metrics, strict=True):
        for number, (group, title) in enumerate(names.items()):
            curves = [
                c.values[metric] for c in record.curves if c.group == group and metric in c.values
            ]
            style = list(LINES.values())[::-1][number % 3]
            _draw_band(axes, [c for c in curves if c], SERIES[number], style, title)
        name, split = metric.split(" ", 1)
        axes.set_ylabel(
            f"{SPLIT_NAMES.get(split, split)} {'top-1 accuracy' if name == 'top1' else 'loss'}"
        )
        light_grid(axes)
        if name == "top1":
            limit_to_shares(axes)
    _number_epochs(all_axes[-1])
    title = f"{record.name} on {record.dataset.name}"
    all_axes[0].set_title(drawable(plain(title, 80)), fontsize=11, parse_math=False)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False)
    return figure


def _draw_band(axes: Axes, curves: list[list[float]], colour: str, style: str, name: str) -> None:
    if not curves:
        return
    longest, shortest = max(map(len, curves)), min(map(len, curves))
    if len(curves) > 1:
        running = [[c[i] for c in curves if i < len(c)] for i in range(longest)]
        axes.fill_between(
            range(1, longest + 1),
            [min(values) for values in running],
            [max(values) for values in running],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
    means = [math.fsum(c[i] for c in curves) / len(curves) for i in range(shortest)]
    axes.plot(
        range(1, shortest + 1), means, color=colour, linestyle=style, linewidth=1.6,
        marker="o" if shortest == 1 else None, label=drawable(plain(name, 90)),
    )  # fmt: skip


def panels_figure(record: StudyRecord) -> Figure:
    """Draw many groups in a panel each, over all the others in grey.

    A group that did not end cleanly says so in its panel. Of very many groups the best are drawn.
    """
    metric = curves_metric(record)
    assert metric is not None
    groups = study_groups(record)
    titles = dict(zip((g.name for g in groups), group_titles(groups), strict=True))
    shown = _panel_groups(record, groups, metric)
    best = best_group(record)
    columns = 4 if len(shown) <= 16 else 6
    rows = math.ceil(len(shown) / columns)
    width = 10.5 / columns
    figure, all_axes = new_figure(11.0, 1.65 * rows + 0.9, rows, columns, share=True)
    lines = [c.values[metric] for c in record.curves if c.values.get(metric)]
    for axes, group in zip(all_axes, shown, strict=False):
        for line in lines:
            axes.plot(range(1, len(line) + 1), line, color=GREY, linewidth=0.5)
        is_best = best is not None and group.name == best.name
        for curve in _curves_of(record, group, metric):
            line = curve.values[metric]
            axes.plot(
                range(1, len(line) + 1), line, linewidth=1.8,
                color=COLOURS["test"] if is_best else COLOURS["val"],
                marker="o" if len(line) == 1 else None, markersize=3,
            )  # fmt: skip
        name = f"best: {titles[group.name]}" if is_best else titles[group.name]
        axes.set_title(fit_lines(name, width - 0.35, 8), fontsize=8, parse_math=False)
        _say_states(axes, group)
        axes.tick_params(labelsize=8)
        light_grid(axes)
    limit_to_shares(all_axes[0])
    _number_epochs(all_axes[0], nbins=4)
    for axes in all_axes[len(shown) :]:
        axes.set_visible(False)
    # Where the last row is not full, the panel above the gap carries the epochs' numbers.
    for axes in all_axes[max(0, len(shown) - columns) : len(shown)]:
        axes.tick_params(labelbottom=True)
    split = metric.split(" ", 1)[1]
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(f"{SPLIT_NAMES.get(split, split)} top-1 accuracy", fontsize=10)
    return figure


def _curves_of(record: StudyRecord, group: Group, metric: str) -> list[Curve]:
    return [c for c in record.curves if c.group == group.name and c.values.get(metric)]


def _panel_groups(record: StudyRecord, groups: Sequence[Group], metric: str) -> list[Group]:
    """Return the groups that get a panel, in the recipe's order."""
    drawn = list({g.name: g for g in groups}.values())
    if len(drawn) <= _MOST_PANELS:
        return drawn

    def largest(group: Group) -> float:
        curves = _curves_of(record, group, metric)
        return max((max(curve.values[metric]) for curve in curves), default=-1.0)

    kept = sorted(drawn, key=largest, reverse=True)[:_MOST_PANELS]
    return [group for group in drawn if group in kept]


def _say_states(axes: Axes, group: Group) -> None:
    states = dict.fromkeys(row.state for row in group.rows if row.state not in CONVERGED)
    if states:
        axes.text(
            0.97, 0.04, "\n".join(states), transform=axes.transAxes, ha="right", va="bottom",
            fontsize=7, style="italic",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0},
        )  # fmt: skip


def _number_epochs(axes: Axes, nbins: int = 12) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = axes.dataLim.intervalx
    axes.set_xlim(low - 0.5 - 0.02 * (high - low), high + 0.5 + 0.02 * (high - low))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=nbins, integer=True, min_n_ticks=1))
    if nbins > 4:
        axes.set_xlabel("epoch")


def _accuracies_alt(record: StudyRecord) -> str:
    groups, of_all = _accuracy_groups(record)
    parts = []
    for group, title in list(zip(groups, group_titles(groups), strict=True))[:_ALT_GROUPS]:
        means: Mapping[str, float | None] = {s: group.mean("top1", s) for s in study_splits(record)}
        scores = ", ".join(
            f"{SPLIT_NAMES.get(s, s)} {m:.3f}" for s, m in means.items() if m is not None
        )
        parts.append(f"{title} {scores}")
    more = f"; and {len(groups) - _ALT_GROUPS} more" if len(groups) > _ALT_GROUPS else ""
    what = "Mean top-1 accuracy" if record.repeats > 1 else "Top-1 accuracy"
    count = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
    return f"{what} of {count}{of_all}: {'; '.join(parts)}{more}"


def _curves_alt(record: StudyRecord, metric: str) -> str:
    split = metric.split(" ", 1)[1]
    n = len({curve.run for curve in record.curves})
    best = best_group(record)
    named = f"; the best is {best.name}" if best else ""
    return (
        f"{SPLIT_NAMES.get(split, split).capitalize()} top-1 accuracy per epoch of {n} runs{named}"
    )

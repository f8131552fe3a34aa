"""The figures of a report, drawn with matplotlib from a record, without pyplot's global state."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featx.report.labels import class_labels, drawable, label_axis, plain
from featx.report.text import HEAD_NAMES, SPLIT_NAMES, accuracy_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featx.evaluate.records import ResultRecord, RunRecord

_DPI = 120
# Okabe and Ito's palette: told apart with every common form of colour blindness.
_COLOURS = {"val": "#0072B2", "test": "#D55E00", "train": "#666666"}
_MARKERS = {"val": "o", "test": "s", "train": "^"}
_HATCHES = {"train": "", "val": "//", "test": ".."}


@dataclass(frozen=True)
class ReportFigure:
    """A drawn figure: file name, PNG, text for those who do not see it, the result it belongs to.

    `result` is the index in the record's results, or None for a figure of the whole run.
    """

    name: str
    png: bytes
    alt: str
    result: int | None = None


def draw_figures(record: RunRecord) -> list[ReportFigure]:
    """Return every figure of a report: accuracies, classes, one confusion matrix per result."""
    import matplotlib.style

    # The reader's own matplotlib settings must not change a report.
    with matplotlib.style.context("default"):
        figures = [
            ReportFigure("accuracy.png", _png(accuracy_figure(record)), _accuracy_alt(record)),
            ReportFigure("classes.png", _png(classes_figure(record)), _classes_alt(record)),
        ]
        for index, result in enumerate(record.results):
            slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{result.cut}-{result.head}").strip("-")[:60]
            name = f"confusion-{index + 1:02d}-{slug}.png"
            png = _png(confusion_figure(result))
            figures.append(ReportFigure(name, png, _confusion_alt(result), index))
    return figures


def shown_split(result: ResultRecord) -> str:
    """Return the split whose confusion matrix is drawn: test where there is one."""
    return next((s for s in ("test", "val") if s in result.splits), next(iter(result.splits)))


def accuracy_figure(record: RunRecord) -> Figure:
    """Draw the accuracy of every cut with its 95 % interval, cuts in the order of execution.

    Validation and test differ in marker and line, not only in colour; several heads are drawn
    beside each other, filled and open.
    """
    cuts = [cut.cut for cut in record.cuts]
    heads = list(dict.fromkeys(result.head for result in record.results))
    splits = [s for s in ("val", "test") if any(s in r.splits for r in record.results)]
    splits = splits or list(record.results[0].splits)
    series = [(head, split) for head in heads for split in splits]
    figure, (axes,) = _figure(min(16.0, max(6.0, 2.0 + 0.75 * len(cuts))), 5.0)
    for number, (head, split) in enumerate(series):
        # Side by side within a cut's slot, so that intervals do not hide each other.
        offset = 0.16 * (number - (len(series) - 1) / 2)
        drawn = {
            r.cut: r.splits[split] for r in record.results if r.head == head and split in r.splits
        }
        x = [cuts.index(cut) + offset for cut in cuts if cut in drawn]
        metrics = [drawn[cut] for cut in cuts if cut in drawn]
        name = SPLIT_NAMES.get(split, split)
        axes.errorbar(
            x,
            [m.accuracy for m in metrics],
            yerr=[
                [m.accuracy - m.accuracy_low for m in metrics],
                [m.accuracy_high - m.accuracy for m in metrics],
            ],
            fmt=_MARKERS.get(split, "D"),
            linestyle="--" if split == "val" else "-",
            linewidth=1.0,
            elinewidth=1.6,
            capsize=4,
            markersize=7,
            color=_COLOURS.get(split, "#333333"),
            markerfacecolor="white" if head == "logistic" and len(heads) > 1 else None,
            label=name if len(heads) == 1 else f"{name}, {HEAD_NAMES[head]}",
        )
    axes.set_xlim(-0.6, len(cuts) - 0.4)
    axes.set_ylabel("accuracy (95 % interval)")
    axes.set_xlabel("cut, in order of execution")
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    _limit_to_shares(axes)
    title = f"{record.backbone.name} on {record.dataset.name}: accuracy per cut"
    axes.set_title(drawable(plain(title, 70)), fontsize=11, wrap=True, parse_math=False)
    label_axis(axes.xaxis, cuts, _inches(figure, 1.2))
    return figure


def _limit_to_shares(axes: Axes) -> None:
    """Keep the y axis within 0 to 1, but for the room that a marker at either end needs."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_ylim()
    room = 0.03 * (high - low)
    low, high = max(low, -room), min(high, 1 + room)
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if max(0, low) <= tick <= min(1, high)])
    axes.set_ylim(low, high)


def classes_figure(record: RunRecord) -> Figure:
    """Draw the images per class, one histogram per split."""
    classes = record.dataset.classes
    splits = record.dataset.splits
    width = min(16.0, max(6.0, 2.0 + 0.5 * len(classes)))
    figure, all_axes = _figure(width, 1.2 + 1.7 * len(splits), rows=len(splits))
    for axes, (split, split_record) in zip(all_axes, splits.items(), strict=True):
        counts = [split_record.counts.get(label, 0) for label in classes]
        bars = axes.bar(
            range(len(classes)),
            counts,
            width=0.8,
            color=_COLOURS.get(split, "#333333"),
            hatch=_HATCHES.get(split, ""),
            edgecolor="white",
            linewidth=0.5,
        )
        axes.set_ylim(0, max([*counts, 1]) * 1.25)
        axes.set_xlim(-0.6, len(classes) - 0.4)
        axes.set_ylabel("images")
        axes.set_title(
            drawable(plain(f"{SPLIT_NAMES.get(split, split)}: {split_record.n:,} images", 70)),
            loc="left",
            fontsize=10,
            parse_math=False,
        )
        axes.set_xticks([])
        if len(classes) <= 14:
            axes.bar_label(bars, labels=[f"{count:,}" for count in counts], fontsize=8, padding=2)
    all_axes[-1].set_xlabel("class")
    label_axis(all_axes[-1].xaxis, class_labels(classes), _inches(figure, 1.0))
    return figure


def confusion_figure(result: ResultRecord) -> Figure:
    """Draw a confusion matrix: colour is the share of the true class, numbers are counts."""
    split = shown_split(result)
    metrics = result.splits[split]
    names = class_labels({scores.label: scores.name for scores in metrics.per_class})
    k = len(names)
    side = min(12.0, max(3.2, 0.62 * k))
    longest = max(len(name) for name in names) * 0.075
    figure, (axes,) = _figure(side + 1.6 + longest, side + 1.4 + longest)
    share = [
        [count / max(1, scores.support) for count in row]
        for row, scores in zip(metrics.confusion, metrics.per_class, strict=True)
    ]
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    label_axis(axes.xaxis, names, side)
    label_axis(axes.yaxis, names, side)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    title = (
        f"{drawable(plain(result.cut, 40))}\n{HEAD_NAMES[result.head]} · "
        f"{SPLIT_NAMES.get(split, split)}\naccuracy {accuracy_text(metrics)}"
    )
    axes.set_title(title, fontsize=10, parse_math=False)
    # A digit is about 0.6 of the font size wide, and a cell wants some air around its number.
    digits = max(len(str(count)) for row in metrics.confusion for count in row)
    size = min(11.0, side / k * 72 * 0.8 / (0.62 * digits))
    if size >= 6.0 and k <= 30:
        for i, row in enumerate(metrics.confusion):
            for j, count in enumerate(row):
                colour = "white" if share[i][j] > 0.5 else "#222222"
                axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=colour)
    return figure


def _figure(width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, one below the other, sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def _inches(figure: Figure, margin: float) -> float:
    """Return about how wide the axes of a figure will be, in inches."""
    return float(figure.get_figwidth()) - margin


def _png(figure: Figure) -> bytes:
    """Return a figure as PNG, the same bytes for the same figure."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    return data.getvalue()


def _confusion_alt(result: ResultRecord) -> str:
    split = shown_split(result)
    return (
        f"Confusion matrix of {result.cut}, {HEAD_NAMES[result.head]}, on the "
        f"{SPLIT_NAMES.get(split, split)} split: accuracy {result.accuracy[split]:.3f}"
    )


def _accuracy_alt(record: RunRecord) -> str:
    several = len({result.head for result in record.results}) > 1
    parts = []
    for result in record.results:
        head = f" ({HEAD_NAMES[result.head]})" if several else ""
        scores = ", ".join(f"{SPLIT_NAMES.get(s, s)} {a:.3f}" for s, a in result.accuracy.items())
        parts.append(f"{result.cut}{head} {scores}")
    return f"Accuracy per cut: {'; '.join(parts)}"


def _classes_alt(record: RunRecord) -> str:
    sizes = ", ".join(
        f"{SPLIT_NAMES.get(name, name)} {split.n:,}"
        for name, split in record.dataset.splits.items()
    )
    return f"Images per class and split ({len(record.dataset.classes)} classes; {sizes} images)"

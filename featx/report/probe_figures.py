"""The figures of a probe's report: accuracy per cut, classes, a confusion matrix per result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from featx.evaluate.reading import ranking
from featx.report.canvas import (
    COLOURS,
    DARK,
    MARKERS,
    ReportFigure,
    inches,
    light_grid,
    limit_to_shares,
    new_figure,
    png,
)
from featx.report.class_figures import (
    classes_alt,
    classes_figure,
    confusion_alt,
    confusion_figure,
    shown_split,
)
from featx.report.labels import drawable, label_axis, plain
from featx.report.text import HEAD_NAMES, SPLIT_NAMES

# Confusion matrices that are drawn: of so many classes they take 0.3 s each, of a hundred 2 s.
_SMALL, _MOST_SMALL, _MOST_LARGE = 30, 24, 4

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from featx.evaluate.records import RunRecord


def probe_figures(record: RunRecord) -> list[ReportFigure]:
    """Return every figure of a probe's report.

    Of many results only the best ones get a confusion matrix as a picture: drawing a hundred large
    ones takes minutes. The page has all of them.
    """
    figures = [
        ReportFigure("accuracy.png", png(accuracy_figure(record)), _accuracy_alt(record)),
        ReportFigure(
            "classes.png", png(classes_figure(record.dataset)), classes_alt(record.dataset)
        ),
    ]
    most = _MOST_SMALL if len(record.dataset.classes) <= _SMALL else _MOST_LARGE
    best = {id(result) for result in ranking(record)[:most]}
    for index, result in enumerate(record.results):
        if id(result) not in best:
            continue
        slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{result.cut}-{result.head}").strip("-")[:60]
        split = shown_split(result.splits)
        of = (result.cut, HEAD_NAMES[result.head], split, result.splits[split])
        name = f"confusion-{index + 1:02d}-{slug}.png"
        figures.append(ReportFigure(name, png(confusion_figure(*of)), confusion_alt(*of), index))
    return figures


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
    figure, (axes,) = new_figure(min(16.0, max(6.0, 2.0 + 0.75 * len(cuts))), 5.0)
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
            fmt=MARKERS.get(split, "D"),
            linestyle="--" if split == "val" else "-",
            linewidth=1.0,
            elinewidth=1.6,
            capsize=4,
            markersize=7,
            color=COLOURS.get(split, DARK),
            markerfacecolor="white" if head == "logistic" and len(heads) > 1 else None,
            label=name if len(heads) == 1 else f"{name}, {HEAD_NAMES[head]}",
        )
    axes.set_xlim(-0.6, len(cuts) - 0.4)
    axes.set_ylabel("accuracy (95 % interval)")
    axes.set_xlabel("cut, in order of execution")
    light_grid(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    limit_to_shares(axes)
    title = f"{record.backbone.name} on {record.dataset.name}: accuracy per cut"
    axes.set_title(drawable(plain(title, 70)), fontsize=11, wrap=True, parse_math=False)
    label_axis(axes.xaxis, cuts, inches(figure, 1.2))
    return figure


def _accuracy_alt(record: RunRecord) -> str:
    several = len({result.head for result in record.results}) > 1
    parts = []
    for result in record.results:
        head = f" ({HEAD_NAMES[result.head]})" if several else ""
        scores = ", ".join(f"{SPLIT_NAMES.get(s, s)} {a:.3f}" for s, a in result.accuracy.items())
        parts.append(f"{result.cut}{head} {scores}")
    return f"Accuracy per cut: {'; '.join(parts)}"

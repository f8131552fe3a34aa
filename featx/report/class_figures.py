"""Figures about the classes: images of each, and what was taken for what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from featx.report.canvas import COLOURS, HATCHES, inches, new_figure
from featx.report.labels import class_labels, drawable, label_axis, plain
from featx.report.text import SPLIT_NAMES, accuracy_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.records import DatasetRecord


def shown_split(splits: Mapping[str, SplitMetrics]) -> str:
    """Return the split whose confusion matrix is drawn: test where there is one."""
    return next((s for s in ("test", "val") if s in splits), next(iter(splits)))


def classes_figure(dataset: DatasetRecord) -> Figure:
    """Draw the images per class, one histogram per split."""
    classes = dataset.classes
    splits = dataset.splits
    width = min(16.0, max(6.0, 2.0 + 0.5 * len(classes)))
    figure, all_axes = new_figure(width, 1.2 + 1.7 * len(splits), rows=len(splits))
    for axes, (split, split_record) in zip(all_axes, splits.items(), strict=True):
        counts = [split_record.counts.get(label, 0) for label in classes]
        bars = axes.bar(
            range(len(classes)),
            counts,
            width=0.8,
            color=COLOURS.get(split, "#333333"),
            hatch=HATCHES.get(split, ""),
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
    label_axis(all_axes[-1].xaxis, class_labels(classes), inches(figure, 1.0))
    return figure


def classes_alt(dataset: DatasetRecord) -> str:
    """Return the histograms in words."""
    sizes = ", ".join(
        f"{SPLIT_NAMES.get(name, name)} {split.n:,}" for name, split in dataset.splits.items()
    )
    return f"Images per class and split ({len(dataset.classes)} classes; {sizes} images)"


def confusion_figure(name: str, kind: str, split: str, metrics: SplitMetrics) -> Figure:
    """Draw a confusion matrix: colour is the share of the true class, numbers are counts.

    Parameters
    ----------
    name, kind : str
        What was evaluated: ``"layer4"``, ``"linear SVM"``.
    split : str
        What it was evaluated on.
    metrics : SplitMetrics
        Its metrics there.
    """
    names = class_labels({scores.label: scores.name for scores in metrics.per_class})
    k = len(names)
    side = min(12.0, max(3.2, 0.62 * k))
    longest = max(len(name) for name in names) * 0.075
    figure, (axes,) = new_figure(side + 1.6 + longest, side + 1.4 + longest)
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
        f"{drawable(plain(name, 40))}\n{drawable(plain(kind, 50))} · "
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


def confusion_alt(name: str, kind: str, split: str, metrics: SplitMetrics) -> str:
    """Return what a confusion matrix is of, in words."""
    return (
        f"Confusion matrix of {name}, {kind}, on the {SPLIT_NAMES.get(split, split)} split: "
        f"accuracy {metrics.accuracy:.3f}"
    )

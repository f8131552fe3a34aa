"""The figures of a training's report: its history, classes, a confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.report.canvas import (
    COLOURS,
    DARK,
    LINES,
    MARKERS,
    ReportFigure,
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
from featx.report.labels import drawable, plain
from featx.report.text import SPLIT_NAMES
from featx.report.training_text import MODE_NAMES, history_splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from featx.evaluate.training_records import EpochRecord, TrainingRecord

_PANELS = {"loss": "loss", "top1": "top-1 accuracy", "top5": "top-5 accuracy"}
# Above this ratio of the largest to the smallest value an axis of rates or losses is logarithmic.
_LOG_FROM = 30.0
_MARKED_EPOCHS = 30


def training_figures(record: TrainingRecord) -> list[ReportFigure]:
    """Return every figure of a training's report; without an epoch there is no history."""
    figures = []
    if record.history:
        figures.append(
            ReportFigure("history.png", png(history_figure(record)), _history_alt(record))
        )
    figures.append(
        ReportFigure(
            "classes.png", png(classes_figure(record.dataset)), classes_alt(record.dataset)
        )
    )
    if record.splits:
        split = shown_split(record.splits)
        of = (record.network.name, MODE_NAMES[record.mode], split, record.splits[split])
        figures.append(
            ReportFigure("confusion.png", png(confusion_figure(*of)), confusion_alt(*of))
        )
    return figures


def history_figure(record: TrainingRecord) -> Figure:
    """Draw loss and accuracies per epoch and split, one below the other, and the learning rate.

    A vertical line marks the epoch whose weights were kept.
    """
    metrics = [m for m in _PANELS if any(getattr(epoch, m) for epoch in record.history)]
    ratios = [*[2.3] * len(metrics), 1.0]
    figure, all_axes = new_figure(
        8.0, sum(ratios) + 1.3, rows=len(ratios), ratios=ratios, share=True
    )
    for axes, metric in zip(all_axes, metrics, strict=False):
        for split in history_splits(record):
            _draw_line(axes, record.history, metric, split)
        axes.set_ylabel(_PANELS[metric])
        if metric == "loss":
            _log_where_wide(axes, [v for e in record.history for v in e.loss.values()])
        else:
            limit_to_shares(axes)
    rates = [epoch.learning_rate for epoch in record.history]
    epochs = [epoch.epoch for epoch in record.history]
    all_axes[-1].plot(epochs, rates, color=DARK, marker=".", markersize=4)
    all_axes[-1].set_ylabel("learning\nrate")
    _log_where_wide(all_axes[-1], rates)
    _number_epochs(all_axes[-1], epochs)
    for axes in all_axes:
        light_grid(axes)
        if record.best_epoch in epochs:
            axes.axvline(
                record.best_epoch,
                color="#009E73",
                linestyle="-.",
                linewidth=1.3,
                label=f"kept: epoch {record.best_epoch}",
            )
    title = f"{record.network.name} on {record.dataset.name}, {MODE_NAMES[record.mode]}"
    all_axes[0].set_title(drawable(plain(title, 80)), fontsize=11, parse_math=False)
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_line(axes: Axes, history: list[EpochRecord], metric: str, split: str) -> None:
    points = [(e.epoch, getattr(e, metric)[split]) for e in history if split in getattr(e, metric)]
    axes.plot(
        [epoch for epoch, _ in points],
        [value for _, value in points],
        color=COLOURS.get(split, DARK),
        linestyle=LINES.get(split, "-."),
        marker=MARKERS.get(split, "D") if len(history) <= _MARKED_EPOCHS else None,
        markersize=4.5,
        linewidth=1.5,
        label=SPLIT_NAMES.get(split, drawable(plain(split))),
    )


def _log_where_wide(axes: Axes, values: list[float]) -> None:
    if min(values) > 0 and max(values) / min(values) >= _LOG_FROM:
        axes.set_yscale("log")
    elif min(values) == max(values):
        # One value has no range of its own; the default one would number it far from readable.
        low, high = sorted((values[0] * 0.5, values[0] * 1.5 or 1.0))
        axes.set_ylim(low, high)


def _number_epochs(axes: Axes, epochs: list[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    room = 0.5 + 0.02 * (epochs[-1] - epochs[0])
    axes.set_xlim(epochs[0] - room, epochs[-1] + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))


def _history_alt(record: TrainingRecord) -> str:
    ends = []
    for split in history_splits(record):
        values = [e.top1[split] for e in record.history if split in e.top1]
        if values:
            name = SPLIT_NAMES.get(split, split)
            ends.append(f"{name} top-1 {values[0]:.3f} to {values[-1]:.3f}")
    return (
        f"Loss, accuracy and learning rate over {len(record.history)} epochs; first to last epoch: "
        f"{', '.join(ends)}; weights kept from epoch {record.best_epoch}"
    )

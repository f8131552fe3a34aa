"""The figures of docs/results.md, drawn from the same facts as its tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featx.evaluate import wilson_interval
from published.depth import Depth, shown_variants
from published.networks import Compared, seconds
from published.others import STRIDE, BySize

# Okabe and Ito's palette, as in the reports.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = "#333333"
KINDS = {
    "probe": ("linear head on cached features", SERIES[0], "o"),
    "frozen": ("frozen network, trained head", SERIES[5], "v"),
    "lp-ft": ("LP-FT", SERIES[4], "D"),
    "finetune": ("fine-tuning", SERIES[1], "s"),
    "scratch": ("small network from scratch", SERIES[2], "^"),
}


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, columns, squeeze=False, sharey=True).flat)
    for each in axes:
        each.grid(axis="y", color="#dddddd")
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", metadata={"Software": None})


def draw_depth(found: Mapping[str, Depth]) -> Any:
    """Draw the layer curves: accuracy by cut, a line per input size, a panel per network."""
    figure, axes = _figure(4.6 * len(found), 4.0, len(found))
    for panel, (network, depth) in zip(axes, found.items(), strict=True):
        for number, (size, variant) in enumerate(shown_variants(found).items()):
            scores = [depth.scores[variant][cut]["test"] for cut in depth.cuts]
            _line(panel, list(range(len(scores))), scores, depth.n("test"), number, f"{size} px")
        panel.set_xticks(range(len(depth.cuts)), depth.cuts, rotation=20, ha="right", fontsize=8)
        panel.set_title(network, fontsize=11)
    axes[0].set_ylabel("test accuracy (95 % interval)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    return figure


def _line(axes: Any, x: list[Any], scores: list[float], n: int, number: int, label: str) -> None:
    bounds = [wilson_interval(round(s * n), n) for s in scores]
    errors = [
        [s - low for s, (low, _) in zip(scores, bounds, strict=True)],
        [high - s for s, (_, high) in zip(scores, bounds, strict=True)],
    ]
    axes.errorbar(
        x, scores, yerr=errors, color=SERIES[number % len(SERIES)], marker="osD^v"[number % 5],
        markersize=5, linewidth=1.6, elinewidth=1.0, capsize=2, label=label,
    )  # fmt: skip


def draw_by_size(
    found: BySize, published: tuple[int, float], title: str, source: str, digits: int
) -> Any:
    """Draw accuracy against input size, and what the last stage sees at each size."""
    figure, (axes,) = _figure(6.6, 4.0)
    sizes, scores = list(found.test), list(found.test.values())
    _line(axes, sizes, scores, found.n, 0, "featx")
    size, value = published
    # Its value stands in the legend: beside the mark it would touch that of a point near by.
    axes.plot(
        [size], [value], "x", color=DARK, markersize=9, markeredgewidth=2,
        label=f"{source}: {value:.{digits}f}", ls="",
    )  # fmt: skip
    # The last label needs room.
    low, high = min(*sizes, size), max(*sizes, size)
    width = max(high - low, 32)
    axes.set_xlim(low - 0.06 * width, high + 0.26 * width)
    axes.margins(y=0.16)
    for at, score in zip(sizes, scores, strict=True):
        side = max(1, at // STRIDE)
        # Below and beside the point, where neither the rising line nor the interval is.
        axes.annotate(
            f"{score:.3f}, map {side} x {side}", (at, score), xytext=(7, -13),
            textcoords="offset points", fontsize=8,
        )  # fmt: skip
    ticks = sorted({*sizes, size})
    axes.set_xticks(ticks, [f"{at}" for at in ticks])
    axes.set_xlabel("input size in pixels a side")
    axes.set_ylabel("test accuracy (95 % interval)")
    axes.set_title(title, fontsize=11)
    axes.legend(loc="lower right", frameon=False)
    return figure


def draw_networks(found: Mapping[str, Compared]) -> Any:
    """Draw accuracy against the time from images to a trained model, a panel per training size."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _figure(4.3 * max(len(found), 2), 4.4, len(found))
    for panel, compared in zip(axes, found.values(), strict=True):
        best = {compared.probe.name, compared.tuned.name}
        for approach in compared.record.approaches:
            _, colour, marker = KINDS[approach.approach]
            score = approach.splits["test"].accuracy
            panel.plot(
                [seconds(approach)], [score], marker, color=colour,
                markersize=9 if approach.name in best else 6,
                markerfacecolor=colour if approach.name in best else "white",
            )  # fmt: skip
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_title(f"{compared.n_train:,} training images", fontsize=11)
        panel.set_xlabel("seconds from images to the trained model")
    axes[0].set_ylabel("test accuracy")
    shown = {one.approach for compared in found.values() for one in compared.record.approaches}
    named = [
        Line2D([], [], color=colour, marker=marker, markerfacecolor="white", ls="", label=label)
        for kind, (label, colour, marker) in KINDS.items()
        if kind in shown
    ]
    named.append(
        Line2D([], [], color="0.4", marker="o", markersize=9, ls="",
               label="filled: the best probe, the best fine-tuned network")
    )  # fmt: skip
    figure.legend(handles=named, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure

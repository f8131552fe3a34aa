"""Figures show the record's numbers, and no label touches another or leaves the canvas."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from record_cases import COMPARISONS, STUDIES, TRAININGS, make_row, make_study, make_training
from report_cases import CASES

from featx.evaluate import ranking
from featx.report.class_figures import classes_figure, confusion_figure, shown_split
from featx.report.comparison_figures import approaches_figure, time_figure
from featx.report.figures import draw_figures
from featx.report.probe_figures import accuracy_figure
from featx.report.study_figures import accuracies_figure, overlaid_figure, panels_figure
from featx.report.training_figures import history_figure

cases = pytest.mark.parametrize("record", CASES.values(), ids=CASES.keys())


def drawn_figures(record):
    worst = max(record.results, key=lambda result: len(result.splits))
    split = shown_split(worst.splits)
    confusion = confusion_figure(worst.cut, worst.head, split, worst.splits[split])
    return [accuracy_figure(record), classes_figure(record.dataset), confusion]


def tick_labels(axis):
    """Labels of the ticks that are drawn: matplotlib also keeps some beyond the ends."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    # Inner axes share the numbers of the outer ones and draw none.
    return [tick.label1 for tick in ticks if tick.label1.get_visible()]


def boxes(figure, labels):
    renderer = figure.canvas.get_renderer()
    return [label.get_window_extent(renderer) for label in labels if label.get_text()]


HOSTILE = "a|b <script>alert(1)</script> **x** $y$ [l](http://e)"
OTHER_FIGURES = {
    **{f"history, {name}": (history_figure, r) for name, r in TRAININGS.items() if r.history},
    **{f"accuracies, {name}": (accuracies_figure, r) for name, r in STUDIES.items()},
    **{
        f"overlaid, {name}": (overlaid_figure, STUDIES[name])
        for name in ("3 groups of 5", "1 epoch")
    },
    **{f"panels, {name}": (panels_figure, STUDIES[name]) for name in ("24 runs", "6 groups")},
    **{f"approaches, {name}": (approaches_figure, r) for name, r in COMPARISONS.items()},
    **{f"times, {name}": (time_figure, r) for name, r in COMPARISONS.items()},
    "history, hostile names": (history_figure, make_training(2, {0: HOSTILE, 1: "plain"})),
    "accuracies, hostile names": (
        accuracies_figure,
        make_study([make_row("one", HOSTILE, {"network": HOSTILE}, 0.7)]),
    ),
}
del OTHER_FIGURES["accuracies, all failed"]


@pytest.mark.parametrize("case", OTHER_FIGURES)
def test_no_tick_label_of_other_records_touches_another(case: str) -> None:
    draw, record = OTHER_FIGURES[case]
    _check_labels([draw(record)])


@cases
def test_no_tick_label_touches_another_or_leaves_the_canvas(record) -> None:
    _check_labels(drawn_figures(record))


def _check_labels(figures) -> None:
    for figure in figures:
        figure.canvas.draw()
        canvas = figure.bbox
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                found = boxes(figure, tick_labels(axis))
                for one, next_one in pairwise(found):
                    assert not one.overlaps(next_one)
                for box in [*found, *boxes(figure, [axis.label, axes.title])]:
                    # Two pixels of antialiasing are no cut-off letter.
                    assert box.x0 >= canvas.x0 - 2
                    assert box.y0 >= canvas.y0 - 2
                    assert box.x1 <= canvas.x1 + 2
                    assert box.y1 <= canvas.y1 + 2


@cases
def test_accuracies_and_intervals_are_the_records(record) -> None:
    figure = accuracy_figure(record)
    (axes,) = figure.axes
    heads = list(dict.fromkeys(result.head for result in record.results))
    splits = [s for s in ("val", "test") if s in record.results[0].splits]
    cuts = [cut.cut for cut in record.cuts]
    assert len(axes.containers) == len(heads) * len(splits)
    for container, (head, split) in zip(
        axes.containers, [(h, s) for h in heads for s in splits], strict=True
    ):
        line, _, (bars,) = container
        metrics = {r.cut: r.splits[split] for r in record.results if r.head == head}
        assert line.get_ydata().tolist() == [metrics[cut].accuracy for cut in cuts]
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        wanted = [[metrics[cut].accuracy_low, metrics[cut].accuracy_high] for cut in cuts]
        np.testing.assert_allclose(ends, wanted, atol=1e-12)
        assert np.abs(line.get_xdata() - np.arange(len(cuts))).max() < 0.5


@cases
def test_accuracy_ticks_are_accuracies(record) -> None:
    figure = accuracy_figure(record)
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert all(-1e-9 <= tick <= 1 + 1e-9 for tick in ticks)
    assert len(ticks) >= 2


@cases
def test_the_legend_covers_no_point(record) -> None:
    figure = accuracy_figure(record)
    figure.canvas.draw()
    (axes,) = figure.axes
    legend = axes.get_legend() or figure.legends[0]
    box = legend.get_window_extent(figure.canvas.get_renderer())
    for container in axes.containers:
        for point in axes.transData.transform(container[0].get_xydata()):
            assert not box.contains(*point)


@cases
def test_class_histograms_count_the_records_images(record) -> None:
    figure = classes_figure(record.dataset)
    for axes, split in zip(figure.axes, record.dataset.splits.values(), strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == [split.counts[label] for label in record.dataset.classes]
        assert f"{split.n:,} images" in axes.get_title(loc="left")


@cases
def test_a_confusion_matrix_is_the_records(record) -> None:
    result = record.results[0]
    split = shown_split(result.splits)
    metrics = result.splits[split]
    figure = confusion_figure(result.cut, result.head, split, metrics)
    axes = figure.axes[0]
    counts = np.array(metrics.confusion)
    share = axes.images[0].get_array()
    np.testing.assert_allclose(share, counts / np.maximum(counts.sum(1, keepdims=True), 1))
    numbers = {t.get_position(): t.get_text() for t in axes.texts}
    if len(counts) <= 10:
        assert {(j, i): str(counts[i, j]) for i, j in np.ndindex(*counts.shape)} == numbers
    if len(counts) == 100:
        assert not numbers
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_test_is_shown_where_there_is_one() -> None:
    assert shown_split(CASES["5 classes"].results[0].splits) == "test"


@pytest.mark.parametrize(
    "name", ["5 classes", "100 classes", "wide letters", "other scripts", "hostile names"]
)
def test_every_figure_is_a_png(name: str) -> None:
    for figure in draw_figures(CASES[name]):
        with Image.open(io.BytesIO(figure.png)) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200


@cases
@pytest.mark.usefixtures("words_only")
def test_every_figure_has_a_name_and_words_for_those_who_do_not_see_it(record) -> None:
    figures = draw_figures(record)
    drawn = 24 if len(record.dataset.classes) <= 30 else 4
    assert len(figures) == 2 + min(drawn, len(record.results))
    assert len({figure.name for figure in figures}) == len(figures)
    assert all(figure.alt for figure in figures)
    best = [id(result) for result in ranking(record)[:drawn]]
    for number, result in enumerate(record.results):
        mine = [figure for figure in figures if figure.result == number]
        assert len(mine) == (id(result) in best)
        for figure in mine:
            assert f"{result.accuracy[shown_split(result.splits)]:.3f}" in figure.alt


def test_figures_are_the_same_bytes_every_time() -> None:
    record = CASES["5 classes"]
    assert [f.png for f in draw_figures(record)] == [f.png for f in draw_figures(record)]


def test_of_a_study_with_very_many_groups_the_best_on_validation_are_drawn() -> None:
    scores = [(i * 37 % 96) / 100 for i in range(96)]
    rows = [make_row(f"lr{i}", f"lr{i}", {"lr": i}, score) for i, score in enumerate(scores)]
    record = make_study(rows, repeats=1, axes={"lr": list(range(96))})
    (axes,) = accuracies_figure(record).axes
    drawn = [int(tick.get_text()) for tick in axes.get_yticklabels()]
    assert len(drawn) == 40
    assert drawn == sorted(drawn)
    assert {scores[i] for i in drawn} == set(sorted(scores)[-40:])
    assert axes.get_title().endswith(": the best 40 of 96 on validation")
    few = make_study(rows[:40], repeats=1, axes={"lr": list(range(40))})
    assert "best" not in accuracies_figure(few).axes[0].get_title()

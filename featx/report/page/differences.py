"""The page of differences between runs."""

from __future__ import annotations

from markupsafe import Markup

from featx.report.difference_tables import (
    MOST_CONFUSIONS,
    best_metrics,
    best_rows,
    class_rows,
    confusion_rows,
    cost_rows,
    differences,
    matched,
    matched_rows,
)
from featx.report.differences import Compared, Difference, cautions, difference_answer, setting_rows
from featx.report.labels import plain
from featx.report.page.charts import Chart, Scale, number_axis
from featx.report.page.markup import in_markup, make_table
from featx.report.page.probe_charts import runs_curve
from featx.report.page.rendering import render
from featx.report.text import SPLIT_NAMES

_ROW = 20.0
_MOST_ROWS = 60


def render_differences(title: str, compared: Compared) -> str:
    """Return the page of differences between runs as HTML that needs no other file.

    Parameters
    ----------
    title : str
        Of the page.
    compared : Compared
        The runs; the others are compared with the first.
    """
    rows, n_equal = setting_rows(compared)
    metrics = best_metrics(compared)
    there = matched(compared)
    shown = {
        "names": compared.names,
        "answer": in_markup(lambda style: difference_answer(compared, style)),
        "cautions": cautions(compared),
        "curve": runs_curve(compared.records),
        "best": make_table("Best result of each run", *best_rows(compared), sortable=True),
        "settings": make_table("What differs", ["what", *compared.names], rows),
        "n_equal": n_equal,
        "matched": make_table("Result by result", *matched_rows(compared), sortable=True),
        "costs": make_table("Cost, result by result", *cost_rows(compared), sortable=True),
        "forests": _forests(compared),
        "split": SPLIT_NAMES[compared.split],
        "classes": None,
        "confusions": None,
        "commands": [(n, r.command) for n, r in zip(compared.names, compared.records, strict=True)],
    }
    if metrics:
        shown["classes"] = make_table("F1 per class", *class_rows(compared, metrics), sortable=True)
        caption = f"Confusions that differ, at most the first {MOST_CONFUSIONS}"
        shown["confusions"] = make_table(caption, *confusion_rows(compared, metrics), sortable=True)
    sections = [("best", "The best of each"), ("settings", "What was different")]
    sections += [("each", "Result by result")] if there else []
    sections += [("classes", "Class by class")] if metrics else []
    return render(
        "differences.html.j2", title, [], sections=[*sections, ("runs", "The runs")], **shown
    )


def _forests(compared: Compared) -> list[tuple[str, Markup]]:
    """Return a chart per further run: how far each of its results is from the first run's."""
    rows = [(f"{what}, {how}" if how else what, differences(compared, found))
            for what, how, found in matched(compared)]  # fmt: skip
    charts = []
    for i, name in enumerate(compared.names[1:]):
        drawn = [(label, of[i]) for label, of in rows]
        known = [(label, found) for label, found in drawn if found is not None]
        if known:
            split = SPLIT_NAMES[compared.split]
            title = f"{name} minus {compared.names[0]}: {split} accuracy, 95 % intervals"
            if len(known) > _MOST_ROWS:
                title += f", the first {_MOST_ROWS} of {len(known)} results"
            charts.append((title, _forest(title, known[:_MOST_ROWS])))
    return charts


def _forest(title: str, rows: list[tuple[str, Difference]]) -> Markup:
    """Draw differences with their intervals, one below the other, around a line at 0."""
    bounds = [0.0]
    for _, found in rows:
        bounds += [found.value, *(b for b in (found.low, found.high) if b is not None)]
    clear = sum(found.is_clear for _, found in rows)
    left = 20 + min(280.0, 6.4 * max(len(plain(label, 40)) for label, _ in rows))
    bottom = 12 + _ROW * len(rows)
    known = sum(found.low is not None for _, found in rows)
    label = f"{title}: {clear} of {known} intervals do not hold 0"
    chart = Chart(max(560.0, left + 420), bottom + 44, label)
    room = 0.04 * (max(bounds) - min(bounds)) or 0.01
    x = Scale(min(bounds) - room, max(bounds) + room, left, chart.width - 16)
    number_axis(chart, x, 8, bottom, "difference of accuracies", "")
    chart.line([(x(0), 8), (x(0), bottom)], "front")
    for i, (label, found) in enumerate(rows):
        y = 12 + _ROW * (i + 0.5)
        chart.text(left - 8, y + 4, plain(label, 40), "end")
        look = "s0" if found.is_clear else "s6"
        if found.low is not None and found.high is not None:
            chart.line([(x(found.low), y), (x(found.high), y)], look)
        chart.point(x(found.value), y, look, 0 if found.is_clear else 1, f"{label}: {found}")
    return chart.svg()

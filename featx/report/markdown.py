"""``report.md``: a record in words and tables, through a Jinja2 template."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from featx.report.labels import plain
from featx.report.text import (
    HEAD_NAMES,
    SPLIT_NAMES,
    accuracy_text,
    human_bytes,
    human_count,
    human_seconds,
    ranked_rows,
)

if TYPE_CHECKING:
    from featx.evaluate.metrics import SplitMetrics
    from featx.evaluate.records import ChoiceRecord, ResultRecord, RunRecord
    from featx.report.figures import ReportFigure

# What means something in Markdown or HTML; a class name may hold any of it.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")
_LONGEST_TEXT = 2000


def render_markdown(record: RunRecord, figures: Sequence[ReportFigure], folder: str) -> str:
    """Return the report of a record as Markdown.

    Parameters
    ----------
    record : RunRecord
        Everything the report says.
    figures : sequence of ReportFigure
        Drawn from the same record.
    folder : str
        Where the figures are, relative to the report.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("featx.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown is escaped by the `md` filter, which covers HTML's characters as well.
        autoescape=False,  # noqa: S701
    )
    environment.filters |= {
        "md": escape,
        "count": human_count,
        "bytes": human_bytes,
        "seconds": human_seconds,
        "split": lambda name: SPLIT_NAMES.get(name, name),
        "head": lambda name: HEAD_NAMES.get(name, name),
        "accuracy": accuracy_text,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    return environment.get_template("report.md.j2").render(
        record=record,
        answer=answer(record),
        ranked=table(*ranked_rows(record)),
        report=classification_table,
        choices=choice_table(record.choices),
        figures=figures,
        folder=folder,
    )


def escape(text: object) -> str:
    """Return text that Markdown and HTML show as it is, on one line.

    Examples
    --------
    >>> escape("a|b <i>*x*")
    'a\\\\|b \\\\<i\\\\>\\\\*x\\\\*'
    """
    return _SPECIAL.sub(r"\\\1", plain(str(text), _LONGEST_TEXT))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others right-aligned."""
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)]]
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    for row in rows:
        text += "| " + " | ".join(escape(value) for value in row) + " |\n"
    return text


def classification_table(metrics: SplitMetrics) -> str:
    """Return precision, recall, F1 and support per class and averaged, as a Markdown table."""
    rows = [
        (f"{c.label} {c.name}", _score(c.precision), _score(c.recall), _score(c.f1), c.support)
        for c in metrics.per_class
    ]
    for name, mean in (("macro avg", metrics.macro_avg), ("weighted avg", metrics.weighted_avg)):
        rows.append(
            (name, _score(mean.precision), _score(mean.recall), _score(mean.f1), mean.support)
        )
    return table(("class", "precision", "recall", "F1", "support"), rows)


def _score(value: float) -> str:
    return f"{value:.3f}"


def choice_table(choices: Sequence[ChoiceRecord]) -> str:
    """Return what was chosen from what, with the score of every candidate."""
    rows = []
    for choice in choices:
        tried = ", ".join(f"{c.value:g}: {c.score:.3f}" for c in choice.candidates)
        edge = f" (the {choice.edge} edge of the list)" if choice.edge else ""
        rows.append((choice.cut, f"{choice.what} = {choice.chosen:g}{edge}", tried))
    return table(("cut", "chosen", "candidates and their validation accuracy"), rows)


def answer(record: RunRecord) -> str:
    """Return the answer in a sentence or two: the best cut, how sure that is, what it costs."""
    from featx.evaluate.reading import ranking, ranking_split

    split = ranking_split(record)
    ranked = ranking(record)
    best = ranked[0]
    cut = record.cut_record(best.cut)
    text = (
        f"Of {len(ranked)} cuts, **{escape(best.cut)}** separates these "
        f"{len(record.dataset.classes)} classes best with a "
        f"{HEAD_NAMES[best.head]}: {_accuracies(best)}. It takes {cut.n_features:,} values and "
        f"{human_count(cut.multiply_adds)} multiply-adds an image."
    )
    if split != "val":
        text += " There is no validation split: the test split ranks the cuts, so it flatters them."
    if len(ranked) > 1:
        text += " " + _runner_up(best, ranked[1], split)
    return text


def _accuracies(result: ResultRecord) -> str:
    parts = [
        f"{SPLIT_NAMES.get(split, split)} accuracy {accuracy_text(metrics)}"
        for split, metrics in result.splits.items()
    ]
    return ", ".join(parts)


def _runner_up(best: ResultRecord, second: ResultRecord, split: str) -> str:
    """Say whether the intervals of the best two overlap; a paired test would be sharper."""
    a, b = best.splits[split], second.splits[split]
    name = SPLIT_NAMES.get(split, split)
    apart = a.accuracy_low > b.accuracy_high
    relation = "do not overlap" if apart else "overlap: the order of the two is not certain"
    return (
        f"Next is **{escape(second.cut)}** with {name} accuracy {accuracy_text(b)}; the "
        f"intervals {relation}."
    )

"""``report.md``: a record in words and tables, through a Jinja2 template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.report.labels import plain
from featx.report.text import (
    HEAD_NAMES,
    SPLIT_NAMES,
    accuracy_text,
    ranked_rows,
)
from featx.text import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from featx.evaluate.metrics import ClassMetrics, SplitMetrics
    from featx.evaluate.records import ChoiceRecord, ResultRecord, RunRecord
    from featx.report.figures import ReportFigure

# What means something in Markdown (GitHub's, with its links and formulas) or HTML; a class name may
# hold any of it. An underscore inside a word means nothing there.
_SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.I)
_LONGEST_TEXT = 2000
_STANDARDIZED = {
    "train": "with the training split's mean and deviation",
    "per-split": "each split with its own mean and deviation",
    "none": "no",
}


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

    from featx.evaluate.reading import ranking_split

    environment = Environment(
        loader=PackageLoader("featx.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown is escaped by the `md` filter, which covers HTML's characters as well.
        autoescape=False,
    )
    environment.filters |= {
        "md": escape,
        "prose": prose,
        "code": code_block,
        "settings": settings_text,
        "count": human_count,
        "bytes": human_bytes,
        "seconds": human_seconds,
        "split": lambda name: SPLIT_NAMES.get(name, name),
        "head": lambda name: HEAD_NAMES.get(name, name),
        "accuracy": accuracy_text,
        "standardized": lambda how: _STANDARDIZED.get(how, how),
    }
    return environment.get_template("report.md.j2").render(
        record=record,
        ranked_on=ranking_split(record),
        answer=answer(record),
        ranked=table(*ranked_rows(record)),
        report=classification_table,
        choices=choice_table(record.choices),
        figures=figures,
        folder=folder,
    )


def escape(text: object) -> str:
    r"""Return text that Markdown and HTML show as it is, on one line.

    Examples
    --------
    >>> print(escape("a|b <i>*x*"), escape("conv4_block6_out"))
    a\|b \<i\>\*x\* conv4_block6_out
    """
    return _SPECIAL.sub(r"\\\g<0>", plain(str(text), _LONGEST_TEXT)).strip()


def prose(text: object) -> str:
    r"""Return text that stays a paragraph even where it begins like a list.

    Examples
    --------
    >>> print(prose("1. first"), prose("- x"))
    1\. first \- x
    """
    return re.sub(r"^(\d{0,9})([-+=.)])", r"\1\\\2", escape(text))


def code_block(text: str) -> str:
    """Return text as an indented block of code, which no line of it can leave."""
    return "\n".join(f"    {line}" for line in re.split(r"\r\n|\r|\n", text))


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return the settings that have a value: ``mean 127, 127, 127; image size 64 px``."""
    parts = []
    for name, value in settings.items():
        if value is None:
            continue
        values = value if isinstance(value, (list, tuple)) else [value]
        unit = " px" if name.endswith("_size") else ""
        shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
        parts.append(f"{name.replace('_', ' ')} {shown}{unit}")
    return "; ".join(parts)


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
        (_class_name(c), _score(c.precision), _score(c.recall), _score(c.f1), c.support)
        for c in metrics.per_class
    ]
    for name, mean in (("macro avg", metrics.macro_avg), ("weighted avg", metrics.weighted_avg)):
        rows.append(
            (name, _score(mean.precision), _score(mean.recall), _score(mean.f1), mean.support)
        )
    return table(("class", "precision", "recall", "F1", "support"), rows)


def _class_name(scores: ClassMetrics) -> str:
    """Return ``5 dog``, or the label alone where the class has no other name."""
    label = str(scores.label)
    return label if scores.name == label else f"{label} {scores.name}"


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
    several_heads = len({result.head for result in ranked}) > 1
    n_cuts = len({result.cut for result in ranked})
    heads = " and 2 heads" if several_heads else ""
    of = f"Of {n_cuts} cut{'s' if n_cuts > 1 else ''}{heads}, " if len(ranked) > 1 else ""
    most = f" best on the {SPLIT_NAMES[split]} split" if of else ""
    text = (
        f"{of}**{escape(best.cut)}** with a {HEAD_NAMES[best.head]} separates these "
        f"{len(record.dataset.classes)} classes{most}: {_accuracies(best)}. It takes "
        f"{cut.n_features:,} values and {human_count(cut.multiply_adds)} multiply-adds an image."
    )
    if split != "val":
        text += (
            " There is no validation split: the test split ranks the cuts, so it flatters the best."
        )
    if len(ranked) > 1:
        text += " " + _runner_up(best, ranked[1], split, several_heads)
    return text


def _accuracies(result: ResultRecord) -> str:
    parts = [
        f"{SPLIT_NAMES.get(split, split)} accuracy {m.accuracy:.3f} (95 % interval "
        f"{m.accuracy_low:.3f} to {m.accuracy_high:.3f}, {m.n:,} images)"
        for split, m in result.splits.items()
    ]
    return ", ".join(parts)


def _runner_up(best: ResultRecord, second: ResultRecord, split: str, several_heads: bool) -> str:
    """Say whether the intervals of the best two overlap; a paired test would be sharper."""
    a, b = best.splits[split], second.splits[split]
    head = f" with a {HEAD_NAMES[second.head]}" if several_heads else ""
    apart = a.accuracy_low > b.accuracy_high
    relation = "do not overlap" if apart else "overlap: the order of the two is not certain"
    return (
        f"Next is **{escape(second.cut)}**{head}, {SPLIT_NAMES[split]} accuracy "
        f"{accuracy_text(b)}; the intervals {relation}."
    )

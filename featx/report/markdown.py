"""``report.md``: a record in words and tables, through a Jinja2 template for its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord
from featx.report.answers import answer_in
from featx.report.comparison_text import comparison_rows, p_text, ranked_approaches
from featx.report.labels import plain
from featx.report.study_text import (
    deciding_split,
    published_of,
    spread_rows,
    study_groups,
    study_remarks,
    study_rows,
    study_splits,
    value_text,
)
from featx.report.templating import environment
from featx.report.text import (
    HEAD_NAMES,
    LONGEST_TEXT,
    SPLIT_NAMES,
    Style,
    accuracy_text,
    ranked_rows,
    rate_label,
)
from featx.report.training_text import (
    MODE_NAMES,
    cost_rows,
    history_rows,
    kept_by_text,
    shown_epochs,
)
from featx.text import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from jinja2 import Environment

    from featx.evaluate.metrics import ClassMetrics, SplitMetrics
    from featx.evaluate.reading import Record
    from featx.evaluate.records import ChoiceRecord
    from featx.evaluate.training_records import ComparisonRecord
    from featx.report.canvas import ReportFigure

# What means something in Markdown (GitHub's, with its links and formulas) or HTML; a class name may
# hold any of it. An underscore inside a word means nothing there.
_SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.I)
_STANDARDIZED = {
    "train": "with the training split's mean and deviation",
    "per-split": "each split with its own mean and deviation",
    "none": "no",
}


def render_markdown(record: Record, figures: Sequence[ReportFigure], folder: str) -> str:
    """Return the report of a record as Markdown.

    Parameters
    ----------
    record : RunRecord, TrainingRecord, StudyRecord or ComparisonRecord
        Everything the report says.
    figures : sequence of ReportFigure
        Drawn from the same record.
    folder : str
        Where the figures are, relative to the report.
    """
    if isinstance(record, RunRecord):
        template, context = "probe.md.j2", _probe_context(record)
    elif isinstance(record, TrainingRecord):
        template, context = "training.md.j2", _training_context(record)
    elif isinstance(record, StudyRecord):
        template, context = "study.md.j2", _study_context(record)
    else:
        template, context = "comparison.md.j2", _comparison_context(record)
    return (
        _environment()
        .get_template(template)
        .render(record=record, answer=answer(record), figures=figures, folder=folder, **context)
    )


def _environment() -> Environment:
    filters: dict[str, Callable[..., Any]] = {
        "md": escape,
        "prose": prose,
        "code": code_block,
        "settings": settings_text,
        "count": human_count,
        "bytes": human_bytes,
        "seconds": human_seconds,
        "rate": rate_label,
        "split": lambda name: SPLIT_NAMES.get(name, name),
        "head": lambda name: HEAD_NAMES.get(name, name),
        "accuracy": accuracy_text,
        "standardized": lambda how: _STANDARDIZED.get(how, how),
    }
    # Markdown is escaped by the `md` filter, which covers HTML's characters as well.
    return environment("featx.report", filters, autoescape=False)


def _probe_context(record: RunRecord) -> dict[str, Any]:
    from featx.evaluate.reading import ranking_split

    return {
        "network": record.backbone,
        "ranked_on": ranking_split(record),
        "ranked": table(*ranked_rows(record)),
        "report": classification_table,
        "choices": choice_table(record.choices),
    }


def _training_context(record: TrainingRecord) -> dict[str, Any]:
    return {
        "network": record.network,
        "network_table": network_table(record),
        "history": table(*history_rows(record)),
        "shown_epochs": len(shown_epochs(record)),
        "kept_by": kept_by_text(record.kept_by),
        "cost": table(("cost", ""), cost_rows(record)),
        "report": classification_table,
        "settings": table(
            ("setting", "value"),
            [(name, value_text(value)) for name, value in record.settings.items()],
        ),
    }


def _study_context(record: StudyRecord) -> dict[str, Any]:
    groups = study_groups(record)
    spreads = {}
    if record.repeats > 1:
        splits = study_splits(record)
        spreads = {split: table(*spread_rows(record, split)) for split in splits}
    return {
        "network": None,
        "runs": table(*study_rows(record)),
        "remarks": study_remarks(record, MARKDOWN),
        "decided_on": deciding_split(record),
        "has_published": any(published_of(record, g, m) for g in groups for m in ("top1", "top5")),
        "spreads": spreads,
        "folders": {row.run: row.folder for row in record.rows},
    }


def _comparison_context(record: ComparisonRecord) -> dict[str, Any]:
    rows = [
        (a.name, a.against_best.only_best, a.against_best.only_this, p_text(a.against_best.p))
        for a in ranked_approaches(record)
        if a.against_best
    ]
    header = ("approach", "only the best is right", "only this is right", "p before correction")
    return {
        "network": None,
        "approaches": table(*comparison_rows(record)),
        "has_pairs": bool(rows),
        "n_pairs": len(rows),
        "pairs": table(header, rows),
    }


def answer(record: Record) -> str:
    """Return the answer of a record of any kind in Markdown."""
    return answer_in(record, MARKDOWN)


def escape(text: object) -> str:
    r"""Return text that Markdown and HTML show as it is, on one line.

    Examples
    --------
    >>> print(escape("a|b <i>*x*"), escape("conv4_block6_out"))
    a\|b \<i\>\*x\* conv4_block6_out
    """
    return _SPECIAL.sub(r"\\\g<0>", plain(str(text), LONGEST_TEXT)).strip()


MARKDOWN = Style(name=lambda text: f"**{escape(text)}**", said=escape)


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


def network_table(record: TrainingRecord) -> str:
    """Return the network that was trained, with what was trained of it."""
    network = record.network
    rows = [
        ("mode", MODE_NAMES[record.mode]),
        ("library", network.library),
        ("image size", " x ".join(str(side) for side in network.image_size)),
        ("parameters", f"{network.n_parameters:,}"),
        ("of these trained", f"{network.n_trained:,}"),
        ("multiply-adds per image", f"{network.multiply_adds:,}"),
    ]
    if network.frozen_up_to is not None:
        cached = "its features came from the cache" if record.features == "cached" else "computed"
        rows.append(("frozen up to", f"{network.frozen_up_to} ({cached})"))
    if record.model_file is not None:
        size = "" if record.model_bytes is None else f", {human_bytes(record.model_bytes)}"
        rows.append(("model file", f"{record.model_file}{size}"))
    return table(("network", network.name), rows)


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
        on = "validation" if choice.on == "val" else choice.on
        rows.append((choice.cut, f"{choice.what} = {choice.chosen:g}{edge}", on, tried))
    return table(("cut", "chosen", "on", "candidates and their accuracy there"), rows)

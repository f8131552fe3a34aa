"""The answer of a record in a few sentences, for a terminal or for Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord
from featx.report.comparison_text import comparison_answer
from featx.report.study_text import study_answer
from featx.report.text import TERMINAL, Style, probe_answer
from featx.report.training_text import state_text, training_answer

if TYPE_CHECKING:
    from featx.evaluate.reading import Record


def answer_in(record: Record, style: Style) -> str:
    """Return the answer of a record of any kind, with names and messages as a style shows them."""
    if isinstance(record, RunRecord):
        return probe_answer(record, style)
    if isinstance(record, TrainingRecord):
        return f"{state_text(record, style)} {training_answer(record, style)}".lstrip()
    if isinstance(record, StudyRecord):
        return study_answer(record, style)
    return comparison_answer(record, style)


def answer_text(record: Record) -> str:
    """Return the answer of a record of any kind as plain text."""
    return answer_in(record, TERMINAL)

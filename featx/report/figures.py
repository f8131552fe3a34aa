"""The figures of a report, drawn with matplotlib from a record of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import StudyRecord, TrainingRecord
from featx.report.comparison_figures import comparison_figures
from featx.report.probe_figures import probe_figures
from featx.report.study_figures import study_figures
from featx.report.training_figures import training_figures

if TYPE_CHECKING:
    from featx.evaluate.reading import Record
    from featx.report.canvas import ReportFigure


def draw_figures(record: Record) -> list[ReportFigure]:
    """Return every figure of a record's report, in the order of the report."""
    import matplotlib.style

    # The reader's own matplotlib settings must not change a report.
    with matplotlib.style.context("default"):
        if isinstance(record, RunRecord):
            return probe_figures(record)
        if isinstance(record, TrainingRecord):
            return training_figures(record)
        if isinstance(record, StudyRecord):
            return study_figures(record)
        return comparison_figures(record)

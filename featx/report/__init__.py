"""Records in, files out: ``results.json``, ``results.csv``, ``report.md``, a page and figures.

Nothing here reads models, features or images. Names are imported when they are first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.report.answers import answer_text
    from featx.report.comparison_text import comparison_rows
    from featx.report.difference_tables import best_rows
    from featx.report.differences import cautions, difference_answer, setting_rows
    from featx.report.rate_figures import rate_range_png
    from featx.report.study_text import study_remarks, study_rows
    from featx.report.text import TERMINAL, ranked_rows
    from featx.report.training_text import history_rows, training_rows
    from featx.report.writing import (
        page_folder,
        read_compared,
        rebuild_report,
        write_differences,
        write_merged,
        write_record,
        write_report,
    )

_HOME = {
    "TERMINAL": "featx.report.text",
    "answer_text": "featx.report.answers",
    "best_rows": "featx.report.difference_tables",
    "cautions": "featx.report.differences",
    "comparison_rows": "featx.report.comparison_text",
    "difference_answer": "featx.report.differences",
    "history_rows": "featx.report.training_text",
    "page_folder": "featx.report.writing",
    "ranked_rows": "featx.report.text",
    "rate_range_png": "featx.report.rate_figures",
    "read_compared": "featx.report.writing",
    "rebuild_report": "featx.report.writing",
    "setting_rows": "featx.report.differences",
    "study_remarks": "featx.report.study_text",
    "study_rows": "featx.report.study_text",
    "training_rows": "featx.report.training_text",
    "write_differences": "featx.report.writing",
    "write_merged": "featx.report.writing",
    "write_record": "featx.report.writing",
    "write_report": "featx.report.writing",
}

__all__ = [
    "TERMINAL",
    "answer_text",
    "best_rows",
    "cautions",
    "comparison_rows",
    "difference_answer",
    "history_rows",
    "page_folder",
    "ranked_rows",
    "rate_range_png",
    "read_compared",
    "rebuild_report",
    "setting_rows",
    "study_remarks",
    "study_rows",
    "training_rows",
    "write_differences",
    "write_merged",
    "write_record",
    "write_report",
]


__getattr__ = lazy_names(__name__, _HOME)

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
    from featx.report.rate_figures import rate_range_png
    from featx.report.study_text import study_remarks, study_rows
    from featx.report.text import ranked_rows
    from featx.report.training_text import history_rows, training_rows
    from featx.report.writing import rebuild_report, write_merged, write_record, write_report

_HOME = {
    "answer_text": "featx.report.answers",
    "comparison_rows": "featx.report.comparison_text",
    "history_rows": "featx.report.training_text",
    "ranked_rows": "featx.report.text",
    "rate_range_png": "featx.report.rate_figures",
    "rebuild_report": "featx.report.writing",
    "study_remarks": "featx.report.study_text",
    "study_rows": "featx.report.study_text",
    "training_rows": "featx.report.training_text",
    "write_merged": "featx.report.writing",
    "write_record": "featx.report.writing",
    "write_report": "featx.report.writing",
}

__all__ = [
    "answer_text",
    "comparison_rows",
    "history_rows",
    "ranked_rows",
    "rate_range_png",
    "rebuild_report",
    "study_remarks",
    "study_rows",
    "training_rows",
    "write_merged",
    "write_record",
    "write_report",
]


__getattr__ = lazy_names(__name__, _HOME)

"""Records in, files out: ``results.json``, ``results.csv``, ``report.md`` and figures.

Nothing here reads models, features or images. Names are imported when they are first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featx.lazy import lazy_names

if TYPE_CHECKING:
    from featx.report.text import ranked_rows
    from featx.report.writing import rebuild_report, write_report

_HOME = {
    "ranked_rows": "featx.report.text",
    "rebuild_report": "featx.report.writing",
    "write_report": "featx.report.writing",
}

__all__ = [
    "ranked_rows",
    "rebuild_report",
    "write_report",
]


__getattr__ = lazy_names(__name__, _HOME)

"""``index.html``: a record and its exhibits as one page that needs nothing else.

Style, script, figures and images are inside the file; its security policy forbids any request.
"""

from __future__ import annotations

from featx.report.page.building import Source, render_merged, render_page
from featx.report.page.differences import render_differences

__all__ = ["Source", "render_differences", "render_merged", "render_page"]

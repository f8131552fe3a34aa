"""Reports without figures: drawing takes longer than these runs, and has tests of its own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _without_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr("featx.report.writing.draw_figures", lambda record: [])

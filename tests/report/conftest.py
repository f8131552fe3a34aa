"""What the tests of reports share."""

from __future__ import annotations

import pytest


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are named and described but not rendered, which takes most of a report's time."""
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda self, data, **how: data.write(b"\x89PNG\r\n\x1a\n"),
    )

"""docs/reliability.md says of what its figures are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import featx
from featx.cache import SCHEMA_VERSION

PAGE = Path(featx.__file__).parents[1] / "docs" / "reliability.md"


def test_the_figures_are_those_of_this_format_of_the_cache() -> None:
    text = PAGE.read_text()
    figures = text[text.index("<!-- figures -->") : text.index("<!-- end of figures -->")]
    noted = re.search(r"^featx .*cache format ([0-9]+)", figures, re.MULTILINE)
    if noted is None:
        pytest.skip("the last campaign is older than this note: python benchmarks/reliability.py")
    assert int(noted[1]) == SCHEMA_VERSION

"""A headless Chromium for the tests of the report's page, one for all of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
for folder in (REPO / "tests" / "report", REPO / "benchmarks"):
    sys.path.insert(0, str(folder))


def _missing() -> str | None:
    """Return what these tests need and do not find, or None."""
    for package in ("selenium", "axe_core_python"):
        if importlib.util.find_spec(package) is None:
            return f"no {package}: install featx[browser]"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"no {program}: install Chromium and its driver"
    return None


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    reason = _missing()
    if reason and os.environ.get("FEATX_TEST_BROWSER") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    from page_screenshots import chromium

    with chromium() as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        yield driver

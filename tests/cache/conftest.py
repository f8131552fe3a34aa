"""Fixtures of the cache's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from featx.cache import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache")

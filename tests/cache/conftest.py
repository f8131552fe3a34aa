"""Fixtures of the cache's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from featx.cache import FeatureStore


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing only matters when the power fails, and takes most of the time of small writes."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache")

"""A small network with random weights, and small random images."""

from __future__ import annotations

import numpy as np
import pytest

from featx.backbones import Backbone, load_backbone
from featx.cache import FeatureStore
from featx.data import ArrayImages, Split


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return load_backbone("resnet18", "none", seed=3)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (22, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def split(images: np.ndarray) -> Split:
    return Split("train", ArrayImages(images), np.arange(22, dtype=np.int64) % 3)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache")

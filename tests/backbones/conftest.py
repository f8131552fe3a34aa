"""Networks with random weights, built once."""

from __future__ import annotations

import pytest
import torch

from featx.backbones import Backbone, load_backbone


@pytest.fixture(scope="session")
def resnet18() -> Backbone:
    return load_backbone("resnet18", "none")


@pytest.fixture(scope="session")
def resnet50() -> Backbone:
    return load_backbone("resnet50", "none")


@pytest.fixture(scope="session")
def vgg16() -> Backbone:
    return load_backbone("vgg16", "none")


@pytest.fixture(scope="session")
def vit() -> Backbone:
    return load_backbone("timm/vit_tiny_patch16_224", "none")


@pytest.fixture
def images() -> torch.Tensor:
    """Three images of 64 x 64 px, as they would come out of the preprocessing."""
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))

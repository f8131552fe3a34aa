"""Networks with random weights, a few images, and heads with random weights on their features."""

from __future__ import annotations

import functools

import numpy as np
import torch

from featx.backbones import Backbone, Capture, load_backbone
from featx.data import ArrayImages
from featx.extraction import Settings, make_settings
from featx.heads import LinearHead
from featx.scaling import Scaler

SIDE = 64


@functools.cache
def network(name: str) -> Backbone:
    """Return a network with random weights; built once, so leave it as it is."""
    return load_backbone(name, "none")


def noise(n: int = 2) -> ArrayImages:
    """Return images of noise, 64 x 64 px."""
    rng = np.random.default_rng(3)
    return ArrayImages(rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8))


def settings_for(backbone: Backbone, pool: str = "avg") -> Settings:
    # timm's transformers take their own size only.
    side = SIDE if backbone.library == "torchvision" else "auto"
    return make_settings(backbone, (SIDE, SIDE), image_size=side, pool=pool, device="cpu")


def network_input(backbone: Backbone, images: ArrayImages) -> torch.Tensor:
    preprocess = settings_for(backbone).preprocess
    return preprocess.to_input(torch.from_numpy(images.array), "cpu", False)


def head_on(
    backbone: Backbone, cut: str, pool: str = "avg", *, scaled: bool = True
) -> tuple[LinearHead, np.ndarray]:
    """Return a random head for a cut, and the features that it takes of the images of noise."""
    with Capture(backbone, [cut], pool) as capture:
        X = capture(network_input(backbone, noise()))[cut].numpy()
    rng = np.random.default_rng(5)
    d = X.shape[1]
    scaler = Scaler(rng.normal(size=d), rng.uniform(0.5, 2.0, size=d), 10)
    head = LinearHead(
        "svm", rng.normal(size=(3, d)), rng.normal(size=3), np.array([4, 7, 9]),
        ("cat", "dog", "frog"), scaler if scaled else None,
    )  # fmt: skip
    return head, X

"""A real GPU beside the processor: ``FEATX_TEST_GPU=1 python -m pytest tests/gpu``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import featx
from featx.extraction import make_settings
from featx.heads import LinearSVM, LogisticRegression

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")

CUTS = {"resnet18": ["layer1", "layer3", "avgpool"], "vgg16": ["block3_pool", "block5_pool"]}
# Norm of the difference to the norm: the digits that a precision keeps, lost along the layers.
APART = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 1e-2}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (200, 64, 64, 3), dtype=np.uint8)


def features(network: str, images: np.ndarray, device: str, **how: Any) -> dict[str, np.ndarray]:
    backbone = featx.load_backbone(network, "none", seed=0)
    return featx.extract(
        backbone, CUTS[network], images, image_size=64, pool="avg", device=device, **how
    )


@pytest.fixture(scope="module", params=list(CUTS))
def on_the_processor(request, images) -> tuple[str, dict[str, np.ndarray]]:
    return request.param, features(request.param, images, "cpu")


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("precision", list(APART))
@pytest.mark.parametrize("batch_size", [7, 64])
def test_features_are_the_processors(
    on_the_processor, images, precision: str, compile: bool, batch_size: int
) -> None:
    network, wanted = on_the_processor
    how = {"precision": precision, "compile": compile, "batch_size": batch_size}
    found = features(network, images, "cuda", **how)
    again = features(network, images, "cuda", **how)
    for cut, values in wanted.items():
        # Row by row: a batch in the place of another would be far off.
        apart = np.linalg.norm(found[cut] - values, axis=1) / np.linalg.norm(values, axis=1)
        assert apart.max() < APART[precision]
        np.testing.assert_array_equal(again[cut], found[cut])


@pytest.mark.parametrize("size", [(32, 32), (40, 70)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_the_processors(size: tuple[int, int], interpolation: str) -> None:
    backbone = featx.load_backbone("resnet18", "none")
    settings = make_settings(backbone, size, image_size=56, interpolation=interpolation)
    batch = torch.from_numpy(
        np.random.default_rng(2).integers(0, 256, (40, *size, 3), dtype=np.uint8)
    )
    preprocess = settings.preprocess
    found = [
        preprocess.to_input(batch, name, already_sized=False).cpu() for name in ("cpu", "cuda")
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("head", [LinearSVM, LogisticRegression])
def test_heads_are_the_processors(head: type) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 300)).astype(np.float32)
    y = (X[:, :5] + 0.8 * rng.standard_normal((2000, 5))).argmax(axis=1)
    coefs = [head(C=1.0, device=name).fit(X, y).coef_ for name in ("cpu", "cuda")]
    np.testing.assert_allclose(coefs[1], coefs[0], atol=1e-4 * np.abs(coefs[0]).max())

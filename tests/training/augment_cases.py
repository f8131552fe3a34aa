"""Images and devices of the augmentation's tests."""

from __future__ import annotations

import torch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def noise(
    n: int, height: int = 20, width: int = 26, *, low: int = 0, high: int = 256
) -> torch.Tensor:
    """Return random images, (n, 3, height, width) uint8, channels-last strided."""
    generator = torch.Generator().manual_seed(n + height + width)
    shape = (n, height, width, 3)
    images = torch.randint(low, high, shape, dtype=torch.uint8, generator=generator)
    return images.permute(0, 3, 1, 2)


def levels_apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two batches in grey levels."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max())

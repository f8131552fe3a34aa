"""What all sides are given: the same random images and the same random weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def images(n: int, size: int) -> np.ndarray:
    """Return random images (n, size, size, 3), uint8."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def backbone(network: str) -> Any:
    """Return a featx backbone with random weights, the same every time."""
    from featx import load_backbone

    return load_backbone(network, "none", seed=0)


def featx_memory() -> None:
    """Set memory as extraction does, where a side is made of featx' parts alone."""
    from featx.machine import keep_freed_memory, prefer_huge_pages

    prefer_huge_pages()
    keep_freed_memory()


def inputs(network: Any, n: int, size: int, batch_size: int) -> list[Any]:
    """Return the images as the network takes them: float32 batches, normalized."""
    import torch

    from featx.extraction import make_settings

    settings = make_settings(network, (size, size), image_size=size, device="cpu")
    found = images(n, size)
    return [
        settings.preprocess.to_input(
            torch.from_numpy(found[start : start + batch_size]), "cpu", already_sized=False
        )
        for start in range(0, n, batch_size)
    ]


def dataset(path: Path, n: int, size: int) -> Path:
    """Write n random images with labels as an npz file featx reads; keep one that is there."""
    if not path.is_file():
        y = np.arange(n) % 10
        found = images(n, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, train_x=found, train_y=y, test_x=found[:20], test_y=y[:20])
    return path


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def sample(features: Any) -> list[float]:
    """Return 64 values of an array of features, spread over it: to see that sides agree."""
    values = np.asarray(features).reshape(-1)
    return [float(value) for value in values[:: max(1, len(values) // 64)][:64]]

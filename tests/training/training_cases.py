"""Small problems that a network learns in a second, and what the loop needs for them."""

from __future__ import annotations

import numpy as np
import torch

from featx.backbones.trainable import Trainable, load_trainable
from featx.data import TORCH
from featx.training import ImageInputs, Inputs, Learner, TrainSettings, make_learner

SIZE = (16, 16)


def images(n: int, n_classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy images whose class is told by a bright row, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    x = rng.integers(0, 120, (n, *SIZE, 3), dtype=np.uint8)
    for row, label in enumerate(y):
        x[row, 4 * label : 4 * label + 3] += 120
    return torch.from_numpy(x), torch.from_numpy(y)


def inputs(n: int = 96, n_classes: int = 3, **sizes: int) -> dict[str, Inputs]:
    """Return training images, and as many of other splits as are asked for."""
    made: dict[str, Inputs] = {}
    for seed, (split, size) in enumerate({"train": n, **sizes}.items()):
        x, y = images(size, n_classes, seed)
        made[split] = ImageInputs(x, y, TORCH)
    return made


def network(name: str = "conv2", n_classes: int = 3, seed: int = 0) -> Trainable:
    """Return a network with random weights for these images."""
    return load_trainable(name, "none", n_classes=n_classes, image_size=SIZE, seed=seed)


def learner(name: str = "conv2", mode: str = "scratch", **kwargs: object) -> Learner:
    return make_learner(network(name), mode, **kwargs)  # type: ignore[arg-type]


def settings(**values: object) -> TrainSettings:
    base = {"epochs": 3, "batch_size": 32, "lr": 1e-3, "schedule": "constant"}
    return TrainSettings(**{**base, **values})  # type: ignore[arg-type]

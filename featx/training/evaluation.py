"""Loss, top-1 and top-5 of a network on a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featx.machine import plain_fp32

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featx.training.inputs import Inputs

# Enough to fill a processor, little enough for a map of 224 px.
_BATCH = {"cpu": 128, "cuda": 512, "mps": 128}
_TOP = 5


@dataclass(frozen=True)
class Score:
    """Mean loss, top-1 and top-5 accuracy; `top5` is None with five classes or fewer."""

    loss: float
    top1: float
    top5: float | None


def scores_of(module: nn.Module, inputs: Inputs, precision: str) -> torch.Tensor:
    """Return the outputs of a network for every row.

    Parameters
    ----------
    module : nn.Module
        Switched to eval mode, and left in it.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the forward pass.

    Returns
    -------
    Tensor of shape (n, n_classes), float32, on the CPU
    """
    import torch

    module.eval()
    device = inputs.targets.device
    size = _BATCH.get(device.type, _BATCH["cpu"])
    found = []
    with torch.inference_mode(), plain_fp32(), autocast(device, precision):
        for start in range(0, len(inputs), size):
            found.append(module(inputs.batch(slice(start, start + size))).float().cpu())
    return torch.cat(found)


def score(outputs: torch.Tensor, targets: torch.Tensor) -> Score:
    """Return loss (plain cross-entropy, without smoothing) and accuracies of outputs."""
    import torch

    targets = targets.cpu()
    loss = torch.nn.functional.cross_entropy(outputs.double(), targets)
    top1, top5 = hits(outputs, targets)
    n = len(targets)
    return Score(float(loss), top1 / n, None if top5 is None else top5 / n)


def hits(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float | None]:
    """Return how many rows have their target on top, and among the first five."""
    n_classes = outputs.shape[1]
    top1 = float((outputs.argmax(dim=1) == targets).sum())
    if n_classes <= _TOP:
        return top1, None
    best = outputs.topk(_TOP, dim=1).indices
    return top1, float((best == targets[:, None]).any(dim=1).sum())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a forward pass has the precision that was asked for."""
    import torch

    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def predicted_labels(outputs: torch.Tensor, labels: list[int]) -> np.ndarray:
    """Return the label with the largest output for every row, (n,) int64."""
    chosen: np.ndarray = np.asarray(labels, dtype=np.int64)[outputs.argmax(dim=1).numpy()]
    return chosen

"""Cuts of resnet18 by mixed names, their batches, and a network that runs out of memory."""

from __future__ import annotations

import torch

from featx.backbones import Capture
from featx.extraction import cut_points
from featx.extraction.forward import forward_batches

CUTS = ["layer1", "conv4_block2_out", "avgpool"]
# resnet18's conv4_block2_out is layer3.1.
MODULES = ["layer1", "layer3.1", "avgpool"]


def batches_at(backbone, cuts, images, settings, batch_size, **rest):
    """Return the batches of a pass that is cut at places with these names."""
    points = cut_points(backbone, cuts, settings)
    return forward_batches(backbone, points, images, settings, batch_size, **rest)


def limit_batches(monkeypatch, largest: int) -> list[int]:
    """Let the network run out of memory above a batch size; return the sizes it saw."""
    seen: list[int] = []
    run = Capture.__call__

    def call(self, x):
        seen.append(len(x))
        if len(x) > largest:
            raise torch.OutOfMemoryError("no memory")
        return run(self, x)

    monkeypatch.setattr(Capture, "__call__", call)
    return seen

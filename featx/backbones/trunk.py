"""A working copy of a network, arranged for speed; the network itself stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from featx.backbones.convolutions import prepare_convolutions
from featx.backbones.folding import Folds, fold
from featx.backbones.numerics import Numerics

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Trunk:
    """What runs in place of a backbone's model.

    Attributes
    ----------
    model : nn.Module
        Has the same modules by the same names.
    unfolded : dict of str to nn.Module
        By name of a convolution that a BatchNorm was folded into: the convolution without it.
    same : dict of str to str
        `Folds.same`.
    """

    model: nn.Module
    unfolded: dict[str, nn.Module] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)


def make_trunk(
    model: nn.Module, folds: Folds, numerics: Numerics, in_use: Collection[str]
) -> Trunk:
    """Return a copy of a network for these numerics; it shares every tensor that stays the same.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on its device. Nothing of it is changed.
    folds : Folds
        `featx.backbones.folding.find_folds` of the network.
    numerics : Numerics
        How to compute.
    in_use : collection of str
        Parameters that the deepest cut needs; the others are not worth a copy.
    """
    working = _sharing_copy(model)
    unfolded = {}
    if numerics.fold:
        norms = {conv: norm for conv, norm in folds.norms.items() if f"{conv}.weight" in in_use}
        unfolded = {conv: _sharing_copy(model.get_submodule(conv)) for conv in norms}
        for conv in unfolded.values():
            prepare_convolutions(conv, (), numerics)
        fold(working, norms)
    if numerics.precision != "fp32":
        _round_weights(working, numerics.precision, in_use)
    prepare_convolutions(working, in_use, numerics)
    same = {name: conv for name, conv in folds.same.items() if conv in unfolded}
    return Trunk(working, unfolded, same)


def _sharing_copy(module: nn.Module) -> nn.Module:
    """Return a copy of modules with the very tensors of the original."""
    tensors = chain(module.parameters(), module.buffers())
    copied: nn.Module = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    return copied


def _round_weights(model: nn.Module, precision: str, in_use: Collection[str]) -> None:
    """Round once what autocast would round in every pass: weights of plain layers.

    The features stay those of autocast, bit for bit. Subclasses are left to autocast: they may
    compute with their weights before they use them.
    """
    import torch
    from torch import nn

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    for name, module in model.named_modules():
        if type(module) in (nn.Conv2d, nn.Linear) and f"{name}.weight" in in_use:
            for tensor in ("weight", "bias"):
                held = getattr(module, tensor)
                if held is not None:
                    rounded = nn.Parameter(held.detach().to(dtype), requires_grad=False)
                    setattr(module, tensor, rounded)

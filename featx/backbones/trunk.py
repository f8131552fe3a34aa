"""A working copy of a network, arranged for speed; the network itself stays as it is."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from featx.backbones.convolutions import prepare_convolutions
from featx.backbones.deferred import Fusion, clipped, with_values
from featx.backbones.folding import Folds, fold, leave_out
from featx.backbones.fusing import find_fusions
from featx.backbones.numerics import Numerics

if TYPE_CHECKING:
    import torch
    from torch import nn


_PLAIN = frozenset((bool, int, float, str, type(None)))


@dataclass(frozen=True)
class Trunk:
    """What runs in place of a backbone's model.

    Attributes
    ----------
    model : nn.Module
        Has the same modules by the same names.
    unfolded : dict of str to nn.Module
        By name of a convolution that a BatchNorm was folded into, and that will be looked at: the
        convolution without it.
    same : dict of str to str
        `Folds.same`, of those that were folded.
    may_fuse : bool
        Whether `set_fusions` may have convolutions do what comes next.
    """

    model: nn.Module
    unfolded: dict[str, nn.Module] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    may_fuse: bool = False


def make_trunk(
    model: nn.Module,
    numerics: Numerics,
    in_use: Collection[str],
    *,
    folds: Folds,
    may_fuse: bool,
    modules: Collection[str],
) -> Trunk:
    """Return a copy of a network for these numerics; it shares every tensor that stays the same.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on its device. Nothing of it is changed.
    numerics : Numerics
        How to compute.
    in_use : collection of str
        Parameters that the deepest cut needs; the others are not worth a copy.
    folds : Folds
        `featx.backbones.folding.find_folds` of the network.
    may_fuse : bool
        Whether convolutions may do what comes next, once `set_fusions` has said what.
    modules : collection of str
        What will be looked at.
    """
    working = _sharing_copy(model)
    unfolded, same = {}, {}
    if numerics.fold:
        norms = {conv: norm for conv, norm in folds.norms.items() if f"{conv}.weight" in in_use}
        same = {name: conv for name, conv in folds.same.items() if conv in norms}
        for conv in {same[name] for name in modules if name in same}:
            unfolded[conv] = _sharing_copy(model.get_submodule(conv))
            prepare_convolutions(unfolded[conv], (), numerics)
        fold(working, norms)
    if numerics.precision != "fp32":
        _round_weights(working, numerics.precision, in_use)
    prepare_convolutions(working, in_use, numerics, may_fuse=may_fuse)
    if may_fuse:
        _hand_on_values(working)
    return Trunk(working, unfolded, same, may_fuse)


def find_trunk_fusions(
    model: nn.Module, folds: Folds, image_size: tuple[int, int]
) -> dict[str, Fusion]:
    """Return what can become part of the convolutions of a network's working copy.

    Parameters
    ----------
    model : nn.Module
        In eval mode. Nothing of it is changed.
    folds : Folds
        Of the network, or none where BatchNorms stay.
    image_size : tuple of int
        Height and width that the network can take.
    """
    import torch

    working = _sharing_copy(model)
    leave_out(working, folds.norms.values())
    # In inference mode operators come whole, and in autocast with conversions between them.
    with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
        return find_fusions(working, image_size)


def _hand_on_values(model: nn.Module) -> None:
    """Have ReLUs hand on a tensor with values where one that waited was clipped in place."""
    from torch import nn

    for module in model.modules():
        if type(module) in (nn.ReLU, nn.ReLU6):
            module.__class__ = _handing_on()[type(module)]


@functools.cache
def _handing_on() -> dict[type[nn.Module], type[nn.Module]]:
    """Return the class that stands in for each kind of ReLU."""
    from torch import nn

    class ReLU(nn.ReLU):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            found = clipped(input, math.inf, in_place=self.inplace)
            return with_values(super().forward(input)) if found is None else found

    class ReLU6(nn.ReLU6):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            found = None
            if self.min_val == 0:
                found = clipped(input, self.max_val, in_place=self.inplace)
            return with_values(super().forward(input)) if found is None else found

    return {nn.ReLU: ReLU, nn.ReLU6: ReLU6}


def _sharing_copy(module: nn.Module) -> nn.Module:
    """Return a copy of modules with the very tensors of the original."""
    known: dict[int, Any] = {id(t): t for t in chain(module.parameters(), module.buffers())}
    for layer in module.modules():
        if all(_is_plain(name, value) for name, value in vars(layer).items()):
            known[id(layer)] = _copy_of_layer(layer)
    copied: nn.Module = copy.deepcopy(module, known)
    return copied


def _is_plain(name: str, value: Any) -> bool:
    """Return whether an attribute of a layer holds tensors by name, nothing, or plain values."""
    if name in ("_parameters", "_buffers"):
        return True
    if isinstance(value, (dict, set)):
        return not value
    if isinstance(value, (tuple, list)):
        return _PLAIN.issuperset(map(type, value))
    return type(value) in _PLAIN


def _copy_of_layer(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer with plain attributes, which shares its tensors.

    `copy.deepcopy` takes ten times as long for the empty dictionaries of hooks that each has.
    """
    copied: nn.Module = layer.__new__(type(layer))
    for name, value in vars(layer).items():
        is_collection = isinstance(value, (dict, set, list))
        copied.__dict__[name] = value.copy() if is_collection else value
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

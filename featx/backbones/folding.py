"""BatchNorm folded into the convolution before it.

In eval mode a BatchNorm multiplies and shifts each channel by constants, which a convolution can do
itself. Which BatchNorm stands behind which convolution is found by one pass that only looks: many
networks cannot be traced, and the order of their modules says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from featx.backbones.operators import watching_operators
from featx.backbones.probe import BATCH, on_meta

if TYPE_CHECKING:
    import torch
    from torch import nn


# Classes by their full name: timm is not imported for a network of torchvision. Subclasses are left
# alone, because they may do anything with their weights (standardize them, for one).
CONVOLUTIONS = frozenset(
    ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame"),
)
NORMS = frozenset(
    ("torch.nn.modules.batchnorm.BatchNorm2d", "timm.layers.norm_act.BatchNormAct2d"),
)


@dataclass
class Folds:
    """Which BatchNorms of a network can be folded.

    Attributes
    ----------
    norms : dict of str to str
        Name of the BatchNorm by name of the convolution whose output it alone takes.
    same : dict of str to str
        By name of a module that puts out a convolution's very output (the convolution itself,
        what stands around it, a dropout behind it): that convolution.
    """

    norms: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)


def find_folds(model: nn.Module, image_size: tuple[int, int]) -> Folds:
    """Return what can be folded, found by one pass on the meta device where that works.

    A pair is a convolution and a BatchNorm with running statistics. Each runs once and has no
    hooks; the BatchNorm takes the very tensor that the convolution put out, which nothing else
    takes; and no operator outside of the two takes their weights.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    image_size : tuple of int
        Height and width that the network can take.
    """
    if not _foldable(model):
        return Folds()
    try:
        dry, _ = on_meta(model)
        return _watch(model, dry, image_size, "meta")
    except Exception:
        # Not every network runs there, and it may raise anything; the real pass tells.
        device = next(model.parameters()).device
        return _watch(model, model, image_size, device)


def _watch(
    model: nn.Module,
    forward: Callable[[torch.Tensor], object],
    image_size: tuple[int, int],
    device: torch.device | str,
) -> Folds:
    """Run `forward` and note who takes what a convolution puts out."""
    import torch
    from torch.utils._pytree import tree_leaves

    name_of = {id(module): name for name, module in model.named_modules()}
    convolutions, foldable = _named(model, CONVOLUTIONS), _foldable(model)
    runs: Counter[str] = Counter()
    running: list[str] = []
    # By id of a tensor; an id is one tensor's for as long as it lives.
    weight_of: dict[int, str] = {}
    output_of: dict[int, str] = {}
    alive: list[torch.Tensor] = []
    norms: dict[str, str] = {}
    same: dict[str, str] = {}
    refused: set[str] = set()

    def refuse_others(arguments: list[Any]) -> None:
        # A module whose weights or output an operator takes somewhere else.
        here = running[-1] if running else ""
        for leaf in arguments:
            if weight_of.get(id(leaf), here) != here:
                refused.add(weight_of[id(leaf)])
            conv = output_of.get(id(leaf))
            if conv is not None and norms.get(conv) != here:
                refused.add(conv)

    def before(module: nn.Module, args: Any) -> None:
        name = name_of[id(module)]
        running.append(name)
        runs[name] += 1
        if name not in convolutions | foldable:
            return
        for tensor in chain(module.parameters(recurse=False), module.buffers(recurse=False)):
            weight_of[id(tensor)] = name
            alive.append(tensor)
        conv = output_of.get(id(args[0])) if args else None
        if conv is not None and name in foldable:
            norms.setdefault(conv, name)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        name = running.pop()
        if name in convolutions:
            output_of[id(output)] = name
            alive.append(output)
        if id(output) in output_of:
            same[name] = output_of[id(output)]

    handles = []
    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after))
        with torch.no_grad(), watching_operators(before=refuse_others):
            result = forward(torch.zeros(BATCH, 3, *image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    refused |= {output_of[id(leaf)] for leaf in tree_leaves(result) if id(leaf) in output_of}
    pairs = {
        conv: norm
        for conv, norm in norms.items()
        if not {conv, norm} & refused and runs[conv] == runs[norm] == 1
    }
    return Folds(pairs, {name: conv for name, conv in same.items() if conv in pairs})


def fold(model: nn.Module, norms: dict[str, str]) -> None:
    """Fold BatchNorms into convolutions, in place.

    The products are computed in float64 and rounded once.

    Parameters
    ----------
    model : nn.Module
        A working copy; its tensors are replaced, never written to.
    norms : dict of str to str
        `Folds.norms` of the network.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    for conv_name, norm_name in norms.items():
        conv = cast("nn.Conv2d", model.get_submodule(conv_name))
        norm = cast("nn.BatchNorm2d", model.get_submodule(norm_name))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            _wide(conv.weight),
            None if conv.bias is None else _wide(conv.bias),
            _wide(norm.running_mean),
            _wide(norm.running_var),
            norm.eps,
            None if norm.weight is None else _wide(norm.weight),
            None if norm.bias is None else _wide(norm.bias),
        )
        like = conv.weight
        conv.weight = nn.Parameter(weight.detach().to(like), requires_grad=False)
        conv.bias = nn.Parameter(bias.detach().to(like), requires_grad=False)
    leave_out(model, norms.values())


def leave_out(model: nn.Module, norms: Iterable[str]) -> None:
    """Make BatchNorms pass on what they take, in place.

    Parameters
    ----------
    model : nn.Module
        A working copy.
    norms : iterable of str
        Their names.
    """
    from torch import nn

    class Folded(nn.Module):
        """What is left of a BatchNorm."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class FoldedAct(nn.Module):
        """What is left of timm's BatchNorm with an activation."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.drop(x))  # type: ignore[operator]

    for name in norms:
        norm = model.get_submodule(name)
        # The object stays: whoever holds it sees the change.
        norm.__class__ = Folded if type(norm) is nn.BatchNorm2d else FoldedAct


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    # On the CPU, because Apple's GPUs have no float64.
    return tensor.detach().cpu().double()


def _named(model: nn.Module, kinds: frozenset[str]) -> frozenset[str]:
    """Return the names of the modules of certain classes, by their full name, without hooks."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if f"{type(module).__module__}.{type(module).__qualname__}" in kinds
        and not (module._forward_hooks or module._forward_pre_hooks)
    )


def _foldable(model: nn.Module) -> frozenset[str]:
    """Return the names of the BatchNorms that multiply and shift by constants."""
    found = {name: model.get_submodule(name) for name in _named(model, NORMS)}
    return frozenset(
        name
        for name, norm in found.items()
        if not norm.training and norm.running_mean is not None and norm.running_var is not None
    )

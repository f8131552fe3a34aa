"""The memory order in which each convolution of a working copy takes its map.

Channels-last is the faster order for most convolutions on a CPU, but not for small maps: oneDNN's
kernels for it take a row of the map at a time, and read all weights for two or four positions.
Channels-first, it reorders the map and takes many images at once. Measured: docs/decisions/0025.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALL_MAP = 4
"""Columns of a convolution's output up to which channels-first was faster."""

LARGE_KERNEL = 2**19
"""Weights of a convolution from which on it was."""


def to_channels_last(model: nn.Module, in_use: Collection[str], *, small_maps_first: bool) -> None:
    """Give the weights of convolutions the memory order of their maps, in place.

    Parameters
    ----------
    model : nn.Module
        A working copy; its tensors are replaced, never written to.
    in_use : collection of str
        Parameters that are worth a copy.
    small_maps_first : bool
        Whether convolutions with many weights choose their order when they see their map.
    """
    import torch
    from torch import nn

    class OrderedByMap(nn.Conv2d):
        """A convolution in channels-first order where its map is small, else channels-last."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            order = torch.contiguous_format if _is_small(self, x) else torch.channels_last
            if not self.weight.is_contiguous(memory_format=order):
                _set_order(self, order)
            return super().forward(x.contiguous(memory_format=order))

    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or f"{name}.weight" not in in_use:
            continue
        # Subclasses may do anything with their weights.
        if small_maps_first and type(module) is nn.Conv2d and _has_large_kernel(module):
            module.__class__ = OrderedByMap
        else:
            _set_order(module, torch.channels_last)


def _has_large_kernel(conv: nn.Conv2d) -> bool:
    # Of a grouped convolution every channel reads few weights.
    return conv.groups == 1 and conv.weight.numel() >= LARGE_KERNEL


def _is_small(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether the output has 2 to `SMALL_MAP` columns; of one, both orders are the same."""
    reach = conv.dilation[1] * (conv.kernel_size[1] - 1)
    if isinstance(conv.padding, str):
        padding = reach if conv.padding == "same" else 0
    else:
        padding = 2 * conv.padding[1]
    n_columns = (x.shape[-1] + padding - reach - 1) // conv.stride[1] + 1
    return 1 < n_columns <= SMALL_MAP


def _set_order(conv: nn.Conv2d, order: torch.memory_format) -> None:
    from torch import nn

    ordered = conv.weight.detach().contiguous(memory_format=order)
    conv.weight = nn.Parameter(ordered, requires_grad=False)

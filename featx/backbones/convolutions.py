"""How the convolutions of a working copy compute: their memory order, and on a CPU by what.

*Order.* Channels-last is the faster order for most convolutions, but not for small maps: oneDNN's
kernels for it take a row of the map at a time, and read all weights for two or four positions.
Channels-first, it reorders the map and takes many images at once. The weights, too, it reorders
faster from there, which is all that counts for a map of one place. Measured: docs/decisions/0025.

*By oneDNN.* With one thread and fewer than 16 images torch leaves 1 x 1 convolutions without
strides to a matrix product, which rounds otherwise (``use_mkldnn`` in ATen's Convolution.cpp).
Threads are not in the key of the cache, so it is not left the choice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from featx.backbones.numerics import Numerics

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALL_MAP = 4
"""Columns of a convolution's output up to which channels-first was faster."""

LARGE_KERNEL = 2**19
"""Weights of a convolution from which on it was."""


def prepare_convolutions(model: nn.Module, in_use: Collection[str], numerics: Numerics) -> None:
    """Make convolutions compute as `numerics` say, with the same bits for any threads, in place.

    Plain numerics leave them as they are.

    Parameters
    ----------
    model : nn.Module
        A working copy in its precision; its tensors are replaced, never written to.
    in_use : collection of str
        Parameters that are worth a copy.
    numerics : Numerics
        How to compute.
    """
    import torch
    from torch import nn

    class Prepared(nn.Conv2d):
        """A convolution that chooses its memory order by the map, or is oneDNN's, or both."""

        chooses_order: bool
        by_onednn: bool
        order: torch.memory_format | None = None

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if input.dim() == 4 and self.chooses_order:
                order = torch.contiguous_format if _is_small(self, input) else torch.channels_last
                if order is not self.order:
                    _set_order(self, order)
                    self.order = order
                input = input.contiguous(memory_format=order)
            if input.dim() == 4 and self.by_onednn and torch.get_num_threads() == 1:
                return torch.mkldnn_convolution(
                    input, self.weight, self.bias, (0, 0), (1, 1), (1, 1), self.groups
                )
            return super().forward(input)

    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        # Subclasses may do anything with their weights.
        plain = type(module) is nn.Conv2d
        chooses_order = plain and numerics.small_maps_first and _has_large_kernel(module)
        by_onednn = (
            plain
            and not numerics.plain
            and numerics.precision == "fp32"
            and not numerics.compile
            and _is_of_one_place(module)
        )
        if numerics.channels_last and not chooses_order and f"{name}.weight" in in_use:
            _set_order(module, torch.channels_last)
        if chooses_order or by_onednn:
            module.__class__ = Prepared
            vars(module).update(chooses_order=chooses_order, by_onednn=by_onednn)


def _has_large_kernel(conv: nn.Conv2d) -> bool:
    # Of a grouped convolution every channel reads few weights.
    return conv.groups == 1 and conv.weight.numel() >= LARGE_KERNEL


def _is_of_one_place(conv: nn.Conv2d) -> bool:
    """Return whether torch would choose by threads: 1 x 1, no strides, on a CPU."""
    import torch

    settings = (conv.kernel_size, _pair(conv.stride), _pair(conv.dilation), conv.padding)
    return (
        settings in [((1, 1), (1, 1), (1, 1), padding) for padding in ((0, 0), "valid", "same")]
        and conv.weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
    )


def _is_small(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether the output has few columns."""
    dilation, stride = _pair(conv.dilation)[1], _pair(conv.stride)[1]
    reach = dilation * (conv.kernel_size[1] - 1)
    if isinstance(conv.padding, str):
        padding = reach if conv.padding == "same" else 0
    else:
        padding = 2 * _pair(conv.padding)[1]
    n_columns = (x.shape[3] + padding - reach - 1) // stride + 1
    return n_columns <= SMALL_MAP


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    # Libraries set strides of finished layers, also as one number.
    return (value, value) if isinstance(value, int) else tuple(value)


def _set_order(conv: nn.Conv2d, order: torch.memory_format) -> None:
    """Give a convolution's weights a memory order that cannot be mistaken for the other one.

    Weights of 1 x 1 lie alike in both, and torch looks at strides that say nothing: those are made
    to say it, without a copy.
    """
    import torch
    from torch import nn

    weight = conv.weight.detach()
    strides = torch.empty(weight.shape, device="meta", memory_format=order).stride()
    ordered = weight.contiguous(memory_format=order).as_strided(weight.shape, strides)
    conv.weight = nn.Parameter(ordered, requires_grad=False)

"""How the convolutions of a working copy compute: their memory order, and on a CPU by what.

*Order.* Channels-last is the faster order for most convolutions, but not for small maps: oneDNN's
kernels for it take a row of the map at a time, and read all weights for two or four positions.
Channels-first, it reorders the map and takes many images at once. The weights, too, it reorders
faster from there, which is all that counts for a map of one place. Measured: docs/decisions/0025.

*By oneDNN.* torch leaves some convolutions to a matrix product, which rounds otherwise with other
numbers of threads: those of a single image, if small, and with one thread those of 1 x 1 without
strides of fewer than 16 images (``use_mkldnn`` in ATen's Convolution.cpp). Threads shall change no
feature, so torch is not left the choice.
"""

from __future__ import annotations

import functools
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

    Plain numerics leave them as they are. Subclasses of torch's may do anything with their weights:
    they get the order alone.

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

    # Only these are left to torch's choice: products of bf16 are oneDNN's, the compiler's its own.
    eager_fp32 = numerics.precision == "fp32" and not numerics.compile
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        chooses_order = (
            numerics.small_maps_first and _is_plain(module) and _has_large_kernel(module)
        )
        chooses_kernel = eager_fp32 and not numerics.plain and _can_be_onednn(module)
        by_onednn = chooses_kernel and module.weight.device.type == "cpu"
        if numerics.channels_last and not chooses_order and f"{name}.weight" in in_use:
            _set_order(module, torch.channels_last)
        if chooses_order or by_onednn:
            module.__class__ = _prepared()
            vars(module).update(chooses_order=chooses_order, by_onednn=by_onednn)


def convolutions_for_onednn(model: nn.Module) -> frozenset[str]:
    """Return the names of the convolutions that a working copy has computed by oneDNN in any case.

    The last digits of the others may depend on torch's threads.

    Parameters
    ----------
    model : nn.Module
        A network, on any device.
    """
    from torch import nn

    return frozenset(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and _can_be_onednn(module)
    )


@functools.cache
def _prepared() -> type[nn.Conv2d]:
    """Return the class of a convolution that chooses its order, or what computes it, or both."""
    import torch
    from torch import nn

    class Prepared(nn.Conv2d):
        chooses_order: bool
        by_onednn: bool
        order: torch.memory_format | None = None

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            if input.dim() == 4 and self.chooses_order:
                order = torch.contiguous_format if _is_small(self, input) else torch.channels_last
                if order is not self.order:
                    _set_order(self, order)
                    self.order = order
                input = _ordered(input, order)
            if input.dim() == 4 and self.by_onednn and _might_be_a_product(self, input):
                return torch.mkldnn_convolution(
                    input, self.weight, self.bias, _padding(self), _pair(self.stride),
                    _pair(self.dilation), self.groups,
                )  # fmt: skip
            return super().forward(input)

    return Prepared


def _is_plain(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is torch's own with a weight that stays."""
    from torch import nn

    # A weight that is no parameter is made anew in every pass, by a hook.
    return type(conv) is nn.Conv2d and "weight" in conv._parameters


def _has_large_kernel(conv: nn.Conv2d) -> bool:
    # Of a grouped convolution every channel reads few weights.
    return conv.groups == 1 and conv.weight.numel() >= LARGE_KERNEL


def _can_be_onednn(conv: nn.Conv2d) -> bool:
    import torch

    return (
        _is_plain(conv)
        and conv.padding_mode == "zeros"
        and (conv.padding != "same" or conv.kernel_size == (1, 1))
        and torch.backends.mkldnn.is_available()
    )


def _might_be_a_product(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether torch might compute a batch without oneDNN; more often than it would."""
    import torch

    few = len(x) == 1 or (conv.kernel_size == (1, 1) and torch.get_num_threads() == 1)
    # Autocast would change the type of what is given to torch's own function alone.
    return few and not torch.is_autocast_enabled("cpu")


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding as numbers; ``same`` of 1 x 1 is none."""
    return (0, 0) if isinstance(conv.padding, str) else _pair(conv.padding)


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
    """Give a convolution's weights a memory order."""
    from torch import nn

    conv.weight = nn.Parameter(_ordered(conv.weight.detach(), order), requires_grad=False)


def _ordered(tensor: torch.Tensor, order: torch.memory_format) -> torch.Tensor:
    """Return a tensor in a memory order that cannot be mistaken for the other one.

    Weights of 1 x 1 and maps of one place lie alike in both, and torch looks at strides that may
    say either: they are made to say it, without a copy.
    """
    import torch

    _, channels, height, width = tensor.shape
    last = (height * width * channels, 1, width * channels, channels)
    first = (channels * height * width, height * width, width, 1)
    strides = first if order == torch.contiguous_format else last
    return tensor.contiguous(memory_format=order).as_strided(tensor.shape, strides)

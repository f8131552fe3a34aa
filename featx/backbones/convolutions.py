"""How the convolutions of a working copy compute: their memory order, and on a CPU by what.

*Order.* Channels-last is the faster order for most convolutions, but not for small maps: oneDNN's
kernels for it take a row of the map at a time, and read all weights for two or four positions.
Channels-first, it reorders the map and takes many images at once. The weights, too, it reorders
faster from there, which is all that counts for a map of one place. Measured: docs/decisions/0025.

*By oneDNN.* torch leaves some convolutions to a matrix product, which rounds otherwise with other
numbers of threads: those of a single image, if small, and with one thread those of 1 x 1 without
strides of fewer than 16 images (``use_mkldnn`` in ATen's Convolution.cpp). Threads shall change no
feature, so torch is not left the choice.

*Together with what comes next.* oneDNN adds a map to its output, and clips it, while it writes it:
`featx.backbones.fusing` finds where, `featx.backbones.deferred` waits for it. The bits are those of
one after the other, or it is not done. Measured: docs/decisions/0029.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from featx.backbones.deferred import Fusion, deferred, with_values
from featx.backbones.numerics import Numerics

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALL_MAP = 4
"""Columns of a convolution's output up to which channels-first was faster."""

LARGE_KERNEL = 2**19
"""Weights of a convolution from which on it was."""

WORTH_WAITING = 2**18
"""Values of an output from which on it waits: that takes some 20 us, as clipping them does."""


def prepare_convolutions(
    model: nn.Module,
    in_use: Collection[str],
    numerics: Numerics,
    *,
    may_fuse: bool = False,
) -> None:
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
    may_fuse : bool
        Whether `set_fusions` may have them do what comes next; False where torch's own operators
        shall compute everything.
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
        # Autocast rounds those that the deepest cut does not need.
        is_rounded = module.weight.dtype == torch.bfloat16
        may_wait = may_fuse and _can_be_onednn(module) and (eager_fp32 or is_rounded)
        if chooses_order or by_onednn or may_wait:
            module.__class__ = _prepared()
            vars(module).update(
                chooses_order=chooses_order,
                by_onednn=by_onednn,
                may_wait=may_wait,
                packs=may_wait and is_rounded,
            )


def set_fusions(model: nn.Module, fusions: Mapping[str, Fusion]) -> None:
    """Have the convolutions of a working copy do what comes next, as for images of one size.

    Parameters
    ----------
    model : nn.Module
        A working copy whose convolutions were prepared with `may_fuse`.
    fusions : mapping of str to Fusion
        By name; the others do nothing besides.
    """
    for name, module in model.named_modules():
        if isinstance(module, _prepared()):
            conv: Any = module
            conv.fusion = fusions.get(name) if conv.may_wait else None
            conv.seen = None


@contextlib.contextmanager
def clipping_by_torch(model: nn.Module) -> Iterator[None]:
    """Leave ReLU to torch, which keeps NaN, while the ``with`` block lasts."""
    waiting: list[Any] = [m for m in model.modules() if getattr(m, "fusion", None) is not None]
    tame = [conv.tame for conv in waiting]
    try:
        for conv in waiting:
            conv.tame = False
        yield
    finally:
        for conv, before in zip(waiting, tame, strict=True):
            conv.tame = before


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
def onednn_fuses_bit_for_bit(precision: str) -> bool:
    """Return whether oneDNN adds and clips here as torch does, to the last bit.

    A few small convolutions tell: torch keeps these operators to itself, so that a version may lack
    them, and a processor may have other kernels, or none for bf16.

    Parameters
    ----------
    precision : {"fp32", "bf16"}
    """
    import torch

    shapes = ((3, 32, 7, 2, 1), (32, 64, 1, 1, 1), (64, 48, 3, 1, 1), (32, 32, 3, 1, 32))
    try:
        with torch.inference_mode():
            return torch.backends.mkldnn.is_available() and all(
                _fuses_bit_for_bit(precision, *shape) for shape in shapes
            )
    except (AttributeError, RuntimeError, TypeError):
        return False


def _fuses_bit_for_bit(
    precision: str, n_in: int, n_out: int, kernel: int, stride: int, groups: int
) -> bool:
    """Return whether one random convolution gives the same alone and with what comes next."""
    import torch
    from torch import nn

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    random = torch.Generator().manual_seed(0)
    conv: Any = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, dtype=dtype)
    for tensor in (conv.weight, conv.bias):
        tensor.copy_(torch.randn(tensor.shape, generator=random))
    _set_order(conv, torch.channels_last)
    x = _ordered(torch.randn(3, n_in, 9, 9, generator=random).to(dtype), torch.channels_last)
    plain = torch.mkldnn_convolution(x, conv.weight, conv.bias, *_geometry(conv))
    adds = precision == "fp32"
    conv.__class__ = _prepared()
    vars(conv).update(chooses_order=False, by_onednn=False, may_wait=True, packs=not adds)
    wanted = [plain, plain.relu(), plain.clamp(0, 6)]
    found = [conv.convolved(x, ceiling) for ceiling in (None, math.inf, 6.0)]
    if adds:
        other = torch.randn(plain.shape, generator=random)
        wanted += [plain + other, (plain + other).relu()]
        found += [conv.convolved_onto(x, other.clone(), clips) for clips in (False, True)]
    return all(map(torch.equal, found, wanted))


@functools.cache
def _prepared() -> type[nn.Conv2d]:
    """Return the class of a convolution that chooses its order, or what computes it, or waits."""
    import torch
    from torch import nn

    class Prepared(nn.Conv2d):
        chooses_order: bool
        by_onednn: bool
        may_wait: bool
        packs: bool
        fusion: Fusion | None = None
        order: torch.memory_format | None = None
        tame: bool | None = None
        own_order: torch.Tensor | None = None
        seen: torch.Size | None = None
        like: torch.Tensor | None = None

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            input = with_values(input)
            if input.dim() != 4:
                return super().forward(input)
            if self.fusion is not None:
                like = self.waiting(input.shape)
                if like is not None:
                    return deferred(self, self.fusion, input, like)
            if self.packs:
                return self.convolved(input, None)
            x = self.arranged(input) if self.chooses_order else input
            if self.by_onednn and _might_be_a_product(self, x):
                return torch.mkldnn_convolution(x, self.weight, self.bias, *self.geometry)
            return super().forward(x)

        @functools.cached_property
        def geometry(self) -> tuple[Any, ...]:
            return _geometry(self)

        def waiting(self, shape: torch.Size) -> torch.Tensor | None:
            # Batches of one shape follow each other.
            if shape != self.seen:
                self.seen, self.like = shape, _waiting(self, shape)
            return self.like

        def order_for(self, shape: torch.Size) -> torch.memory_format:
            is_small = self.chooses_order and _output_shape(self, shape)[3] <= SMALL_MAP
            return torch.contiguous_format if is_small else torch.channels_last

        def arranged(self, x: torch.Tensor) -> torch.Tensor:
            if not self.chooses_order:
                return _ordered(x, torch.channels_last)
            order = self.order_for(x.shape)
            if order is not self.order:
                _set_order(self, order)
                self.order = order
            return _ordered(x, order)

        def packed(self, x: torch.Tensor) -> torch.Tensor:
            # In oneDNN's own order for the first batch; of others it makes another where it must.
            if self.own_order is None:
                self.own_order = torch.ops.mkldnn._reorder_convolution_weight(
                    self.weight, *self.geometry, list(x.shape)
                )
            return self.own_order

        def convolved(self, x: torch.Tensor, ceiling: float | None) -> torch.Tensor:
            clipping: tuple[str, list[float], str] = ("none", [], "")
            if ceiling is not None:
                is_relu = ceiling == math.inf
                clipping = ("relu", [], "") if is_relu else ("hardtanh", [0.0, ceiling], "")
            x = self.arranged(x).to(self.weight.dtype)
            return torch.ops.mkldnn._convolution_pointwise.default(
                x,
                self.packed(x) if self.packs else self.weight,
                self.bias,
                *self.geometry,
                *clipping,
            )

        def convolved_onto(self, x: torch.Tensor, other: torch.Tensor, clips: bool) -> torch.Tensor:
            onto = _ordered(other, torch.channels_last)
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                onto, self.arranged(x), self.weight, self.bias, *self.geometry,
                "add", 1.0, "relu" if clips else None, [], "",
            )  # fmt: skip

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


def _geometry(conv: nn.Conv2d) -> tuple[Any, ...]:
    """Return padding, stride, dilation and groups, as oneDNN's operators take them."""
    return _padding(conv), _pair(conv.stride), _pair(conv.dilation), conv.groups


def _padding(conv: nn.Conv2d) -> tuple[int, ...]:
    """Return the padding as numbers; ``same`` of 1 x 1 is none."""
    return (0, 0) if isinstance(conv.padding, str) else _pair(conv.padding)


def _waiting(conv: Any, shape: torch.Size) -> torch.Tensor | None:
    """Return a tensor of the output's shape and strides without memory; None if none shall wait.

    Small outputs are faster clipped than they wait; to bf16 a sum inside of the convolution would
    be rounded once instead of twice; to maps that are channels-first oneDNN does not add.
    """
    import torch

    output = _output_shape(conv, shape)
    adds_itself = (
        conv.weight.dtype == torch.float32 and conv.order_for(shape) is torch.channels_last
    )
    # Of an input that is too small torch says it.
    waits = min(output) > 0 and math.prod(output) >= WORTH_WAITING
    if not waits or (conv.fusion.adds and not adds_itself):
        return None
    like = conv.weight.new_empty(output, device="meta")
    return like.to(memory_format=conv.order_for(shape))


def _output_shape(conv: nn.Conv2d, shape: torch.Size) -> tuple[int, ...]:
    """Return the shape of what a convolution makes of an input of shape (N, C, H, W)."""
    sides = []
    for axis in (0, 1):
        dilation, stride = _pair(conv.dilation)[axis], _pair(conv.stride)[axis]
        reach = dilation * (conv.kernel_size[axis] - 1)
        if isinstance(conv.padding, str):
            padding = reach if conv.padding == "same" else 0
        else:
            padding = 2 * _pair(conv.padding)[axis]
        sides.append((shape[2 + axis] + padding - reach - 1) // stride + 1)
    return shape[0], conv.out_channels, *sides


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
    if tensor.stride() == strides:
        return tensor
    return tensor.contiguous(memory_format=order).as_strided(tensor.shape, strides)

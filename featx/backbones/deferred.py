"""Convolutions that wait for what is done to their output, and do it themselves.

A convolution with a `Fusion` gives a tensor that has no values yet. If next a map is added to it,
or a ReLU clips it, oneDNN computes all of it at once, with the bits of doing one after the other;
if anything else is done with it, it is computed first, and that is done with what came out. Every
operator of torch comes by here, also out of TorchScript; there is no memory to read instead.

oneDNN's ReLU makes 0 of NaN, and features must not hide one. Behind operators that make no NaN of
ordinary numbers it comes of what goes in, of weights, or of sums that overflow: torch clips the
first batch, and oneDNN the others where the first images came nowhere near.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from featx.errors import FeatxError

if TYPE_CHECKING:
    import torch

# float32 and bfloat16 end at 3e38, and images are bytes: none is 1e26 times as bright as others.
_TAME = 1e12


@dataclass(frozen=True)
class Fusion:
    """What becomes part of a convolution.

    Attributes
    ----------
    adds : bool
        The first thing that happens to its output is that another map is added, which nobody
        reads afterwards: its memory may take the sum.
    ceiling : float or None
        What clips output or sum next, from 0 to here: ``inf`` for ReLU, 6 for ReLU6 (of outputs
        only). None where nothing does.
    """

    adds: bool
    ceiling: float | None


class Fusing(Protocol):
    """What a convolution that waits has to know.

    Attributes
    ----------
    tame : bool or None
        Whether outputs of the first images were far from an overflow; None before.
    """

    tame: bool | None

    def convolved(self, x: torch.Tensor, ceiling: float | None) -> torch.Tensor:
        """Return the output, clipped by oneDNN."""

    def convolved_onto(self, x: torch.Tensor, other: torch.Tensor, clips: bool) -> torch.Tensor:
        """Return the output and a map that it may write to, added and clipped by oneDNN."""


def ceiling_of(operator: Any, args: Sequence[Any]) -> float | None:
    """Return up to where an operator of `torch.ops.aten` clips from 0; None for anything else.

    Parameters
    ----------
    operator : OpOverload
    args : sequence
        What it takes.
    """
    import torch

    aten = torch.ops.aten
    if operator in (aten.relu.default, aten.relu_.default):
        return math.inf
    if operator in (aten.hardtanh.default, aten.hardtanh_.default):
        low, high = args[1:3] if len(args) == 3 else (-1.0, 1.0)
        return float(high) if low == 0 and high > 0 else None
    return None


def deferred(conv: Fusing, fusion: Fusion, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the output of a convolution, without values until they are needed.

    Parameters
    ----------
    conv : Fusing
    fusion : Fusion
        What it may do besides.
    x : Tensor of shape (N, C, H, W)
        What it takes. Nobody writes to it until the output is used, as `find_fusions` has seen.
    like : Tensor
        Has the output's shape, strides and type.
    """
    made: torch.Tensor = _deferred_class().of(conv, fusion, x, like)
    return made


def with_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as it is, or what has waited until now."""
    found: Any = tensor
    return found.computed() if type(found) is _deferred_class() else tensor


def clipped(tensor: torch.Tensor, ceiling: float, *, in_place: bool) -> torch.Tensor | None:
    """Return a tensor between 0 and `ceiling`, with values, if it waits for that; None otherwise.

    `torch.relu` ends up in the same method, through torch's dispatcher, which takes longer.
    """
    found: Any = tensor
    if type(found) is not _deferred_class():
        return None
    result: torch.Tensor | None = found.clipped(ceiling, in_place=in_place)
    return result


def is_waiting(output: Any) -> bool:
    """Return whether a module's output has no values yet."""
    return type(output) is _deferred_class() and output.x is not None


def is_tame(maps: torch.Tensor) -> bool:
    """Return whether no value is NaN or anywhere near an overflow."""
    import torch

    if not maps.numel():
        return True
    # In the order of memory: torch would copy maps whose channels come last.
    low, high = torch.aminmax(maps.permute(0, 2, 3, 1) if maps.stride(1) == 1 else maps)
    # NaN is not below anything.
    return bool(torch.maximum(-low, high) < _TAME)


@functools.cache
def _deferred_class() -> Any:
    """Return the class of tensors without values; torch is imported when it is needed."""
    import torch
    from torch.utils._pytree import tree_map_only

    aten = torch.ops.aten
    adds = (aten.add.Tensor, aten.add_.Tensor)
    in_place = (aten.add_.Tensor, aten.relu_.default, aten.hardtanh_.default)

    class Deferred(torch.Tensor):
        """The output of a convolution: while it waits it has what that takes, and then values.

        `other` is the map that has been added meanwhile.
        """

        conv: Fusing
        fusion: Fusion
        x: torch.Tensor | None
        other: torch.Tensor | None = None
        value: torch.Tensor | None = None

        @staticmethod
        def of(conv: Fusing, fusion: Fusion, x: torch.Tensor, like: torch.Tensor) -> Deferred:
            self: Deferred = torch.Tensor._make_wrapper_subclass(
                Deferred, like.shape, like.stride(), dtype=like.dtype, device=x.device
            )
            self.conv, self.fusion, self.x = conv, fusion, x
            return self

        # Operators are to arrive as they are; Python's functions on tensors as ever.
        __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

        @classmethod
        def __torch_dispatch__(  # type: ignore[override]
            cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            found, ceiling = None, ceiling_of(func, args)
            if ceiling is not None and not kwargs:
                found = args[0].clipped(ceiling, in_place=func in in_place)
            elif func in adds and not kwargs:
                found = _sum(*args, in_place=func in in_place)
            if found is not None:
                return found
            args, kwargs = tree_map_only(cls, cls.computed, (args, kwargs))
            return func(*args, **kwargs)

        def computed(self) -> torch.Tensor:
            """Return it with its values."""
            if self.value is None:
                self.value = self.taken(None)
            return self.value

        def taken(self, ceiling: float | None) -> torch.Tensor:
            """Return what the convolution computes of all that has come to it; it waits no more."""
            if self.x is None:
                raise FeatxError(
                    "The network reads the output of a convolution after the sum or ReLU behind it "
                    "has taken its place; a pass with a black image did not. What it does must "
                    "depend on the images' values. Use --no-channels-last, which computes one "
                    "after the other."
                )
            value = _compute(self.conv, self.x, self.other, ceiling)
            self.x = self.other = None
            return value

        def plus(self, other: Any) -> torch.Tensor | None:
            """Return the sum, if it can be had from the convolution."""
            waiting = self.x is not None and self.other is None and self.fusion.adds
            if not waiting or other is self or not isinstance(other, torch.Tensor):
                return None
            other = with_values(other)
            same = other.shape == self.shape and other.dtype == self.dtype
            if not same or _share_memory(other, self.x):
                return None
            self.other = other
            return self if self.fusion.ceiling is not None else self.computed()

        def clipped(self, ceiling: float, *, in_place: bool) -> torch.Tensor | None:
            """Return it between 0 and `ceiling`, if that can be had from the convolution."""
            if self.x is None or self.fusion.ceiling != ceiling:
                return None
            value = self.taken(ceiling)
            if in_place:
                self.value = value
            return value

    def _sum(one: Any, other: Any, *, in_place: bool) -> torch.Tensor | None:
        """Return a sum, if one of the two has it from its convolution and is what may change."""
        found = one.plus(other) if isinstance(one, Deferred) else None
        if found is None and isinstance(other, Deferred) and not in_place:
            found = other.plus(one)
        return found

    return Deferred


def _share_memory(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.untyped_storage()._cdata == other.untyped_storage()._cdata


def _compute(
    conv: Fusing, x: torch.Tensor, other: torch.Tensor | None, ceiling: float | None
) -> torch.Tensor:
    """Return a convolution's output with a map added, clipped."""
    import torch

    clips = ceiling is not None and conv.tame is True
    if other is not None:
        value = conv.convolved_onto(x, other, clips)
    else:
        value = conv.convolved(x, ceiling if clips else None)
    if ceiling is None or clips:
        return value
    if conv.tame is None:
        conv.tame = is_tame(value[:8])
    if ceiling == math.inf:
        return torch.relu_(value)
    return torch.nn.functional.hardtanh_(value, 0.0, ceiling)

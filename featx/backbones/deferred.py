"""Convolutions that wait for what is done to their output, and do it themselves.

A convolution with a `Fusion` gives a tensor that has no values yet. If next a map is added to it,
or a ReLU clips it, oneDNN computes all of it at once, with the bits of doing one after the other;
if anything else is done with it, it is computed first, and that is done with what came out.

oneDNN's ReLU makes 0 of NaN, and features must not hide one. NaN comes of sums that overflow:
torch clips the first batch, and oneDNN the others where its first images came nowhere near.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch

_ADDS = frozenset(("add", "add_", "__add__", "__iadd__", "__radd__"))
_CLIPS = frozenset(("relu", "relu_", "relu6", "hardtanh", "hardtanh_"))

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

    fusion: Fusion
    tame: bool | None

    def convolved(self, x: torch.Tensor, ceiling: float | None) -> torch.Tensor:
        """Return the output, clipped by oneDNN."""

    def convolved_onto(self, x: torch.Tensor, other: torch.Tensor, clips: bool) -> torch.Tensor:
        """Return the output and a map that it may write to, added and clipped by oneDNN."""


def deferred(conv: Fusing, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the output of a convolution, without values until they are needed.

    Parameters
    ----------
    conv : Fusing
    x : Tensor of shape (N, C, H, W)
        What it takes. Nobody writes to it until the output is used, as `find_fusions` has seen.
    like : Tensor
        Has the output's shape, type and device, and no memory of its own.
    """
    return cast("torch.Tensor", _deferred_class().of(conv, x, like))  # type: ignore[attr-defined]


def is_waiting(output: Any) -> bool:
    """Return whether a module's output has no values yet."""
    return isinstance(output, _deferred_class()) and output.value is None  # type: ignore[attr-defined]


@functools.cache
def _deferred_class() -> type[torch.Tensor]:
    """Return the class of tensors without values; torch is imported when it is needed."""
    import torch
    from torch.utils._pytree import tree_map_only

    class Deferred(torch.Tensor):
        conv: Fusing
        x: torch.Tensor
        other: torch.Tensor | None
        value: torch.Tensor | None

        @classmethod
        def of(cls, conv: Fusing, x: torch.Tensor, like: torch.Tensor) -> Deferred:
            self = like.as_subclass(cls)
            self.conv, self.x, self.other, self.value = conv, x, None, None
            return self

        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            with torch._C.DisableTorchFunctionSubclass():
                found = _absorbed(func, args, kwargs)
                if found is not None:
                    return found
                args, kwargs = tree_map_only(cls, Deferred.computed, (args, kwargs))
                return func(*args, **kwargs)

        def computed(self) -> torch.Tensor:
            """Return it with its values."""
            if self.value is None:
                self.value = _compute(self.conv, self.x, self.other, None)
            return self.value

        def plus(self, other: torch.Tensor) -> torch.Tensor | None:
            """Return the sum, if it can be had from the convolution."""
            waiting = self.value is None and self.other is None and self.conv.fusion.adds
            if not waiting or self.shape != other.shape:
                return None
            self.other = other.computed() if isinstance(other, Deferred) else other
            return self if self.conv.fusion.ceiling is not None else self.computed()

        def clipped(self, ceiling: float, in_place: bool) -> torch.Tensor | None:
            """Return it between 0 and `ceiling`, if that can be had from the convolution."""
            if self.value is not None or self.conv.fusion.ceiling != ceiling:
                return None
            value = _compute(self.conv, self.x, self.other, ceiling)
            if in_place:
                self.value = value
            return value

    def _absorbed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
        name = getattr(func, "__name__", "")
        if name in _CLIPS and isinstance(args[0], Deferred):
            in_place = name.endswith("_") or kwargs.get("inplace", args[-1] is True)
            return args[0].clipped(_ceiling(name, args, kwargs), bool(in_place))
        if name in _ADDS and len(args) == 2 and not kwargs:
            for one, other in (args, args[::-1]):
                if isinstance(one, Deferred) and isinstance(other, torch.Tensor):
                    found = one.plus(other)
                    if found is not None:
                        return found
        return None

    return Deferred


def _ceiling(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Return up to where a call clips from 0; NaN if it does anything else."""
    if name in ("relu", "relu_"):
        return math.inf
    if name == "relu6":
        return 6.0
    low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
    high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
    return float(high) if low == 0 else math.nan


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
        some = value[:8]
        # In the order of memory: torch would copy maps whose channels come last.
        low, high = torch.aminmax(some.permute(0, 2, 3, 1) if some.stride(1) == 1 else some)
        # NaN is not below anything.
        conv.tame = bool(torch.maximum(-low, high) < _TAME)
    if ceiling == math.inf:
        return torch.relu_(value)
    return torch.nn.functional.hardtanh_(value, 0.0, ceiling)

"""How a network computes: everything that changes the last digits of its features."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from featx.errors import UnknownName, UsageError

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Numerics:
    """The arithmetic of a forward pass.

    All of these give the same features up to rounding, but not the same bits, and so they are part
    of a cache's key. Threads are not: convolutions give the same bits with any number of them, and
    where others come into play `featx.backbones.CutPoint` says so.

    Attributes
    ----------
    precision : {"fp32", "bf16", "fp16"}
        Type that convolutions and matrix products compute in; features leave as float32.
    channels_last : bool
        Memory order of maps: positions before channels.
    fold : bool
        BatchNorms become part of the convolutions before them.
    compile : bool
        Whether torch.compile translates the network.
    small_maps_first : bool
        With `channels_last` in fp32, not compiled: convolutions that read many weights for a map
        of few positions take and give channels first; see `featx.backbones.convolutions`.

    Raises
    ------
    UnknownName, UsageError
        For a precision that is none, or `small_maps_first` beside what excludes it.
    """

    precision: str = "fp32"
    channels_last: bool = False
    fold: bool = False
    compile: bool = False
    small_maps_first: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownName("Precision", self.precision, PRECISIONS)
        if self.small_maps_first and not self.takes_small_maps_first:
            raise UsageError(
                "small_maps_first is for channels-last fp32 that is not compiled, not for "
                f"{self.precision}, channels_last={self.channels_last}, compile={self.compile}."
            )

    @property
    def takes_small_maps_first(self) -> bool:
        """Whether `small_maps_first` means something beside the rest of it."""
        return self.channels_last and self.precision == "fp32" and not self.compile

    @property
    def may_fuse(self) -> bool:
        """Whether convolutions may do what comes next, which changes no bit; the compiler does."""
        return self.channels_last and self.precision in ("fp32", "bf16") and not self.compile

    @property
    def plain(self) -> bool:
        """Whether the network runs as its library built it."""
        return self == PLAIN

    def __str__(self) -> str:
        return ", ".join([self.precision, *self.parts()])

    def parts(self) -> list[str]:
        """Return everything but the precision, in words."""
        parts = [
            "channels-last" if self.channels_last else "channels-first",
            "small maps channels-first" if self.small_maps_first else "",
            "BatchNorm folded" if self.fold else "",
            "compiled" if self.compile else "",
        ]
        return [part for part in parts if part]


def autocast(precision: str, device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which torch computes in a precision, on one type of device."""
    import torch

    if precision == "fp32":
        return nullcontext()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device_type, dtype=dtype)


PLAIN = Numerics()

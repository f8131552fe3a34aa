"""Which operators give the same bits with any number of torch's threads on a CPU.

Products of matrices do not: MKL and oneDNN divide long sums among threads. Nor do functions such as
sigmoid, SiLU and GELU: torch divides their values among threads, and what is left over at the end
of a part is rounded otherwise than what goes through vector instructions. Nor does a GroupNorm of
channels-last maps, which sums in a buffer a thread. So the operators that do are listed, not those
that do not; measured: docs/decisions/0027.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Names of aten operators, those that write in place without their underscore.
_SAME_BITS = frozenset(
    (
        # Nothing is computed.
        "alias", "as_strided", "cat", "clone", "constant_pad_nd", "copy", "detach", "empty",
        "expand", "new_zeros", "permute", "select", "slice", "split", "split_with_sizes",
        "squeeze", "stack", "t", "transpose", "unbind", "unsafe_view", "unsqueeze",
        "upsample_nearest2d", "view", "zeros",
        # One exactly rounded operation a value, or a comparison.
        "add", "clamp", "clamp_min", "div", "hardtanh", "leaky_relu", "max_pool2d_with_indices",
        "mul", "relu", "sub",
        # Several, in one order whatever the threads, by vectors and by single values.
        "adaptive_avg_pool2d", "avg_pool2d", "hardsigmoid", "hardswish", "mean",
        "native_batch_norm",
    )
)  # fmt: skip


def threads_change_no_bit(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether an operator of `torch.ops.aten` is known to round as with any threads.

    Convolutions are not among them: who computes those depends on the module around them, see
    `featx.backbones.convolutions.convolutions_for_onednn`.

    Parameters
    ----------
    operator : OpOverload
    args, kwargs : sequence and mapping
        What it takes; all three as `featx.backbones.operators.watching_operators` hands them over.
    """
    library, _, name = str(operator.overloadpacket).partition(".")
    name = name.strip("_")
    if library != "aten" or name not in _SAME_BITS:
        return False
    if name in ("add", "sub"):
        # A factor is fused into the addition by vectors alone.
        return kwargs.get("alpha", 1) == 1
    if name == "native_batch_norm":
        # Statistics of the batch are sums over all of it.
        return not args[5]
    if name == "mean":
        # Of every channel by itself: longer sums are divided among threads.
        dims = args[1] if len(args) > 1 and args[1] else (0,)
        return args[0].dim() == 4 and all(d % 4 in (2, 3) for d in dims)
    return True

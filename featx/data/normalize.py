"""The normalization of a batch on the CPU: a part for each core, in blocks that stay in its cache.

torch would divide every operation among its threads and wait for all of them at its end; beside
other work such a wait takes far longer than the operation (decision 0026). Here each thread does
all operations of its part by itself, and there is one wait a batch.
"""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Values that are normalized together: 512 kB, which the operations on them find in the second
# level cache.
_BLOCK = 1 << 17

# Values from which on a second thread is worth waking.
_WORTH_A_THREAD = 1 << 16


def normalize(
    x: torch.Tensor,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    divisor: float,
    memory_format: torch.memory_format,
) -> torch.Tensor:
    """Return ``(x / divisor - mean) / std`` per channel, rounded after each of the three steps.

    Parameters
    ----------
    x : Tensor of shape (n, 3, height, width), uint8
        On the CPU.
    mean, std : tuple of three floats
        Of the channels.
    divisor : float
        255, or 1.
    memory_format : torch.memory_format
        Of what is returned: ``torch.channels_last`` or ``torch.contiguous_format``.

    Returns
    -------
    Tensor of shape (n, 3, height, width), float32
        The same bits for any number of threads.
    """
    import torch

    n, _, height, width = x.shape
    out = torch.empty(x.shape, dtype=torch.float32, memory_format=memory_format)
    minus_mean, deviation = -torch.tensor(mean), torch.tensor(std)
    if memory_format == torch.channels_last:
        # Whole rows of pixels, so that the innermost loop is longer than three channels.
        source = x.permute(0, 2, 3, 1).reshape(n * height, 3 * width)
        target = out.permute(0, 2, 3, 1).view(n * height, 3 * width)
        minus_mean, deviation = minus_mean.repeat(width), deviation.repeat(width)
    else:
        source, target = x, out
        minus_mean, deviation = minus_mean.view(3, 1, 1), deviation.view(3, 1, 1)
    by = torch.tensor(divisor)

    def one_part(target: torch.Tensor, source: torch.Tensor) -> None:
        step = max(1, _BLOCK * len(source) // max(1, source.numel()))
        # The caller's mode is not its threads', and out of it they could not change its tensors.
        with torch.inference_mode():
            for block, pixels in zip(target.split(step), source.split(step), strict=True):
                # Added to -mean, which is taking mean off: one operation instead of two.
                torch.addcdiv(minus_mean, block.copy_(pixels), by, out=block)
                block.div_(deviation)

    n_threads = torch.get_num_threads()
    n_parts = min(n_threads, len(source), x.numel() // _WORTH_A_THREAD)
    if n_parts < 2:
        one_part(target, source)
    else:
        parts = target.chunk(n_parts), source.chunk(n_parts)
        for _ in _lone_threads(n_threads).map(one_part, *parts):
            pass
    return out


@functools.cache
def _lone_threads(n: int) -> ThreadPoolExecutor:
    """Return `n` threads, in each of which torch computes with this one alone."""
    import torch

    started = threading.Barrier(n + 1)

    def compute_alone() -> None:
        # Asked first, because a thread's first question sets its number to that of the process.
        torch.get_num_threads()
        torch.set_num_threads(1)

    threads = ThreadPoolExecutor(n, "featx-normalize", compute_alone)
    for _ in range(n):
        threads.submit(started.wait)
    started.wait()
    # What was set there is also what threads to come begin with: that stays as it was.
    torch.set_num_threads(n)
    return threads


# A forked process has no threads but the one that forked it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lone_threads.cache_clear)

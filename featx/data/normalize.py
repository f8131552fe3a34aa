"""The normalization of a batch on the CPU: a part for each core, in blocks that stay in its cache.

torch would divide every operation among its threads and wait for all of them at its end; beside
other work such a wait takes far longer than the operation (docs/decisions/0026). Here each thread
does all operations of its part by itself, and there is one wait a batch.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Values that a lone thread normalizes together: 512 kB, which the operations on them find in the
# second level cache.
_BLOCK = 1 << 17

# The most values that torch does not divide among its threads (``at::internal::GRAIN_SIZE``).
_TORCHS_GRAIN = 1 << 15

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
    minus_mean, deviation, by = -torch.tensor(mean), torch.tensor(std), torch.tensor(divisor)
    if memory_format == torch.channels_last:
        # Whole rows of pixels, so that the innermost loop is longer than three channels.
        source = x.permute(0, 2, 3, 1).reshape(n * height, 3 * width)
        target = out.permute(0, 2, 3, 1).view(n * height, 3 * width)
        minus_mean, deviation = minus_mean.repeat(width), deviation.repeat(width)
    else:
        source, target = x, out
        minus_mean, deviation = minus_mean.view(3, 1, 1), deviation.view(3, 1, 1)

    def one_part(target: torch.Tensor, source: torch.Tensor, size: int) -> None:
        # The caller's mode is not its threads', and out of it they could not change its tensors.
        with torch.inference_mode():
            for block, pixels in zip(_blocks(target, size), _blocks(source, size), strict=True):
                # Added to -mean, which is taking mean off: one operation instead of two.
                torch.addcdiv(minus_mean, block.copy_(pixels), by, out=block)
                block.div_(deviation)

    n_threads = torch.get_num_threads()
    n_parts = min(n_threads, len(source), x.numel() // _WORTH_A_THREAD)
    if n_parts < 2 or (threads := _lone_threads(n_threads)) is None:
        one_part(target, source, _TORCHS_GRAIN)
        return out
    begun = []
    for part in zip(target.chunk(n_parts), source.chunk(n_parts), strict=True):
        try:
            begun.append(threads.submit(one_part, *part, _BLOCK))
        except RuntimeError:
            # The interpreter is ending.
            one_part(*part, _TORCHS_GRAIN)
    for work in begun:
        work.result()
    return out


def _blocks(x: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Yield views of at most `size` values, or of one row of pixels, that make up `x`.

    Parameters
    ----------
    x : Tensor of shape (rows, values) or (n, 3, height, width)
        Rows of pixels, or images channels-first.
    size : int
        Values of a block.
    """
    if x.dim() == 2:
        yield from x.split(max(1, size // max(1, x.shape[1])))
        return
    _, channels, height, width = x.shape
    rows = max(1, size // (channels * width))
    for images in x.split(max(1, rows // height)):
        yield from images.split(rows, dim=2)


_making_threads = threading.Lock()


def _lone_threads(n: int) -> ThreadPoolExecutor | None:
    """Return `n` threads in each of which torch computes with this one alone, None if none can be.

    They are made once for the process.
    """
    with _making_threads:
        try:
            return _made_threads(n)
        except RuntimeError:
            # The system gives no more threads.
            return None


@functools.cache
def _made_threads(n: int) -> ThreadPoolExecutor:
    """Start `n` threads one by one, and tell torch in each of them to compute with one."""
    import torch

    threads = ThreadPoolExecutor(n, "featx-normalize")
    found: list[int] = []
    is_set, all_are_set = threading.Semaphore(0), threading.Event()

    def compute_alone() -> None:
        try:
            # A thread's first question sets its number to that of the process.
            found.append(torch.get_num_threads())
            torch.set_num_threads(1)
        finally:
            is_set.release()
        # So that the next one of these comes to a thread of its own.
        all_are_set.wait()

    try:
        for _ in range(n):
            threads.submit(compute_alone)
            is_set.acquire()
    finally:
        all_are_set.set()
        if found:
            # torch has one number for the threads to come, and the last one that was set is it: it
            # becomes again what it was, in a thread whose own number does not count.
            last = threading.Thread(target=torch.set_num_threads, args=(found[0],))
            last.start()
            last.join()
    return threads


def _after_fork_in_child() -> None:
    # A forked process has no threads but the one that forked it.
    _made_threads.cache_clear()
    _making_threads.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_making_threads.acquire,
        after_in_parent=_making_threads.release,
        after_in_child=_after_fork_in_child,
    )

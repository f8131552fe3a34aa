"""Batches on their way to the device, and features on their way back.

On a CPU nothing travels. On CUDA both ways run beside the forward pass: a thread and a stream of
their own bring the next batches, and features are fetched while the next batch computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from featx.extraction.ahead import ahead

if TYPE_CHECKING:
    import torch

# Batches on the device before they are needed: one is used while the next is made.
DEPTH = 2


def inputs(
    batches: Iterator[np.ndarray],
    to_input: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
) -> Generator[torch.Tensor, None, None]:
    """Yield what the network takes for each batch of images.

    Parameters
    ----------
    batches : iterator of ndarray, uint8
        From `Images.batches`.
    to_input : callable
        Brings a batch to the device and prepares it; on CUDA it is called in another thread.
    device : torch.device
        Where the network is.
    """
    import torch

    if device.type == "cuda":
        yield from _streamed(batches, to_input, device)
        return
    for batch in batches:
        yield to_input(torch.from_numpy(batch))


def _streamed(
    batches: Iterator[np.ndarray],
    to_input: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
) -> Generator[torch.Tensor, None, None]:
    """Yield inputs that were copied and prepared on a stream beside the network's."""
    import torch

    stream = torch.cuda.Stream(device)

    def made() -> Generator[tuple[torch.Tensor, torch.cuda.Event], None, None]:
        for batch in batches:
            # Only page-locked memory is copied without holding up this thread.
            pinned = torch.from_numpy(batch).pin_memory()
            with torch.cuda.stream(stream):
                x = to_input(pinned)
                done = stream.record_event()
            yield x, done

    with contextlib.closing(ahead(made(), DEPTH)) as waiting:
        for x, done in waiting:
            current = torch.cuda.current_stream(device)
            current.wait_event(done)
            # Its memory may be given to the next input only when the network has read it.
            x.record_stream(current)
            yield x


class Fetch:
    """Features of one batch on their way to the host: pooled values, and one flag a cut.

    Parameters
    ----------
    values : mapping of cut to Tensor of shape (b, n_features), float32
        As they lie on the device.
    limit : float
        Largest magnitude that can be stored.
    """

    def __init__(self, values: Mapping[str, torch.Tensor], limit: float) -> None:
        import torch

        # One pass, in torch's threads or on the device; NaN comes through as NaN.
        held = {cut: torch.stack(torch.aminmax(value)).abs() for cut, value in values.items()}
        self._held = {cut: (most <= limit).all() for cut, most in held.items()}
        first = next(iter(values.values()))
        asynchronous = first.device.type == "cuda"
        # Into page-locked memory, and without waiting, where it comes from a GPU.
        self._values = {
            cut: value.to("cpu", non_blocking=asynchronous) for cut, value in values.items()
        }
        self._held = {
            cut: flag.to("cpu", non_blocking=asynchronous) for cut, flag in self._held.items()
        }
        self._done: torch.cuda.Event | None = None
        if asynchronous:
            self._done = torch.cuda.current_stream(first.device).record_event()

    def result(self) -> tuple[dict[str, np.ndarray], list[str]]:
        """Wait for the features; return them, and the cuts with values that cannot be stored."""
        if self._done is not None:
            self._done.synchronize()
        bad = [cut for cut, flag in self._held.items() if not flag]
        return {cut: value.numpy() for cut, value in self._values.items()}, bad

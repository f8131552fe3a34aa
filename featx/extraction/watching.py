"""Time and memory of a forward pass, noted at the ends of its modules."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from featx.backbones.deferred import is_waiting
from featx.backbones.operators import watching_operators

if TYPE_CHECKING:
    import torch
    from torch import nn


class Clock:
    """Seconds since the start of a pass at named places; a device with a queue is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._waits = device.type == "mps"
        self._start: Any = None
        self._marks: dict[str, Any] = {}

    def start(self) -> None:
        """Begin a pass."""
        self._marks = {}
        self._start = self._now()

    def mark(self, name: str) -> None:
        """Note that a pass has come to a place."""
        self._marks[name] = self._now()

    def seconds(self) -> dict[str, float]:
        """Return the time of each place since the start of the pass."""
        return {name: mark - self._start for name, mark in self._marks.items()}

    def _now(self) -> Any:
        if self._waits:
            import torch

            torch.mps.synchronize()
        return time.perf_counter()


class CudaClock(Clock):
    """The same with events in the stream: the host runs ahead of the device."""

    def __init__(self) -> None:
        import torch

        super().__init__(torch.device("cuda"))

    def seconds(self) -> dict[str, float]:
        """Return the time of each place since the start of the pass."""
        import torch

        torch.cuda.synchronize()
        # CUDA counts milliseconds.
        return {name: self._start.elapsed_time(mark) / 1e3 for name, mark in self._marks.items()}

    def _now(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


@contextlib.contextmanager
def marking(model: nn.Module, modules: Iterable[str], clock: Any) -> Iterator[None]:
    """Let modules tell `clock` when they have completed, while the ``with`` block lasts.

    An output that waits for what is done with it is complete when the next one is.
    """
    handles = []
    waiting: list[str] = []

    def mark_all(*_: Any) -> None:
        while waiting:
            clock.mark(waiting.pop(0))

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            waiting.append(name)
            if not is_waiting(output):
                mark_all()

        return note

    try:
        for name in modules:
            handles.append(model.get_submodule(name).register_forward_hook(hook(name)))
        handles.append(model.register_forward_hook(mark_all))
        yield
    finally:
        for handle in handles:
            handle.remove()


def memory_between(model: nn.Module, modules: Sequence[str], x: torch.Tensor) -> dict[str, int]:
    """Return the most bytes held at a time before each module's end, since the end before it.

    Under the empty name: behind the last module.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    # Storages of weights are not the pass's.
    held = {t.untyped_storage()._cdata: 0 for t in (*model.parameters(), *model.buffers())}
    live = peak = 0
    found: dict[str, int] = {}

    def take(tensor: torch.Tensor) -> None:
        nonlocal live, peak
        storage = tensor.untyped_storage()
        if storage._cdata in held:
            return
        held[storage._cdata] = storage.nbytes()
        weakref.finalize(storage, give, storage._cdata).atexit = False
        live += storage.nbytes()
        peak = max(peak, live)

    def give(key: int) -> None:
        nonlocal live
        live -= held.pop(key)

    def count(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # A storage counts from the operator that makes it until it is freed.
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                take(leaf)

    class Marks:
        """Notes the peak at each module's end, and begins anew."""

        def mark(self, name: str) -> None:
            nonlocal peak
            found[name], peak = peak, live

    marks = Marks()
    take(x)
    # no_grad, not inference_mode: composite operators are to be seen inside.
    with torch.no_grad(), marking(model, modules, marks), watching_operators(after=count):
        model(x)
        marks.mark("")
    return found

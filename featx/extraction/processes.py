"""One pass divided among several devices, each with a process of its own.

Batches go round: the first device computes batches 0, n, 2n, ... of a pass over n devices. They are
the batches of one device, so features and cache keys are the same, and they come back in
order, so that whoever writes them sees no difference.

A process is this module, run by the interpreter that runs the caller: nothing is forked from a
process that has threads or a GPU, and a script needs no ``if __name__ == "__main__"``. What
it gets and gives goes through pipes, as pickles of both ends' own making.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from featx.errors import FeatxError, NonFiniteFeatures
from featx.extraction.forward import forward_batches, non_finite
from featx.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone, CutPoint
    from featx.data import Images
    from featx.extraction.settings import Settings

# Batches of features that a device may be ahead of whoever reads them.
_AHEAD = 2
_PROTOCOL = 5
_IMPORT: dict[str, Callable[[], Any]] = {"torchvision": import_torchvision, "timm": import_timm}


def batches_of_all_devices(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    images: Images,
    settings: Settings,
    batch_size: int,
    *,
    start: int = 0,
) -> Generator[tuple[int, dict[str, np.ndarray]], None, None]:
    """Yield what `forward_batches` yields, computed by all devices of the settings.

    Raises
    ------
    NonFiniteFeatures, RuntimeError, MemoryError
        What a process met, as if it had been met here.
    FeatxError
        When a process ended without a word: the system ends what takes too much memory.
    """
    n_batches = -(-(len(images) - start) // batch_size)
    devices = settings.devices[: max(1, n_batches)]
    if len(devices) == 1:
        yield from forward_batches(backbone, points, images, settings, batch_size, start=start)
        return
    whole = _Share(backbone.to("cpu"), dict(points), images, settings, batch_size)
    with contextlib.ExitStack() as stack:
        # All are started before the first is given anything: each takes seconds to import torch.
        processes = [stack.enter_context(_running(device)) for device in devices]
        shares = [whole.rows_of(index, len(devices), start) for index in range(len(devices))]
        for process, rows in zip(processes, shares, strict=True):
            process.send(whole.part(rows, process.device))
        for number in range(n_batches):
            index = number % len(devices)
            try:
                features = processes[index].next()
            except NonFiniteFeatures as error:
                # The process knows its own rows only.
                cut, row, value = error.place
                raise non_finite(
                    cut, int(shares[index][row]), value, images, settings.storage
                ) from error
            yield start + number * batch_size, features


@dataclass(frozen=True)
class _Share:
    """What one process computes, and all that it needs for it."""

    backbone: Backbone
    points: dict[str, CutPoint]
    images: Images
    settings: Settings
    batch_size: int

    def rows_of(self, index: int, n: int, start: int) -> np.ndarray:
        """Return the rows that one of `n` devices computes, from a row on: every n-th batch."""
        batch_of = np.arange(len(self.images) - start) // self.batch_size
        return start + np.flatnonzero(batch_of % n == index)

    def part(self, rows: np.ndarray, device: torch.device) -> _Share:
        """Return what a device needs for some rows: no image of another's."""
        alone = replace(self.settings, device=device, more_devices=())
        return replace(self, images=self.images.take(rows), settings=alone)


class _Process:
    """A process that computes a share, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], device: torch.device) -> None:
        self._process = process
        self.device = device

    def send(self, share: _Share) -> None:
        """Give the process its work."""
        assert self._process.stdin is not None
        try:
            # First: its classes are not to be met by an import that does not work by itself.
            pickle.dump(share.backbone.library, self._process.stdin, _PROTOCOL)
            pickle.dump(share, self._process.stdin, _PROTOCOL)
            self._process.stdin.close()
        except BrokenPipeError as error:
            raise _lost(self.device, self._process.wait()) from error

    def next(self) -> dict[str, np.ndarray]:
        """Wait for the next batch of features; raise what the process met."""
        assert self._process.stdout is not None
        try:
            found = pickle.load(self._process.stdout)  # noqa: S301
        except (EOFError, pickle.UnpicklingError) as error:
            raise _lost(self.device, self._process.wait()) from error
        if isinstance(found, BaseException):
            raise found
        return dict(found)


@contextlib.contextmanager
def _running(device: torch.device) -> Iterator[_Process]:
    """Start the process of a device; end it with the ``with`` block, done or not."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        yield _Process(process, device)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            # What is still in a buffer goes nowhere.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


def _lost(device: torch.device, status: int) -> FeatxError:
    """Return the error for a process that has ended and did not say why."""
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    hint = " The system ends what takes too much memory: use a smaller --batch-size or --workers."
    return FeatxError(
        f"The process that computed on {device} ended with {how}."
        f"{hint if status == -getattr(signal, 'SIGKILL', 9) else ' Its own words stand above.'}"
    )


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Compute the share that comes from `source`, and send features or an error to `sink`."""
    library = pickle.load(source)  # noqa: S301
    if library in _IMPORT:
        _IMPORT[library]()
    share: _Share = pickle.load(source)  # noqa: S301
    slots: list[Future[None]] = []
    try:
        # Sent by a thread: the next batch is computed while the last one is on its way.
        with ThreadPoolExecutor(1) as thread:
            for _, features in forward_batches(
                share.backbone, share.points, share.images, share.settings, share.batch_size,
            ):  # fmt: skip
                slots.append(thread.submit(_send, features, sink))
                if len(slots) > _AHEAD:
                    slots.pop(0).result()
            for slot in slots:
                slot.result()
    except BrokenPipeError:
        # Whoever read has ended.
        return
    except (FeatxError, RuntimeError, MemoryError) as error:
        _send(error, sink)


def _send(item: Any, sink: IO[bytes]) -> None:
    pickle.dump(item, sink, _PROTOCOL)
    sink.flush()


def main() -> None:
    """Serve the process that has started this one."""
    # Ctrl-C goes to all; the one that reads ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not come between the features.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError), sink:
        serve(sys.stdin.buffer, sink)

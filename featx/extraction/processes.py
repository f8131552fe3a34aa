"""One pass divided among several devices, each with a process of its own.

Batches go round: the first device computes batches 0, n, 2n, ... of a pass over n devices. They are
the batches of one device, so features and cache keys are the same, and they come back in
order, so that whoever writes them sees no difference.

A process is a fresh interpreter: nothing is forked from a process that has threads or a GPU, and a
script needs no ``if __name__ == "__main__"``. What it gets and gives goes through pipes, as pickles
of both ends' own making.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import FeatxError, NonFiniteFeatures
from featx.extraction.forward import forward_batches, non_finite
from featx.extraction.worker import BEGIN, Work, send_work

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone, CutPoint
    from featx.data import Images
    from featx.extraction.settings import Settings

# Ctrl-C reaches every process of a terminal; the one that reads ends the others.
_SCRIPT = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from featx.extraction.worker import main; main()"
)
_END_S = 10.0


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
        What a process met, as if it had been met here; its traceback is a note of the error.
    UsageError
        When network or images cannot be sent to another process.
    FeatxError
        When a process ended without a word: the system ends what takes too much memory.
    """
    n_batches = -(-(len(images) - start) // batch_size)
    devices = settings.devices[: max(1, n_batches)]
    if len(devices) == 1:
        yield from forward_batches(backbone, points, images, settings, batch_size, start=start)
        return
    _leave_devices(backbone)
    shares = [_rows(len(images), batch_size, start, k, len(devices)) for k in range(len(devices))]
    with contextlib.ExitStack() as stack:
        # All are started before the first is given anything: each takes seconds to import torch.
        processes = [stack.enter_context(_running(device)) for device in devices]
        for process, rows in zip(processes, shares, strict=True):
            alone = replace(settings, device=process.device, more_devices=())
            process.send(Work(backbone, dict(points), images.take(rows), alone, batch_size))
        for number in range(n_batches):
            index = number % len(devices)
            try:
                features = processes[index].next()
            except NonFiniteFeatures as error:
                # The process knows its own rows only.
                cut, row, value = error.place
                found = non_finite(cut, int(shares[index][row]), value, images, settings.storage)
                raise found from error
            yield start + number * batch_size, features


def _rows(n_images: int, batch_size: int, start: int, index: int, n: int) -> np.ndarray:
    """Return the rows, from `start` on, that device `index` of `n` computes: every n-th batch."""
    batch_of = np.arange(n_images - start) // batch_size
    return start + np.flatnonzero(batch_of % n == index)


def _leave_devices(backbone: Backbone) -> None:
    """Take the network off its device, with all the memory this process holds there.

    The process that computes there would find less than one device alone has, and take smaller
    batches, which have other keys.
    """
    import torch

    from featx.backbones.compiled import LastCompiled

    backbone.to("cpu")
    backbone.last_compiled = LastCompiled()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class _Process:
    """A process that computes a share, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes], device: torch.device) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._to, self._from = process, process.stdin, process.stdout
        self._begun = False
        self.device = device

    def send(self, work: Work) -> None:
        """Give the process its work."""
        try:
            send_work(work, self._to)
            self._to.close()
        except OSError as error:
            raise self._lost() from error

    def next(self) -> dict[str, np.ndarray]:
        """Wait for the next batch of features; raise what the process met."""
        if not self._begun:
            self._skip_print()
        try:
            found = pickle.load(self._from)  # noqa: S301
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._lost() from error
        if isinstance(found, BaseException):
            raise found
        return dict(found)

    def _skip_print(self) -> None:
        """Read over what start-up code has printed."""
        last = b""
        while last != BEGIN:
            byte = self._from.read(1)
            if not byte:
                raise self._lost()
            last = (last + byte)[-len(BEGIN) :]
        self._begun = True

    def _lost(self) -> FeatxError:
        """Return the error for a process that has ended and did not say why."""
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return FeatxError(
                f"The process that computed on {self.device} sent what are no features. Use one "
                "device."
            )
        text = f"The process that computed on {self.device} ended with {_ending(status)}."
        if status == -getattr(signal, "SIGKILL", 9):
            text += (
                " The system ends what takes too much memory: each process holds a network, its "
                "part of the images and its batches. Use fewer devices, or a smaller --batch-size."
            )
        else:
            text += " What it printed says more."
        return FeatxError(text)


def _ending(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


@contextlib.contextmanager
def _running(device: torch.device) -> Iterator[_Process]:
    """Start the process of a device; end it with the ``with`` block, done or not."""
    # The modules of this process, and none of the working directory that it does not see itself.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        yield _Process(process, device)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            # What is still in a buffer goes nowhere.
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

"""A process that computes a part of a pass: what it is given, and what it gives back."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from featx.errors import UsageError
from featx.extraction.forward import forward_batches
from featx.torchvision_compat import import_timm, import_torchvision

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.data import Images
    from featx.extraction.settings import Settings

PROTOCOL = 5
"""Of the pickles: large arrays are written as they lie in memory."""

BEGIN = b"\nfeatx features begin\n"
"""What the process writes first: before it, somebody's start-up code may have printed."""

# Batches of features that may wait to be read.
_AHEAD = 2
_IMPORT: dict[str, Callable[[], Any]] = {"torchvision": import_torchvision, "timm": import_timm}


@dataclass(frozen=True)
class Work:
    """What one process computes: images through a cut network.

    Attributes
    ----------
    backbone : Backbone
        On the CPU.
    points : dict of str to CutPoint
    images : Images
        Those of this process alone.
    settings : Settings
        With its device.
    batch_size : int
    """

    backbone: Backbone
    points: dict[str, CutPoint]
    images: Images
    settings: Settings
    batch_size: int


def send_work(work: Work, sink: IO[bytes]) -> None:
    """Write what `serve` reads.

    Raises
    ------
    UsageError
        When network or images are of a kind that cannot be sent.
    """
    # First: the library's classes are not to be met by an import that does not work by itself.
    pickle.dump(work.backbone.library, sink, PROTOCOL)
    try:
        pickle.dump(work, sink, PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _unsendable(error) from error


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Compute the work that comes from `source`; send features, or what went wrong, to `sink`."""
    try:
        _compute(_received(source), sink)
    except BrokenPipeError:
        # Whoever read has ended.
        return
    except Exception as error:
        _send(_portable(error), sink)


def _received(source: IO[bytes]) -> Work:
    library = pickle.load(source)  # noqa: S301
    if library in _IMPORT:
        _IMPORT[library]()
    try:
        work = pickle.load(source)  # noqa: S301
    except (AttributeError, ImportError) as error:
        raise _unsendable(error) from error
    assert isinstance(work, Work)
    return work


def _compute(work: Work, sink: IO[bytes]) -> None:
    device = work.settings.device
    if device.type == "cuda":
        import torch

        # What names no device would take memory of the first one.
        torch.cuda.set_device(device)
    sent: list[Future[None]] = []
    # By a thread: the next batch is computed while the last one is on its way.
    with ThreadPoolExecutor(1) as thread:
        for _, features in forward_batches(
            work.backbone, work.points, work.images, work.settings, work.batch_size
        ):
            sent.append(thread.submit(_send, features, sink))
            if len(sent) > _AHEAD:
                sent.pop(0).result()
        for each in sent:
            each.result()


def _send(item: Any, sink: IO[bytes]) -> None:
    pickle.dump(item, sink, PROTOCOL)
    sink.flush()


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent, with its traceback as a note."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())
        return told
    return error


def _unsendable(error: Exception) -> UsageError:
    return UsageError(
        f"The network or the images cannot be sent to the process of another device: {error}. "
        "Define their classes in a module that can be imported, or use one device."
    )


def main() -> None:
    """Serve the process that has started this one."""
    # What a library prints from now on must not come between the features.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError), sink:
        sink.write(BEGIN)
        serve(sys.stdin.buffer, sink)

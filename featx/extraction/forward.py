"""Batches of images through a cut network: pooled in the hooks, checked for NaN and Inf."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featx.errors import FeatxError, NonFiniteFeatures
from featx.extraction.transfer import Fetch, inputs
from featx.machine import keep_freed_memory, plain_fp32, torch_threads
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone, CutPoint
    from featx.data import Images
    from featx.data.images import Geometry
    from featx.extraction.settings import Settings

Found = TypeVar("Found")

# Pixels of a file to those that enter the network: up to this, batches of whole images are small
# beside the activations, and a GPU resizes them in no time.
_MUCH_LARGER = 4


def forward_batches(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    images: Images,
    settings: Settings,
    batch_size: int,
    *,
    start: int = 0,
) -> Generator[tuple[int, dict[str, np.ndarray]], None, None]:
    """Yield the row of each batch's first image, and its pooled features per cut point.

    Parameters
    ----------
    points : mapping of str to CutPoint
        Where to cut and how to pool; the names are the keys of the result and stand in errors.
    start : int
        First row; a multiple of `batch_size`, so that a resumed run sees the same batches.

    Yields
    ------
    row : int
    features : dict of str to ndarray of shape (b, n_features), float32

    Raises
    ------
    NonFiniteFeatures
        Names the cut, the row and the image.
    """
    import torch

    from featx.backbones import Capture

    device, preprocess = settings.device, settings.preprocess
    geometry = geometry_while_decoding(images, settings)
    backbone.to(device)
    numerics = settings.numerics

    def to_input(batch: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if numerics.channels_last else None
        already_sized = geometry is not None
        return preprocess.to_input(batch, device, already_sized=already_sized, memory_format=layout)

    with contextlib.ExitStack() as stack:
        batches = stack.enter_context(
            contextlib.closing(
                images.batches(batch_size, start=start, geometry=geometry, workers=settings.workers)
            )
        )
        xs = stack.enter_context(contextlib.closing(inputs(batches, to_input, device)))
        stack.enter_context(arithmetic(settings))
        modules = {name: point.module for name, point in points.items()}
        poolings = {name: point.pool for name, point in points.items()}
        capture = stack.enter_context(
            Capture(backbone, modules, poolings, numerics, batch_size=batch_size)
        )
        limit = float(np.finfo(settings.storage).max)
        first = next(iter(points))
        # A GPU computes the next batch while the features of the last one are fetched.
        fetches: deque[Fetch] = deque()
        waiting = 1 if device.type == "cuda" else 0
        row = start
        for x in xs:
            fetches.append(Fetch(capture(x), limit))
            if len(fetches) > waiting:
                found = _checked(fetches.popleft(), row, images, settings.storage)
                yield row, found
                row += len(found[first])
        while fetches:
            found = _checked(fetches.popleft(), row, images, settings.storage)
            yield row, found
            row += len(found[first])


def geometry_while_decoding(images: Images, settings: Settings) -> Geometry | None:
    """Return what brings each image to its size while it is decoded; None leaves it to the batch.

    Images of many sizes need it. Files of one size get it where a batch of them as they are would
    only take memory: on a CPU, where Pillow makes them smaller either way, and everywhere if they
    are much larger than what enters the network. The pixels are the same.
    """
    from featx.data import FileImages

    preprocess = settings.preprocess
    if images.size is None:
        return preprocess.geometry
    height, width = images.size
    out_height, out_width = preprocess.output_size(images.size)
    times = height * width / (out_height * out_width)
    most = 1 if settings.device.type == "cpu" else _MUCH_LARGER
    return preprocess.geometry if isinstance(images, FileImages) and times > most else None


@contextlib.contextmanager
def arithmetic(settings: Settings) -> Iterator[None]:
    """Hold threads and precision to what was asked for, whatever the caller has set."""
    import torch

    keep_freed_memory()
    kind = settings.device.type
    # A precision below fp32 is switched on by `Capture`.
    with plain_fp32(), torch_threads(settings.threads), torch.autocast(kind, enabled=False):
        yield


def _checked(fetch: Fetch, row: int, images: Images, storage: str) -> dict[str, np.ndarray]:
    """Return the features of a batch; refuse NaN, Inf, and what the storage type cannot hold."""
    found, bad = fetch.result()
    for cut in bad:
        held = np.abs(found[cut]) <= np.finfo(storage).max
        first = int(np.flatnonzero(~held.all(axis=1))[0])
        value = float(found[cut][first][~held[first]][0])
        raise non_finite(cut, row + first, value, images, storage)
    return found


def non_finite(cut: str, row: int, value: float, images: Images, storage: str) -> NonFiniteFeatures:
    """Return the error for a value that cannot be stored, which names its image."""
    advice = "check the weights, or use --precision fp32"
    if np.isfinite(value):
        advice = f"{storage} cannot hold it, use --storage float32"
    error = NonFiniteFeatures(
        f"Cut '{cut}' gave {value} in row {row} ({images.name_of(row)}). The features must be "
        f"finite: {advice}."
    )
    error.place = (cut, row, value)
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch failed for want of memory, on a GPU or in the CPU's allocator."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator, MPS, cuBLAS and cuDNN say it in words only.
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def with_batches_that_fit(
    settings: Settings,
    attempt: Callable[[int], Found],
    progress: Progress = SILENT,
    *,
    given_up: Callable[[int], None] = lambda batch_size: None,
) -> Found:
    """Return what an attempt gives, with smaller batches where memory is short.

    Parameters
    ----------
    attempt : callable
        Takes a batch size, of those of the settings in turn.
    given_up : callable
        Hears the batch size of an attempt that is followed by a smaller one.

    Raises
    ------
    FeatxError
        When not even the smallest batch fits.
    """
    *larger, smallest = settings.batch_sizes()
    for size in larger:
        try:
            return attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        given_up(size)
        progress.warn(f"Out of memory with batches of {size} images; trying {size // 2}.")
    try:
        return attempt(smallest)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(smallest, settings) from error


def out_of_memory(batch_size: int, settings: Settings) -> FeatxError:
    """Return the error for a network that does not fit even after the batches were halved."""
    hint = (
        f"Use --batch-size auto or {batch_size // 2}."
        if settings.batch_size != "auto" and batch_size > 1
        else "Use a smaller --image-size, or pool the cuts."
    )
    where = ", ".join(dict.fromkeys(map(str, settings.devices)))
    return FeatxError(f"Out of memory on {where} with batches of {batch_size} images. {hint}")

"""Batches of images through a cut network: pooled in the hooks, checked for NaN and Inf."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import FeatxError, NonFiniteFeatures
from featx.machine import keep_freed_memory, plain_fp32, torch_threads

if TYPE_CHECKING:
    from featx.backbones import Backbone
    from featx.data import Images
    from featx.extraction.settings import Settings


def forward_batches(
    backbone: Backbone,
    cuts: Sequence[str],
    images: Images,
    settings: Settings,
    batch_size: int,
    *,
    start: int = 0,
) -> Generator[tuple[int, dict[str, np.ndarray]], None, None]:
    """Yield the row of each batch's first image, and its pooled features per cut.

    Parameters
    ----------
    cuts : sequence of str
        Names as the user writes them; they are the keys of the result.
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

    device = settings.device
    geometry = settings.preprocess.geometry if images.size is None else None
    backbone.to(device)
    batches = images.batches(batch_size, start=start, geometry=geometry, workers=settings.workers)
    row = start
    numerics = settings.numerics
    capturing = Capture(backbone, cuts, settings.pool, numerics, batch_size=batch_size)
    with arithmetic(settings), capturing as capture:
        for batch in batches:
            x = settings.preprocess.to_input(
                torch.from_numpy(batch), device, already_sized=geometry is not None
            )
            found = {cut: value.cpu().numpy() for cut, value in capture(x).items()}
            for cut, value in found.items():
                _refuse_non_finite(value, cut, row, images, settings.storage)
            yield row, found
            row += len(batch)


@contextlib.contextmanager
def arithmetic(settings: Settings) -> Iterator[None]:
    """Hold threads and precision to what was asked for, whatever the caller has set."""
    import torch

    keep_freed_memory()
    kind = settings.device.type
    # A precision below fp32 is switched on by `Capture`.
    with plain_fp32(), torch_threads(settings.threads), torch.autocast(kind, enabled=False):
        yield


def _refuse_non_finite(value: np.ndarray, cut: str, row: int, images: Images, storage: str) -> None:
    """Refuse NaN, Inf, and what the storage type cannot hold."""
    held = np.abs(value) <= np.finfo(storage).max
    if held.all():
        return
    bad = int(np.flatnonzero(~held.all(axis=1))[0])
    first = value[bad][~held[bad]][0]
    advice = "check the weights, or use --precision fp32"
    if np.isfinite(first):
        advice = f"{storage} cannot hold it, use --storage float32"
    raise NonFiniteFeatures(
        f"Cut '{cut}' gave {first} in row {row + bad} ({images.name_of(row + bad)}). The features "
        f"must be finite: {advice}."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch failed for want of memory, on a GPU or in the CPU's allocator."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # The CPU's allocator, MPS, cuBLAS and cuDNN say it in words only.
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def out_of_memory(batch_size: int, settings: Settings) -> FeatxError:
    """Return the error for a network that does not fit even after the batches were halved."""
    hint = (
        f"Use --batch-size auto or {batch_size // 2}."
        if settings.batch_size != "auto" and batch_size > 1
        else "Use a smaller --image-size, or pool the cuts."
    )
    return FeatxError(
        f"Out of memory on {settings.device} with batches of {batch_size} images. {hint}"
    )

"""Features of images as arrays in memory: the notebook's way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import BudgetExceeded, UsageError
from featx.extraction.forward import with_batches_that_fit
from featx.extraction.planning import memory_budget_bytes, over_budget_message
from featx.extraction.processes import batches_of_all_devices
from featx.extraction.settings import cut_points, make_settings
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone
    from featx.data import Images


def extract(
    backbone: Backbone,
    cuts: str | Sequence[str],
    images: np.ndarray | Images,
    *,
    image_size: int | str | None = "auto",
    pool: str = "avg",
    crop: str = "auto",
    interpolation: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | str = "auto",
    workers: int | str = 0,
    channels_last: bool = True,
    fold: bool = True,
    compile: bool = False,
    threads: int | str = "auto",
    memory_budget: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """Return the features of images at named cuts, in memory.

    Parameters
    ----------
    backbone : Backbone
        From `load_backbone`.
    cuts : str or sequence of str
        Keras, module or stage names.
    images : ndarray of shape (n, height, width, 3), uint8, or Images
        RGB images.
    image_size : int, "auto", "native" or None
        Pixels a side of the network's input; ``auto`` is the weights' own size, ``native``
        (or None) the images' own.
    pool : str
        ``"avg"``, ``"max"``, ``"avgmax"``, ``"gem"``, ``"flatten"`` or ``"grid:N"``; for tokens
        ``"cls"``, ``"mean"`` or ``"flatten"``.
    workers : int or "auto"
        Threads that decode image files, ahead of the network; 0 decodes when a batch is needed.
    channels_last, fold, compile : bool
        How the network computes: memory order of maps, BatchNorm folded into convolutions,
        torch.compile. They change the last digits of the features and the time.
    threads : int or "auto"
        Of torch; ``auto`` leaves their number as it is.
    memory_budget : int, optional
        Bytes the result may take. Default: 80 % of the free memory.

    Returns
    -------
    dict of str to ndarray of shape (n, n_features), float32
        Pooled activations, not standardized.

    Raises
    ------
    UnknownName
        A cut that the network does not have.
    BudgetExceeded
        When the result would not fit.
    NonFiniteFeatures
        Names the cut, the row and the image.
    """
    from featx.backbones import Backbone
    from featx.data import ArrayImages, FileImages, Images

    if not isinstance(backbone, Backbone):
        raise UsageError(f"backbone is {backbone!r}: give what load_backbone(name) returns.")
    cuts = [cuts] if isinstance(cuts, str) else list(cuts)
    source = images if isinstance(images, Images) else ArrayImages(np.asarray(images))
    settings = make_settings(
        backbone, source.size, decodes=isinstance(source, FileImages), image_size=image_size,
        pool=pool, crop=crop, interpolation=interpolation,
        device=device, precision=precision, batch_size=batch_size, workers=workers,
        channels_last=channels_last, fold=fold, compile=compile, threads=threads,
    )  # fmt: skip
    points = cut_points(backbone, cuts, settings)
    shapes = {cut: (len(source), point.n_pooled) for cut, point in points.items()}
    n_bytes = sum(4 * math.prod(shape) for shape in shapes.values())
    budget = memory_budget_bytes(memory_budget)
    if n_bytes > budget:
        raise BudgetExceeded(over_budget_message("The features", n_bytes, "memory", budget, points))
    found = {cut: np.empty(shape, np.float32) for cut, shape in shapes.items()}

    def fill(batch_size: int) -> None:
        with progress.task(f"extract {backbone.short_name}", len(source), "images") as advance:
            for row, features in batches_of_all_devices(
                backbone, points, source, settings, batch_size
            ):
                for cut, values in features.items():
                    found[cut][row : row + len(values)] = values
                advance(len(values))

    with_batches_that_fit(settings, fill, progress)
    return found

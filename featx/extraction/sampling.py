"""How fast images pass: measured on some, for features that are cached and told no time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from featx.extraction.forward import with_batches_that_fit
from featx.extraction.processes import batches_of_all_devices

if TYPE_CHECKING:
    import numpy as np

    from featx.backbones import Backbone, CutPoint
    from featx.data import Images, Split
    from featx.extraction.settings import Settings

SAMPLE_S = 5.0
"""Seconds to measure for, behind the warm-up; a batch that was begun is waited for."""

# Batches per device that pass before the clock starts: one is computed while the next is read.
_WARM_UP = 2


@dataclass(frozen=True)
class SampledRate:
    """A measured rate.

    Attributes
    ----------
    images_per_s : float
        From reading to pooled values on the host, without writing: that overlaps with the pass.
    n_images : int
        How many it was measured on.
    """

    images_per_s: float
    n_images: int


def sample_rate(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    split: Split,
    settings: Settings,
    *,
    seconds: float = SAMPLE_S,
) -> SampledRate:
    """Measure how fast images of a split pass, in the settings of an extraction; nothing is kept.

    Full batches are timed, behind two per device that warm up. Of fewer than four per device the
    whole split is timed, the second time it passes.

    Parameters
    ----------
    points : mapping of str to CutPoint
        From `cut_points`: all of them share the pass.
    seconds : float
        How long to measure.

    Raises
    ------
    FeatxError
        When not even the smallest batch fits in memory.
    """
    settings = settings.of_pass(points.values())
    return with_batches_that_fit(
        settings, lambda size: _sample(backbone, points, split.images, settings, size, seconds)
    )


def _sample(
    backbone: Backbone,
    points: Mapping[str, CutPoint],
    images: Images,
    settings: Settings,
    batch_size: int,
    seconds: float,
) -> SampledRate:
    warm_up = _WARM_UP * len(settings.devices)
    n_full = len(images) // batch_size
    begin = partial(batches_of_all_devices, backbone, points, images, settings, batch_size)
    if n_full >= 2 * warm_up:
        return _timed(begin(), seconds, skip=warm_up, count=n_full - warm_up)
    for _ in begin():
        pass
    return _timed(begin(), seconds)


def _timed(
    batches: Generator[tuple[int, dict[str, np.ndarray]]],
    seconds: float,
    *,
    skip: int = 0,
    count: int | None = None,
) -> SampledRate:
    """Return the rate of `count` batches behind the first `skip`, or of as many as time allows."""
    with contextlib.closing(batches):
        for _ in range(skip):
            next(batches)
        done, start = 0, time.perf_counter()
        for _, features in islice(batches, count):
            done += len(next(iter(features.values())))
            if time.perf_counter() - start >= seconds:
                break
        return SampledRate(done / (time.perf_counter() - start), done)

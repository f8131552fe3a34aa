"""How fast images pass: measured on some, for features that are cached and told no time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from featx.extraction.forward import is_out_of_memory, out_of_memory
from featx.extraction.processes import batches_of_all_devices

if TYPE_CHECKING:
    import numpy as np

    from featx.backbones import Backbone, CutPoint
    from featx.data import Split
    from featx.extraction.settings import Settings

SAMPLE_S = 5.0
"""Seconds to measure for; a batch that was begun is waited for."""


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

    The first batch only warms up, unless there is no other.

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
    sizes = settings.batch_sizes()
    for size in sizes:
        try:
            batches = partial(
                batches_of_all_devices, backbone, points, split.images, settings, size
            )
            if len(split) > size:
                return _timed(batches(), seconds, skip=1)
            # The only batch warms up first.
            _timed(batches(), seconds)
            return _timed(batches(), seconds)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == sizes[-1]:
                raise out_of_memory(size, settings) from error
    raise AssertionError("there is always a batch size")


def _timed(
    batches: Generator[tuple[int, dict[str, np.ndarray]]], seconds: float, *, skip: int = 0
) -> SampledRate:
    """Return the rate of the batches behind the first `skip`, of as many as fit in `seconds`."""
    with contextlib.closing(batches):
        for _ in range(skip):
            next(batches)
        done, start = 0, time.perf_counter()
        for _, features in batches:
            done += len(next(iter(features.values())))
            if time.perf_counter() - start >= seconds:
                break
        return SampledRate(done / (time.perf_counter() - start), done)

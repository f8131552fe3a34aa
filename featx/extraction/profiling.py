"""What each stage and each cut of a network costs on this machine: time and memory, measured.

Every module that is listed gets a forward hook that notes the time, so one pass tells the time of a
pass that stops at any of them. Memory is counted in a pass of its own, under a dispatch mode that
sees every tensor come and go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import UsageError
from featx.extraction.forward import arithmetic, with_batches_that_fit
from featx.extraction.watching import Clock, CudaClock, marking, memory_between
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint
    from featx.extraction.settings import Settings

# A first pass allocates, chooses algorithms and reorders weights; a second one runs with all that.
WARM_UP = 2
REPEATS = 7
FEWEST_REPEATS = 3


@dataclass(frozen=True)
class CutCost:
    """What a forward pass that stops at a cut costs, for one batch.

    Attributes
    ----------
    point : CutPoint
        The cut.
    seconds : float
        Median over the repeats, of the network alone: without preprocessing, pooling and writing.
    low_s, high_s : float
        Quartiles of the repeats.
    images_per_s, gflops_per_s : float
        Of the median; a multiply-add is two operations.
    memory_bytes : int
        The most that tensors of the pass held at a time up to here, input included; without
        weights and what libraries need inside an operator.
    """

    point: CutPoint
    seconds: float
    low_s: float
    high_s: float
    images_per_s: float
    gflops_per_s: float
    memory_bytes: int


@dataclass(frozen=True)
class StageCost:
    """What the modules between two stages' ends cost, for one batch.

    Attributes
    ----------
    name : str
        ``"stage3"``; a top module's own name in networks without named stages; ``"behind"`` for
        what runs behind the last one.
    end : str
        The module that ends it; empty for ``"behind"``.
    seconds : float
        The difference of the medians at its two ends, so that stages add up to the whole pass.
    multiply_adds : int
        For one image.
    gflops_per_s : float
        A multiply-add is two operations.
    memory_bytes : int
        As `CutCost.memory_bytes`, but while this stage runs.
    """

    name: str
    end: str
    seconds: float
    multiply_adds: int
    gflops_per_s: float
    memory_bytes: int


@dataclass(frozen=True)
class NetworkProfile:
    """A network's costs on this machine.

    Attributes
    ----------
    batch_size, repeats, threads : int
        Images a pass, timed passes, and torch's threads on the CPU.
    seconds : float
        Median of the whole pass.
    weights_bytes : int
        Parameters and buffers.
    stages : tuple of StageCost
        In order; they add up to the whole pass.
    cuts : tuple of CutCost
        In order of execution.
    """

    batch_size: int
    repeats: int
    threads: int
    seconds: float
    weights_bytes: int
    stages: tuple[StageCost, ...]
    cuts: tuple[CutCost, ...]


def profile_network(
    backbone: Backbone,
    settings: Settings,
    *,
    all_modules: bool = False,
    repeats: int = REPEATS,
    progress: Progress = SILENT,
) -> NetworkProfile:
    """Measure what every stage and every listed cut costs.

    Parameters
    ----------
    backbone : Backbone
        With any weights: random ones take the same time.
    settings : Settings
        From `make_settings`; input size, pooling, device, precision and batch size are used. An
        ``auto`` batch is halved until it fits.
    all_modules : bool
        Every module that can be cut, instead of named ones, top ones and blocks.
    repeats : int
        Timed passes, at least 3; they follow two that are not timed.

    Raises
    ------
    ShapeError
        When the network cannot take images of that size.
    UsageError
        For fewer repeats than 3.
    FeatxError
        When no batch fits in memory.
    """
    if repeats < FEWEST_REPEATS:
        raise UsageError(
            f"{repeats} repeats say nothing of the spread. Give {FEWEST_REPEATS} or more."
        )
    points = backbone.cut_points(settings.input_size, settings.pool, all_modules=all_modules)
    ends = _stage_ends(backbone.cut_points(settings.input_size, "flatten"))
    backbone.to(settings.device)
    return with_batches_that_fit(
        settings,
        lambda size: _profile(backbone, settings, points, ends, size, repeats, progress),
        progress,
    )


def _stage_ends(points: Sequence[CutPoint]) -> dict[str, CutPoint]:
    """Return the last cut of each stage, or of each top module where no stage has a name."""
    named = any(point.stage for point in points)
    ends: dict[str, CutPoint] = {}
    for point in points:
        name = point.stage if named else point.module.partition(".")[0]
        if name:
            ends[name] = point
    return ends


def _profile(
    backbone: Backbone,
    settings: Settings,
    points: Sequence[CutPoint],
    ends: dict[str, CutPoint],
    batch_size: int,
    repeats: int,
    progress: Progress,
) -> NetworkProfile:
    """Measure with batches of one size."""
    import torch

    from featx.backbones.convolutions import set_fusions

    numerics = settings.numerics
    watched = {
        point.module: point
        for point in sorted([*points, *ends.values()], key=lambda point: point.order)
    }
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, 3, *settings.input_size, generator=generator).to(
        settings.device,
        memory_format=torch.channels_last if numerics.channels_last else torch.contiguous_format,
    )
    trunk = backbone.trunk(watched, numerics)
    backbone.fuse(trunk, numerics, settings.input_size)
    model = trunk.model
    clock = CudaClock() if settings.device.type == "cuda" else Clock(settings.device)
    with _as_extraction(settings), marking(model, watched, clock):
        passes = []
        with (
            progress.task(f"profile {backbone.short_name}", WARM_UP + repeats, "passes") as advance,
            torch.inference_mode(),
        ):
            for turn in range(WARM_UP + repeats):
                clock.start()
                model(x)
                clock.mark("")
                if turn >= WARM_UP:
                    passes.append(clock.seconds())
                advance(1)
    # What waits has no memory that could be counted; one after the other takes no less.
    set_fusions(model, {})
    with _as_extraction(settings):
        memory = memory_between(model, list(watched), x)
    times = {module: np.array([found[module] for found in passes]) for module in (*watched, "")}
    medians = {module: float(np.median(found)) for module, found in times.items()}
    peaks = dict(zip(watched, np.maximum.accumulate([memory[m] for m in watched]), strict=True))

    def cost(point: CutPoint) -> CutCost:
        seconds = medians[point.module]
        low, high = np.quantile(times[point.module], [0.25, 0.75])
        return CutCost(
            point=point,
            seconds=seconds,
            low_s=float(low),
            high_s=float(high),
            images_per_s=batch_size / seconds,
            gflops_per_s=2e-9 * point.multiply_adds * batch_size / seconds,
            memory_bytes=int(peaks[point.module]),
        )

    whole = _whole_multiply_adds(backbone, settings.input_size)
    return NetworkProfile(
        batch_size=batch_size,
        repeats=repeats,
        threads=torch.get_num_threads(),
        seconds=medians[""],
        weights_bytes=sum(
            tensor.numel() * tensor.element_size()
            for tensor in (*backbone.model.parameters(), *backbone.model.buffers())
        ),
        stages=tuple(_stages(list(watched.values()), ends, medians, memory, whole, batch_size)),
        cuts=tuple(cost(point) for point in points),
    )


@contextlib.contextmanager
def _as_extraction(settings: Settings) -> Iterator[None]:
    """Compute as extraction does."""
    from featx.backbones.numerics import autocast

    with arithmetic(settings), autocast(settings.precision, settings.device.type):
        yield


def _stages(
    watched: Sequence[CutPoint],
    ends: dict[str, CutPoint],
    medians: dict[str, float],
    memory: dict[str, int],
    whole: int,
    batch_size: int,
) -> Iterator[StageCost]:
    """Yield the differences between the ends of the stages, and what is behind the last one."""
    seconds, multiply_adds, order = 0.0, 0, -1
    found = [(name, end.module, end.multiply_adds, end.order) for name, end in ends.items()]
    last = max(point.order for point in watched) + 1
    for name, module, added, until in sorted([*found, ("behind", "", whole, last)], key=_by_order):
        inside = [point.module for point in watched if order < point.order <= until]
        taken, adds = medians[module] - seconds, added - multiply_adds
        yield StageCost(
            name=name,
            end=module,
            seconds=taken,
            multiply_adds=adds,
            gflops_per_s=2e-9 * adds * batch_size / taken if taken > 0 else 0.0,
            memory_bytes=max(memory[m] for m in ([*inside, ""] if not module else inside)),
        )
        seconds, multiply_adds, order = medians[module], added, until


def _by_order(stage: tuple[str, str, int, int]) -> int:
    return stage[3]


def _whole_multiply_adds(backbone: Backbone, image_size: tuple[int, int]) -> int:
    """Return the multiply-adds of the whole network, also where its classifier is no cut."""
    from featx.backbones.probe import trace

    found = trace(
        backbone.model, image_size, native_size=backbone.image_size, name=backbone.short_name
    )
    return found.seen[""].multiply_adds

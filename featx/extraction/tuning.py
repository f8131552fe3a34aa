"""Which settings are the fastest on this machine: measured once, and kept for the next runs."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.backbones.numerics import PRECISIONS
from featx.errors import CacheError, FeatxError
from featx.extraction.forward import arithmetic, is_out_of_memory
from featx.extraction.settings import Settings
from featx.machine import can_compile, cpu_name, device_name, n_cpus, user_cache_dir, versions
from featx.progress import SILENT, Progress

if TYPE_CHECKING:
    from featx.backbones import Backbone, CutPoint

ROUNDS = 5
"""Times each setting of a stage is measured, in turns, so that a busy moment hits them all."""

GAIN = 1.03
"""How much faster a setting must be to replace the one before it: less is noise."""

HOPELESS = 2.0
"""A setting whose images took this many times longer than another's in each of two turns is not
measured further: what is slow is also what takes the time of measuring. The first one always is."""

_TURNS_TO_DROP = 2

BATCHES = (16, 32, 64, 128, 256)
"""Batch sizes to try."""

# What a run may leave to the measurement.
FREE = ("precision", "channels_last", "fold", "batch_size", "threads", "compile")
_LONGEST = 10**6  # bytes of a file of this module; they have some hundred


@dataclass(frozen=True)
class Trial:
    """One setting that was measured: what was changed, images a second, whether it was kept."""

    what: str
    images_per_s: float
    kept: bool


@dataclass(frozen=True)
class Tuning:
    """What a measurement found.

    Attributes
    ----------
    settings : Settings
        Those of the run, with the fastest of what was free.
    trials : tuple of Trial
        In the order they were measured.
    remembered : bool
        Whether they were measured by an earlier run.
    measured : bool
        False where there was nothing to remember and nothing was to be measured.
    """

    settings: Settings
    trials: tuple[Trial, ...]
    remembered: bool
    measured: bool = True


def tune(
    backbone: Backbone,
    points: Sequence[CutPoint],
    settings: Settings,
    *,
    free: Collection[str],
    precisions: Sequence[str] = ("fp32",),
    measure: bool = True,
    progress: Progress = SILENT,
) -> Tuning:
    """Return settings with the fastest of what is left free, measured or remembered.

    Stage by stage: memory order and folding, precision, batch size, threads, compilation. A stage
    keeps its fastest setting if that is 3 % faster than what came before. What was found is kept
    in the user's cache folder, by network, cuts, input size, machine and versions: a second
    measurement might choose otherwise, and other settings have other entries in the feature cache.

    Parameters
    ----------
    points : sequence of CutPoint
        The cuts of the run.
    free : collection of str
        Of `FREE`: what the user has not set.
    precisions : sequence of str
        Those the user allows.
    measure : bool
        False takes what is remembered; where there is nothing, the settings as they are, with no
        trials.
    """
    about = _about(backbone, points, settings, free, precisions)
    path = user_cache_dir() / "tuned" / f"{_digest(about)}.json"
    kept = _read(path, about, settings)
    if kept is not None:
        return kept
    if not measure:
        return Tuning(settings, (), False, measured=False)
    modules = [point.module for point in points]
    best, measured = settings, []
    for name, variants in _stages(settings, free, precisions):
        tried = _apart([best, *(replace(best, **change) for change in variants)])
        if len(tried) == 1:
            continue
        progress.say(f"Measuring {name}: {len(tried)} settings.")
        speeds = _speeds(backbone, modules, tried)
        fastest = max(range(len(tried)), key=speeds.__getitem__)
        chosen = fastest if speeds[fastest] > GAIN * speeds[0] else 0
        best = tried[chosen]
        measured += [
            Trial(_in_words(name, variant), speed, index == chosen)
            for index, (variant, speed) in enumerate(zip(tried, speeds, strict=True))
            if speed
        ]
    found = {name: getattr(best, name) for name in _FIELDS}
    _write(path, {"about": about, "found": found, "trials": [vars(trial) for trial in measured]})
    return Tuning(best, tuple(measured), False)


def _apart(tried: Iterable[Settings]) -> list[Settings]:
    """Return settings that compute differently, the first of those that do not."""
    found: dict[Any, Settings] = {}
    for settings in tried:
        how = (settings.numerics, settings.batch_sizes()[0], settings.threads)
        found.setdefault(how, settings)
    return list(found.values())


# Fields of `Settings` that a measurement decides.
_FIELDS = ("precision", "channels_last", "fold", "auto_batch", "threads", "compile")


def _stages(
    settings: Settings, free: Collection[str], precisions: Sequence[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the name of each stage, and the changes of the settings it tries."""
    orders = (True, False) if "channels_last" in free else (settings.channels_last,)
    folds = (True, False) if "fold" in free else (settings.fold,)
    yield (
        "memory order and folding",
        [{"channels_last": o, "fold": f} for o in orders for f in folds],
    )
    if "precision" in free:
        yield "precision", [{"precision": precision} for precision in precisions]
    if "batch_size" in free:
        yield "batch size", [{"auto_batch": size} for size in BATCHES]
    if "threads" in free and settings.device.type == "cpu" and not settings.more_devices:
        cores = n_cpus()
        yield "threads", [{"threads": n} for n in sorted({1, max(1, cores // 2), cores})]
    if "compile" in free and can_compile(settings.device):
        yield "compilation", [{"compile": True}]


def _in_words(stage: str, settings: Settings) -> str:
    """Return what a stage varies, as a row of the table says it."""
    if stage == "batch size":
        return f"batches of {settings.batch_sizes()[0]}"
    if stage == "threads":
        n = settings.threads
        return "torch's own threads" if n is None else f"{n} thread{'' if n == 1 else 's'}"
    return str(settings.numerics)


def _speeds(backbone: Backbone, modules: list[str], tried: Sequence[Settings]) -> list[float]:
    """Return the images a second of each setting, medians of turns; 0 where memory runs out."""
    times: list[list[float]] = [[] for _ in tried]
    failed: set[int] = set()
    hopeless: set[int] = set()
    for turn in range(ROUNDS + 1):
        for index, settings in enumerate(tried):
            if index in failed | hopeless:
                continue
            try:
                seconds = _one_pass(backbone, modules, settings)
            except (FeatxError, RuntimeError, MemoryError) as error:
                # What cannot be compiled here is no choice.
                if not settings.compile and (
                    isinstance(error, FeatxError) or not is_out_of_memory(error)
                ):
                    raise
                failed.add(index)
                continue
            # The first turn warms up, and compiles.
            if turn:
                times[index].append(seconds)
        if turn == _TURNS_TO_DROP:
            per_image = {
                index: min(found) / tried[index].batch_sizes()[0]
                for index, found in enumerate(times)
                if found and index not in failed
            }
            least = min(per_image.values(), default=0.0)
            hopeless = {i for i, took in per_image.items() if i and took > HOPELESS * least}
    return [
        0.0 if index in failed else settings.batch_sizes()[0] / statistics.median(times[index])
        for index, settings in enumerate(tried)
    ]


def _one_pass(backbone: Backbone, modules: list[str], settings: Settings) -> float:
    """Return the seconds that a batch of noise takes, the second time it passes."""
    import torch

    from featx.backbones import Capture

    size = settings.batch_sizes()[0]
    noise = torch.Generator().manual_seed(0)
    last = settings.numerics.channels_last
    order = torch.channels_last if last else torch.contiguous_format
    x = torch.randn(size, 3, *settings.input_size, generator=noise)
    x = x.to(settings.device, memory_format=order)
    backbone.to(settings.device)
    capturing = Capture(backbone, modules, settings.pool, settings.numerics, batch_size=size)
    with arithmetic(settings), capturing as capture:
        capture(x)
        _wait(settings)
        start = time.perf_counter()
        capture(x)
        _wait(settings)
        return time.perf_counter() - start


def _wait(settings: Settings) -> None:
    """Wait until a GPU has done what it was given."""
    import torch

    if settings.device.type != "cpu":
        getattr(torch, settings.device.type).synchronize()


def _about(
    backbone: Backbone,
    points: Sequence[CutPoint],
    settings: Settings,
    free: Collection[str],
    precisions: Sequence[str],
) -> dict[str, Any]:
    """Return what a measurement depends on, as JSON values."""
    fixed = {name: getattr(settings, name) for name in (*_FIELDS, "batch_size")}
    return {
        "backbone": backbone.name,
        "modules": sorted(point.module for point in points),
        "input_size": list(settings.input_size),
        "pool": settings.pool,
        "free": sorted(free),
        "precisions": list(precisions),
        "fixed": fixed,
        # What the settings mean may change with a version of featx.
        "numerics": str(settings.numerics),
        "device": device_name(str(settings.device)),
        "processor": f"{cpu_name()}, {n_cpus()} cores",
        "versions": {k: v for k, v in versions().items() if k in ("torch", backbone.library)},
    }


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path, about: dict[str, Any], settings: Settings) -> Tuning | None:
    """Return what an earlier run found, None where there is nothing that can be used."""
    from featx.cache import fsread

    try:
        data = fsread.read(path, _LONGEST)
        kept = None if data is None else json.loads(bytes(data))
        if kept is None or kept["about"] != about or not _usable(kept["found"]):
            return None
        trials = tuple(
            Trial(str(t["what"]), float(t["images_per_s"]), bool(t["kept"])) for t in kept["trials"]
        )
    except (CacheError, ValueError, KeyError, TypeError):
        return None
    return Tuning(replace(settings, **kept["found"]), trials, True)


def _usable(found: Mapping[str, Any]) -> bool:
    """Return whether a file holds a value of its kind for every field that is measured."""
    numbers = (found["auto_batch"], found["threads"])
    return (
        set(found) == set(_FIELDS)
        and found["precision"] in PRECISIONS
        and all(type(found[name]) is bool for name in ("channels_last", "fold", "compile"))
        and all(n is None or (type(n) is int and n > 0) for n in numbers)
    )


def _write(path: Path, found: dict[str, Any]) -> None:
    """Keep what was found; a disk that refuses costs the next run a measurement."""
    from featx.cache import fsio

    try:
        fsio.make_folder(path.parent)
        fsio.publish(path, json.dumps(found, indent=1, sort_keys=True).encode())
    except CacheError:
        return

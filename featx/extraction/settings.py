"""How features are computed: every ``auto`` decided for these images on this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from featx.backbones.numerics import PRECISIONS, Numerics
from featx.errors import ShapeError, UsageError
from featx.machine import can_compile, n_cpus, pick_devices, pick_precision

if TYPE_CHECKING:
    import torch

    from featx.backbones import Backbone, CutPoint
    from featx.data import Preprocess

# First choice of `auto`; halved when memory runs out. 64 images fill the cores of a CPU.
AUTO_BATCH = {"cpu": 64, "mps": 64, "cuda": 256}


@dataclass(frozen=True)
class Settings:
    """How features are computed, every default decided.

    Attributes
    ----------
    preprocess : Preprocess
        Geometry and normalization of the input.
    input_size : tuple of int
        Height and width in pixels of what enters the network.
    pool : str
        What becomes of a map: ``"avg"``, ``"flatten"``, ...
    device : torch.device
        Where the forward pass runs.
    more_devices : tuple of torch.device
        Further ones of its kind, each with a process of its own and every n-th batch. They
        change no bit, but on a CPU by the threads that are left to each; see `threads`.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the forward pass; features leave it as float32.
    batch_size : int or "auto"
        Images a batch.
    storage : {"float32", "float16"}
        Type of the cached values.
    workers : int
        Threads that decode image files.
    channels_last, fold, compile : bool
        See `featx.backbones.numerics.Numerics`. Channels come last where that is faster: not in
        fp32 on a CUDA GPU.
    threads : int or None
        Of torch, for the forward pass; None leaves their number as it is. They change no bit of
        convolutions; see `CutPoint.threads_matter` for what they may.
    auto_batch : int or None
        First choice of ``batch_size="auto"``; None is `AUTO_BATCH`.
    compiled_for : tuple of str
        Modules of a compiled pass, whose last digits may depend on them; see `of_pass`.
    """

    preprocess: Preprocess
    input_size: tuple[int, int]
    pool: str
    device: torch.device
    precision: str = "fp32"
    batch_size: int | str = "auto"
    storage: str = "float32"
    workers: int = 0
    channels_last: bool = True
    fold: bool = True
    compile: bool = False
    threads: int | None = None
    auto_batch: int | None = None
    compiled_for: tuple[str, ...] = ()
    more_devices: tuple[torch.device, ...] = ()

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Every device of an extraction, of one kind."""
        return self.device, *self.more_devices

    @property
    def numerics(self) -> Numerics:
        """The arithmetic of the forward pass."""
        # Tensor cores want channels last; what computes fp32 on CUDA is slower so (0028).
        slower = self.device.type == "cuda" and self.precision == "fp32"
        channels_last = self.channels_last and not slower
        found = Numerics(self.precision, channels_last, self.fold, self.compile)
        by_map = found.takes_small_maps_first and self.device.type == "cpu"
        return replace(found, small_maps_first=by_map)

    def of_pass(self, points: Iterable[CutPoint]) -> Settings:
        """Return the settings of a pass with these cuts; of a part of them they stay."""
        if not self.compile or self.compiled_for:
            return self
        return replace(self, compiled_for=tuple(sorted(point.module for point in points)))

    def batch_sizes(self) -> list[int]:
        """Return the batch sizes to try, the largest first."""
        if self.batch_size != "auto":
            return [int(self.batch_size)]
        first = self.auto_batch or AUTO_BATCH[self.device.type]
        return [first >> k for k in range(first.bit_length())]


def make_settings(
    backbone: Backbone,
    size: tuple[int, int] | None,
    *,
    decodes: bool = False,
    image_size: int | str | None = "auto",
    pool: str = "avg",
    crop: str = "auto",
    interpolation: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    batch_size: int | str = "auto",
    storage: str = "float32",
    workers: int | str = "auto",
    allow: Collection[str] = (),
    channels_last: bool = True,
    fold: bool = True,
    compile: bool = False,
    threads: int | str = "auto",
) -> Settings:
    """Return settings with every ``auto`` decided for these images on this machine.

    Parameters
    ----------
    backbone : Backbone
        Its weights say the normalization, and the geometry where it is ``auto``.
    size : tuple of int, or None
        Height and width of the images; None when they differ. Decides ``crop="auto"``.
    decodes : bool
        Whether the images are files: ``workers="auto"`` is then a thread per core.
    image_size : int, "auto", "native" or None
        Pixels a side; ``auto`` is the weights' own; ``native`` (None) leaves images as they are.
    precision : {"fp32", "bf16", "fp16", "auto"}
        ``auto`` is the fastest of fp32 and those in `allow` that this device is made for.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; for a process each ``cuda:0,cuda:1`` or
        ``cuda:all``. Processes on the CPU divide its cores.
    threads : int or "auto"
        ``auto`` leaves torch's own number.

    Raises
    ------
    ShapeError
        When ``native`` is asked of images of many sizes.
    UsageError
        For a batch size or a number of threads below 1; when the device is not there, or nothing
        to compile with.
    """
    from featx.data import resolve_crop

    for name, value in (("batch_size", batch_size), ("threads", threads)):
        if value != "auto" and not (isinstance(value, int) and value >= 1):
            raise UsageError(f"{name} is {value!r}: give a number of at least 1, or 'auto'.")
    if precision not in (*PRECISIONS, "auto"):
        valid = ", ".join((*PRECISIONS, "auto"))
        raise UsageError(f"Precision '{precision}' is not known. Valid: {valid}.")
    where, *others = pick_devices(device)
    if compile and not can_compile(where):
        missing = "the package triton" if where.type == "cuda" else "a C++ compiler (g++, clang++)"
        raise UsageError(
            f"compile needs {missing}, and there is none here. Install it, or leave --compile out."
        )
    wanted = backbone.preprocess.image_size if image_size == "auto" else image_size
    side = None if wanted in (None, "native") else int(wanted)
    preprocess = backbone.preprocess.with_size(
        side,
        crop=resolve_crop(crop, size),
        interpolation=None if interpolation == "auto" else interpolation,
    )
    if size is not None:
        enters = preprocess.output_size(size)
    elif side is not None:
        enters = (side, side)
    else:
        raise ShapeError(
            "image_size is native, but the images have many sizes. Give one: --image-size 224"
        )
    # Processes share the cores: to decode, and on a CPU to compute.
    cores = max(1, n_cpus() // (1 + len(others)))
    own_threads = cores if others and where.type == "cpu" else None
    return Settings(
        preprocess=preprocess,
        input_size=enters,
        pool=pool,
        device=where,
        precision=pick_precision(precision, allow, where),
        batch_size=batch_size,
        storage=storage,
        workers=(cores if decodes else 0) if workers == "auto" else int(workers),
        channels_last=channels_last,
        fold=fold,
        compile=compile,
        threads=own_threads if threads == "auto" else int(threads),
        more_devices=tuple(others),
    )


def cut_points(backbone: Backbone, cuts: Sequence[str], settings: Settings) -> dict[str, CutPoint]:
    """Return what is known of each cut at this input size: shape, dimensions, cost."""
    points = backbone.describe_cuts(cuts, settings.input_size, pool=settings.pool)
    by_module: dict[str, str] = {}
    for cut, point in zip(cuts, points, strict=True):
        if point.module in by_module:
            raise UsageError(
                f"Cuts '{by_module[point.module]}' and '{cut}' are the same place "
                f"({point.module}) in {backbone.short_name}. Give one of them."
            )
        by_module[point.module] = cut
    return dict(zip(cuts, points, strict=True))

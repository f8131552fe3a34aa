"""What is measured together, and the lines of the table that come of it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lines import made
from lines.limits import has_bf16
from lines.workers import (
    Side,
    SideFailed,
    check_agreement,
    interleaved,
    ratios,
    seconds,
    spread,
)

STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes
    ----------
    work : Path
        A folder for data sets and caches, on the disk that is to be measured.
    peers : Path
        Where packages of peers are.
    peers_missing : str
        Why they are not there; empty if they are.
    repeats, threads : int
    images : int or None
        Images a side in a round, instead of each line's own number.
    quick : bool
        Few images and rounds: to see that it works.
    """

    work: Path
    peers: Path
    peers_missing: str
    repeats: int
    threads: int
    images: int | None
    quick: bool

    def n(self, full: int, quick: int) -> int:
        """Return how many images a side takes in a round."""
        return self.images or (quick if self.quick else full)


@dataclass
class Line:
    """A line of the table.

    Attributes
    ----------
    name : str
        For programs.
    title : str
        What was measured.
    target : float
    unit : str
        ``"x"``, ``"%"`` or ``"GiB"``.
    smaller_is_better : bool
    value, low, high : float or None
        Median and extremes of the rounds.
    reason : str
        Why it was not measured.
    beside : dict
        Further values, by name.
    settings : dict
        What was run.
    rounds : dict
        Raw measurements by side.
    """

    name: str
    title: str
    target: float
    unit: str = "x"
    smaller_is_better: bool = False
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    beside: dict[str, float] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, Any] = field(default_factory=dict)

    def take(self, found: dict[str, float]) -> None:
        """Take median and extremes."""
        self.value, self.low, self.high = found["value"], found["low"], found["high"]

    def as_dict(self) -> dict[str, Any]:
        """Return it for the JSON file."""
        return asdict(self)


def cut(options: Options) -> list[Line]:
    """fp32, one cut of ResNet-50, against peers."""
    first = Line(
        "cut-thingsvision", "fp32, ResNet-50 at 64 px cut at layer3, against thingsvision", 1.8
    )
    rest = Line(
        "cut-extractors",
        "the same against the fastest of torchvision's create_feature_extractor and timm's "
        "features_only and forward_intermediates",
        1.4,
    )
    settings = {
        "network": "resnet50", "size": 64, "cuts": ["layer3"],
        "n": options.n(384, 64), "batch_size": 64,
    }  # fmt: skip
    _against_peers([first, rest], settings, "fp32", options)
    return [first, rest]


def bf16(options: Options) -> list[Line]:
    """bf16 against peers in fp32."""
    line = Line("bf16", "bf16 against the same peers in fp32 (the fastest)", 3.0)
    if not has_bf16():
        line.reason = "the processor has no avx512_bf16"
        return [line]
    settings = {
        "network": "resnet50", "size": 64, "cuts": ["layer3"],
        "n": options.n(384, 64), "batch_size": 64,
    }  # fmt: skip
    _against_peers([line], settings, "bf16", options)
    return [line]


def stages(options: Options) -> list[Line]:
    """Four cuts in one pass against four passes."""
    line = Line("stages", "four ResNet-50 stages in one run against four runs of thingsvision", 4.0)
    settings = {
        "network": "resnet50", "size": 64, "cuts": list(STAGES),
        "n": options.n(192, 64), "batch_size": 64,
    }  # fmt: skip
    _against_peers([line], settings, "fp32", options)
    return [line]


def _against_peers(
    lines: list[Line], settings: dict[str, Any], precision: str, options: Options
) -> None:
    """Measure featx and every peer in turns; fill the lines."""
    ours = {**settings, "pool": "flatten", "precision": precision}
    sides = {"featx": Side("lines.ours:arrays", ours)}
    if not options.peers_missing:
        sides["thingsvision"] = Side(
            "lines.peers:thingsvision", settings, str(options.peers), peer=True
        )
    for name in ("create_feature_extractor", "features_only", "forward_intermediates"):
        sides[name] = Side(f"lines.peers:{name}", settings, peer=True)
    rounds = interleaved(sides, options.repeats, options.threads)
    if precision == "fp32":
        check_agreement(rounds)
    times = seconds(rounds)
    compared = {name: ratios(times[name], times["featx"]) for name in sides if name != "featx"}
    for line in lines:
        line.settings, line.rounds = ours, times
        if line.name != "cut-thingsvision":
            line.beside = {name: found["value"] for name, found in compared.items()}
        if line.name in ("cut-thingsvision", "stages"):
            if options.peers_missing:
                line.reason = options.peers_missing
                continue
            fastest = "thingsvision"
        else:
            wanted = [n for n in compared if n != "thingsvision" or line.name == "bf16"]
            fastest = min(wanted, key=lambda name: compared[name]["value"])
        line.take(compared[fastest])


def whole(options: Options) -> list[Line]:
    """Images on disk to a verified cache, against the forward pass alone."""
    line = Line(
        "whole",
        "images on disk (32 px, made 64 px) to a verified cache, against the bare forward pass",
        0.92,
    )
    n = options.n(3072, 128)
    data = made.dataset(options.work / f"images-{n}-32.npz", n, 32)
    how = {"device": "cpu", "precision": "fp32", "pool": "avg", "batch_size": 64}
    network = {"network": "resnet50", "size": 64, "cut": "avgpool", "options": how}
    rounds = interleaved(
        {
            "whole": Side("lines.ours:whole", {**network, "data": str(data)}),
            "bare": Side("lines.ours:bare", {**network, "n": n}),
        },
        options.repeats,
        options.threads,
    )
    line.settings, line.rounds = {**network, "n": n}, seconds(rounds)
    line.take(ratios(line.rounds["bare"], line.rounds["whole"]))
    return [line]


def gpu(options: Options) -> list[Line]:
    """The same on a GPU, against the compiled network."""
    line = Line(
        "whole-gpu",
        "the same on a GPU (ResNet-50, 224 px made of 32 px, bf16, avg pooling), against the bare "
        "compiled forward pass",
        0.90,
    )
    return [_whole_on_gpu(line, options, size=32, n=options.n(102_400, 512))]


def gpu_large(options: Options) -> list[Line]:
    """The same of images that come as large as they are used, in one file."""
    line = Line("whole-gpu-224", "the same on a GPU of images of 224 px, in one npz file", 0.90)
    return [_whole_on_gpu(line, options, size=224, n=options.n(10_240, 512))]


def _whole_on_gpu(line: Line, options: Options, size: int, n: int) -> Line:
    """Measure images of a size on disk to a verified cache, against the compiled network."""
    import torch

    if not torch.cuda.is_available():
        line.reason = "no GPU at hand"
        return line
    data = made.dataset(options.work / f"images-{n}-{size}.npz", n, size)
    how = {
        "device": "cuda", "precision": "bf16", "pool": "avg", "batch_size": 256, "compile": True,
    }  # fmt: skip
    network = {"network": "resnet50", "size": 224, "cut": "avgpool", "options": how}
    forward = {
        "network": "resnet50", "size": 224, "n": n, "batch_size": 256, "device": "cuda",
    }  # fmt: skip
    rounds = interleaved(
        {
            "whole": Side("lines.ours:whole", {**network, "data": str(data)}),
            "bare": Side("lines.ours:bare_compiled", forward),
        },
        options.repeats,
        options.threads,
    )
    line.settings = {**network, "n": n}
    line.rounds = {name: [r["images_per_s"] for r in each] for name, each in rounds.items()}
    line.take(ratios(line.rounds["whole"], line.rounds["bare"]))
    return line


def peak(options: Options) -> list[Line]:
    """How much of the fastest convolutions' rate whole networks reach."""
    networks = {
        "vgg16": ("VGG16 at 64 px", 88.0, 64, "block5_pool", options.n(192, 32), 32),
        "resnet18": ("ResNet-18 at 224 px", 72.0, 224, "avgpool", options.n(96, 16), 16),
        "resnet50": ("ResNet-50 at 64 px", 55.0, 64, "avgpool", options.n(384, 64), 64),
    }
    sides = {"peak": Side("lines.limits:convolution", {"shapes": 1} if options.quick else {})}
    for network, (_, _, size, at, n, batch_size) in networks.items():
        settings = {
            "network": network, "size": size, "cuts": [at], "pool": "avg", "n": n,
            "batch_size": batch_size,
        }  # fmt: skip
        sides[network] = Side("lines.ours:arrays", settings)
    rounds = interleaved(sides, options.repeats, options.threads)
    rates = {name: [one["gflops"] for one in each] for name, each in rounds.items()}
    lines = []
    for network, (what, target, *_) in networks.items():
        line = Line(f"peak-{network}", f"share of the convolution peak, fp32: {what}", target, "%")
        line.settings = dict(sides[network].settings)
        line.rounds = {name: rates[name] for name in ("peak", network)}
        line.take(ratios([100 * rate for rate in rates[network]], rates["peak"]))
        lines.append(line)
    return lines


def preprocessing(options: Options) -> list[Line]:
    """Resizing, by a module of its own."""
    line = Line(
        "preprocessing",
        "32 px to 224 px preprocessing against torchvision's per-image transforms in a DataLoader",
        5.0,
    )
    return [_delegated(line, "preprocessing", options)]


def photos(options: Options) -> list[Line]:
    """Decoding, by a module of its own."""
    line = Line(
        "photos",
        "folder of 500 px JPEGs, end to end, against ImageFolder + DataLoader, as many workers",
        1.5,
    )
    return [_delegated(line, "photos", options)]


def _delegated(line: Line, module: str, options: Options) -> Line:
    """Take what ``benchmarks/<module>.py`` measures, its sides in processes of their own too."""
    if importlib.util.find_spec(module) is None:
        line.reason = f"benchmarks/{module}.py is not there"
        return line
    module_options = {
        "quick": options.quick,
        "threads": options.threads,
        "repeats": options.repeats,
    }
    if options.images:
        module_options["images"] = options.images
    found = importlib.import_module(module).measure(**module_options)
    line.value, line.low, line.high = found["ratio"], found["low"], found["high"]
    line.beside = found["ratios"]
    line.rounds = found["rounds"]
    line.settings = {name: found[name] for name in ("images", "threads", "source") if name in found}
    return line


def memory(options: Options) -> list[Line]:
    """Peak memory of a large extraction over that of the forward pass."""
    line = Line(
        "memory",
        "peak memory for 60,000 images, ResNet-50 layer2 flattened, over that of the bare forward "
        "pass",
        1.0,
        "GiB",
        smaller_is_better=True,
    )
    n = options.n(60_000, 512)
    data = made.dataset(options.work / f"images-{n}-32.npz", n, 32)
    how = {"device": "cpu", "precision": "fp32", "pool": "flatten", "batch_size": 64}
    network = {"network": "resnet50", "size": 32, "cut": "layer2", "options": how}
    # A peak needs no repeats: what a process held once stays its peak.
    rounds = interleaved(
        {
            "whole": Side("lines.ours:whole", {**network, "data": str(data)}, warm_up=False),
            "bare": Side("lines.ours:bare", {**network, "n": 256}, warm_up=False),
        },
        1,
        options.threads,
    )
    line.settings = {**network, "n": n}
    line.rounds = {name: [r["peak_bytes"] for r in each] for name, each in rounds.items()}
    line.take(spread([(line.rounds["whole"][0] - line.rounds["bare"][0]) / 2**30]))
    return [line]


def million(options: Options) -> list[Line]:
    """Whether the rate stays as images become many.

    What a run costs however few its images are would flatter the many: rates are those of the
    images behind the first 10,000, between runs of three lengths.
    """
    many = options.n(1_000_000, 4000)
    few, some = min(10_000, many // 8), min(200_000, many // 2)
    line = Line(
        "million",
        f"images/s behind the first {few:,} images, of {many:,} images against of {some:,}",
        0.98,
    )
    if few < 1:
        line.reason = f"{many} images are too few: give at least 8"
        return [line]
    # Next to no arithmetic: what grows with the number of images is seen best.
    how = {"device": "cpu", "precision": "fp32", "pool": "avg", "batch_size": 64}
    network = {"network": "resnet18", "size": 8, "cut": "pool1_pool", "options": how}
    sides = {}
    for n in (few, some, many):
        data = made.dataset(options.work / f"images-{n}-8.npz", n, 8)
        settings = {**network, "data": str(data)}
        # The large one is its own warm-up.
        sides[str(n)] = Side("lines.ours:whole", settings, warm_up=n != many)
    took = seconds(interleaved(sides, options.repeats, options.threads))

    def rates(n: int) -> list[float]:
        pairs = list(zip(took[str(n)], took[str(few)], strict=True))
        if any(longer <= shorter for longer, shorter in pairs):
            raise SideFailed(f"{n:,} images took no longer than {few:,}: take more images")
        return [(n - few) / (longer - shorter) for longer, shorter in pairs]

    line.settings, line.rounds = network, took
    line.take(ratios(rates(many), rates(some)))
    whole = ratios([many / s for s in took[str(many)]], [few / s for s in took[str(few)]])
    line.beside = {f"whole runs, of {many:,} images against of {few:,}": whole["value"]}
    return [line]


GROUPS: dict[str, Callable[[Options], list[Line]]] = {
    "cut": cut,
    "bf16": bf16,
    "stages": stages,
    "whole": whole,
    "gpu": gpu,
    "gpu-large": gpu_large,
    "peak": peak,
    "preprocessing": preprocessing,
    "photos": photos,
    "memory": memory,
    "million": million,
}

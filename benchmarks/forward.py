"""How fast a network runs to a cut: featx' working copies against plain hooks with a stop.

Noise instead of images, no decoding, no cache: `Capture` alone. The variants take turns, so that
whatever else the machine does hits them all; the figures are medians.

    python benchmarks/forward.py --rounds 5 --threads 2
    python benchmarks/forward.py --json
    python benchmarks/forward.py --device cuda --compile
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator

import torch

import featx
from featx.backbones import Capture
from featx.backbones.numerics import PLAIN, Numerics
from featx.machine import (
    cpu_has_bf16,
    cpu_name,
    device_name,
    keep_freed_memory,
    plain_fp32,
    versions,
)

# Network, pixels a side, images a batch, cut: the cases of docs/performance.md.
CASES = (
    ("resnet50", 64, 64, "layer3"),
    ("resnet50", 64, 64, "layer4"),
    ("resnet50", 32, 64, "layer4"),
    ("vgg16", 32, 64, "features.30"),
    ("vgg16", 64, 32, "features.30"),
    ("resnet18", 64, 64, "layer4"),
    ("resnet18", 224, 16, "layer4"),
    ("mobilenet_v2", 224, 16, "features"),
    ("timm/vit_tiny_patch16_224", 224, 16, "norm"),
    ("convnext_tiny", 64, 32, "features"),
    ("timm/tf_efficientnet_lite0", 64, 64, "stage4"),
)
GPU_CASES = (
    ("resnet50", 64, 256, "layer3"),
    ("resnet50", 224, 256, "layer4"),
    ("vgg16", 224, 256, "features.30"),
    ("resnet18", 224, 256, "layer4"),
    ("timm/vit_base_patch16_224", 224, 256, "norm"),
)
# What torch does on a GPU unless told otherwise: convolutions in 10 bits.
TF32 = "plain, TF32"
# Without what convolutions do besides.
APART = ("small maps first, apart", "bf16, apart")
VARIANTS = {
    "plain": PLAIN,
    "channels-last": Numerics(channels_last=True),
    "folded": Numerics(fold=True),
    "folded, channels-last": Numerics(channels_last=True, fold=True),
    "small maps first": Numerics(channels_last=True, fold=True, small_maps_first=True),
    APART[0]: Numerics(channels_last=True, fold=True, small_maps_first=True),
}
BF16 = {name: Numerics("bf16", channels_last=True, fold=True) for name in ("bf16", APART[1])}
COMPILED = {"compiled": Numerics(channels_last=True, fold=True, compile=True)}
COMPILED_BF16 = {"bf16, compiled": Numerics("bf16", channels_last=True, fold=True, compile=True)}


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Have working copies made whose convolutions leave sums and ReLU to torch."""
    from featx.backbones import backbone

    check = backbone.onednn_fuses_bit_for_bit
    backbone.onednn_fuses_bit_for_bit = lambda precision: False
    try:
        yield
    finally:
        backbone.onednn_fuses_bit_for_bit = check


def measure(
    name: str,
    side: int,
    batch: int,
    cut: str,
    variants: dict[str, Numerics],
    rounds: int,
    device: str,
) -> dict[str, float]:
    """Return the images a second of each variant, medians of `rounds` turns."""
    shared = featx.load_backbone(name, "none")
    # A backbone keeps one compiled pass, the last.
    backbones = {
        variant: featx.load_backbone(name, "none") if numerics.compile else shared
        for variant, numerics in variants.items()
    }
    for backbone in backbones.values():
        backbone.to(torch.device(device))
    x = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_fp32())
        captures = {}
        # The plain one last: working copies made while its hooks are there would have them too.
        for variant in sorted(variants, key=lambda variant: variants[variant].plain):
            capture = Capture(backbones[variant], [cut], "avg", variants[variant], batch_size=batch)
            with apart() if variant in APART else contextlib.nullcontext():
                captures[variant] = stack.enter_context(capture)
        for turn in range(rounds + 1):
            for variant, capture in captures.items():
                torch.backends.cudnn.allow_tf32 = variant == TF32
                start = time.perf_counter()
                capture(x)
                if device == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    times[variant].append(time.perf_counter() - start)
    return {variant: batch / statistics.median(seconds) for variant, seconds in times.items()}


def results(
    cases: tuple[tuple[str, int, int, str], ...],
    variants: dict[str, Numerics],
    rounds: int,
    device: str,
) -> Iterator[dict]:
    """Yield a row per case: images a second, and how many times plain hooks that is."""
    for name, side, batch, cut in cases:
        speeds = measure(name, side, batch, cut, variants, rounds, device)
        yield {
            "network": name, "side": side, "batch": batch, "cut": cut, "images_per_s": speeds,
            "ratio": {variant: speed / speeds["plain"] for variant, speed in speeds.items()},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--case", action="append", help="Networks to measure. Default: all.")
    parser.add_argument("--batch", type=int, help="Images a batch. Default: the case's own.")
    parser.add_argument("--bf16", action="store_true", default=cpu_has_bf16())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", action="store_true", help="One JSON object per line.")
    args = parser.parse_args()
    if args.batch is not None and args.batch < 1:
        parser.error(f"--batch {args.batch}: give at least 1 image.")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here. Leave it out.")
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    on_gpu = args.device == "cuda"
    bf16 = on_gpu or args.bf16
    variants = VARIANTS | (BF16 if bf16 else {})
    if args.compile:
        variants |= COMPILED | (COMPILED_BF16 if bf16 else {})
    if on_gpu:
        # These are a CPU's, and fp32 has channels first.
        variants = {TF32: PLAIN, **variants}
        for variant in ("small maps first", *APART):
            del variants[variant]
        if args.compile:
            variants["compiled"] = Numerics(fold=True, compile=True)
    if not args.json:
        where = device_name("cuda") if on_gpu else f"{cpu_name()}, {args.threads} threads"
        print(f"{where}, torch {versions()['torch']}")
    chosen = tuple(
        (name, side, batch if args.batch is None else args.batch, cut)
        for name, side, batch, cut in (GPU_CASES if on_gpu else CASES)
        if not args.case or name in args.case
    )
    for row in results(chosen, variants, args.rounds, args.device):
        if args.json:
            print(json.dumps(row), flush=True)
            continue
        print(f"{row['network']} {row['side']} px, batches of {row['batch']}, cut {row['cut']}")
        for variant, speed in row["images_per_s"].items():
            print(f"  {variant:24}{speed:10.1f} images/s{row['ratio'][variant]:8.2f}", flush=True)


if __name__ == "__main__":
    main()

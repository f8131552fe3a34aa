"""What a whole extraction is made of: preparing a batch, the network alone, the loop, the rest.

ResNet-50 at 224 px in bf16, compiled on a GPU, batches of 256 (on a CPU: 16, not compiled), random
images of 32 and of 224 px. Where an extraction takes longer than the network, one of them says why.

    python benchmarks/pieces.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lines import made
from lines.ours import bare_compiled

import featx
from featx.backbones import Capture
from featx.data import ArrayImages
from featx.extraction import Settings, cut_points, make_settings
from featx.extraction.forward import arithmetic, forward_batches

NETWORK, CUT, SIZE = "resnet50", "avgpool", 224
SIDES = (32, 224)


def milliseconds(call: Callable[[], Any], device: str, repeats: int) -> float:
    """Return the median of a call; a GPU is waited for."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    # The first two warm up.
    return statistics.median(times[2:])


def batch_pieces(settings: Settings, side: int, batch_size: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of what happens to a batch before the network."""
    device = settings.device.type
    batch = torch.from_numpy(made.images(batch_size, side))
    layout = torch.channels_last if settings.numerics.channels_last else torch.contiguous_format

    def prepare(images: torch.Tensor) -> torch.Tensor:
        return settings.preprocess.to_input(
            images, settings.device, already_sized=False, memory_format=layout
        )

    found = {}
    if device == "cuda":
        pinned = batch.pin_memory()
        found["pin"] = milliseconds(batch.pin_memory, device, repeats)
        upload = {"device": settings.device, "non_blocking": True}
        found["upload"] = milliseconds(lambda: pinned.to(**upload), device, repeats)
        batch = pinned
    found["upload and prepare"] = milliseconds(lambda: prepare(batch), device, repeats)
    return found


def resident(backbone: Any, settings: Settings, batch_size: int, repeats: int) -> float:
    """Return the images a second of the network alone, on a batch that lies on the device."""
    backbone.to(settings.device)
    x = made.inputs(backbone, batch_size, SIZE, batch_size)[0].to(settings.device)
    capturing = Capture(backbone, [CUT], "avg", settings.numerics, batch_size=batch_size)
    with arithmetic(settings), capturing as capture:
        took = milliseconds(lambda: capture(x), settings.device.type, repeats)
    return 1000 * batch_size / took


def loop(backbone: Any, settings: Settings, side: int, n: int, batch_size: int) -> float:
    """Return the images a second of the loop without a cache, the second time it runs."""
    images, points = ArrayImages(made.images(n, side)), cut_points(backbone, [CUT], settings)
    for _ in range(2):
        start = time.perf_counter()
        for _ in forward_batches(backbone, points, images, settings, batch_size):
            pass
        took = time.perf_counter() - start
    return n / took


def whole(backbone: Any, settings: Settings, side: int, n: int) -> dict[str, float]:
    """Return the seconds of each step from a file to a verified cache."""
    with tempfile.TemporaryDirectory(prefix="featx-pieces-") as folder:
        data = made.dataset(Path(folder) / "images.npz", n, side)
        found = {}
        store = featx.FeatureStore(Path(folder) / "cache")
        found["load"], dataset = made.timed(lambda: featx.load_dataset(f"npz:{data}", val=0))
        split = dataset.splits["train"]
        found["digest"], _ = made.timed(lambda: split.digest)
        found["extract"], sets = made.timed(
            lambda: featx.extract_to_store(backbone, [CUT], split, store, settings)
        )
        found["verify"], _ = made.timed(sets[CUT].verify)
    return found


def pieces(device: str, n: int, repeats: int) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each piece."""
    on_gpu = device == "cuda"
    batch_size = 256 if on_gpu else 16
    how = {"precision": "bf16", "compile": on_gpu, "pool": "avg", "batch_size": batch_size}
    backbone = made.backbone(NETWORK)
    for side in SIDES:
        settings = make_settings(backbone, (side, side), image_size=SIZE, device=device, **how)
        yield f"ms a batch, {side} px", batch_pieces(settings, side, batch_size, repeats)
    yield "images/s on a batch that lies there", resident(backbone, settings, batch_size, repeats)
    if on_gpu:
        bare = bare_compiled(NETWORK, SIZE, n, batch_size, device)
        bare()
        yield "images/s of the bare compiled network", bare()["images_per_s"]
    for side in SIDES:
        settings = make_settings(backbone, (side, side), image_size=SIZE, device=device, **how)
        rate = loop(backbone, settings, side, n, batch_size)
        yield f"images/s of the loop, {side} px", rate
        yield f"seconds of a whole run, {side} px", whole(backbone, settings, side, n)


def main() -> None:
    """Measure and print, a JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", type=int, default=20_480, help="of the loop and a whole run")
    parser.add_argument("--repeats", type=int, default=20, help="of what a batch takes")
    args = parser.parse_args()
    for name in ("images", "repeats"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} {getattr(args, name)}: give at least 1.")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here. Leave it out.")
    for name, value in pieces(args.device, args.images, args.repeats):
        print(json.dumps({name: value}), flush=True)


if __name__ == "__main__":
    main()

"""Small images to network input: featx beside torchvision's per-image transforms in a DataLoader.

Usage: python benchmarks/preprocessing.py [--images 256] [--repeats 5] [--threads 2] [--quick]

Prints one JSON line per pair of sizes: seconds of featx, of the DataLoader without workers and with
two, all with as many torch threads, medians of interleaved rounds in one process. `ratio` is the
faster DataLoader's time by featx', round by round, median; both give the same bits, which is
checked. Workers are started before the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from featx.data import TORCH
from featx.machine import keep_freed_memory
from featx.torchvision_compat import import_torchvision

BATCH = 64


class PerImage(torch.utils.data.Dataset):
    """What tutorials write: Resize, ToTensor and Normalize of each image."""

    def __init__(self, images: np.ndarray, size: int) -> None:
        import_torchvision()
        from torchvision.transforms import Compose, Normalize, Resize, ToTensor

        self.images = images
        self.transform = Compose(
            [Resize((size, size)), ToTensor(), Normalize(TORCH.mean, TORCH.std)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.transform(Image.fromarray(self.images[i]))


def by_featx(images: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    """Yield batches as extraction makes them, in the memory order that convolutions like."""
    preprocess = TORCH.with_size(size, crop="none")
    for first in range(0, len(images), BATCH):
        batch = torch.from_numpy(images[first : first + BATCH])
        yield preprocess.to_input(batch, "cpu", False, torch.channels_last)


def seconds(batches: Iterator[torch.Tensor]) -> float:
    """Return how long all batches take; none is kept."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def measure(
    *,
    quick: bool = False,
    threads: int = 2,
    size: int = 32,
    new_size: int = 224,
    images: int = 512,
    repeats: int = 5,
) -> dict[str, Any]:
    """Return seconds of featx and of its peers, and the ratio with the least and the most seen."""
    if quick:
        images, repeats = min(images, 128), min(repeats, 3)
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    data = PerImage(pixels, new_size)
    loader = torch.utils.data.DataLoader
    loaders = {
        "DataLoader, no workers": loader(data, BATCH),
        f"DataLoader, {threads} workers": loader(
            data, BATCH, num_workers=threads, persistent_workers=True
        ),
    }
    try:
        for ours, *theirs in zip(by_featx(pixels, new_size), *loaders.values(), strict=True):
            if not all(torch.equal(ours, each) for each in theirs):
                raise SystemExit("featx' pixels are not torchvision's")
        sides = {"featx": lambda: by_featx(pixels, new_size)} | {
            name: lambda each=each: iter(each) for name, each in loaders.items()
        }
        took: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(repeats):
            # In turns, and each first as often as last.
            for name, batches in list(sides.items())[:: 1 if turn % 2 == 0 else -1]:
                took[name].append(seconds(batches()))
    finally:
        torch.set_num_threads(before)
    return summary(f"preprocessing {size} px to {new_size} px", took, images, threads)


def summary(name: str, took: dict[str, list[float]], images: int, threads: int) -> dict[str, Any]:
    """Return medians, and the ratio to the best peer of each round."""
    peers = {peer: times for peer, times in took.items() if peer != "featx"}
    ratios = [
        min(times) / ours for ours, *times in zip(took["featx"], *peers.values(), strict=True)
    ]
    return {
        "name": name,
        "images": images,
        "threads": threads,
        "featx_s": statistics.median(took["featx"]),
        "peers": {peer: statistics.median(times) for peer, times in peers.items()},
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = vars(parser.parse_args())
    # 64 to 224 is left to Pillow; the others torch resizes to the same pixels.
    for size, new_size in ((32, 224), (32, 64), (64, 224), (32, 32)):
        print(json.dumps(measure(size=size, new_size=new_size, **options)), flush=True)


if __name__ == "__main__":
    main()

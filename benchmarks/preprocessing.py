"""Small images to network input: featx beside torchvision's per-image transforms in a DataLoader.

Usage: python benchmarks/preprocessing.py [--images 512] [--repeats 5] [--threads 2] [--quick]

Prints one JSON line per pair of sizes: seconds of featx, of the DataLoader without workers and with
as many as featx has threads, medians of interleaved rounds, each side in a process of its own.
`ratio` is the faster DataLoader's time by featx', round by round, median; all give the same bits,
which is checked. Workers are started before the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from lines import made
from lines.workers import Side, SideFailed, interleaved, ratios, seconds
from PIL import Image

from featx.data import TORCH
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


def featx_side(size: int, new_size: int, images: int) -> Callable[[], dict[str, Any]]:
    """Batches as extraction makes them, in the memory order that convolutions like."""
    found = made.images(images, size)
    preprocess = TORCH.with_size(new_size, crop="none")

    def batches() -> Iterator[torch.Tensor]:
        for first in range(0, len(found), BATCH):
            batch = torch.from_numpy(found[first : first + BATCH])
            yield preprocess.to_input(batch, "cpu", False, torch.channels_last)

    made.featx_memory()
    return timed_batches(batches)


def loader_side(
    size: int, new_size: int, images: int, workers: int
) -> Callable[[], dict[str, Any]]:
    """Batches of a DataLoader."""
    loader = torch.utils.data.DataLoader(
        PerImage(made.images(images, size), new_size),
        BATCH, num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    return timed_batches(lambda: iter(loader))


def timed_batches(batches: Callable[[], Iterator[torch.Tensor]]) -> Callable[[], dict[str, Any]]:
    """Return what one round calls: it makes all batches and keeps none."""
    digest = hashlib.sha256()
    for x in batches():
        digest.update(x.contiguous().numpy())

    def run() -> dict[str, Any]:
        took, _ = made.timed(lambda: deque(batches(), maxlen=0))
        return {"s": took, "digest": digest.hexdigest()}

    return run


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
    settings = {"size": size, "new_size": new_size, "images": images}
    loader = "preprocessing:loader_side"
    rounds = interleaved(
        {
            "featx": Side("preprocessing:featx_side", settings),
            "DataLoader, no workers": Side(loader, {**settings, "workers": 0}, peer=True),
            f"DataLoader, {threads} workers": Side(
                loader, {**settings, "workers": threads}, peer=True
            ),
        },
        repeats,
        threads,
    )
    check_bits(rounds)
    name = f"preprocessing {size} px to {new_size} px"
    return summary(name, seconds(rounds)) | {"images": images, "threads": threads}


def check_bits(rounds: Mapping[str, list[dict[str, Any]]]) -> None:
    """Refuse sides whose batches are not featx', bit for bit."""
    for name, each in rounds.items():
        if each[0]["digest"] != rounds["featx"][0]["digest"]:
            raise SideFailed(f"{name}: its pixels are not featx'")


def summary(name: str, took: dict[str, list[float]]) -> dict[str, Any]:
    """Return what both sides took, and the ratio to the faster peer, round by round."""
    peers = [side for side in took if side != "featx"]
    compared = {side: ratios(took[side], took["featx"]) for side in peers}
    fastest = [min(each) for each in zip(*(took[side] for side in peers), strict=True)]
    found = ratios(fastest, took["featx"])
    return {
        "name": name,
        "ratio": found["value"],
        "low": found["low"],
        "high": found["high"],
        "ratios": {side: each["value"] for side, each in compared.items()},
        "seconds": {side: statistics.median(each) for side, each in took.items()},
        "rounds": took,
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
    try:
        for size, new_size in ((32, 224), (32, 64), (64, 224), (32, 32)):
            print(json.dumps(measure(size=size, new_size=new_size, **options)), flush=True)
    except SideFailed as failure:
        raise SystemExit(f"{failure}") from failure


if __name__ == "__main__":
    main()

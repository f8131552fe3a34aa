"""Many images in one npz file: read, checked and hashed by featx and, beside it, in one thread.

Usage: python benchmarks/loading.py [--images 6000] [--size 224] [--repeats 7]

What a run waits for before it can look into the cache. "One thread" is NumPy, which checks zip's
checksum too, and one SHA-256. Prints one JSON line: medians of interleaved rounds, each side in a
process of its own, of a file that the system has in memory; ratios round by round. The first round
of a process is not measured: a virtual machine is slow to hand out memory the first time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lines import made
from lines.workers import Side, SideFailed, interleaved, ratios

import featx
from featx.machine import n_cpus

PARTS = ("load", "digest")


def featx_side(path: str) -> Callable[[], dict[str, Any]]:
    """Read and hash as every run of featx does, where no image is held out."""

    def run() -> dict[str, Any]:
        load, dataset = made.timed(lambda: featx.load_dataset(f"npz:{path}", val=0))
        split = dataset.splits["train"]
        digest, _ = made.timed(lambda: split.digest)
        return {"s": load + digest, "load": load, "digest": digest, "n": len(split)}

    return run


def one_thread_side(path: str) -> Callable[[], dict[str, Any]]:
    """Read by NumPy, and hash in one piece."""

    def run() -> dict[str, Any]:
        with np.load(path) as file:
            load, images = made.timed(lambda: file["train_x"])
        digest, _ = made.timed(lambda: hashlib.sha256(images).digest())
        return {"s": load + digest, "load": load, "digest": digest, "n": len(images)}

    return run


def measure(images: int, size: int, repeats: int) -> dict[str, Any]:
    """Return the seconds of both sides by parts, and how many times as fast featx is."""
    with tempfile.TemporaryDirectory(prefix="featx-loading-") as folder:
        settings = {"path": str(made.dataset(Path(folder) / "images.npz", images, size))}
        sides = {
            "featx": Side("loading:featx_side", settings),
            "one thread": Side("loading:one_thread_side", settings, peer=True),
        }
        rounds = interleaved(sides, repeats, n_cpus())
    took = {
        side: {part: [each[part] for each in found] for part in (*PARTS, "s")}
        for side, found in rounds.items()
    }
    compared = {
        part: ratios(took["one thread"][part], took["featx"][part]) for part in (*PARTS, "s")
    }
    return {
        "images": images,
        "px": size,
        "gigabytes": images * size * size * 3 / 1e9,
        "threads": n_cpus(),
        "seconds": {
            side: {part: statistics.median(each) for part, each in parts.items()}
            for side, parts in took.items()
        },
        "ratio": compared,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    for name in ("images", "size", "repeats"):
        least = 20 if name == "images" else 1
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}: give at least {least}.")
    try:
        print(json.dumps(measure(args.images, args.size, args.repeats)), flush=True)
    except SideFailed as failure:
        raise SystemExit(f"{failure}") from failure


if __name__ == "__main__":
    main()

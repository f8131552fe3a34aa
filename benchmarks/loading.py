"""Many images in one npz file: read, checked and hashed by featx and, beside it, in one thread.

Usage: python benchmarks/loading.py [--images 6000] [--size 224] [--repeats 7] [--val 0.2]

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


def featx_side(path: str, val: float) -> Callable[[], dict[str, Any]]:
    """Read and hash the training images as every run of featx does."""

    def run() -> dict[str, Any]:
        load, dataset = made.timed(lambda: featx.load_dataset(f"npz:{path}", val=val))
        split = dataset.splits["train"]
        digest, _ = made.timed(lambda: split.digest)
        return {"s": load + digest, "load": load, "digest": digest, "n": len(split)}

    return run


def one_thread_side(path: str, val: float) -> Callable[[], dict[str, Any]]:
    """Read by NumPy, and hash as many images in one piece; none is copied."""

    def run() -> dict[str, Any]:
        with np.load(path) as file:
            load, images = made.timed(lambda: file["train_x"])
        n = len(images) - round(val * len(images))
        digest, _ = made.timed(lambda: hashlib.sha256(images[:n]).digest())
        return {"s": load + digest, "load": load, "digest": digest, "n": n}

    return run


def measure(images: int, size: int, repeats: int, val: float) -> dict[str, Any]:
    """Return the seconds of both sides by parts, and how many times as fast featx is."""
    with tempfile.TemporaryDirectory(prefix="featx-loading-") as folder:
        path = made.dataset(Path(folder) / "images.npz", images, size)
        settings = {"path": str(path), "val": val}
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
        "val": val,
        "gigabytes": images * size * size * 3 / 1e9,
        "threads": n_cpus(),
        "seconds": {
            side: {part: statistics.median(each) for part, each in parts.items()}
            for side, parts in took.items()
        },
        "ratio": compared,
        "rounds": took,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--val", type=float, default=0, help="share that is held out")
    args = parser.parse_args()
    for name in ("images", "size", "repeats"):
        least = 20 if name == "images" else 1
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)}: give at least {least}.")
    if not 0 <= args.val < 1:
        parser.error(f"--val {args.val}: give a share from 0 to below 1.")
    try:
        print(json.dumps(measure(args.images, args.size, args.repeats, args.val)), flush=True)
    except SideFailed as failure:
        raise SystemExit(f"{failure}") from failure


if __name__ == "__main__":
    main()

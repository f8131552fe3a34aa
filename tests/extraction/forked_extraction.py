"""Whole extractions in forked children: torch is imported and a network built once.

A program that imports this can begin an extraction in some milliseconds, which makes hundreds of
killed or simultaneous ones affordable. Its own process extracts in memory only, so that it has one
thread when it forks.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parents[1] / "cache"))

import filelock  # noqa: E402, F401
import h5py  # noqa: E402, F401

import featx.cache  # noqa: E402
from featx.backbones import Capture, load_backbone  # noqa: E402
from featx.cache import FeatureStore, locks  # noqa: E402
from featx.data import ArrayImages, Split  # noqa: E402
from featx.extraction import (  # noqa: E402
    cut_points,
    extract,
    extract_to_store,
    feature_key,
    make_settings,
)
from featx.progress import SILENT, Progress  # noqa: E402

CUTS = ["pool1", "fc1"]
BATCH, SHARD_ROWS, N_ROWS = 4, 8, 22
BACKBONE = load_backbone("conv2", "none", seed=3)
_PIXELS = np.random.default_rng(0).integers(0, 256, (N_ROWS, 32, 32, 3), dtype=np.uint8)
SPLIT = Split("train", ArrayImages(_PIXELS), np.arange(N_ROWS, dtype=np.int64) % 3)
SETTINGS = make_settings(BACKBONE, (32, 32), image_size="native", batch_size=BATCH)

# Real shards have up to 4,096 rows; a few of them are to be lost here, not one.
featx.cache.shard_rows_for = lambda n_features, batch_size, storage: SHARD_ROWS
locks._POLL_S = 0.005
KEYS = [
    feature_key(BACKBONE, SPLIT, SETTINGS, point, BATCH)
    for point in cut_points(BACKBONE, CUTS, SETTINGS).values()
]
extract(BACKBONE, CUTS, _PIXELS[:BATCH], image_size="native", batch_size=BATCH)


class Counter:
    """A number that survives the process that counts."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        """The number."""
        return int(struct.unpack("<Q", self._memory[:8])[0])

    def add(self, n: int) -> None:
        """Count; from one process at a time."""
        self._memory[:8] = struct.pack("<Q", self.value + n)


def fork(work: Callable[[], Any]) -> int:
    """Run `work` in a child; return its process id."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def run(root: Path, on_forward: Callable[[int], None], progress: Progress = SILENT) -> None:
    """Extract into a store, telling the images of every forward pass before it begins."""
    forward = Capture.__call__

    def call(self: Capture, x: torch.Tensor) -> dict[str, torch.Tensor]:
        on_forward(len(x))
        return forward(self, x)

    Capture.__call__ = call  # type: ignore[method-assign]
    extract_to_store(BACKBONE, CUTS, SPLIT, FeatureStore(root), SETTINGS, progress=progress)


def rows_done(root: Path) -> int:
    """Return the rows that an extraction need not compute again, for every cut."""
    return min(map(FeatureStore(root).progress, KEYS))


def content(root: Path) -> dict[str, bytes]:
    """Return every entry's files, byte by byte, after each was verified and read."""
    store = FeatureStore(root)
    for info in store.verify():
        if info.problem or info.key is None or store.find(info.key) is None:
            raise AssertionError(f"{info.path}: {info.problem or 'not complete'}")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.glob("*/*-*/*"))
        if not path.parts[-3].startswith(".")
    }

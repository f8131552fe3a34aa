"""Writing and reading a verified cache, beside plain files of the same bytes.

``python benchmarks/cache_speed.py FOLDER``: ratios of throughput, interleaved, the best of the
repeats (other work on the machine only makes a call slower). Files are read again while the system
has them in memory: what is compared is the work, not the disk.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cache_memory import BATCH, key

from featx.cache import FeatureStore


def plain_write(path: Path, X: np.ndarray) -> None:
    """Write the bytes one after the other, and wait for the disk."""
    with path.open("wb") as file:
        for start in range(0, len(X), 4096):
            file.write(X[start : start + 4096].data)
        file.flush()
        os.fsync(file.fileno())


def cache_write(root: Path, X: np.ndarray, y: np.ndarray) -> None:
    """Write the rows as extraction does, in batches."""
    store = FeatureStore(root)
    with store.writer(key(X.shape[1]), n_rows=len(X), n_features=X.shape[1]) as writer:
        for start in range(0, len(X), BATCH):
            writer.append(X[start : start + BATCH], y[start : start + BATCH])
        writer.finish()


def cache_read(root: Path, n_features: int) -> np.ndarray:
    """Read all features; every digest is checked."""
    found = FeatureStore(root).find(key(n_features))
    assert found is not None
    return found.read()


def timed(function: Callable[[], object], n_bytes: int) -> float:
    """Return the seconds of a call, with nothing of an earlier one left to write.

    A virtual machine hands out memory slowly that it has not handed out before: as much as the call
    needs is touched first, so that the first one does not pay for all.
    """
    os.sync()
    np.ones(2 * n_bytes, dtype=np.uint8)
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    X = np.random.default_rng(0).standard_normal((options.rows, options.features), dtype=np.float32)
    y = np.arange(options.rows) % 10
    options.folder.mkdir(parents=True, exist_ok=True)
    plain, array, root = (options.folder / name for name in ("plain.bin", "array.npy", "cache"))
    times: dict[str, list[float]] = {}
    for _ in range(options.repeats):
        shutil.rmtree(root, ignore_errors=True)
        plain.unlink(missing_ok=True)
        calls = {
            "plain write": lambda: plain_write(plain, X),
            "cache write": lambda: cache_write(root, X, y),
            "np.save": lambda: np.save(array, X),
            "np.load": lambda: np.load(array),
            "cache read": lambda: cache_read(root, options.features),
        }
        for name, call in calls.items():
            times.setdefault(name, []).append(timed(call, X.nbytes))
    best = {name: min(found) for name, found in times.items()}
    gigabytes = X.nbytes / 1e9
    print(f"{options.rows:,} x {options.features:,} float32, {gigabytes:.2f} GB\n")
    print("| | GB/s | ratio | aim |")
    print("|---|---:|---:|---:|")
    for name, beside, aim in (("cache write", "plain write", 0.6), ("cache read", "np.load", 0.7)):
        for shown in (beside, name):
            ratio = f"{best[beside] / best[name]:.2f}" if shown == name else ""
            goal = f"{aim:g}" if shown == name else ""
            print(f"| {shown} | {gigabytes / best[shown]:.2f} | {ratio} | {goal} |")


if __name__ == "__main__":
    main()

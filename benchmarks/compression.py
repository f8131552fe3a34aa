"""Lossless compression of real features: bytes and time of the filters of h5py and hdf5plugin.

``python benchmarks/compression.py NAME.npz ...`` with what benchmarks/head_features.py writes, and
hdf5plugin installed. The first rows of each file, up to --megabytes, as float32 and as float16, go
into an HDF5 file in memory, in chunks of 64 rows: the disk is not measured. Interleaved, the best
of the repeats; every filter must give back the same bits.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

CHUNK_ROWS = 64

FILTERS: dict[str, dict[str, Any]] = {
    "none, contiguous": {},
    "lzf": {"compression": "lzf"},
    "shuffle + lzf": {"compression": "lzf", "shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1},
    "shuffle + gzip 1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "LZ4": dict(hdf5plugin.LZ4()),
    "bitshuffle + LZ4": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "bitshuffle + zstd 3": dict(hdf5plugin.Bitshuffle(cname="zstd", clevel=3)),
    "zstd 1": dict(hdf5plugin.Zstd(clevel=1)),
    "zstd 3": dict(hdf5plugin.Zstd(clevel=3)),
    "Blosc2 shuffle + LZ4": dict(hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=1)),
    "Blosc2 bitshuffle + LZ4": dict(hdf5plugin.Blosc2(cname="lz4", clevel=5, filters=2)),
    "Blosc2 shuffle + zstd 1": dict(hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=1)),
    "Blosc2 bitshuffle + zstd 1": dict(hdf5plugin.Blosc2(cname="zstd", clevel=1, filters=2)),
}


def written(X: np.ndarray, options: dict[str, Any]) -> bytes:
    """Return the HDF5 file of the features."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        chunks = (min(CHUNK_ROWS, len(X)), X.shape[1]) if options else None
        file.create_dataset("features", data=X, chunks=chunks, **options)
    return buffer.getvalue()


def read(data: bytes) -> np.ndarray:
    """Return the features of a file."""
    with h5py.File(io.BytesIO(data), "r") as file:
        return file["features"][...]


def measure(X: np.ndarray, repeats: int) -> dict[str, tuple[float, float, float]]:
    """Return, for each filter, its size over that of the values, and seconds to write and read."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in FILTERS}
    for _ in range(repeats):
        for name, options in FILTERS.items():
            start = time.perf_counter()
            data = written(X, options)
            middle = time.perf_counter()
            back = read(data)
            end = time.perf_counter()
            if back.tobytes() != X.tobytes():
                raise SystemExit(f"{name} does not give back what it got")
            found[name].append((len(data) / X.nbytes, middle - start, end - middle))
    return {
        name: (runs[0][0], min(run[1] for run in runs), min(run[2] for run in runs))
        for name, runs in found.items()
    }


def main() -> None:
    """Measure and print a table for each file and type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, "
          f"hdf5plugin {hdf5plugin.version}, one thread")  # fmt: skip
    for path in options.files:
        X = np.load(path)["X"]
        for dtype in ("float32", "float16"):
            rows = int(options.megabytes * 1e6 / (X.shape[1] * np.dtype(dtype).itemsize))
            values = np.ascontiguousarray(X[:rows].astype(dtype))
            zeros = float((values == 0).mean())
            print(f"\n{path.stem}, {len(values):,} x {X.shape[1]:,} {dtype}, {zeros:.0%} zeros\n")
            print("| filter | size | write GB/s | read GB/s |")
            print("|---|---:|---:|---:|")
            for name, (size, write_s, read_s) in measure(values, options.repeats).items():
                gigabytes = values.nbytes / 1e9
                speeds = f"{gigabytes / write_s:.2f} | {gigabytes / read_s:.2f}"
                print(f"| {name} | {size:.2f} | {speeds} |", flush=True)


if __name__ == "__main__":
    main()

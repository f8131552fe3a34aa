"""Peak memory of a million rows of 512 features: written, verified, read, standardized, fitted.

``python benchmarks/cache_memory.py FOLDER --budget 1GB``; needs about 2.2 GB of disk. Linux only:
the peak of a process is read from /proc, and begins anew behind the imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from featx.cache import FeatureKey, FeatureStore, shard_rows_for
from featx.machine import parse_bytes
from featx.scaling import Scaler

N_CLASSES = 10
BATCH = 64
STEPS = ("write", "verify", "read", "standardize", "fit-svm")


def key(n_features: int) -> FeatureKey:
    """Return the key of features that no network gave."""
    rows = shard_rows_for(n_features, BATCH, "float32")
    return FeatureKey(
        backbone="made", weights_digest="w" * 64, dataset_digest="d" * 64, split="train",
        preprocess={}, module="layer", pool="avg", storage="float32", precision="fp32",
        numerics="channels-last", device_kind="cpu", batch_size=BATCH, shard_rows=rows,
        versions="made 1.0",
    )  # fmt: skip


def rows_of(start: int, n: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy classes: the same rows for the same place."""
    rng = np.random.default_rng(start)
    y = rng.integers(0, N_CLASSES, n)
    centres = np.random.default_rng(0).standard_normal((N_CLASSES, n_features)).astype(np.float32)
    X = rng.standard_normal((n, n_features), dtype=np.float32) + 0.25 * centres[y]
    return X, y


def status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{field}:")[1].split()[0])


def step(name: str, root: Path, n_rows: int, n_features: int, budget: int) -> None:
    """Do one step."""
    store = FeatureStore(root)
    if name == "write":
        with store.writer(key(n_features), n_rows=n_rows, n_features=n_features) as writer:
            for start in range(writer.next_row, n_rows, 4096):
                writer.append(*rows_of(start, min(4096, n_rows - start), n_features))
            writer.finish()
        return
    if name == "verify":
        (info,) = store.verify()
        assert info.problem is None
        return
    found = store.find(key(n_features))
    assert found is not None
    if name == "read":
        # Rows in random order, as many as the budget holds.
        n = min(n_rows, budget // (4 * n_features) * 3 // 4)
        found.read(np.random.default_rng(0).permutation(n_rows)[:n])
    elif name == "standardize":
        scaler = Scaler.from_moments(found.moments)
        for _, block in found.shards():
            scaler.transform(block)
    else:
        from featx.heads.paths import fit_path
        from featx.pipeline.feature_rows import FeatureRows

        X = FeatureRows([(found, Scaler.from_moments(found.moments))])
        (fit,) = fit_path("svm", X, found.y, [1e-4], memory_bytes=budget)
        assert fit.converged, fit.messages


def measured(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Run a step in a process of its own; return seconds and the peak beyond the start."""
    command = [sys.executable, __file__, str(options.folder), "--step", name]
    command += ["--rows", str(options.rows), "--features", str(options.features)]
    command += ["--budget", options.budget]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--budget", default="1GB")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    budget = parse_bytes(options.budget)
    if options.step:
        import scipy.linalg  # noqa: F401
        import sklearn.svm  # noqa: F401
        import torch  # noqa: F401 (the fit looks for an accelerator)

        import featx.heads.paths
        import featx.pipeline.feature_rows  # noqa: F401

        Path("/proc/self/clear_refs").write_text("5")
        before, start = status("VmRSS"), time.perf_counter()
        step(options.step, options.folder, options.rows, options.features, budget)
        seconds = time.perf_counter() - start
        print(json.dumps({"s": seconds, "peak": status("VmHWM") - before}))
        return
    shape = f"{options.rows:,} x {options.features:,}"
    print(f"{shape}, float32, budget {options.budget}\n")
    print("| step | seconds | peak beyond the imports | of the budget |")
    print("|---|---:|---:|---:|")
    for name in options.steps:
        found = measured(name, options)
        peak = f"{found['peak'] / 1e6:.0f} MB | {found['peak'] / budget:.0%}"
        print(f"| {name} | {found['s']:.1f} | {peak} |", flush=True)


if __name__ == "__main__":
    main()

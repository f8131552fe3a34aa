"""What storing features as float16 does to the accuracy of experiment D1's head.

``python benchmarks/float16.py OUT/r50-conv4.npz ...`` with what benchmarks/head_features.py writes:
real features of D1's training images. Half of them, at most --rows, train a linear SVM (C = 12,
standardized with their own statistics), as many others test it: once from float32, once from what a
cache with ``--storage float16`` gives back. The same images, so the difference is a paired one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from featx.evaluate import paired_difference
from featx.heads import LinearSVM
from featx.scaling import Moments, Scaler

C = 12.0


def right(X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return which test rows the head classifies as they are labelled."""
    scaler = Scaler.from_moments(Moments.of(X[train]))
    head = LinearSVM(C=C).fit(scaler.transform(X[train]), y[train])
    return np.asarray(head.predict(scaler.transform(X[test])) == y[test])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=10_000, help="training, and test images")
    options = parser.parse_args()
    print("| features | train | test | float32 | float16 | difference in points (95 %) |")
    print("|---|---:|---:|---:|---:|---:|")
    for path in options.files:
        with np.load(path) as file:
            X, y = file["X"], file["y"]
        order = np.random.default_rng(0).permutation(len(X))
        n = min(options.rows, len(X) // 2)
        train, test = order[:n], order[n : 2 * n]
        plain = right(X, y, train, test)
        stored = right(X.astype(np.float16).astype(np.float32), y, train, test)
        apart, low, high = (100 * value for value in paired_difference(stored, plain)[:3])
        shape = f"{path.stem}, {X.shape[1]:,} values"
        print(
            f"| {shape} | {n:,} | {n:,} | {plain.mean():.4f} | {stored.mean():.4f} | "
            f"{apart:+.2f} ({low:+.2f} to {high:+.2f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()

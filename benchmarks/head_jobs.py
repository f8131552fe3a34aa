"""Heads of several cuts: one after the other with all cores, or several at a time.

Usage: python benchmarks/head_jobs.py FEATURES [--repeats 5] [--heads 4]

Fits the same number of SVMs on real features (of benchmarks/head_features.py) in three ways, in
turns in one run, and prints the median seconds of each: one after the other with all cores; in
processes, one per core, with one BLAS thread each; in as many processes whose threads are not
limited. `featx run` does the first, and `--jobs N` the second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from head_problems import PROBLEMS, load
from joblib import Parallel, delayed, parallel_config

from featx.heads import LinearSVM
from featx.machine import cpu_name, n_cpus

NAMES = ("10,000 x 512, 10 classes", "5,000 x 2,048, 5 classes, separable")


def fit(X: np.ndarray, y: np.ndarray) -> float:
    """Fit one head; return its objective."""
    return float(LinearSVM(device="cpu").fit(X, y).objective_.sum())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4)
    options = parser.parse_args()
    n = n_cpus()

    def in_turn(X: np.ndarray, y: np.ndarray) -> None:
        for _ in range(options.heads):
            fit(X, y)

    def in_processes(threads: int):
        def run(X: np.ndarray, y: np.ndarray) -> None:
            with parallel_config(backend="loky", inner_max_num_threads=threads):
                Parallel(n_jobs=n)(delayed(fit)(X, y) for _ in range(options.heads))

        return run

    ways = {
        "one after the other": in_turn,
        f"{n} at a time, 1 thread each": in_processes(1),
        f"{n} at a time, {n} threads each": in_processes(n),
    }
    print(f"{options.heads} heads, {cpu_name()}, {n} cores\n")
    print("| problem | " + " | ".join(ways) + " |")
    print("|---|" + "---:|" * len(ways))
    for name in NAMES:
        X, y = load(options.features, PROBLEMS[name])
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        # The first round starts the processes and does not count.
        for round_ in range(options.repeats + 1):
            for way, run in ways.items():
                start = time.perf_counter()
                run(X, y)
                if round_:
                    seconds[way].append(time.perf_counter() - start)
        cells = [f"{statistics.median(seconds[way]):.2f} s" for way in ways]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

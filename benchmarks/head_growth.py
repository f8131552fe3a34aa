"""How time and memory of featx' linear heads grow with rows, columns and classes.

Usage: python benchmarks/head_growth.py FEATURES --figure FILE.png [--json FILE] [--repeats 3]

Real features (of benchmarks/head_features.py) with fewer rows or columns; more classes than there
are come from the real ones, cut by the signs of random projections. Every fit runs in a process of
its own, the fastest of --repeats counts; memory is what the process holds at most beyond what it
held before the fit. LinearSVC of scikit-learn (the faster of dual and primal at tolerance 1e-3)
stands beside it as long as it takes less than --limit seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from head_problems import PROBLEMS, Problem, load

ROWS = (1_000, 2_000, 4_000, 8_000, 16_000)
COLUMNS = (256, 512, 1_024, 2_048, 4_096, 8_192, 16_384)
CLASSES = (2, 5, 10, 30, 100, 300, 1_000)


def data(folder: Path, axis: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of a point."""
    if axis == "rows":
        return load(folder, Problem("r50-conv5", n, 5))
    if axis == "columns":
        X, y = load(folder, PROBLEMS["3,000 x 16,384, 5 classes, separable"])
        chosen = np.random.default_rng(0).permutation(X.shape[1])[:n]
        return np.ascontiguousarray(X[:, np.sort(chosen)]), y
    X, y = load(folder, Problem("r18-layer4", 10_000, 10))
    if n <= 10:
        keep = np.isin(y, np.unique(y)[:n])
        return X[keep], y[keep]
    sides = X @ np.random.default_rng(0).standard_normal((X.shape[1], 12)).astype(np.float32) > 0
    fine = y * 4096 + sides @ (1 << np.arange(12))
    labels, counts = np.unique(fine, return_counts=True)
    # The n - 1 largest cells, and all others as one class.
    largest = labels[np.argsort(-counts, kind="stable")[: n - 1]]
    return X, np.where(np.isin(fine, largest), fine, -1)


def peak_bytes() -> int:
    """Return the most memory this process has held since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def one(folder: Path, axis: str, n: int, solver: str) -> dict[str, float]:
    """Fit once, in this process."""
    from featx.heads import LinearSVM

    warnings.simplefilter("ignore")
    X, y = data(folder, axis, n)
    wide = X.astype(np.float64) if solver != "featx" else X
    LinearSVM(device="cpu").fit(X[:300], y[:300] if len(set(y[:300])) > 1 else np.arange(300) % 2)
    # Linux: the peak begins anew.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = peak_bytes(), time.perf_counter()
    if solver == "featx":
        model = LinearSVM(device="cpu").fit(X, y)
        gap = float(model.duality_gap_.max())
    else:
        from sklearn.svm import LinearSVC

        LinearSVC(C=12.0, dual=solver == "dual", tol=1e-3, max_iter=100_000).fit(wide, y)
        gap = float("nan")
    seconds = time.perf_counter() - start
    return {"s": seconds, "bytes": float(peak_bytes() - before), "gap": gap}


def measured(folder: Path, limit: float, *call: object) -> dict[str, float] | None:
    """Fit once in a process of its own; None past the limit."""
    command = [sys.executable, __file__, str(folder), "--one", json.dumps(call)]
    try:
        done = subprocess.run(
            command, timeout=limit + 15.0, check=True, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def sweep(folder: Path, axis: str, sizes: tuple[int, ...], limit: float, repeats: int) -> list:
    """Return what was measured at each size."""
    found, solvers = [], ["primal", "dual"]
    for n in sizes:
        runs = [measured(folder, 600.0, axis, n, "featx") for _ in range(repeats)]
        point = {
            "n": n,
            "featx_s": min(run["s"] for run in runs if run),
            "bytes": max(run["bytes"] for run in runs if run),
            "gap": max(run["gap"] for run in runs if run),
        }
        for solver in list(solvers):
            other = measured(folder, limit, axis, n, solver)
            if other is None:
                solvers.remove(solver)
            else:
                point["other_s"] = min(other["s"], point.get("other_s", np.inf))
        found.append(point)
        print(axis, point, flush=True)
    return found


def draw(results: dict[str, list], path: Path) -> None:
    """Draw seconds and memory over each axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex="col", layout="constrained")
    titles = {
        "rows": "rows (2,048 columns, 5 classes)",
        "columns": "columns (3,000 rows, 5 classes)",
        "classes": "classes (10,000 rows, 512 columns)",
    }
    for (axis, points), (top, bottom) in zip(results.items(), axes.T, strict=True):
        sizes = [point["n"] for point in points]
        top.loglog(sizes, [p["featx_s"] for p in points], "o-", color="#0072b2", label="featx")
        known = [(p["n"], p["other_s"]) for p in points if "other_s" in p]
        if known:
            top.loglog(*zip(*known, strict=True), "s--", color="#d55e00", label="LinearSVC")
        bottom.loglog(sizes, [max(p["bytes"], 1e6) / 1e6 for p in points], "o-", color="#0072b2")
        bottom.set_xlabel(titles[axis])
        bottom.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=45)
        bottom.minorticks_off()
        for ax in (top, bottom):
            ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("memory beyond the features, MB")
    axes[0, 0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--figure", type=Path, default=Path("head-growth.png"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.features, *json.loads(options.one))))
        return
    results = {
        axis: sweep(options.features, axis, sizes, options.limit, options.repeats)
        for axis, sizes in (("rows", ROWS), ("columns", COLUMNS), ("classes", CLASSES))
    }
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    draw(results, options.figure)


if __name__ == "__main__":
    main()

"""Linear heads: featx' solvers beside other libraries' at the same objective.

Usage: python benchmarks/heads.py FEATURES [--limit 300] [--repeats 3] [--only NAME] [--json FILE]
       [--peers PYTHON]

FEATURES is the folder that benchmarks/head_features.py writes. Every fit runs in a process of its
own, one after the other, in turns; the seconds are those of `fit` alone, with all cores and the
machine otherwise idle. The other solvers (scikit-learn's LinearSVC by its dual and its primal, its
LogisticRegression) run with ever smaller tolerances until their objective is at most
1e-4 above featx'; the fastest that gets there counts. What takes longer than --limit seconds is
stopped: a lower bound. --peers is the Python of an environment with scikit-learn-intelex and snapml
(`pip install scikit-learn-intelex snapml`), which are then compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from head_problems import PROBLEMS, load, objective

TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
SLACK = 1e-4
SOLVERS = {
    "svm": ("primal", "dual"),
    "logistic": ("lbfgs",),
    "logistic-ovr": (),
}
PEERS = {"svm": (), "logistic": ("intelex",), "logistic-ovr": ("snapml",)}


def fit(solver: str, kind: str, tol: float, Cs: tuple[float, ...], X: np.ndarray, y: np.ndarray):
    """Return a function that fits, after what is imported and looked up once a process."""
    if solver == "featx":
        from featx import heads

        head = heads.LinearSVM(device="cpu")
        if kind != "svm":
            ovr = kind == "logistic-ovr"
            head = heads.LogisticRegression(
                multi_class="ovr" if ovr else "multinomial", fit_intercept=not ovr, device="cpu"
            )
        head.fit(X[:100], y[:100])
        return lambda: head.fit_path(X, y, Cs)
    most = 100_000
    if solver == "snapml":
        import snapml

        rows, labels = np.ascontiguousarray(X), y.astype(np.float64)

        def one(C: float):
            model = snapml.LogisticRegression(
                regularizer=1.0 / C, tol=tol, max_iter=most, n_jobs=os.cpu_count(), dual=True,
                fit_intercept=False,
            )  # fmt: skip
            return model.fit(rows, labels)

    elif solver == "intelex":
        from sklearnex.linear_model import LogisticRegression

        def one(C: float):
            return LogisticRegression(C=C, tol=tol, max_iter=most).fit(X, y)

    elif kind == "svm":
        from sklearn.svm import LinearSVC

        # liblinear works in float64: the copy is not its fault.
        wide = X.astype(np.float64)

        def one(C: float):
            return LinearSVC(C=C, dual=solver == "dual", tol=tol, max_iter=most).fit(wide, y)

    else:
        from sklearn.linear_model import LogisticRegression

        def one(C: float):
            return LogisticRegression(C=C, tol=tol, max_iter=most, solver=solver).fit(X, y)

    return lambda: [one(C) for C in Cs]


def one(folder: Path, name: str, solver: str, tol: float) -> dict[str, object]:
    """Fit once, in this process; return seconds and objectives."""
    warnings.simplefilter("ignore")
    problem = PROBLEMS[name]
    X, y = load(folder, problem)
    fitting = fit(solver, problem.kind, tol, problem.Cs, X, y)
    start = time.perf_counter()
    models = fitting()
    seconds = time.perf_counter() - start
    values = []
    for C, model in zip(problem.Cs, models, strict=True):
        coef = np.asarray(model.coef_).reshape(len(np.unique(y)), -1)
        intercept = getattr(model, "intercept_", 0.0)
        values.append(objective(X, y, coef, intercept, C, problem.kind))
    gap = max((float(np.max(getattr(m, "duality_gap_", 0.0))) for m in models), default=0.0)
    return {"seconds": seconds, "objectives": values, "gap": gap}


def measured(
    python: str, folder: Path, name: str, solver: str, tol: float, limit: float
) -> dict[str, object] | None:
    """Fit once in a process of its own; None when it took longer than `limit` seconds."""
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    command = [python, __file__, str(folder), "--one", json.dumps([name, solver, tol])]
    try:
        found = subprocess.run(
            command, env=env, timeout=limit + 15.0, check=True, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return None
    result = dict(json.loads(found.stdout.splitlines()[-1]))
    return result if float(result["seconds"]) <= limit else None


def compare(
    folder: Path, name: str, limit: float, repeats: int, peers: str | None
) -> dict[str, object]:
    """Return the times of both sides of a problem and what reached which objective."""
    problem = PROBLEMS[name]
    ours = [measured(sys.executable, folder, name, "featx", 0.0, limit)]
    assert ours[0] is not None, f"featx took longer than {limit} s"
    wanted = [value * (1.0 + SLACK) for value in ours[0]["objectives"]]
    tried: list[dict[str, object]] = []
    best: tuple[float, str, str, float] | None = None
    solvers = [(sys.executable, solver) for solver in SOLVERS[problem.kind]]
    solvers += [(peers, solver) for solver in PEERS[problem.kind] if peers]
    for tol in TOLERANCES:
        for python, solver in list(solvers):
            # What is slower than the best there is needs no end.
            most = limit if best is None else min(limit, 1.2 * best[0])
            found = measured(python, folder, name, solver, tol, most)
            entry: dict[str, object] = {"solver": solver, "tol": tol, "limit_s": most}
            tried.append(entry)
            if found is None:
                solvers.remove((python, solver))
                continue
            pairs = list(zip(found["objectives"], wanted, strict=True))
            entry |= {
                "seconds": found["seconds"],
                "above": max(value / (want / (1.0 + SLACK)) - 1.0 for value, want in pairs),
            }
            if all(value <= want for value, want in pairs):
                solvers.remove((python, solver))
                if best is None or float(found["seconds"]) < best[0]:
                    best = (float(found["seconds"]), python, solver, tol)
        if not solvers:
            break
    theirs = [] if best is None else [best[0]]
    for _ in range(repeats - 1):
        again = measured(sys.executable, folder, name, "featx", 0.0, limit)
        assert again is not None
        ours.append(again)
        if best is not None and best[0] < 60.0:
            other = measured(best[1], folder, name, best[2], best[3], limit)
            theirs += [float(other["seconds"])] if other else []
    seconds = statistics.median(float(run["seconds"]) for run in ours if run)
    return {
        "problem": name,
        "featx_s": seconds,
        "featx_runs_s": [run["seconds"] for run in ours if run],
        "gap": ours[0]["gap"],
        "theirs_s": statistics.median(theirs) if theirs else None,
        "solver": f"{best[2]}, tol {best[3]:g}" if best else f"none within {limit:.0f} s",
        "target": problem.target,
        "tried": tried,
        "ratio": (statistics.median(theirs) if theirs else limit) / seconds,
        "at_least": best is None,
    }


def row(result: dict[str, object]) -> str:
    """Return a row of the table."""
    theirs = result["theirs_s"]
    more = "over " if result["at_least"] else ""
    cells = [
        str(result["problem"]),
        f"{result['featx_s']:.2f} s",
        f"{result['gap']:.0e}",
        "-" if theirs is None else f"{theirs:.1f} s",
        str(result["solver"]),
        f"{more}{result['ratio']:.1f}",
        f"{result['target']:g}" if result["target"] else "",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("--limit", type=float, default=300.0, help="Seconds a fit may take.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", help="A problem's name; repeat for more.")
    parser.add_argument("--json", type=Path, help="Keep everything that was measured here.")
    parser.add_argument("--peers", help="Python of an environment with other libraries.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, solver, tol = json.loads(options.one)
        print(json.dumps(one(options.features, name, solver, tol)))
        return
    import sklearn

    from featx.machine import cpu_name, n_cpus

    print(
        f"{cpu_name()}, {n_cpus()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, NumPy {np.__version__}, scikit-learn "
        f"{sklearn.__version__}.\n"
    )
    print("| problem | featx | gap | other | by | ratio | aim |")
    print("|---|---:|---:|---:|---|---:|---:|", flush=True)
    results = []
    for name in options.only or PROBLEMS:
        results.append(
            compare(options.features, name, options.limit, options.repeats, options.peers)
        )
        print(row(results[-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

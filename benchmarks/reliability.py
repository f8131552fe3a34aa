"""What breaking the cache on purpose has shown: runs the campaign and writes docs/reliability.md.

``python benchmarks/reliability.py`` (``make faults``) takes about a quarter of an hour, and 2 GB of
disk for the memory of a large set. An hour of fuzzing is a command of its own, `fuzzing.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / "docs" / "reliability.md"
TESTS = (
    "tests/cache/test_cache_corruption.py", "tests/cache/test_cache_processes.py",
    "tests/cache/test_cache_faults.py", "tests/cache/test_cache_power.py",
    "tests/cache/test_cache_keys.py", "tests/extraction/test_waiting.py",
    "tests/extraction/test_killed_extractions.py", "tests/hostile",
    "tests/extraction/test_validity.py", "tests/pipeline/test_poisoned_rows.py",
)  # fmt: skip
# As `cache_memory.STEPS`, whose module imports what the campaign does not need.
STEPS = ("write", "verify", "read", "standardize", "fit-svm")
Row = tuple[str, str, str]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def campaign() -> list[dict[str, Any]]:
    """Run all rounds of the tests; return what they counted."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.jsonl"
        file.touch()
        env = {**os.environ, "FEATX_FAULTS": "full", "FEATX_FAULTS_FILE": str(file),
               "OMP_NUM_THREADS": "1"}  # fmt: skip
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "--dist",
                   "worksteal", *TESTS]  # fmt: skip
        subprocess.run(command, env=env, cwd=REPO, check=True)
        return [json.loads(line) for line in file.read_text().splitlines()]


def rows(found: Sequence[dict[str, Any]]) -> Iterable[Row]:
    """Yield promise, what was done, what was seen."""

    def of(promise: str) -> list[dict[str, Any]]:
        return [figures for figures in found if figures["promise"] == promise]

    def total(promise: str, name: str) -> int:
        return sum(figures[name] for figures in of(promise))

    damaged, refused = (
        total("Never used when wrong", "damaged"),
        total("Never used when wrong", "refused"),
    )
    kinds = len(of("Never used when wrong"))
    yield (
        "Never used when wrong",
        f"{damaged:,} seeded corruptions of {kinds} kinds",
        f"{refused:,} refused with file and entry named",
    )
    for key in of("The key covers everything"):
        yield (
            "The key covers everything",
            f"{key['ingredients']} ingredients, changed one at a time",
            "another key each time, and the ingredient is named",
        )
    for kind, where in (("", "writers"), (", extractions", "whole extractions")):
        kills = of(f"Kill and resume{kind}")[0]
        inside = kills.get("inside", kills["kills"] // 2)
        yield (
            "Kill and resume",
            f"{kills['kills']:,} SIGKILLs of {where}, {inside:,} of them aimed at an operation of "
            "a publication",
            f"resumed sets are the same bit for bit, no file is left over; at most "
            f"{kills['lost_rows']} rows were computed again (a shard has {kills['shard_rows']})",
        )
    yield (
        "A fault at every operation",
        f"{total('A fault at every operation', 'faults'):,} faults: every open, write, sync, "
        "close, rename, unlink and mkdir of a write with each of five errors, and an interrupt; "
        "those of finding, cleaning, removing, export and import with an error, and an interrupt",
        "0 half-published entries; the next run completes",
    )
    power = of("Power loss")
    yield (
        "Power loss",
        f"{sum(p['states'] for p in power):,} states of the disk, of every operation of a write "
        "and of a rebuild",
        f"{sum(p['wrong'] for p in power)} wrong rows accepted, "
        f"{sum(p['refused'] for p in power)} states refused",
    )
    for together in sorted(of("Many at once"), key=lambda figures: figures["processes"]):
        yield (
            "Many at once",
            f"{together['processes']} writers of one entry without any lock, "
            f"{together['rounds']:,} rounds",
            f"{together['reads']:,} reads meanwhile, {together['differences']} different",
        )
    for together in sorted(
        of("Many at once, with locks"), key=lambda figures: figures["processes"]
    ):
        yield (
            "Many at once",
            f"{together['processes']} processes that extract the same, with locks, "
            f"{together['rounds']:,} rounds",
            f"the work was done once in each, the features are the same; {together['messages']:,} "
            "times one said that it waits",
        )
    yield (
        "Hostile files",
        f"a corpus of {of('Hostile files, corpus')[0]['files']} files",
        "all refused or handled as documented; nothing was run, reached or written outside",
    )
    fuzzed = of("Hostile files")[0]
    yield (
        "Hostile files",
        f"{fuzzed['damaged']:,} damaged files of {fuzzed['loaders']} kinds, in watched children",
        "all accepted or refused with a message",
    )


def memory(n_rows: int = 1_000_000, n_features: int = 512, budget: str = "1GB") -> Iterable[Row]:
    """Yield the rows of peak memory, each step in a process of its own.

    A fit of all rows takes a quarter of an hour by itself (docs/performance.md): a twentieth is
    fitted, in about the bytes that it has.
    """
    command = [sys.executable, str(REPO / "benchmarks" / "cache_memory.py")]
    parts = ((n_rows, budget, STEPS[:-1]), (n_rows // 20, "100MB", STEPS[-1:]))
    for rows_of_set, allowed, steps in parts:
        with tempfile.TemporaryDirectory() as folder:
            shape = ["--rows", str(rows_of_set), "--features", str(n_features)]
            wanted = steps if "write" in steps else ("write", *steps)
            done = subprocess.run(
                [*command, folder, *shape, "--budget", allowed, "--steps", *wanted],
                check=True, capture_output=True, text=True, cwd=REPO,
            )  # fmt: skip
        lines = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
        peaks = {line[0].strip("| "): line[-1].strip("| ") for line in lines}
        yield (
            "Memory",
            f"{rows_of_set:,} x {n_features} values in a budget of {allowed}",
            "peak, of the budget: " + ", ".join(f"{step} {peaks[step]}" for step in steps),
        )


def main() -> None:
    """Run the campaign and put its figures into the page."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    from featx import __version__
    from featx.cache import SCHEMA_VERSION
    from featx.machine import cpu_name, n_cpus

    start = time.perf_counter()
    found = campaign()
    table = ["| promise | what was broken | what was seen |", "|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in (*rows(found), *memory())]
    seconds = time.perf_counter() - start
    where = (
        f"featx {__version__}, cache format {SCHEMA_VERSION}, {cpu_name()}, {n_cpus()} "
        f"cores, {platform.system()}, Python {platform.python_version()}; "
        f"{seconds / 60:.0f} minutes, on {time.strftime('%Y-%m-%d')}."
    )
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    figures = "\n".join([BEGIN, "", *table, "", where, "", END])
    PAGE.write_text(before + figures + after)
    print("\n".join(table))


if __name__ == "__main__":
    main()

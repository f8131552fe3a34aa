"""What breaking the cache on purpose has shown: runs the campaign and writes docs/reliability.md.

``python benchmarks/reliability.py`` (``make faults``) takes about ten minutes.
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
)  # fmt: skip
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def campaign() -> tuple[list[dict[str, Any]], float]:
    """Run all rounds of the tests; return what they counted, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.jsonl"
        file.touch()
        env = {**os.environ, "FEATX_FAULTS": "full", "FEATX_FAULTS_FILE": str(file),
               "OMP_NUM_THREADS": "1"}  # fmt: skip
        start = time.perf_counter()
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), "--dist",
                   "worksteal", *TESTS]  # fmt: skip
        subprocess.run(command, env=env, cwd=REPO, check=True)
        seconds = time.perf_counter() - start
        return [json.loads(line) for line in file.read_text().splitlines()], seconds


def rows(found: Sequence[dict[str, Any]]) -> Iterable[tuple[str, str, str]]:
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
    kills = of("Kill and resume")[0]
    yield (
        "Kill and resume",
        f"{kills['kills']:,} SIGKILLs of writers, half of them aimed at an operation of a "
        "publication",
        f"resumed sets are the same bit for bit, no file is left over; at most "
        f"{kills['lost_rows']} rows were computed again (a shard has {kills['shard_rows']})",
    )
    yield (
        "A fault at every operation",
        f"{total('A fault at every operation', 'faults'):,} faults: every open, write, sync, "
        "rename, unlink and mkdir with each of five errors, and an interrupt",
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


def main() -> None:
    """Run the campaign and put its figures into the page."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    from featx import __version__
    from featx.machine import cpu_name, n_cpus

    found, seconds = campaign()
    table = ["| promise | what was broken | what was seen |", "|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in rows(found)]
    where = (
        f"featx {__version__}, {cpu_name()}, {n_cpus()} cores, {platform.system()}, Python "
        f"{platform.python_version()}; {seconds / 60:.0f} minutes, on {time.strftime('%Y-%m-%d')}."
    )
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    figures = "\n".join([BEGIN, "", *table, "", where, "", END])
    PAGE.write_text(before + figures + after)
    print("\n".join(table))


if __name__ == "__main__":
    main()

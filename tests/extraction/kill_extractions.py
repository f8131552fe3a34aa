"""Kills extractions, and lets them go on. A program run by test_killed_extractions.

The last line it prints is JSON: what it counted, and the text of every check that failed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from forked_extraction import N_ROWS, SHARD_ROWS, Counter, content, fork, rows_done, run

# Beside the tests of the cache.
from child_processes import die  # isort: skip
from faulty_disk import Disk  # isort: skip

from featx.cache import FeatureStore


def counted(root: Path, rows: Counter) -> None:
    """Extract; what the disk has to say about power is of no use here, and slow."""
    os.fsync = lambda descriptor: None
    run(root, rows.add)


def aimed(root: Path, rows: Counter, disk: Disk) -> None:
    """Extract on a disk at one of whose operations something happens."""
    os.fsync = lambda descriptor: None
    disk.install(setattr)
    run(root, rows.add)


def undisturbed(root: Path) -> tuple[int, float]:
    """Extract once; return the operations on the disk, and seconds."""
    operations = Counter()

    def work() -> None:
        disk = Disk(-1, lambda: None)
        aimed(root, Counter(), disk)
        operations.add(len(disk.calls))

    started = time.perf_counter()
    _, status = os.waitpid(fork(work), 0)
    assert status == 0
    return operations.value, time.perf_counter() - started


def kill_one(root: Path, rng: random.Random, inside: bool, n_operations: int, most_s: float) -> Any:
    """Begin an extraction and kill it; return whether that came before its end, and rows lost."""
    rows = Counter()
    before = rows_done(root)
    if inside:
        disk = Disk(rng.randrange(n_operations), die(rng))
        process = fork(partial(aimed, root, rows, disk))
    else:
        process = fork(partial(counted, root, rows))
        time.sleep(rng.uniform(0, most_s))
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError("an extraction failed")
    return os.WIFSIGNALED(status), before + rows.value - rows_done(root)


def kills(folder: Path, n_kills: int, seed: int) -> dict[str, Any]:
    """Kill extractions until there were so many; every second one goes on to its end."""
    n_operations, most_s = undisturbed(folder / "undisturbed")
    right = content(folder / "undisturbed")
    failures: list[str] = []
    killed = inside = most_lost = again = rounds = 0
    while killed < n_kills:
        rng = random.Random(seed + rounds)
        rounds += 1
        root = folder / str(rounds)
        try:
            for _ in range(2):
                aims = rng.random() < 0.5
                was_killed, lost = kill_one(root, rng, aims, n_operations, most_s)
                killed += was_killed
                inside += was_killed and aims
                most_lost = max(most_lost, lost)
                again += lost
            rows, left = Counter(), N_ROWS - rows_done(root)
            _, status = os.waitpid(fork(partial(counted, root, rows)), 0)
            if status:
                failures.append(f"round {rounds}: the resumed extraction failed")
            if rows.value != left:
                failures.append(f"round {rounds}: {rows.value} rows computed instead of {left}")
            FeatureStore(root).gc(older_than_s=-60)
            if content(root) != right:
                failures.append(f"round {rounds}: files are left over or differ")
        except AssertionError as error:
            failures.append(f"round {rounds}: {error}")
        shutil.rmtree(root)
    if most_lost > SHARD_ROWS:
        failures.append(f"{most_lost} rows had to be computed again")
    return {
        "kills": killed, "inside": inside, "rounds": rounds, "lost_rows": most_lost,
        "computed_again": again, "shard_rows": SHARD_ROWS, "failures": failures,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(kills(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

"""Kills writers, and lets several write at once. A program of its own, run by test_cache_processes.

It has one thread and everything imported, so it can fork a writer in a millisecond. The last line
it prints is JSON: what it counted, and the text of every check that failed.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cache_cases import SHARD_ROWS, content, make_data, make_key, write
from faulty_disk import Disk

from featx.cache import FeatureStore, streaming

# Shards of three chunks, as large ones have many.
streaming._CHUNK_BYTES, streaming._CHUNK_ROWS = 1, 3
X, Y = make_data()
KEY = make_key()


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child; return its process id."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def write_counting(
    store: FeatureStore, appended: mmap.mmap, pause_s: float, disk: Disk | None = None
) -> None:
    """Write the set, keeping the rows appended so far where the parent sees them."""
    if disk:
        disk.install(setattr)
    with store.writer(KEY, n_rows=len(X), n_features=X.shape[1]) as writer:
        for start in range(writer.next_row, len(X), KEY.batch_size):
            rows = slice(start, start + KEY.batch_size)
            appended[0] = min(rows.stop, len(X))
            writer.append(X[rows], Y[rows])
            time.sleep(pause_s)
        writer.finish()


def die(rng: random.Random) -> Callable[..., None]:
    """Return a fault that kills the process before, after or in the middle of an operation."""

    def kill(real: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        when = rng.choice(["before", "after", "within"])
        if when == "within" and real.__name__ == "write":
            real(args[0], args[1][: rng.randrange(len(args[1]))])
        elif when == "after":
            real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return kill


def kills(root: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Kill a writer twice, at a random operation or a random time, then let one finish; compare."""
    counting = Disk(-1, lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        counting.install(patch.setattr)
        started = time.perf_counter()
        reference = write(FeatureStore(root / "undisturbed"), KEY, X, Y)
        duration_s = time.perf_counter() - started
    right = content(reference)
    names = {path.name: path.read_bytes() for path in reference.path.iterdir()}
    failures, killed, lost_rows = [], 0, 0
    for number in range(rounds):
        rng = random.Random(seed + number)
        store = FeatureStore(root / str(number))
        for _ in range(2):
            appended = mmap.mmap(-1, 1)
            appended[0] = store.progress(KEY)
            if number % 2:
                disk = Disk(rng.randrange(len(counting.calls) // 2), die(rng))
                process = fork(partial(write_counting, store, appended, 0, disk))
            else:
                process = fork(partial(write_counting, store, appended, duration_s / 22))
                time.sleep(rng.uniform(0, duration_s))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            killed += os.WIFSIGNALED(status)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                failures.append(f"round {number}: the writer failed")
            found = store.find(KEY)
            if found is not None and content(found) != right:
                failures.append(f"round {number}: a wrong set was found")
            lost_rows = max(lost_rows, appended[0] - store.progress(KEY))
        resumed = write(store, KEY, X, Y)
        if content(resumed) != right:
            failures.append(f"round {number}: the resumed set differs")
        store.gc(older_than_s=-60)
        if {path.name: path.read_bytes() for path in resumed.path.iterdir()} != names:
            failures.append(f"round {number}: files are left over or differ")
    if lost_rows > SHARD_ROWS:
        failures.append(f"{lost_rows} rows had to be computed again")
    return {"killed": killed, "lost_rows": lost_rows, "failures": failures}


def together(root: Path, rounds: int, seed: int, processes: int) -> dict[str, Any]:
    """Let some processes write one set at the same time, and read it all the while."""
    right = content(write(FeatureStore(root / "undisturbed"), KEY, X, Y))
    rng = random.Random(seed)
    failures, reads = [], 0
    for number in range(rounds):
        store = FeatureStore(root / str(number))
        running = {
            fork(partial(write_counting, store, mmap.mmap(-1, 1), rng.uniform(0, 0.003)))
            for _ in range(processes)
        }
        was_there = False
        while running:
            for process in list(running):
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    running.remove(done)
                    if status:
                        failures.append(f"round {number}: a writer failed")
            found = store.find(KEY)
            if found is None and was_there:
                failures.append(f"round {number}: a complete set was lost")
            if found is not None:
                was_there = True
                reads += 1
                if content(found) != right:
                    failures.append(f"round {number}: a reader saw a wrong set")
            time.sleep(0.001)
        if not was_there or [info.problem for info in store.verify()] != [None]:
            failures.append(f"round {number}: no valid set at the end")
        left = [path.name for path in store.path_for(KEY).iterdir()]
        if "progress.json" in left or any(name.endswith(".tmp") for name in left):
            failures.append(f"round {number}: left over: {left}")
    return {"rounds": rounds, "reads": reads, "failures": failures}


if __name__ == "__main__":
    task, folder, count, first_seed, n_processes = sys.argv[1:]
    place, n, first = Path(folder), int(count), int(first_seed)
    counted = (
        kills(place, n, first) if task == "kills" else together(place, n, first, int(n_processes))
    )
    print(json.dumps(counted))
